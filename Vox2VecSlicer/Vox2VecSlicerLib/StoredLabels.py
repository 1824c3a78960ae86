"""A labelmap as segments keep it, one for several segments: which voxels hold which label, plane by plane.

Plane by plane, because a labelmap may be as large as the CT: no single step holds up the interface.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import vtk
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import vtk_to_numpy

from Vox2VecSlicerLib import Geometry

if TYPE_CHECKING:
    from slicer import vtkOrientedImageData


@dataclass(frozen=True, eq=False)
class StoredLabels:
    """Labels of a box of voxels.

    :param values: (k, j, i).
    :param first: voxel (i, j, k) that is the first of the box.
    :param toLocal: voxels to the segmentation's space (4, 4).
    """

    values: NDArray
    first: tuple[int, int, int]
    toLocal: NDArray[np.float64]

    @classmethod
    def of(cls, image: "vtkOrientedImageData | None") -> "StoredLabels | None":
        """Labels of an image, sharing its memory; ``None`` when there are none."""
        scalars = None if image is None else image.GetPointData().GetScalars()
        if image is None or scalars is None or scalars.GetNumberOfTuples() == 0:
            return None
        x, _, y, _, z, _ = image.GetExtent()
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        return cls(vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1]), (x, y, z), Geometry.toNumpy(matrix))

    def copy(self) -> "StoredLabels":
        """What is painted, with memory of its own: the image may be painted on.

        A labelmap may be as large as the CT and hold strokes on three planes; copying it all would hold up the
        interface.
        """
        used = [k for k, plane in enumerate(self.values) if plane.max() > 0] or [0]
        x, y, z = self.first
        return replace(self, values=self.values[used[0] : used[-1] + 1].copy(), first=(x, y, z + used[0]))

    def holds(self, value: int) -> bool:
        """Whether any voxel has a label."""
        return any((plane == value).any() for plane in self.values)

    def count(self, value: int) -> int:
        """How many voxels have a label."""
        return sum(int(np.count_nonzero(plane == value)) for plane in self.values)

    def voxels(self, value: int | None = None) -> tuple[NDArray[np.int64], NDArray]:
        """Voxels (n, 3), as (i, j, k), that have a label, or any but 0; and their labels (n,)."""
        found, labels = [np.zeros((0, 3), np.int64)], [np.zeros(0, self.values.dtype)]
        for k, plane in enumerate(self.values):
            mask = plane != 0 if value is None else plane == value
            if mask.any():
                j, i = np.nonzero(mask)
                found.append(np.stack([i, j, np.full_like(i, k)], axis=1) + self.first)
                labels.append(plane[j, i])
        return np.concatenate(found), np.concatenate(labels)
