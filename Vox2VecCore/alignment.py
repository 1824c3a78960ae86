"""The affine map between two patients that most of a set of uncertain point pairs agree on."""

import numpy as np
from numpy.typing import NDArray

AGREE_MM = (45.0, 30.0)
"""Distance from the affine map that still agrees with it, at the first and at the last round of fitting."""
STRETCH = (0.55, 1.6)
FEWEST_AGREEING = 25


def agreed_affine(x: NDArray, y: NDArray) -> NDArray[np.float32] | None:
    """The affine map (4, 3), ``y = x @ map[:3] + map[3]``, that most point pairs (n, 3) in millimetres agree on.

    Starts from the most common translation and refines by trimmed least squares, drawn towards no stretching.
    ``None`` when fewer than 25 or a third agree, or when the map stretches or mirrors as no body would.
    """
    if len(x) < FEWEST_AGREEING:
        return None
    shift = (y - x).astype(np.float64)
    apart = np.linalg.norm(shift[:, None] - shift[None], axis=2)
    agree = apart[(apart < AGREE_MM[0]).sum(axis=1).argmax()] < AGREE_MM[0]
    for tolerance in np.linspace(*AGREE_MM, 15):
        if agree.sum() < FEWEST_AGREEING:
            return None
        x_mean, y_mean = x[agree].mean(axis=0), y[agree].mean(axis=0)
        u, v = x[agree] - x_mean, y[agree] - y_mean
        pull = len(u) * AGREE_MM[1] ** 2 * np.eye(3)
        matrix = np.linalg.solve(u.T @ u + pull, u.T @ v + pull)
        agree = np.linalg.norm(y - ((x - x_mean) @ matrix + y_mean), axis=1) < tolerance
    stretch = np.linalg.svd(matrix, compute_uv=False)
    plausible = stretch.min() > STRETCH[0] and stretch.max() < STRETCH[1] and np.linalg.det(matrix) > 0
    if not plausible or agree.sum() < max(FEWEST_AGREEING, 0.3 * len(x)):
        return None
    return np.concatenate([matrix, (y_mean - x_mean @ matrix)[None]]).astype(np.float32)
