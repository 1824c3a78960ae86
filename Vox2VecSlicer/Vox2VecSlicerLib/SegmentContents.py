"""What segments are to hold, as arrays: labels and masks on the smallest box of a volume's voxels. For the worker."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LabelBox:
    """Labels of the smallest box of a volume's voxels that holds them all; small, so that showing it takes no time.

    :param labels: (i, j, k) of the box, uint8.
    :param first: voxel of the volume that is the first of the box.
    """

    labels: NDArray[np.uint8]
    first: tuple[int, int, int]


def labelBox(labels: NDArray, first: tuple[int, int, int]) -> LabelBox:
    """Labels (i, j, k) of a box of a volume's voxels, cut to those that are not 0. For the worker: it takes a while.

    :param first: voxel of the volume that is the first of the box.
    """
    box = occupied(labels)
    i, j, k = (a + each.start for a, each in zip(first, box, strict=True))
    return LabelBox(labels[box].astype(np.uint8, order="F"), (i, j, k))


def occupied(array: NDArray) -> tuple[slice, slice, slice]:
    """The smallest box (i, j, k) that holds everything of an array that is not 0; one voxel if there is nothing."""
    ranges = []
    for axis in range(3):
        used = np.flatnonzero(array.any(axis=tuple({0, 1, 2} - {axis})))
        ranges.append(slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1))
    x, y, z = ranges
    return x, y, z


@dataclass(frozen=True)
class SegmentContent:
    """What a segment is to hold.

    :param mask: true in the segment, for a box (i, j, k) of the volume's voxels.
    :param first: voxel of the volume that is the first of the box.
    :param within: box of the volume's voxels that the content speaks for, outside of which the segment stays as it was;
        the box of the mask when left out.
    """

    mask: NDArray[np.bool_]
    first: tuple[int, int, int]
    within: tuple[slice, slice, slice] | None = None


def merged(old: NDArray[np.int64], content: SegmentContent) -> tuple[NDArray[np.uint8], tuple[int, int, int]]:
    """A content and the segment as it was outside of it: labels of the smallest box, and its first voxel.

    :param old: voxels (n, 3) of the segment as it was.
    """
    first, size = np.array(content.first), np.array(content.mask.shape)
    box = content.within or tuple(slice(a, a + n) for a, n in zip(first, size, strict=True))
    spoken = np.logical_and.reduce([(old[:, axis] >= b.start) & (old[:, axis] < b.stop) for axis, b in enumerate(box)])
    kept = old[~spoken]
    start = np.minimum(first, kept.min(axis=0)) if len(kept) else first
    stop = np.maximum(first + size, kept.max(axis=0) + 1) if len(kept) else first + size
    labels = np.zeros(stop - start, np.uint8, order="F")
    labels[tuple(slice(a, a + n) for a, n in zip(first - start, size, strict=True))] = content.mask
    labels[tuple((kept - start).T)] = 1
    i, j, k = (int(each) for each in start)
    return labels, (i, j, k)
