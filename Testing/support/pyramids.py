"""Feature pyramids made of arrays, so that what stands on pyramids is tested without a network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from Vox2VecCore.grid import ModelGrid
from Vox2VecCore.pyramid import INT8_SCALE, FeaturePyramid, PyramidLevel, storage_dtype
from Vox2VecCore.similarity import calibration, make_query, whole_scan

Triple = tuple[int, int, int]
ISOTROPIC: tuple[Triple, ...] = ((1, 1, 1), (2, 2, 2), (4, 4, 4))


def pyramid_of(
    levels: Sequence[NDArray],
    strides: Sequence[Triple] = ISOTROPIC,
    *,
    grid: ModelGrid | None = None,
    body: NDArray[np.bool_] | None = None,
    model_hash: str = "test",
    folder: Path | None = None,
) -> FeaturePyramid:
    """A pyramid as ``embed`` stores it: unit vectors in int8 or float16, memory-mapped if there is a folder.

    :param levels: standardised vectors (X_i, Y_i, Z_i, C_i), finest first.
    """
    x, y, z = levels[0].shape[:3]
    grid = grid or plain_grid((x, y, z))
    stored = []
    for i, (vectors, stride) in enumerate(zip(levels, strides, strict=True)):
        magnitude = np.linalg.norm(vectors, axis=-1)
        unit = vectors / np.maximum(magnitude, 1e-6)[..., None]
        dtype = storage_dtype(vectors.shape[-1])
        unit = np.rint(unit * INT8_SCALE).astype(dtype) if dtype is np.int8 else unit.astype(dtype)
        if folder is not None:
            np.save(folder / f"{i}.npy", unit)
            unit = np.load(folder / f"{i}.npy", mmap_mode="r")
        stored.append(PyramidLevel(stride, unit, magnitude.astype(np.float16)))
    body = np.ones(grid.shape, bool) if body is None else body
    return FeaturePyramid(grid, stored, np.packbits(body), None, "test", model_hash)


def plain_grid(shape: Triple, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> ModelGrid:
    """A grid that is the CT's own, with its first voxel at the origin."""
    affine = np.diag([*spacing, 1.0])
    return ModelGrid(shape, affine, shape, affine)


def random_levels(
    shape: Triple,
    channels: Sequence[int] = (4, 8, 96),
    strides: Sequence[Triple] = ISOTROPIC,
    *,
    seed: int = 0,
    smooth: float = 0.0,
) -> list[NDArray[np.float32]]:
    """Gaussian noise levels for a grid, optionally smooth over ``smooth`` cells."""
    rng = np.random.default_rng(seed)
    levels = []
    for c, stride in zip(channels, strides, strict=True):
        cells = [-(-n // s) for n, s in zip(shape, stride, strict=True)]
        noise = rng.standard_normal((*cells, c)).astype(np.float32)
        if smooth:
            noise = gaussian_filter(noise, (smooth, smooth, smooth, 0))
            noise /= noise.std()
        levels.append(noise)
    return levels


def percentiles(
    pyramid: FeaturePyramid, positive: ArrayLike, negative: ArrayLike = (), *, spreading: bool = False
) -> NDArray[np.float32]:
    """The map of a similarity query on the model's grid."""
    query = make_query(pyramid, positive, negative, spreading=spreading)
    return whole_scan(pyramid, query, calibration(pyramid, query))


def concatenation(pyramid: FeaturePyramid) -> NDArray[np.float32]:
    """Unit vectors of all levels at every voxel (X, Y, Z, channels): the plain way, for comparison."""
    voxels = np.stack(np.meshgrid(*map(np.arange, pyramid.grid.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    columns = [level.unit_vectors(voxels) for level in pyramid.levels]
    return np.concatenate(columns, axis=1).reshape(*pyramid.grid.shape, -1)
