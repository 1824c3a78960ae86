"""Random weights, inputs and outputs of the official code (see ``Testing/golden/README.md``)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from Vox2VecCore.backbone import FPN3d
from Vox2VecCore.heads import LinearHead, NonLinearHead

FOLDER = Path(__file__).parents[1] / "golden"
NAMES = ("fpn_c2_s6", "fpn_c4_s4")


@dataclass(frozen=True)
class Golden:
    """One golden network and what the official code made of its inputs."""

    name: str
    expected: dict[str, NDArray]

    @classmethod
    def load(cls, name: str) -> "Golden":
        with np.load(FOLDER / name / "expected.npz", allow_pickle=False) as arrays:
            return cls(name, dict(arrays))

    @property
    def size(self) -> tuple[int, int]:
        """Base channels and scales."""
        return int(self.expected["base_channels"]), int(self.expected["num_scales"])

    @property
    def classes(self) -> int:
        return int(self.expected["num_classes"])

    @property
    def checkpoint(self) -> Path:
        return FOLDER / self.name / "fpn.pt"

    def state_dict(self, what: str) -> dict[str, torch.Tensor]:
        return torch.load(FOLDER / self.name / f"{what}.pt", map_location="cpu", weights_only=True)

    def backbone(self) -> FPN3d:
        network = FPN3d(1, *self.size)
        network.load_state_dict(self.state_dict("fpn"), strict=True)
        return network.eval()

    def linear_head(self) -> LinearHead:
        head = LinearHead(*self.size, self.classes)
        head.load_state_dict(self.state_dict("linear_head"), strict=True)
        return head.eval()

    def nonlinear_head(self) -> NonLinearHead:
        head = NonLinearHead(*self.size, self.classes)
        head.load_state_dict(self.state_dict("nonlinear_head"), strict=True)
        return head.eval()

    def tensor(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.expected[key])
