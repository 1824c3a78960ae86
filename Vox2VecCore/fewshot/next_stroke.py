"""Where would a further stroke help most? Where the head is unsure, far from strokes, in what was not seen yet."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from Vox2VecCore.pyramid import FeaturePyramid

CANDIDATES = 4000
KNOWN = 500
FAR_MM = 40.0
"""From here on, distance to the nearest stroke counts no more."""
SEED = 1


def where_to_paint_next(
    pyramid: FeaturePyramid, uncertainty: NDArray[np.uint8], painted: NDArray[np.int64]
) -> tuple[float, float, float] | None:
    """Of a fixed sample of body voxels the one with the largest product of three numbers between 0 and 1.

    They are the head's uncertainty, the distance to the nearest stroke (up to 40 mm), and how unlike all painted
    voxels the place is (one minus the largest mean cosine).

    :param uncertainty: (X, Y, Z) uint8 on the grid.
    :param painted: (n, 3) grid voxels with strokes.
    :return: RAS millimetres; ``None`` where nothing is uncertain.
    """
    places = pyramid.body_voxels(CANDIDATES, SEED)
    if len(places) == 0:
        return None
    score = uncertainty[tuple(places.T)] / np.float32(255)
    if len(painted):
        spacing_mm = pyramid.grid.spacing_mm
        distance, _ = KDTree(painted * spacing_mm).query(places * spacing_mm)
        score = score * np.minimum(distance / FAR_MM, 1)
        known = painted[np.linspace(0, len(painted) - 1, min(KNOWN, len(painted))).astype(np.int64)]
        alike = np.zeros((len(places), len(known)), np.float32)
        for level in pyramid.levels:
            alike += level.unit_vectors(places) @ level.unit_vectors(known).T / len(pyramid.levels)
        score = score * np.clip(1 - alike.max(axis=1), 0, 1)
    best = int(score.argmax())
    if score[best] <= 0:
        return None
    x, y, z = pyramid.grid.to_ras(places[best])[0]
    return float(x), float(y), float(z)
