"""Where in a scan does it look like here? Similarity of every voxel with a few clicked ones.

The similarity of a voxel with a query is the weighted mean, over levels, of the cosine between the voxel's unit
vector and the query's: ``sum_l w_l cos_l`` with ``sum_l w_l = 1``. Levels count by their weights, not by their
number of channels, so the coarse levels with their many channels do not drown the fine ones.

Bare cosines of contrastive features say little (a body may span 0.3 to 1 or 0.9 to 1), so the answer is by
default calibrated against the scan itself: the percentage of the body's voxels that are less similar.
"""

from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from Vox2VecCore.errors import ModelError, PointError, Vox2VecError
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.separable import distinct_cells, in_one_thread, level_tensors, map_box, map_grid, map_voxels
from Vox2VecCore.spreading import FEWEST_VOXELS, spread
from Vox2VecCore.volume import Volume

BALANCE_STEEPNESS = 6.0
NEGATIVE_SHARE = 0.9
SAMPLE_VOXELS = 20_000
TABLE_BINS = 65_536
STAGE = "Similarity"


@dataclass(frozen=True, eq=False)
class Query:
    """What to look for; made by :func:`make_query`, usable in every scan embedded by the same model.

    :param vectors: one (C_l,) float32 unit vector a level, finest first.
    :param weights: weight of every level, summing to 1.
    :param peak: similarity of the most similar clicked voxel; 1 for a single click but for rounding.
    :param model_hash: model that the vectors are from.
    """

    vectors: tuple[NDArray[np.float32], ...]
    weights: tuple[float, ...]
    peak: float
    model_hash: str = field(repr=False)

    @property
    def matrices(self) -> list[Tensor]:
        """The similarity as a linear map of a voxel's unit vectors: (C_l, 1) a level."""
        return [torch.from_numpy(v[:, None] * np.float32(w)) for v, w in zip(self.vectors, self.weights, strict=True)]


def level_weights(levels: int, balance: float) -> NDArray[np.float64]:
    """Weights of the levels, finest first, from a locality-to-context balance.

    ``w_l`` is proportional to ``exp(6 (2 balance - 1) (l / (levels - 1) - 1/2))``: every level changes smoothly
    with the balance and none ever vanishes. At 0.5 all are equal; of six levels the finest has 0.70 at 0 and the
    coarsest 0.70 at 1.

    :raises Vox2VecError: if ``balance`` is not between 0 and 1.
    """
    if not 0 <= balance <= 1:
        raise Vox2VecError(f"The balance must lie between 0 (locality) and 1 (context), got {balance}.")
    position = np.linspace(-0.5, 0.5, levels) if levels > 1 else np.zeros(1)
    weights = np.exp(BALANCE_STEEPNESS * (2 * balance - 1) * position)
    return weights / weights.sum()


def make_query(
    pyramid: FeaturePyramid,
    positive: ArrayLike,
    negative: ArrayLike = (),
    balance: float = 0.5,
    *,
    spreading: bool = False,
) -> Query:
    """A query from clicked points.

    On every level ``p`` is the mean of the positive unit vectors, renormalised. Of negative points, with mean
    ``n`` of unit length, ``beta n`` is taken away with ``beta = 0.9 max(0, p . n)``: nine tenths of what the
    positives share with them, so a negative that looks different changes nothing. The rest is *not*
    renormalised level by level: where positives and negatives look the same, little is left and what is left is
    mostly noise, so its length, at least 0.1, goes into the level's weight; the weights are then made to sum to 1.

    :param positive: (n, 3) points in RAS millimetres, at least one.
    :param negative: (m, 3) points in RAS millimetres, or none.
    :param balance: 0 looks at the spot itself, 1 at its surroundings (:func:`level_weights`).
    :param spreading: look also for what looks like the places found, and so on (:mod:`Vox2VecCore.spreading`).
    :raises PointError: if a point lies outside the scan or where nothing was embedded, or there is no positive.
    """
    wanted = _clicked(pyramid, positive)
    unwanted = _clicked(pyramid, negative)
    if len(wanted[0]) == 0:
        raise PointError("A similarity query needs at least one positive point.")
    if spreading and np.count_nonzero(pyramid.body) >= FEWEST_VOXELS:
        found = spread(pyramid, wanted, unwanted, level_weights(len(wanted), balance))
        return _query(pyramid, wanted, found, np.ones(len(found)))
    prototypes = []
    for yes, no in zip(wanted, unwanted, strict=True):
        prototype = _unit(yes.mean(axis=0))
        if len(no):
            against = _unit(no.mean(axis=0))
            prototype = prototype - NEGATIVE_SHARE * max(0.0, float(prototype @ against)) * against
        prototypes.append(prototype)
    return _query(pyramid, wanted, prototypes, level_weights(len(prototypes), balance))


