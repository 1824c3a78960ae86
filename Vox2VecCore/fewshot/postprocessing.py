"""From a head's probabilities to a segmentation that follows anatomy: walk, edges, components, holes.

Every step can be switched off (:class:`PostProcessing`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from Vox2VecCore.errors import HeadError
from Vox2VecCore.progress import Progress
from Vox2VecCore.separable import in_threads
from Vox2VecCore.shapes import Box

Keep = Literal["touching", "largest", "all"]
STAGE = "Tidying"
EDGE_RADIUS_MM = 3.0
EDGE_HU = 30.0
"""Differences of HU that count as an edge for the guided filter."""
GUIDE_HU = (-1000, 400)


@dataclass(frozen=True)
class PostProcessing:
    """What is done with a head's probabilities.

    :param spread: strokes speak for their surroundings (:mod:`Vox2VecCore.fewshot.walker`); where there are none, the
        head alone decides.
    :param follow_edges: the outline follows the edges of the CT instead of the embedding's cells.
    :param hold_strokes: painted voxels keep what they were painted.
    :param keep: of every structure, the connected parts that touch one of its strokes (all parts where a scan has
        no strokes of it), the largest part only, or all.
    :param smallest_mm3: parts smaller than this go; 0 keeps all.
    :param fill_holes: holes inside a structure are filled.
    """

    spread: bool = True
    follow_edges: bool = True
    hold_strokes: bool = True
    keep: Keep = "touching"
    smallest_mm3: float = 200.0
    fill_holes: bool = True

    def __post_init__(self) -> None:
        if self.keep not in ("touching", "largest", "all"):
            raise HeadError(f"keep is one of touching, largest, all, not {self.keep!r}.")
        if self.smallest_mm3 < 0:
            raise HeadError(f"The smallest part cannot have {self.smallest_mm3} mm3; give 0 or more.")


USUAL = PostProcessing()
NO_PROCESSING = PostProcessing(
    spread=False, follow_edges=False, hold_strokes=False, keep="all", smallest_mm3=0.0, fill_holes=False
)


def guided(
    hu: NDArray[np.float32], values: NDArray[np.float32], spacing_mm: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The guided filter (He et al., IEEE TPAMI 2013): smooths where the CT is even, keeps steps where it has edges.

    :param hu: (X, Y, Z) the guide.
    :param values: (X, Y, Z) to be filtered.
    :return: slope and offset, (X, Y, Z) each: ``slope * np.clip(hu, *GUIDE_HU) + offset`` are the filtered values.
    """
    size = [2 * max(1, round(EDGE_RADIUS_MM / s)) + 1 for s in spacing_mm]

    def smooth(x: NDArray) -> NDArray[np.float32]:
        return ndimage.uniform_filter(x, size, output=np.float32)

    guide = np.clip(hu, *GUIDE_HU)
    mean, mean_value = smooth(guide), smooth(values)
    variance = smooth(guide * guide) - mean * mean
    slope = (smooth(guide * values) - mean * mean_value) / (variance + EDGE_HU**2)
    return smooth(slope), smooth(mean_value - slope * mean)


def clean_parts(
    labels: NDArray[np.integer],
    strokes: NDArray[np.integer] | None,
    voxel_mm3: float,
    processing: PostProcessing,
    progress: Progress | None = None,
) -> None:
    """Drop parts and fill holes of every structure, in place.

    :param labels: (X, Y, Z) class values, 0 for background.
    :param strokes: class values of strokes on the same grid, or ``None``.
    :raises Cancelled: when ``progress`` says so.
    """
    found = [(value, where) for value, where in enumerate(ndimage.find_objects(labels), start=1) if where is not None]

    def clean(structure: tuple[int, Box]) -> tuple[NDArray[np.intp], ...]:
        """Drop parts, which are this structure's alone; return where its holes are."""
        value, where = structure
        part, own = labels[where], labels[where] == value
        kept = _kept(own, None if strokes is None else strokes[where] == value, voxel_mm3, processing)
        part[own & ~kept] = 0
        return np.nonzero(_holes(kept)) if processing.fill_holes else ()

    for (value, where), holes in zip(found, in_threads(clean, found, STAGE, progress), strict=True):
        if holes:
            # Holes are background inside a structure; another structure in there stays what it is.
            part = labels[where]
            part[holes] = np.where(part[holes] == 0, value, part[holes])


def _kept(
    own: NDArray[np.bool_], painted: NDArray[np.bool_] | None, voxel_mm3: float, processing: PostProcessing
) -> NDArray[np.bool_]:
    if processing.keep == "all" and processing.smallest_mm3 <= 0:
        return own
    parts, count = ndimage.label(own)
    if count == 0:
        return own
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = sizes * voxel_mm3 >= processing.smallest_mm3
    touched = np.zeros(0, np.int64) if painted is None else np.unique(parts[painted])
    touched = touched[touched > 0]
    if processing.keep == "largest":
        keep &= np.arange(count + 1) == sizes.argmax()
    elif processing.keep == "touching" and len(touched):
        keep[:] = False
    keep[touched] = True  # what was painted is there, however small
    keep[0] = False
    return keep[parts]


def _holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Places cut off from the border of the array, as ``scipy.ndimage.binary_fill_holes`` finds them, in one pass."""
    parts, count = ndimage.label(~mask)
    open_ = np.zeros(count + 1, bool)
    open_[0] = True
    for axis in range(3):
        for side in (0, -1):
            open_[parts.take(side, axis)] = True
    return ~open_[parts]
