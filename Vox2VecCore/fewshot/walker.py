"""Letting strokes and sure places speak for their surroundings: a random walker with priors.

Random walks (Grady, IEEE TPAMI 2006) with the head's probabilities as prior (Grady, CVPR 2005): every cell takes the
mean of its neighbours' probabilities, weighted by how alike they are in HU, and of its own prior; cells
with strokes stay what they were painted. One sparse system a class but for the first, by conjugate gradients.

Before it, a structure becomes less likely away from its strokes: what looks like the spleen in the leg is not.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg

from Vox2VecCore.progress import Progress
from Vox2VecCore.separable import in_threads

STAGE = "Spreading strokes"
PRIOR = 0.001
"""Weight of a cell's own prior against that of a neighbour exactly like it."""
CONTRAST = 10.0
REACH_MM = 20.0
"""Strokes are taken to show a structure's extent up to about this far."""
BALL = 5.0
"""Squared Mahalanobis distance of the surface of a solid ellipsoid from its centre: nearer than this is inside."""
FARTHEST = 4.0
"""Log-odds that distance takes from a structure at most, for strokes may be few and structures many-parted."""
STEPS = 100
TOLERANCE = 1e-3


def near_strokes(
    prior: NDArray[np.float32],
    seeds: NDArray[np.int64],
    structures: Sequence[int],
    spacing_mm: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Probabilities that fall off outside the ellipsoid which a structure's strokes span.

    :param prior: (K, X, Y, Z) probabilities.
    :param seeds: (X, Y, Z) class of painted cells, -1 elsewhere.
    :param structures: classes that have a place; the others, and those without strokes, are as likely everywhere.
    :param spacing_mm: (3,) of the cells.
    :return: (K, X, Y, Z).
    """
    result = prior.copy()
    axes = [(np.arange(n) * mm).astype(np.float32) for n, mm in zip(seeds.shape, spacing_mm, strict=True)]
    for k in structures:
        painted = np.argwhere(seeds == k) * spacing_mm
        if len(painted):
            spread = np.cov(painted.T, bias=True) + REACH_MM**2 * np.eye(3)
            shape = np.linalg.inv(spread).astype(np.float32)
            x, y, z = np.meshgrid(
                *(a - m for a, m in zip(axes, painted.mean(axis=0), strict=True)), indexing="ij", sparse=True
            )
            squared = shape[0, 0] * x * x + shape[1, 1] * y * y + shape[2, 2] * z * z
            squared = squared + 2 * (shape[0, 1] * x * y + shape[0, 2] * x * z + shape[1, 2] * y * z)
            result[k] *= np.exp(-np.clip((squared - BALL) / 2, 0, FARTHEST))
    return result / np.maximum(result.sum(axis=0), 1e-9)


def random_walk(
    prior: NDArray[np.float32],
    features: NDArray[np.float32],
    seeds: NDArray[np.int64],
    inside: NDArray[np.bool_],
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Probabilities after the walk.

    :param prior: (K, X, Y, Z) probabilities.
    :param features: (X, Y, Z, F) that are alike within a structure; their differences are taken in units of the mean
        difference between neighbours.
    :param seeds: (X, Y, Z) class of painted cells, -1 elsewhere.
    :param inside: (X, Y, Z) cells to walk in; others keep their prior.
    :return: (K, X, Y, Z).
    :raises Cancelled: between classes, when ``progress`` says so.
    """
    shape = inside.shape
    number = np.full(shape, -1)
    number[inside] = np.arange(np.count_nonzero(inside))
    count = int(number.max()) + 1
    if count == 0:
        return prior.copy()
    first, second, weight = _edges(number, features)
    painted = seeds[inside]
    free = painted < 0
    degree = np.bincount(first, weight, count) + np.bincount(second, weight, count) + PRIOR
    walk = sparse.coo_matrix((np.r_[weight, weight], (np.r_[first, second], np.r_[second, first])), (count, count))
    walk = walk.tocsr().astype(np.float32)
    own = prior[:, inside]
    scale = degree[free].astype(np.float32)
    links = walk[free]
    between = links[:, free]
    system = LinearOperator((len(scale),) * 2, matvec=lambda x: scale * x - between @ x, dtype=np.float32)
    inverse = LinearOperator((len(scale),) * 2, matvec=lambda x: x / scale, dtype=np.float32)

    def walked(k: int) -> NDArray[np.float32]:
        result = (painted == k).astype(np.float32)
        right = PRIOR * own[k, free] + links @ result
        result[free], _ = cg(system, right.astype(np.float32), own[k, free], rtol=TOLERANCE, maxiter=STEPS, M=inverse)
        return result

    others = np.clip(in_threads(walked, range(1, len(own)), STAGE, progress), 0, 1).reshape(-1, count)
    result = np.concatenate([np.clip(1 - others.sum(axis=0, keepdims=True), 0, 1), others])  # together they are 1
    out = prior.copy()
    out[:, inside] = result / np.maximum(result.sum(axis=0), 1e-9)
    return out


def _edges(
    number: NDArray[np.int64], features: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of neighbouring cells and how alike they are."""
    firsts, seconds, weights = [], [], []
    for axis in range(3):
        below: Sequence[slice] = [slice(None, -1) if a == axis else slice(None) for a in range(3)]
        above: Sequence[slice] = [slice(1, None) if a == axis else slice(None) for a in range(3)]
        one, two = number[tuple(below)], number[tuple(above)]
        both = (one >= 0) & (two >= 0)
        difference = features[tuple(below)][both] - features[tuple(above)][both]
        firsts.append(one[both])
        seconds.append(two[both])
        weights.append(np.square(difference).sum(axis=-1, dtype=np.float64))
    distance = np.concatenate(weights)
    mean = max(float(distance.mean()), 1e-12) if len(distance) else 1.0
    return np.concatenate(firsts), np.concatenate(seconds), np.exp(-CONTRAST * distance / mean) + 1e-4