def _query(
    pyramid: FeaturePyramid, clicked: list[NDArray[np.float32]], prototypes: list[NDArray], weights: NDArray[np.float64]
) -> Query:
    """A query whose levels count by their weights and by how long their prototypes are."""
    weights = weights * [np.linalg.norm(each) for each in prototypes]
    weights /= max(weights.sum(), np.finfo(float).tiny)
    vectors = tuple(_unit(each).astype(np.float32) for each in prototypes)
    peak = sum(w * (yes @ v) for w, yes, v in zip(weights, clicked, vectors, strict=True)).max()
    return Query(vectors, tuple(weights.tolist()), float(peak), pyramid.model_hash)


def _clicked(pyramid: FeaturePyramid, points: ArrayLike) -> list[NDArray[np.float32]]:
    """Unit vectors of clicked points, as stored."""
    if np.size(points) == 0:
        return [np.zeros((0, level.channels), np.float32) for level in pyramid.levels]
    levels = pyramid.unit_vectors(points)
    empty = ~np.any([vectors.any(axis=1) for vectors in levels], axis=0)
    if empty.any():
        place = np.atleast_2d(points)[empty][0].tolist()
        raise PointError(f"Point {place} mm lies in air far from the body, where nothing was embedded.")
    return levels


def _unit(vector: NDArray) -> NDArray:
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector


