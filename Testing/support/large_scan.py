"""A scan of the size of a whole trunk, cheaply: a made-up CT, and its embedding in the cache without a network."""

import numpy as np
from numpy.typing import NDArray

from Testing.support.scans import phantom
from Vox2VecCore.cache import PyramidCache
from Vox2VecCore.grid import ModelGrid
from Vox2VecCore.model import Model
from Vox2VecCore.pyramid import INT8_SCALE, FeaturePyramid
from Vox2VecCore.pyramid_files import new_levels, write_description
from Vox2VecCore.volume import Volume

SHAPE = (350, 350, 200)
SPACING_MM = (1.0, 1.0, 2.0)
BLOCK = 5
"""So many voxels along each axis are alike: the phantom is drawn on a coarser grid."""


def large_ct() -> Volume:
    """An elliptic body with organs, 24.5 million voxels, centred on the origin."""
    x, y, z = (n // BLOCK for n in SHAPE)
    array = np.empty(SHAPE, np.int16, order="F")
    array[...] = _spread(phantom((x, y, z)).array, SHAPE, 1)
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = -(np.array(SHAPE) - 1) / 2 * np.array(SPACING_MM)
    return Volume(array, affine, "large")


def put_into_cache(volume: Volume, model: Model) -> None:
    """An embedding of every voxel of :func:`large_ct`, in the cache as ``embed`` would put it there.

    Its vectors are functions of HU and place.
    """
    coarse = volume.array[::BLOCK, ::BLOCK, ::BLOCK].astype(np.float32)
    place = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in coarse.shape), indexing="ij")
    features = np.stack([np.cos(coarse / 300), np.sin(coarse / 300), *place], axis=-1)
    grid = ModelGrid(SHAPE, volume.affine, SHAPE, volume.affine)
    cache = PyramidCache()
    with cache.create(cache.key(volume, model)) as folder:
        levels = new_levels(model.config, SHAPE, folder)
        for level in levels:
            vectors = np.resize(np.moveaxis(features, -1, 0), (level.channels, *coarse.shape)).transpose(1, 2, 3, 0)
            unit = np.rint(INT8_SCALE * vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.int8)
            level.unit[...] = _spread(unit, level.unit.shape[:3], level.stride[0])
            level.magnitude[...] = 1
        body = np.packbits(_spread(coarse > -950, SHAPE, 1))
        write_description(folder, FeaturePyramid(grid, levels, body, None, model.name, model.hash, folder), "large")


def _spread(coarse: NDArray, shape: tuple[int, ...], stride: int) -> NDArray:
    """Blocks of equal values, of every ``stride``-th voxel."""
    for axis, n in enumerate(shape):
        coarse = coarse.take(np.minimum(np.arange(n) * stride // BLOCK, coarse.shape[axis] - 1), axis)
    return coarse
