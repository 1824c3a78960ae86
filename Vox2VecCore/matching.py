"""The same anatomical place in another scan, or an honest "not found".

A point is looked up together with seeds around it; every seed is matched on its own, and the seeds vote on the
displacement, together with landmarks all over the body (:mod:`Vox2VecCore.landmarks`). The place that is found is
looked up in the first scan in the same way: a true match leads back to where it started. Seeds, local affine map
and the way back are ideas of fixed-point matching (Bai et al., UAE, 2023, on SAM by Yan et al., IEEE TMI 2022);
the votes, the landmarks and the verdict are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from Vox2VecCore.block_search import fit_block
from Vox2VecCore.errors import ModelError
from Vox2VecCore.landmarks import Landmarks, agreed_map, find_landmarks, inverse_map
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.search import best_voxels
from Vox2VecCore.similarity import level_weights

STAGE = "Matching"
SEED_STEP_MM = 12.0
AGREEMENT_MM = 12.0
"""Seeds agree when their displacements differ by less than this."""
BLOCK_STEP_MM = 9.0
BLOCK_REACH_MM = 36.0
"""Where the landmarks agree on an affine map, the seeds are searched for together, this far from where it leads."""
RIDGE = 2.0
"""Seeds' worth of trust in a plain shift when the local affine map is fitted."""
SUPPORT_WEIGHT = 1.0
"""Landmarks in favour of a displacement count as much as seeds."""
FEW = 9
"""Fewer seeds than this in the body cannot agree as a whole."""
LARGEST_CYCLE_MM = 12.0
SMALLEST_SHARE = 0.2
SMALLEST_SUPPORT = 0.18
SMALLEST_AGREEMENT = 0.7
"""What is needed of the landmarks as a whole: the shares of both scans' that agree on one map, added up. A crop of a
scan has many, the whole scan then few."""
LARGE_SUPPORT = 0.45
"""Or what is needed of those near the point, in both directions, where the scans overlap only in part. Without this
pair of limits 2.1 % of 7128 matches between scans of different parts of the body were called reliable, with it none, at
no loss in the same patient (shipped model, 292 pairs; the most that such a pair reached was 0.48 and 0.41 of the two;
Testing/benchmarks/wrong_pairs.py)."""


@dataclass(frozen=True)
class Match:
    """Where a point of the source scan lies in the target scan.

    :param source_ras: the point that was asked for, RAS millimetres.
    :param target_ras: where it was found; when not reliable, merely the least unlikely place.
    :param similarity: mean cosine, over levels, between the two places.
    :param cycle_error_mm: distance from the point to where its match, looked up in the source scan, leads back.
    :param reliable: whether the way back, the seeds and the landmarks all speak for the match.
    :param spread_mm: root mean square disagreement of the seeds that were believed.
    """

    source_ras: tuple[float, float, float]
    target_ras: tuple[float, float, float]
    similarity: float
    cycle_error_mm: float
    reliable: bool
    spread_mm: float

    def as_dict(self) -> dict[str, list[float] | float | bool]:
        """For JSON, with the keys of the command line's contract."""
        return {
            "source_ras": list(self.source_ras),
            "target_ras": list(self.target_ras),
            "similarity": self.similarity,
            "cycle_error_mm": self.cycle_error_mm,
            "reliable": self.reliable,
        }


