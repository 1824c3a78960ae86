"""What strokes teach: labelled vectors of one or several scans, and how much each counts.

A long stroke is not a thousand independent samples, and a large structure is not more important than a small one.
Every class therefore has the same weight, shared evenly by the 12 mm cells that its strokes pass through.

Strokes say little about all that nobody painted, which is most of a scan. A fixed sample of unlabelled body voxels
comes along as *unknown*: how far each counts as background is estimated while fitting (learning from positive and
unlabelled data, as Elkan and Noto, KDD 2008, do it by weights).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from Vox2VecCore.errors import HeadError
from Vox2VecCore.fewshot.classes import UNLABELLED
from Vox2VecCore.fewshot.intensity import IntensityMaps
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume

CELL_MM = 12.0
UNKNOWN_VOXELS = 3000
MOST_LABELLED = 8000
"""Labelled voxels that are kept of one scan; more are thinned evenly."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled and unknown vectors.

    :param vectors: (n, C) float32: unit vectors level by level, finest first, then intensity features, if any.
    :param values: (n,) class values; 0 is unknown.
    :param strokes: (n,) number of the stroke a voxel is from, over all scans; -1 for unknown ones.
    :param weights: (n,) summing to 1 for each class, and to 1 for the unknown ones.
    :param has_intensity: whether the last columns are intensity features.
    :param scans: names of the scans.
    """

    vectors: NDArray[np.float32]
    values: NDArray[np.int64]
    strokes: NDArray[np.int64]
    weights: NDArray[np.float64]
    has_intensity: bool
    scans: tuple[str, ...]

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Rows that are not unknown."""
        return self.values != UNLABELLED


def embedded_vectors(
    pyramid: FeaturePyramid, voxels: NDArray[np.int64], intensity: IntensityMaps | None
) -> NDArray[np.float32]:
    """What heads see of grid voxels (n, 3): (n, C) float32."""
    columns = [level.unit_vectors(voxels) for level in pyramid.levels]
    if intensity is not None:
        columns.append(intensity.at(voxels))
    return np.concatenate(columns, axis=1)


