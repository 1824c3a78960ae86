"""From a similarity map to a segment: what is above the threshold and connected to a point."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.errors import PointError
from Vox2VecCore.progress import Progress
from Vox2VecSlicerLib.SegmentContents import SegmentContent, occupied
from Vox2VecSlicerLib.Texts import tr as _
from Vox2VecSlicerLib.Volumes import Part

if TYPE_CHECKING:
    from Vox2VecCore.grid import ModelGrid


def connectedContent(
    grid: "ModelGrid", values: NDArray[np.float32], part: Part, point: NDArray, threshold: float, progress: Progress
) -> SegmentContent:
    """What of a map is at least ``threshold`` and connected to a point, on the scan's own voxels. For the worker.

    :param values: percentiles (X, Y, Z) on the grid.
    :param point: in the scan's space.
    :return: the smallest box around it.
    :raises PointError: if the point itself lies below the threshold or outside the scan.
    """
    from scipy import ndimage

    neighbours = np.ones((3, 3, 3), bool)
    voxel = tuple(grid.nearest_voxels([point])[0])
    if values[voxel] < threshold:
        raise PointError(
            _(
                "The chosen point is at percentile {value}, below the threshold of {threshold}; lower the threshold or "
                "choose a point that is coloured."
            ).format(value=f"{values[voxel]:.1f}", threshold=f"{threshold:.1f}")
        )
    progress.step(_("Finding what is connected"), 0, 2)
    groups, _count = ndimage.label(values >= threshold, neighbours)
    near = ndimage.binary_dilation(groups == groups[voxel], neighbours)
    progress.step(_("Finding what is connected"), 1, 2)
    # Interpolated on the scan's own voxels the border is smooth; the grid says which voxels may belong.
    fine = (grid.to_source(values) >= threshold) & grid.to_source(near, nearest=True).astype(bool)
    source = np.rint(np.array(grid.ras_to_source @ np.append(point, 1.0))[:3]).astype(int)
    source = np.clip(source, 0, np.array(grid.source_shape) - 1)
    box = ndimage.find_objects(fine.astype(np.uint8))
    if not box:
        raise PointError(_("Nothing is connected to the chosen point; lower the threshold."))
    labels, _count = ndimage.label(fine[box[0]], neighbours)
    inside = source - [s.start for s in box[0]]
    here = 0
    if ((inside >= 0) & (inside < labels.shape)).all():
        here = labels[tuple(inside)]
    if not here:  # the point lies between voxels of the border: the largest piece is meant
        here = int(np.bincount(labels.ravel())[1:].argmax()) + 1
    whole = np.zeros(grid.source_shape, bool, order="F")
    whole[box[0]] = labels == here
    progress.step(_("Finding what is connected"), 2, 2)
    return cropped(part.turned(whole), part.first)


def cropped(mask: NDArray[np.bool_], first: tuple[int, int, int]) -> SegmentContent:
    """The smallest box with all true voxels of a mask whose first voxel is ``first``."""
    box = occupied(mask)
    i, j, k = (a + each.start for a, each in zip(first, box, strict=True))
    return SegmentContent(mask[box], (i, j, k))