def match_points(
    source: FeaturePyramid,
    target: FeaturePyramid,
    points_ras: ArrayLike,
    *,
    balance: float = 0.5,
    progress: Progress | None = None,
) -> list[Match]:
    """Find points of one scan in another.

    :param points_ras: (n, 3) in the source scan, RAS millimetres.
    :param balance: 0 trusts the spot itself, 1 its surroundings.
    :return: one match a point, in order.
    :raises ModelError: if the scans were embedded by different models.
    :raises PointError: if a point lies outside the source scan.
    :raises Cancelled: when ``progress`` says so.
    """
    if source.model_hash != target.model_hash:
        raise ModelError("The two scans were embedded by different models; embed both with one model to match them.")
    if np.size(points_ras) == 0:
        return []
    points = np.atleast_2d(np.asarray(points_ras, np.float64))
    source.grid.nearest_voxels(points)
    progress = progress or Progress()
    weights = level_weights(len(source.levels), balance).tolist()
    progress.step(STAGE, 0, 3)
    landmarks = find_landmarks(source, target, weights)
    progress.step(STAGE, 1, 3)
    opposite = find_landmarks(target, source, weights)
    affine = agreed_map(landmarks, opposite)
    inverse = inverse_map(affine)
    agreement = 0.0
    if affine is not None and inverse is not None:
        agreement = landmarks.agreement(affine) + opposite.agreement(inverse)
    there = _locate(source, target, points, weights, landmarks, affine)
    progress.step(STAGE, 2, 3)
    returning = landmarks.reversed(target.grid.to_ras(target.body_voxels(len(landmarks.asked))))
    back = _locate(target, source, there.points_ras, weights, returning, inverse)
    progress.step(STAGE, 3, 3)
    similarity = _similarity(source, points, target, there.points_ras, weights)
    cycle = np.linalg.norm(back.points_ras - points, axis=1)
    reliable = (
        (cycle <= LARGEST_CYCLE_MM)
        & (np.minimum(there.share, back.share) >= SMALLEST_SHARE)
        & (there.support >= SMALLEST_SUPPORT)
        & ((agreement >= SMALLEST_AGREEMENT) | (np.minimum(there.support, back.support) >= LARGE_SUPPORT))
    )
    return [
        Match(_triple(p), _triple(q), float(s), float(c), bool(r), float(d))
        for p, q, s, c, r, d in zip(points, there.points_ras, similarity, cycle, reliable, there.spread_mm, strict=True)
    ]


@dataclass(frozen=True)
class _Located:
    points_ras: NDArray[np.float64]
    spread_mm: NDArray[np.float64]
    share: NDArray[np.float64]
    support: NDArray[np.float64]


def _locate(
    source: FeaturePyramid,
    target: FeaturePyramid,
    points: NDArray,
    weights: Sequence[float],
    landmarks: Landmarks,
    affine: NDArray[np.float64] | None,
) -> _Located:
    """Points (n, 3) of one scan in another, by the seeds around each, near where ``affine`` leads if there is one."""
    step = SEED_STEP_MM if affine is None else BLOCK_STEP_MM
    offsets = np.array(list(np.ndindex(3, 3, 3)), np.float64) - 1
    middle = len(offsets) // 2
    seeds = points[:, None] + step * offsets  # (n, seeds, 3)
    voxels = _voxels(source, seeds.reshape(-1, 3))
    snapped = source.grid.to_ras(voxels).reshape(seeds.shape)
    counts = source.body[tuple(voxels.T)].reshape(seeds.shape[:2])
    counts &= np.linalg.norm(snapped - seeds, axis=-1) <= np.linalg.norm(source.grid.spacing_mm)  # not beyond the grid
    counts[:, middle] |= ~counts.any(axis=1)  # a point in air goes by itself
    seeds = snapped
    if affine is None:
        found, _ = best_voxels(target, source, voxels, weights)
        displacements = target.grid.to_ras(found).reshape(seeds.shape) - seeds
        votes = [
            _vote(d[c], (s - p)[c], landmarks.support(p, d[c]))
            for d, s, p, c in zip(displacements, seeds, points, counts, strict=True)
        ]
    else:
        blocks = zip(voxels.reshape(seeds.shape), seeds, points, counts, strict=True)
        votes = [_fit(source, target, v[c], s[c], p, weights, affine) for v, s, p, c in blocks]
    shifts, spreads, shares = (np.array(part, np.float64) for part in zip(*votes, strict=True))
    support = [landmarks.support(p, shift[None])[0] for p, shift in zip(points, shifts, strict=True)]
    return _Located(points + shifts, spreads, shares, np.array(support))