def stroke_voxels(
    pyramid: FeaturePyramid, strokes: Volume
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Grid voxels that strokes pass through: voxels (n, 3), their class values, and the number of the stroke.

    Several voxels of the CT in one of the grid count once; the rarer class wins, for it is the smaller structure.

    :raises HeadError: if nothing is painted, or nothing where the scan was embedded, or values are no class values.
    """
    array = np.asarray(strokes.array)
    memory = array.T if array.flags.f_contiguous else array
    found = np.flatnonzero(memory != UNLABELLED)
    if len(found) == 0:
        raise HeadError(f"{strokes.name}: holds no strokes; paint some in the structure and some in the background.")
    values = memory.reshape(-1)[found]
    ijk = np.stack(np.unravel_index(found, memory.shape), axis=1)
    ijk = ijk if memory is array else ijk[:, ::-1]
    if (values % 1 != 0).any():
        raise HeadError(f"{strokes.name}: holds values that are not whole numbers; give the label of every voxel.")
    if values.min() < 0:
        raise HeadError(f"{strokes.name}: holds the value {values.min()}; values count from 1, and 0 is unlabelled.")
    values = values.astype(np.int64)
    numbers = connected(ijk, values)
    grid = pyramid.grid
    voxels = np.floor(grid.to_voxels(strokes.to_ras(ijk)) + 0.5).astype(np.int64)
    inside = ((voxels >= 0) & (voxels < np.array(grid.shape))).all(axis=1)
    voxels, values, numbers = voxels[inside], values[inside], numbers[inside]
    kept = pyramid.levels[-1].unit_vectors(voxels).any(axis=1) if len(voxels) else np.zeros(0, bool)
    if not kept.any():
        raise HeadError(f"{strokes.name}: all strokes lie outside the body; paint inside the patient.")
    voxels, values, numbers = voxels[kept], values[kept], numbers[kept]
    size = np.bincount(values)[values]
    order = np.argsort(size, kind="stable")
    flat = np.ravel_multi_index(tuple(voxels[order].T), grid.shape)
    _, once = np.unique(flat, return_index=True)
    index = order[once]
    return voxels[index], values[index], numbers[index]


def connected(ijk: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the stroke, 0 upwards, of voxels (n, 3): touching ones of one value, at corners, too, are one stroke.

    Looks at the painted voxels only, for strokes are few in a large scan.
    """
    _, rows, columns = ijk.max(axis=0) + 2  # one more on either side, so that opposite borders do not touch
    steps = np.array([rows * columns, columns, 1])
    place = ijk @ steps
    order = np.argsort(place, kind="stable")
    place, values = place[order], values[order]
    pairs = []
    for offset in np.ndindex(3, 3, 3):
        ahead = int((np.array(offset) - 1) @ steps)
        if ahead > 0:
            other = np.minimum(np.searchsorted(place, place + ahead), len(place) - 1)
            one = np.flatnonzero((place[other] == place + ahead) & (values[other] == values))
            pairs.append(np.stack([one, other[one]]))
    first, second = np.concatenate(pairs, axis=1)
    touching = sparse.coo_matrix((np.ones(len(first), bool), (first, second)), (len(place),) * 2)
    numbers = np.empty(len(place), np.int64)
    numbers[order] = connected_components(touching, directed=False)[1]
    return numbers


def examples_from(pyramid: FeaturePyramid, strokes: Volume, intensity: IntensityMaps | None, name: str) -> Examples:
    """Examples of one scan.

    :param strokes: class values on any grid that covers the strokes; 0 is unlabelled.
    :param name: of the scan.
    :raises HeadError: as :func:`stroke_voxels`.
    """
    voxels, values, numbers = stroke_voxels(pyramid, strokes)
    if len(voxels) > MOST_LABELLED:
        kept = np.linspace(0, len(voxels) - 1, MOST_LABELLED).astype(np.int64)
        voxels, values, numbers = voxels[kept], values[kept], numbers[kept]
    weights = _weights(voxels, values, pyramid.grid.spacing_mm)
    others = unknown_voxels(pyramid, voxels)
    return Examples(
        np.concatenate([embedded_vectors(pyramid, each, intensity) for each in (voxels, others)]),
        np.concatenate([values, np.zeros(len(others), np.int64)]),
        np.concatenate([numbers, np.full(len(others), -1)]),
        np.concatenate([weights, np.full(len(others), 1 / max(len(others), 1))]),
        intensity is not None,
        (name,),
    )


def unknown_voxels(pyramid: FeaturePyramid, painted: NDArray[np.int64]) -> NDArray[np.int64]:
    """A fixed sample of body voxels (n, 3) that no stroke touches."""
    sample = pyramid.body_voxels(UNKNOWN_VOXELS)
    shape = pyramid.grid.shape
    flat = [np.ravel_multi_index(tuple(each.T), shape) for each in (sample, painted)]
    return sample[~np.isin(flat[0], flat[1])]


def joined(parts: Sequence[Examples]) -> Examples:
    """Examples of several scans as one; every class is balanced anew.

    :raises HeadError: if they have different features.
    """
    if len({(part.vectors.shape[1], part.has_intensity) for part in parts}) > 1:
        raise HeadError("Some of the scans were learnt with their CT and some without; give all of them with the CT.")
    values = np.concatenate([part.values for part in parts])
    weights = np.concatenate([part.weights for part in parts])
    for value in np.unique(values):
        rows = values == value
        weights[rows] /= weights[rows].sum()
    offset, strokes = 0, []
    for part in parts:
        strokes.append(np.where(part.strokes >= 0, part.strokes + offset, -1))
        offset += int(part.strokes.max(initial=0)) + 1
    return Examples(
        np.concatenate([part.vectors for part in parts]),
        values,
        np.concatenate(strokes),
        weights,
        parts[0].has_intensity,
        tuple(dict.fromkeys(name for part in parts for name in part.scans)),
    )


def check_teachable(values: NDArray[np.integer], background: int) -> None:
    """Whether a head can be learnt at all.

    :param values: of classes that strokes have; each any number of times.
    :raises HeadError: if there is no structure, or nothing to tell it from.
    """
    found = np.unique(values).tolist()
    if found == [background]:
        raise HeadError("There are strokes of the background only; paint at least one in a structure.")
    if len(found) < 2:
        raise HeadError("There are strokes of one class only; paint some in the background or in a second structure.")


def level_columns(pyramid_channels: Sequence[int]) -> list[slice]:
    """Columns of every level in :attr:`Examples.vectors`; intensity features follow in the last ones."""
    ends = np.cumsum(pyramid_channels)
    return [slice(int(end - n), int(end)) for end, n in zip(ends, pyramid_channels, strict=True)]


def _weights(
    voxels: NDArray[np.int64], values: NDArray[np.int64], spacing_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    cells = np.floor(voxels * spacing_mm / CELL_MM).astype(np.int64)
    weights = np.zeros(len(voxels))
    for value in np.unique(values):
        rows = np.flatnonzero(values == value)
        _, cell, counts = np.unique(cells[rows], axis=0, return_inverse=True, return_counts=True)
        weights[rows] = 1 / counts[cell.reshape(-1)]
        weights[rows] /= weights[rows].sum()
    return weights
