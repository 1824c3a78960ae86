"""Strokes as a person would draw them: short curves in a few slices, in labelled structures and around them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from Vox2VecCore.volume import Volume

BACKGROUND = 1
STEP_MM = 1.0
TURN = 0.15
"""Standard deviation of the change of direction at every step, radians."""
BRUSH_MM = 2.0
DEEP_MM = 6.0
"""People start in the middle of a structure; from this depth on one place is as good as another."""
AROUND_MM = 25.0
"""Background is painted this near to a structure."""


def simulate_strokes(
    labels: Volume,
    structures: Sequence[Sequence[int]],
    body: NDArray[np.bool_],
    *,
    per_structure: int = 5,
    length_mm: float = 30.0,
    seed: int = 0,
) -> Volume:
    """Strokes for some structures of a label map.

    In three slices through every structure, one along each axis, ``per_structure`` curves are drawn inside of it, and
    as many in the background next to it. Curves end where they would leave what they are drawn in.

    :param structures: label values of every structure; several are taken together as one.
    :param body: (i, j, k) where background may be painted.
    :return: 0 where nothing is painted, 1 background, 2 the first structure, 3 the second, and so on. Structures that
        the scan does not show get no strokes.
    """
    rng = np.random.default_rng(seed)
    values, spacing_mm = np.asarray(labels.array), labels.spacing_mm
    number = np.zeros(int(values.max()) + 1, np.uint8)
    for n, group in enumerate(structures, start=1):
        number[[value for value in group if value < len(number)]] = n
    shown = number[values]
    boxes = ndimage.find_objects(shown, len(structures))
    painted = np.zeros(labels.shape, np.int16)
    for n, box in enumerate(boxes):
        if box is None:
            continue
        margin = np.ceil(AROUND_MM / spacing_mm).astype(int)
        box = tuple(slice(max(side.start - m, 0), side.stop + m) for side, m in zip(box, margin, strict=True))
        mask = shown[box] == n + 1
        near = body[box] & (shown[box] == 0) & (ndimage.distance_transform_edt(~mask, sampling=spacing_mm) < AROUND_MM)
        depth = np.minimum(ndimage.distance_transform_edt(mask, sampling=spacing_mm), DEEP_MM)
        around = np.minimum(ndimage.distance_transform_edt(near, sampling=spacing_mm), DEEP_MM)
        middle = _draw(depth, rng)
        for stroke in range(per_structure):
            axis = stroke % 3
            for region, places, value in ((mask, depth, n + 2), (near, around, BACKGROUND)):
                in_slice = places.take(middle[axis], axis)
                if in_slice.any():
                    start = np.insert(_draw(in_slice, rng), axis, middle[axis])
                    _paint(painted[box], region, start, axis, value, length_mm, spacing_mm, rng)
    return Volume(painted, labels.affine, "strokes")


def _draw(weights: NDArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """A place, the likelier the deeper: in proportion to the squared weight."""
    places = np.argwhere(weights)
    shares = np.square(weights[weights > 0], dtype=np.float64)
    return np.asarray(places[rng.choice(len(places), p=shares / shares.sum())], np.int64)


def _paint(
    painted: NDArray[np.int16],
    region: NDArray[np.bool_],
    start: NDArray[np.int64],
    axis: int,
    value: int,
    length_mm: float,
    spacing_mm: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    place, angle = start.astype(np.float64), rng.uniform(0, 2 * np.pi)
    along = [a for a in range(3) if a != axis]
    reach = np.maximum(np.round(BRUSH_MM / spacing_mm / 2).astype(int), 0)
    reach[axis] = 0
    for _ in range(int(length_mm / STEP_MM)):
        voxel = np.round(place).astype(int)
        if (voxel < 0).any() or (voxel >= painted.shape).any() or not region[tuple(voxel)]:
            return
        brush = tuple(slice(max(v - r, 0), v + r + 1) for v, r in zip(voxel, reach, strict=True))
        painted[brush][region[brush]] = value
        angle += rng.normal(0, TURN)
        place[along] += STEP_MM * np.array([np.cos(angle), np.sin(angle)]) / spacing_mm[along]