def _fit(
    source: FeaturePyramid,
    target: FeaturePyramid,
    voxels: NDArray[np.int64],
    seeds: NDArray[np.float64],
    point: NDArray[np.float64],
    weights: Sequence[float],
    affine: NDArray[np.float64],
) -> tuple[NDArray, float, float]:
    """Displacement at a point from the block of seeds around it, near where the landmarks' affine map expects it.

    :return: as :func:`_vote`; the share is of seeds that by themselves agree with the block.
    """
    expected = seeds @ affine[:3] + affine[3]
    places = np.floor(target.grid.to_voxels(expected) + 0.5).astype(np.int64)
    vectors = [level.unit_vectors(voxels) * np.float32(w) for level, w in zip(source.levels, weights, strict=True)]
    centre = int(np.linalg.norm(seeds - point, axis=1).argmin())
    block = fit_block(target, vectors, places, centre, BLOCK_REACH_MM)
    if block is None:
        return point @ affine[:3] + affine[3] - point, 0.0, 0.0
    found = target.grid.to_ras(places + block.of_seeds)
    best = target.grid.to_ras(places + block.shift)
    agree = np.linalg.norm(found - best, axis=1) < AGREEMENT_MM
    share = agree.sum() / max(len(agree), FEW)
    if not agree.any():
        return best[centre] - seeds[centre], 0.0, 0.0
    shift, spread = _smoothed((found - seeds)[agree], (seeds - point)[agree])
    return shift, spread, share


def _vote(displacements: NDArray, offsets: NDArray, support: NDArray) -> tuple[NDArray, float, float]:
    """Displacement at a point from those of seeds around it: value (3,), disagreement in mm, share that agrees.

    Of the groups of seeds that agree, the one with the most seeds and landmarks is believed, and smoothed by an
    affine map that is pulled towards a plain shift, because 27 seeds say little about rotation and scale.
    """
    agree = np.linalg.norm(displacements[:, None] - displacements, axis=-1) < AGREEMENT_MM
    group = agree[(agree.mean(axis=1) + SUPPORT_WEIGHT * support).argmax()]
    shift, spread = _smoothed(displacements[group], offsets[group])
    return shift, spread, group.sum() / max(len(group), FEW)


def _smoothed(d: NDArray, x: NDArray) -> tuple[NDArray, float]:
    """Displacement (3,) at a point and disagreement in mm, from displacements (n, 3) at offsets (n, 3) from it."""
    centre, middle = d.mean(axis=0), x.mean(axis=0)
    pull = RIDGE * SEED_STEP_MM**2 * np.eye(3)
    slope = np.linalg.solve((x - middle).T @ (x - middle) + pull, (x - middle).T @ (d - centre))
    residual = d - centre - (x - middle) @ slope
    return centre - middle @ slope, float(np.sqrt((residual**2).sum(axis=1).mean()))


def _similarity(
    source: FeaturePyramid, points: NDArray, target: FeaturePyramid, matches: NDArray, weights: Sequence[float]
) -> NDArray[np.float64]:
    here, there = _voxels(source, points), _voxels(target, matches)
    cosines = [
        (a.unit_vectors(here) * b.unit_vectors(there)).sum(axis=1)
        for a, b in zip(source.levels, target.levels, strict=True)
    ]
    mean = np.tensordot(np.array(weights), np.array(cosines, np.float64), 1)
    return np.clip(mean, -1, 1)  # stored vectors are rounded, and a little longer than 1 as often as shorter


def _voxels(pyramid: FeaturePyramid, points: NDArray) -> NDArray[np.int64]:
    """Nearest voxels of the grid, also for points outside."""
    nearest = np.floor(pyramid.grid.to_voxels(points) + 0.5).astype(np.int64)
    return np.clip(nearest, 0, np.array(pyramid.grid.shape) - 1)


def _triple(values: NDArray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
