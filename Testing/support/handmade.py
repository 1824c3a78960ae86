"""Simple hand-made multi-scale features of real CT, arranged as a pyramid: something anatomical without a network.

Every level sees HU smoothed to its own cell size, as soft memberships of tissue classes at the cell and at its six
neighbours two cells away, plus the gradient. It is far from a trained embedding, but knows lung from spine.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from Testing.support.pyramids import Triple, pyramid_of
from Vox2VecCore.grid import grid_scan
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume

TISSUE_HU = (-1000.0, -850.0, -500.0, -100.0, 50.0, 200.0, 600.0)
TISSUE_WIDTH_HU = (120.0, 120.0, 200.0, 60.0, 50.0, 80.0, 300.0)
STRIDES: tuple[Triple, ...] = ((1, 1, 1), (2, 2, 2), (4, 4, 4), (8, 8, 8))


def handmade_pyramid(
    volume: Volume,
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0),
    strides: Sequence[Triple] = STRIDES,
) -> FeaturePyramid:
    """Pyramid of a CT with 45 channels a level."""
    scan = grid_scan(volume, spacing_mm)
    levels = [_level(scan.hu, scan.body, stride) for stride in strides]
    return pyramid_of(levels, strides, grid=scan.grid, body=scan.body, model_hash="handmade")


def _level(hu: NDArray[np.float32], body: NDArray[np.bool_], stride: Triple) -> NDArray[np.float32]:
    padding = [(0, -n % s) for n, s in zip(hu.shape, stride, strict=True)]
    padded = np.pad(hu, padding, mode="edge")
    inside = np.pad(body, padding)
    features = []
    shape = [v for n, s in zip(padded.shape, stride, strict=True) for v in (n // s, s)]
    for centre, width in zip(TISSUE_HU, TISSUE_WIDTH_HU, strict=True):
        member = np.exp(-0.5 * ((padded - centre) / width) ** 2)
        features.append(member.reshape(shape).mean(axis=(1, 3, 5)))
    cells = gaussian_filter(np.stack(features, axis=-1), (0.7, 0.7, 0.7, 0))
    smooth = np.clip(padded, -1000, 1000).reshape(shape).mean(axis=(1, 3, 5))
    columns = [
        cells,
        np.stack(np.gradient(gaussian_filter(smooth, 0.7)), axis=-1) if min(smooth.shape) > 1 else cells[..., :3],
    ]
    for axis in range(3):
        columns += [_shifted(cells, step, axis) for step in (-2, 2)]
    level = np.concatenate(columns, axis=-1)
    used = inside.reshape(shape).any(axis=(1, 3, 5))
    level = (level - level[used].mean(axis=0)) / (level[used].std(axis=0) + 1e-3)
    return level.astype(np.float32)


def _shifted(cells: NDArray, step: int, axis: int) -> NDArray:
    index = np.clip(np.arange(cells.shape[axis]) + step, 0, cells.shape[axis] - 1)
    return cells.take(index, axis=axis)
