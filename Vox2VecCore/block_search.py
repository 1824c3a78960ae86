"""The place in another scan where a whole neighbourhood fits best, near where the place is expected.

One voxel is easily mistaken for another; the voxels around it, laid over the other scan as a block, are not. The
similarities of all seeds of a block to a box of the other scan are computed level by level at the level's own
resolution and added up, each seed shifted by its offset from the block's centre (block matching, as in deformable
registration; Heinrich et al., deeds, IEEE TMI 2013).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.pyramid import FeaturePyramid


@dataclass(frozen=True)
class Block:
    """What a block search found.

    :param shift: (3,) voxels of the target grid from the expected place to the best one.
    :param of_seeds: (n, 3) the same for every seed by itself.
    """

    shift: NDArray[np.int64]
    of_seeds: NDArray[np.int64]


def fit_block(
    target: FeaturePyramid,
    vectors: Sequence[NDArray[np.float32]],
    places: NDArray[np.int64],
    centre: int,
    reach_mm: float,
) -> Block | None:
    """Shift a block of seeds until they are most similar, together, to what lies under them.

    :param vectors: (n, C_l) of the seeds, weighted, finest level first.
    :param places: (n, 3) expected voxels of the seeds on the grid of ``target``, inside of it or not.
    :param centre: the seed that has to come to lie in the body.
    :param reach_mm: largest shift.
    :return: ``None`` if no body is within reach.
    """
    reach = np.maximum(1, np.floor(reach_mm / target.grid.spacing_mm)).astype(np.int64)
    low = places.min(axis=0) - reach
    scores, inside = _scores(target, vectors, low, places.max(axis=0) + reach + 1)
    axes = [np.arange(-r, r + 1) * mm for r, mm in zip(reach, target.grid.spacing_mm, strict=True)]
    outside = sum(a**2 for a in np.ix_(*axes)) > reach_mm**2
    parts = [
        tuple(slice(int(a), int(a + 2 * r + 1)) for a, r in zip(place - low - reach, reach, strict=True))
        for place in places
    ]
    allowed = inside[parts[centre]] & ~outside
    if not allowed.any():
        return None
    seeds = np.stack([score[part] for score, part in zip(scores, parts, strict=True)])
    total = np.where(allowed, seeds.sum(axis=0), -np.inf)
    own = np.where(outside, -np.inf, seeds).reshape(len(seeds), -1).argmax(axis=1)
    return Block(
        np.array(np.unravel_index(int(total.argmax()), total.shape)) - reach,
        np.stack(np.unravel_index(own, total.shape), axis=1) - reach,
    )


def _scores(
    target: FeaturePyramid, vectors: Sequence[NDArray[np.float32]], low: NDArray[np.int64], high: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Similarity (n, X, Y, Z) of seeds to the voxels of a box of the grid, and which of these are body (X, Y, Z).

    No body, or beyond the grid, has similarity 0.
    """
    shape = tuple(high - low)
    inside = np.zeros(shape, bool)
    scores = np.zeros((len(vectors[0]), *shape), np.float32)
    first = np.clip(low, 0, target.grid.shape)
    last = np.maximum(first, np.clip(high, 0, target.grid.shape))
    if (last == first).any():
        return scores, inside
    body = target.body[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
    total = np.zeros((len(vectors[0]), *body.shape), np.float32)
    for level, rows in zip(target.levels, vectors, strict=True):
        stride = np.array(level.stride)
        cells = level.unit[tuple(slice(a, b) for a, b in zip(first // stride, -(-last // stride), strict=True))]
        values = (rows * np.float32(level.unit_scale)) @ cells.reshape(-1, level.channels).astype(np.float32).T
        index = [np.arange(a, b) // s - a // s for a, b, s in zip(first, last, stride, strict=True)]
        total += values.reshape(-1, *cells.shape[:3])[np.ix_(np.arange(len(rows)), *index)]
    part = tuple(slice(a, b) for a, b in zip(first - low, last - low, strict=True))
    inside[part] = body
    scores[(slice(None), *part)] = total * body
    return scores, inside
