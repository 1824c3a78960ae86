"""The voxel embedding of a scan: one array per level at its own resolution, never upsampled.

The embedding of a voxel is, level by level, the network's vector standardised by the model's statistics. It is
kept as a unit vector and a magnitude: similarity needs only the first, heads need both. Level ``i`` of voxel
``v`` is read at ``v // stride_i``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from Vox2VecCore.config import LevelStatistics
from Vox2VecCore.grid import ModelGrid

INT8_SCALE = 127.0
INT8_MAX_CHANNELS = 128
"""Up to this many channels a unit vector keeps a cosine above 0.9996 in int8; above, its components get too small."""


def storage_dtype(channels: int) -> type[np.int8] | type[np.float16]:
    """Type in which unit vectors with this many channels are stored."""
    return np.int8 if channels <= INT8_MAX_CHANNELS else np.float16


@dataclass(frozen=True)
class PyramidLevel:
    """One level of the embedding.

    :param stride: voxels of the grid (x, y, z) that share one cell.
    :param unit: (X_i, Y_i, Z_i, C_i) unit vectors, int8 times 127 or float16; zero where no tile was computed.
    :param magnitude: (X_i, Y_i, Z_i) float16 length of the standardised vector.
    """

    stride: tuple[int, int, int]
    unit: NDArray = field(repr=False)
    magnitude: NDArray[np.float16] = field(repr=False)

    @property
    def channels(self) -> int:
        """Length of the level's vectors."""
        return self.unit.shape[-1]

    @property
    def unit_scale(self) -> float:
        """Factor that turns stored components into those of a unit vector."""
        return 1.0 / INT8_SCALE if self.unit.dtype == np.int8 else 1.0

    def unit_vectors(self, voxels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Unit vectors (n, C_i) of grid voxels (n, 3)."""
        i, j, k = (voxels // np.array(self.stride)).T
        return self.unit[i, j, k].astype(np.float32) * np.float32(self.unit_scale)

    def magnitudes(self, voxels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Lengths (n,) of the standardised vectors of grid voxels (n, 3)."""
        i, j, k = (voxels // np.array(self.stride)).T
        return self.magnitude[i, j, k].astype(np.float32)

    def standardised_vectors(self, voxels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Standardised vectors (n, C_i), unit vectors times magnitude, of grid voxels (n, 3)."""
        return self.unit_vectors(voxels) * self.magnitudes(voxels)[:, None]


@dataclass(frozen=True, eq=False)
class FeaturePyramid:
    """Voxel embeddings of one scan by one model.

    :param grid: where the voxels lie.
    :param levels: finest first.
    :param packed_body: bits (``numpy.packbits``) of the body mask on the grid.
    :param statistics: mean and standard deviation that the levels were standardised with, ``None`` for none.
    :param model_name: for people.
    :param model_hash: hash of weights and tile contract; pyramids compare only when it agrees.
    :param path: the cache entry, ``None`` when in memory only.
    """

    grid: ModelGrid
    levels: Sequence[PyramidLevel]
    packed_body: NDArray[np.uint8] = field(repr=False)
    statistics: Sequence[LevelStatistics] | None = field(repr=False)
    model_name: str
    model_hash: str
    path: Path | None = None

    @property
    def channels(self) -> int:
        """Length of the concatenated vector of a voxel."""
        return sum(level.channels for level in self.levels)

    @cached_property
    def body(self) -> NDArray[np.bool_]:
        """Body mask (X, Y, Z) on the grid."""
        count = int(np.prod(self.grid.shape))
        return np.unpackbits(self.packed_body, count=count).view(bool).reshape(self.grid.shape)

    def unit_vectors(self, points_ras: ArrayLike) -> list[NDArray[np.float32]]:
        """Unit vectors (n, C_i) of every level at points (n, 3) in RAS millimetres.

        :raises PointError: for a point outside the scan.
        """
        voxels = self.grid.nearest_voxels(points_ras)
        return [level.unit_vectors(voxels) for level in self.levels]

    def vectors(self, points_ras: ArrayLike) -> NDArray[np.float32]:
        """Vectors of points as the network gave them, before standardisation.

        :param points_ras: (n, 3) millimetres.
        :return: (n, channels) float32, finest level first.
        :raises PointError: for a point outside the scan.
        """
        voxels = self.grid.nearest_voxels(points_ras)
        columns = [level.standardised_vectors(voxels) for level in self.levels]
        if self.statistics is not None:
            columns = [
                x * np.asarray(s.std, np.float32) + np.asarray(s.mean, np.float32)
                for x, s in zip(columns, self.statistics, strict=True)
            ]
        return np.concatenate(columns, axis=1)

    def body_voxels(self, count: int, seed: int = 0) -> NDArray[np.int64]:
        """Up to ``count`` voxels (n, 3) of the body, drawn evenly and always the same for a seed."""
        if (count, seed) not in self._drawn:  # looking through the whole mask takes a tenth of a second
            flat = np.flatnonzero(self.body)
            if len(flat) > count:
                flat = np.random.default_rng(seed).choice(flat, count, replace=False)
            voxels = np.stack(np.unravel_index(np.sort(flat), self.grid.shape), axis=1).astype(np.int64)
            voxels.flags.writeable = False
            self._drawn[count, seed] = voxels
        return self._drawn[count, seed]

    @cached_property
    def _drawn(self) -> dict[tuple[int, int], NDArray[np.int64]]:
        return {}
