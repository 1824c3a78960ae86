"""Letting strokes and sure places speak for their surroundings: a random walker with priors.

Random walks (Grady, IEEE TPAMI 2006) with the head's probabilities as prior (Grady, CVPR 2005): every cell takes the
mean of its neighbours' probabilities, weighted by how alike they are in HU and embedding, and of its own prior; cells
with strokes stay what they were painted. One sparse system a class, by conjugate gradients.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg

PRIOR = 0.03
"""Weight of a cell's own prior against that of a neighbour exactly like it."""
CONTRAST = 4.0
STEPS = 30
TOLERANCE = 1e-3


def random_walk(
    prior: NDArray[np.float32],
    features: NDArray[np.float32],
    seeds: NDArray[np.int64],
    inside: NDArray[np.bool_],
    check: Callable[[], None] = lambda: None,
    *,
    prior_weight: float = PRIOR,
    contrast: float = CONTRAST,
) -> NDArray[np.float32]:
    """Probabilities after the walk.

    :param prior: (X, Y, Z, K) probabilities.
    :param features: (X, Y, Z, F) that are alike within a structure; their differences are taken in units of the mean
        difference between neighbours.
    :param seeds: (X, Y, Z) class of painted cells, -1 elsewhere.
    :param inside: (X, Y, Z) cells to walk in; others keep their prior.
    :param check: called between classes; raises to cancel.
    :return: (X, Y, Z, K).
    """
    shape = inside.shape
    number = np.full(shape, -1)
    number[inside] = np.arange(np.count_nonzero(inside))
    count = int(number.max()) + 1
    if count == 0:
        return prior.copy()
    first, second, weight = _edges(number, features, contrast)
    painted = seeds[inside]
    free = painted < 0
    degree = np.bincount(first, weight, count) + np.bincount(second, weight, count) + prior_weight
    walk = sparse.coo_matrix((np.r_[weight, weight], (np.r_[first, second], np.r_[second, first])), (count, count))
    walk = walk.tocsr().astype(np.float32)
    own = prior[inside]
    result = own.copy()
    scale = degree[free].astype(np.float32)
    links = walk[free]
    between = links[:, free]
    system = LinearOperator((len(scale),) * 2, matvec=lambda x: scale * x - between @ x, dtype=np.float32)
    inverse = LinearOperator((len(scale),) * 2, matvec=lambda x: x / scale, dtype=np.float32)
    for k in range(own.shape[1]):
        check()
        fixed = (painted == k).astype(np.float32)
        right = prior_weight * own[free, k] + links @ np.where(free, 0, fixed).astype(np.float32)
        found, _ = cg(system, right.astype(np.float32), own[free, k], rtol=TOLERANCE, maxiter=STEPS, M=inverse)
        result[free, k] = found
        result[~free, k] = fixed[~free]
    result = np.clip(result, 0, None)
    result /= np.maximum(result.sum(axis=1, keepdims=True), 1e-9)
    out = prior.copy()
    out[inside] = result
    return out


def _edges(
    number: NDArray[np.int64], features: NDArray[np.float32], contrast: float
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
    return np.concatenate(firsts), np.concatenate(seconds), np.exp(-contrast * distance / mean) + 1e-4
