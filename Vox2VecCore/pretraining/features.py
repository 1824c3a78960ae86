"""Dense voxel features of a scan that the evaluation can compare: embeddings, and hand-made ones beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from Vox2VecCore.config import ModelConfig
from Vox2VecCore.embedding import fill_levels
from Vox2VecCore.encoding import StoredLevels
from Vox2VecCore.engines import make_engine
from Vox2VecCore.grid import GriddedScan, ModelGrid
from Vox2VecCore.network import EmbeddingNetwork
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import INT8_SCALE, FeaturePyramid, PyramidLevel, storage_dtype
from Vox2VecCore.pyramid_files import new_levels
from Vox2VecCore.tiles import plan_tiles

BLOCK = 50_000
SIGMAS_MM = (3.0, 6.0, 12.0, 24.0)


@dataclass(frozen=True, eq=False)
class VoxelFeatures:
    """A vector for every body voxel of a grid, scaled so that the dot product of two is their similarity.

    :param grid: where the voxels lie.
    :param voxels: (n, 3) all body voxels.
    :param levels: arrays (X_i, Y_i, Z_i, C_i), read at ``voxel // stride_i``.
    :param strides: of the levels.
    :param scale: factor of the concatenated levels.
    """

    grid: ModelGrid
    voxels: NDArray[np.int64]
    levels: Sequence[NDArray]
    strides: Sequence[tuple[int, int, int]]
    scale: float

    @cached_property
    def pyramid(self) -> FeaturePyramid:
        """The same as a pyramid, so that whatever works on embeddings can be given to other features as well."""
        body = np.zeros(self.grid.shape, bool)
        body[tuple(self.voxels.T)] = True
        levels = [_stored(level, stride) for level, stride in zip(self.levels, self.strides, strict=True)]
        return FeaturePyramid(self.grid, levels, np.packbits(body), None, "features", "")

    def at(self, voxels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors (n, C) of voxels (n, 3)."""
        columns = []
        for level, stride in zip(self.levels, self.strides, strict=True):
            i, j, k = (voxels // np.array(stride)).T
            columns.append(level[i, j, k].astype(np.float32))
        return np.concatenate(columns, axis=1) * np.float32(self.scale)

    def most_similar(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """The body voxel (n, 3) most similar to each of (n, C) vectors; the first of several that are."""
        best = np.full(len(vectors), -np.inf, np.float32)
        where = np.zeros(len(vectors), np.int64)
        for start in range(0, len(self.voxels), BLOCK):
            similarity = vectors @ self.at(self.voxels[start : start + BLOCK]).T
            index = similarity.argmax(axis=1)
            value = similarity[np.arange(len(vectors)), index]
            better = value > best
            best[better], where[better] = value[better], start + index[better]
        return self.voxels[where]


def _stored(level: NDArray, stride: tuple[int, int, int]) -> PyramidLevel:
    """A level with unit vectors in the type that pyramids keep them in."""
    dtype = storage_dtype(level.shape[-1])
    if level.dtype != dtype:
        unit = level.astype(np.float32)
        unit /= np.maximum(np.linalg.norm(unit, axis=-1, keepdims=True), 1e-6)
        level = np.round(unit * INT8_SCALE).astype(dtype) if dtype == np.int8 else unit.astype(dtype)
    return PyramidLevel(stride, level, np.ones(level.shape[:3], np.float16))


def embedded(pyramid: FeaturePyramid) -> VoxelFeatures:
    """The embedding; similarity is the mean over levels of the cosines."""
    count = len(pyramid.levels)
    scale = pyramid.levels[0].unit_scale / count**0.5
    if any(level.unit_scale != pyramid.levels[0].unit_scale for level in pyramid.levels):
        levels = [level.unit.astype(np.float32) * level.unit_scale for level in pyramid.levels]
        scale = 1 / count**0.5
    else:
        levels = [level.unit for level in pyramid.levels]
    return VoxelFeatures(
        pyramid.grid, np.argwhere(pyramid.body), levels, [level.stride for level in pyramid.levels], scale
    )


def pyramid_by(network: EmbeddingNetwork, config: ModelConfig, scan: GriddedScan) -> FeaturePyramid:
    """The embedding of a scan by a network that is not a model directory yet.

    :param config: only its geometry and window count.
    """
    levels = new_levels(config, scan.grid.shape, None)
    stored = StoredLevels(network, config.architecture.level_channels, config.level_statistics)
    run = make_engine(stored.eval(), "cpu", "torch")
    fill_levels(scan, plan_tiles(scan.body, config), config, run, levels, Progress())
    return FeaturePyramid(scan.grid, levels, np.packbits(scan.body), config.level_statistics, config.name, "")


def hand_made(scan: GriddedScan) -> VoxelFeatures:
    """Gaussian, gradient magnitude and Laplacian at several scales, as in ilastik (Berg et al. 2019).

    Every feature is standardised over the body, and the vector scaled to length one.
    """
    hu = np.clip(scan.hu, -1000, 700)
    features = []
    for sigma_mm in SIGMAS_MM:
        sigma = sigma_mm / scan.grid.spacing_mm
        features += [
            ndimage.gaussian_filter(hu, sigma),
            ndimage.gaussian_gradient_magnitude(hu, sigma),
            ndimage.gaussian_laplace(hu, sigma),
        ]
    stacked = np.stack(features, axis=-1)
    inside = stacked[scan.body]
    stacked = (stacked - inside.mean(axis=0)) / (inside.std(axis=0) + 1e-6)
    stacked /= np.linalg.norm(stacked, axis=-1, keepdims=True) + 1e-6
    return VoxelFeatures(scan.grid, np.argwhere(scan.body), [stacked.astype(np.float32)], [(1, 1, 1)], 1.0)
