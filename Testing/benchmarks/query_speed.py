"""Similarity queries on a cached pyramid of the official size, against the plain way of the same query.

The plain way builds the concatenated 1008-channel vector of every voxel (level ``i`` repeated ``2**i`` times along
each axis) in single precision and multiplies it with the query, plane by plane, so that it fits in memory.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from Testing.benchmarks.machine import best_seconds, seconds
from Vox2VecCore.grid import ModelGrid
from Vox2VecCore.model import Model
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.pyramid_files import new_levels, open_pyramid, write_description
from Vox2VecCore.shapes import Triple
from Vox2VecCore.similarity import Query, calibration, level_weights, make_query, on_slice, whole_scan
from Vox2VecCore.spreading import prepare

GRID: Triple = (350, 350, 200)
SPACING_MM = (1.0, 1.0, 2.0)


def random_pyramid(model: Model, folder: Path, shape: Triple = GRID) -> FeaturePyramid:
    """A cached pyramid of random unit vectors, all of it body: the most work that a scan of this size can make."""
    folder.mkdir(parents=True)
    affine = np.diag([*SPACING_MM, 1.0])
    levels = new_levels(model.config, shape, folder)
    rng = np.random.default_rng(0)
    for level in levels:
        scale = 1 / level.unit_scale
        for plane in level.unit:
            values = rng.standard_normal(plane.shape, np.float32)
            values *= scale / np.linalg.norm(values, axis=-1, keepdims=True)
            plane[...] = np.rint(values) if plane.dtype == np.int8 else values
        level.magnitude[...] = 1
    grid = ModelGrid(shape, affine, shape, affine)
    body = np.packbits(np.ones(shape, bool))
    write_description(folder, FeaturePyramid(grid, levels, body, None, model.name, model.hash, folder), "random")
    return open_pyramid(folder)


def plain_query(pyramid: FeaturePyramid, query: Query) -> NDArray[np.float32]:
    """Similarity of every voxel, the plain way."""
    return np.stack([plain_slice(pyramid, query, 0, i) for i in range(pyramid.grid.shape[0])])


def plain_slice(pyramid: FeaturePyramid, query: Query, axis: int, index: int) -> NDArray[np.float32]:
    """Similarity of every voxel of one plane, the plain way."""
    rows, columns = (other for other in range(3) if other != axis)
    vector = np.concatenate([v * np.float32(w) for v, w in zip(query.vectors, query.weights, strict=True)])
    parts = []
    for level in pyramid.levels:
        plane = level.unit.take(index // level.stride[axis], axis).astype(np.float32) * np.float32(level.unit_scale)
        plane = plane.repeat(level.stride[rows], axis=0)[: pyramid.grid.shape[rows]]
        parts.append(plane.repeat(level.stride[columns], axis=1)[:, : pyramid.grid.shape[columns]])
    return np.concatenate(parts, axis=-1) @ vector


def measure(model: Model, folder: Path) -> dict[str, Any]:
    """Seconds for the whole scan and for three displayed slices."""
    pyramid = random_pyramid(model, folder / "pyramid")
    points = pyramid.grid.to_ras([[100, 120, 80], [200, 150, 90]])
    middle = [n // 2 for n in pyramid.grid.shape]

    def click(spreading: bool = False) -> NDArray[np.float32]:
        query = make_query(pyramid, points[:1], points[1:], spreading=spreading)
        return whole_scan(pyramid, query, calibration(pyramid, query))

    def hover() -> None:
        query = make_query(pyramid, points[:1])
        percentiles = calibration(pyramid, query)
        for axis, index in enumerate(middle):
            on_slice(pyramid, query, axis, index, percentiles)

    def plain_hover() -> None:
        query = make_query(pyramid, points[:1])
        for axis, index in enumerate(middle):
            plain_slice(pyramid, query, axis, index)

    weights = level_weights(len(pyramid.levels), 0.5)
    prepared, spreading = seconds(lambda: prepare(pyramid, weights)), best_seconds(lambda: click(True), 5)
    whole, slices = best_seconds(click, 5), best_seconds(hover, 10)
    plain_slices = best_seconds(plain_hover, 3)
    query = make_query(pyramid, points[:1], points[1:])
    plain: list[NDArray[np.float32]] = []
    plain_s = seconds(lambda: plain.append(plain_query(pyramid, query)))
    difference = float(np.abs(plain[0] - whole_scan(pyramid, query)).max())
    return {
        "grid": list(pyramid.grid.shape),
        "whole_scan_s": whole,
        "three_slices_s": slices,
        "whole_scan_spreading_s": spreading,
        "spreading_prepared_s": prepared,
        "plain_whole_scan_s": plain_s,
        "plain_three_slices_s": plain_slices,
        "speedup_whole_scan": plain_s / whole,
        "speedup_three_slices": plain_slices / slices,
        "largest_difference_to_plain": difference,
    }
