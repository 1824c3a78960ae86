"""What the CT itself adds to the embedding: HU at fine scale, as a function that stays cheap on whole scans.

HU at two scales is laid over bumps at the tissues' typical values. A linear map of the bumps is a function of one
number, so whole scans look it up in a table. On the shared scans these features raised the Dice of strokes' own
scan from 0.52 to 0.60 before post-processing; position in the body lowered that of other patients, and is not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from Vox2VecCore.grid import ModelGrid, hu_on_grid
from Vox2VecCore.shapes import box
from Vox2VecCore.volume import Volume

SCALES_MM = (0.0, 3.0)
BUMPS_HU = ((-850, 100), (-100, 40), (0, 30), (50, 30), (100, 40), (160, 50), (250, 80), (500, 250))
"""Centre and width of the bumps: lung, fat, water, soft tissue, blood with and without contrast, bone."""
HEIGHT = 0.5
"""Of a bump, so that all of them together weigh about as much as one level of the embedding."""
LOWEST_HU, HIGHEST_HU, STEP_HU = -1024, 1535, 4
CHANNELS = len(SCALES_MM) * len(BUMPS_HU)


@dataclass(frozen=True, eq=False)
class IntensityMaps:
    """HU of a scan at the scales of :data:`SCALES_MM`, as rows of the look-up table.

    :param rows: one (X, Y, Z) int16 array a scale, on the embedding's grid.
    """

    rows: Sequence[NDArray[np.int16]]

    @property
    def hu(self) -> NDArray[np.float32]:
        """HU (X, Y, Z) on the grid, in steps of :data:`STEP_HU`."""
        hu = self.rows[0].astype(np.float32)
        hu *= STEP_HU
        hu += LOWEST_HU
        return hu

    def at(self, voxels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features (n, CHANNELS) of grid voxels (n, 3)."""
        index = tuple(voxels.T)
        return np.concatenate([_TABLE[rows[index]] for rows in self.rows], axis=1)

    def add(self, matrix: Tensor, start: Sequence[int], stop: Sequence[int], out: Tensor) -> None:
        """Add a linear map (CHANNELS, K) of the features on a box of the grid to ``out`` (K, box)."""
        count = len(BUMPS_HU)
        for n, rows in enumerate(self.rows):
            table = matrix[n * count : (n + 1) * count].T @ torch.from_numpy(_TABLE.T)
            for x, plane in enumerate(rows[box(start, stop)].astype(np.int32)):
                added = table.index_select(1, torch.from_numpy(plane.reshape(-1)))
                out[:, x].add_(added.view(len(table), *plane.shape))


def intensity_maps(volume: Volume, grid: ModelGrid) -> IntensityMaps:
    """HU of a CT on the grid of its embedding."""
    hu = hu_on_grid(volume, grid)
    maps = []
    for scale_mm in SCALES_MM:
        smooth = ndimage.gaussian_filter(hu, scale_mm / grid.spacing_mm) if scale_mm else hu
        clipped = np.clip(smooth, LOWEST_HU, HIGHEST_HU)
        maps.append(np.round((clipped - LOWEST_HU) / STEP_HU).astype(np.int16))
    return IntensityMaps(maps)


def _bumps() -> NDArray[np.float32]:
    hu = np.arange(LOWEST_HU, HIGHEST_HU + STEP_HU, STEP_HU, dtype=np.float64)[:, None]
    centres, widths = np.array(BUMPS_HU, np.float64).T
    return (HEIGHT * np.exp(-0.5 * ((hu - centres) / widths) ** 2)).astype(np.float32)


_TABLE = _bumps()