@dataclass(frozen=True, eq=False)
class Calibration:
    """From similarities to percentiles of a scan's own body voxels, made by :func:`calibration`.

    :param lowest: similarity of the first entry of the table; less similar voxels get 0.
    :param highest: similarity of the last entry, 100.
    :param table: percentiles at evenly spaced similarities.
    """

    lowest: float
    highest: float
    table: Tensor = field(repr=False)

    def __call__(self, similarities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Percentiles 0 to 100 of similarities of any shape."""
        values = torch.from_numpy(np.array(similarities, np.float32))
        out = torch.empty_like(values)
        in_one_thread(self.look_up, values.view(-1), out.view(-1))
        return out.numpy()

    def look_up(self, similarities: Tensor, out: Tensor) -> None:
        """The same for flat tensors; overwrites ``similarities``, whose table entries it holds afterwards."""
        last = len(self.table) - 1
        scale = last / (self.highest - self.lowest)
        entries = similarities.sub_(self.lowest).mul_(scale).round_().clamp_(0, last)
        torch.index_select(self.table, 0, entries.int(), out=out)


def calibration(pyramid: FeaturePyramid, query: Query) -> Calibration:
    """Percentiles of ``query`` in the body of ``pyramid``.

    Ranks among a fixed sample of body voxels, linear in between. Above the most similar sampled voxel the
    percentile goes on, linearly, to 100 at the similarity of the clicked voxel itself (``query.peak``).
    """
    _check(pyramid, query)
    values = in_one_thread(_body_sample(pyramid).similarities, query)
    highest = query.peak
    known, counts = np.unique(values[values < highest], return_counts=True)
    ranks = (np.cumsum(counts) - 0.5 * counts) / max(len(values), 1) * 100
    lowest = float(known[0]) if len(known) else highest - 1.0
    grid = np.linspace(lowest, highest, TABLE_BINS)
    table = np.interp(grid, np.append(known, highest), np.append(ranks, 100.0))
    return Calibration(lowest, highest, torch.from_numpy(table.astype(np.float32)))


@dataclass(frozen=True, eq=False)
class _BodySample:
    """Vectors of a fixed sample of body voxels, kept in memory so that a hovering mouse gets percentiles at once."""

    vectors: list[Tensor]
    rows: list[Tensor]

    def similarities(self, query: Query) -> NDArray[np.float64]:
        total = sum((v @ m)[r, 0] for v, m, r in zip(self.vectors, query.matrices, self.rows, strict=True))
        return np.asarray(total, dtype=np.float64)


_samples: WeakKeyDictionary[FeaturePyramid, _BodySample] = WeakKeyDictionary()


def prepare(pyramid: FeaturePyramid) -> None:
    """Gather what the first query of a scan needs, which takes a moment, so that it is answered as fast as later ones:
    a sample of the body, and the cached levels themselves, brought from disk into the memory of this process."""
    _body_sample(pyramid)
    for level in pyramid.levels:
        level.unit.view(f"u{level.unit.itemsize}").max()


def _body_sample(pyramid: FeaturePyramid) -> _BodySample:
    if pyramid not in _samples:
        voxels = pyramid.body_voxels(SAMPLE_VOXELS)
        vectors, rows = [], []
        for level, stored in zip(pyramid.levels, level_tensors(pyramid), strict=True):
            cells, which = distinct_cells(voxels, level.stride, stored.shape[:3])
            vectors.append(stored.view(-1, level.channels)[cells].float() * level.unit_scale)
            rows.append(which)
        _samples[pyramid] = _BodySample(vectors, rows)
    return _samples[pyramid]


def whole_scan(
    pyramid: FeaturePyramid,
    query: Query,
    calibrate: Calibration | None = None,
    progress: Progress | None = None,
    *,
    order: Literal["C", "F"] = "C",
) -> NDArray[np.float32]:
    """Similarity of every voxel of the grid.

    :param calibrate: turn it into percentiles, 0 outside the body.
    :param order: which axis is the fastest in memory: z (``C``) or x (``F``), as in image files and in Slicer.
    :return: (X, Y, Z) float32.
    :raises ModelError: if the query is from another model.
    :raises Cancelled: when ``progress`` says so.
    """
    _check(pyramid, query)
    out = np.empty(pyramid.grid.shape, np.float32, order=order)

    def use(x: int, slab: Tensor) -> None:
        found, planes = slab[0], slice(x, x + slab.shape[1])
        if calibrate is None:
            out[planes] = found.numpy()
        else:
            ranks = torch.empty_like(found)
            calibrate.look_up(found.view(-1), ranks.view(-1))
            np.multiply(ranks.numpy(), pyramid.body[planes], out=out[planes])

    map_grid(pyramid, query.matrices, use, STAGE, progress)
    return out


def on_slice(
    pyramid: FeaturePyramid, query: Query, axis: int, index: int, calibrate: Calibration | None = None
) -> NDArray[np.float32]:
    """:func:`whole_scan` on one plane of the grid only, in milliseconds.

    :param axis: 0 sagittal, 1 coronal, 2 axial.
    :param index: voxel of the grid along that axis.
    :return: the two other axes in their order, float32.
    """
    _check(pyramid, query)
    start, stop = slice_box(pyramid, axis, index)
    values = in_one_thread(map_box, pyramid, query.matrices, start, stop)[0].squeeze(axis).numpy()
    return values if calibrate is None else calibrate(values) * pyramid.body.take(index, axis)


def slice_box(pyramid: FeaturePyramid, axis: int, index: int) -> tuple[list[int], list[int]]:
    """First voxel, and one past the last, of a plane of the grid.

    :raises PointError: if the plane lies outside the grid.
    """
    start, stop = [0, 0, 0], list(pyramid.grid.shape)
    if not 0 <= index < stop[axis]:
        raise PointError(f"Slice {index} lies outside the grid, which has {stop[axis]} slices along axis {axis}.")
    start[axis], stop[axis] = index, index + 1
    return start, stop


def at_voxels(
    pyramid: FeaturePyramid, query: Query, voxels: NDArray[np.int64], calibrate: Calibration | None = None
) -> NDArray[np.float32]:
    """:func:`whole_scan` at single voxels of the grid: (n, 3) -> (n,). For oblique planes and profiles."""
    _check(pyramid, query)
    values = in_one_thread(map_voxels, pyramid, query.matrices, voxels)[:, 0].numpy()
    return values if calibrate is None else calibrate(values) * pyramid.body[tuple(voxels.T)]


def similarity_map(
    pyramid: FeaturePyramid,
    positive: ArrayLike,
    negative: ArrayLike = (),
    *,
    balance: float = 0.5,
    spreading: bool = False,
    calibrated: bool = True,
    progress: Progress | None = None,
) -> Volume:
    """How much every voxel of a CT looks like the clicked ones.

    :param positive: (n, 3) points in RAS millimetres, at least one.
    :param negative: (m, 3) points in RAS millimetres to look away from, or none.
    :param balance: 0 looks at the spot itself, 1 at its surroundings.
    :param spreading: look also for what looks like the places found, and so on (:mod:`Vox2VecCore.spreading`).
    :param calibrated: percentiles 0 to 100 among the scan's body voxels; otherwise weighted mean cosines.
    :return: float32 on the CT's own grid, with exactly its shape and affine; 0 outside the body.
    :raises PointError: if a point lies outside the scan or there is no positive one.
    :raises Cancelled: when ``progress`` says so.
    """
    query = make_query(pyramid, positive, negative, balance, spreading=spreading)
    values = whole_scan(pyramid, query, calibration(pyramid, query) if calibrated else None, progress)
    if not calibrated:
        values *= pyramid.body
    on_ct = pyramid.grid.to_source(values)
    # Weights of an interpolation may add up to a little more than 1, and stored vectors be a little longer.
    np.clip(on_ct, *((0, 100) if calibrated else (-1, 1)), out=on_ct)
    return Volume(on_ct, pyramid.grid.source_affine, "similarity")


def _check(pyramid: FeaturePyramid, query: Query) -> None:
    if query.model_hash != pyramid.model_hash:
        raise ModelError("The query was made with another model than this scan's embedding; embed both with one model.")
