"""From network levels to what a pyramid stores: standardise, split into unit vector and magnitude, quantise."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from Vox2VecCore.config import LevelStatistics
from Vox2VecCore.pyramid import INT8_SCALE, storage_dtype

SHORTEST = 1e-6
LARGEST_FLOAT16 = 65504.0


class StoredLevels(nn.Module):
    """A network followed by the encoding of its levels, as one module so that every engine runs both.

    :param network: image to levels (1, C_i, X_i, Y_i, Z_i).
    :param channels: channels of every level.
    :param statistics: standardisation of every level, ``None`` for none.
    """

    def __init__(
        self, network: nn.Module, channels: Sequence[int], statistics: Sequence[LevelStatistics] | None
    ) -> None:
        super().__init__()
        self.network = network
        self.as_int8 = [storage_dtype(c) is np.int8 for c in channels]
        self.standardised = statistics is not None
        for i, level in enumerate(statistics or ()):
            self.register_buffer(f"mean_{i}", torch.tensor(level.mean).view(-1, 1, 1, 1))
            self.register_buffer(f"inverse_std_{i}", 1 / torch.tensor(level.std).view(-1, 1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Unit vectors (X_i, Y_i, Z_i, C_i) and magnitudes (X_i, Y_i, Z_i), level after level, finest first."""
        stored = []
        for i, level in enumerate(self.network(image)):
            x = level.float()
            if self.standardised:
                x = (x - getattr(self, f"mean_{i}")) * getattr(self, f"inverse_std_{i}")
            magnitude = x.square().sum(1, keepdim=True).sqrt()
            unit = x * (INT8_SCALE if self.as_int8[i] else 1.0) / magnitude.clamp_min(SHORTEST)
            unit = unit.round().to(torch.int8) if self.as_int8[i] else unit.half()
            # Channels last at the very end: engines compute with them last, so that nothing is moved (measured).
            stored.append(unit.permute(0, 2, 3, 4, 1)[0])
            stored.append(magnitude[0, 0].clamp_max(LARGEST_FLOAT16).half())
        return tuple(stored)
