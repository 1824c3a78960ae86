"""A scan in memory: voxel values and where they lie in the patient."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from Vox2VecCore.errors import VolumeError

AIR_HU = -1024.0
"""What lies outside a scan is air; scanners store nothing darker that means anything."""
TISSUE_HU = -500.0
"""Between lung (about -850) and fat (about -100)."""

AFFINE_BOTTOM = np.array([0.0, 0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image with its geometry.

    :param array: values indexed (i, j, k); for a CT, Hounsfield units. int16 and float32 are kept as they
        are, other types are left to the caller.
    :param affine: 4x4 matrix that takes (i, j, k, 1) to RAS millimetres (x to the patient's right, y to the
        front, z to the head).
    :param name: what messages call it, usually the file.
    :raises VolumeError: if the array is not 3D or the matrix cannot be a voxel-to-RAS matrix.
    """

    array: NDArray
    affine: NDArray[np.float64]
    name: str = field(default="volume")

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        object.__setattr__(self, "affine", affine)
        if self.array.ndim != 3:
            raise VolumeError(f"{self.name}: expected a 3D volume, got {self.array.ndim} dimensions.")
        if affine.shape != (4, 4) or not np.allclose(affine[3], AFFINE_BOTTOM) or not np.isfinite(affine).all():
            raise VolumeError(f"{self.name}: the voxel-to-RAS matrix must be 4x4, finite and affine.")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise VolumeError(f"{self.name}: the voxel-to-RAS matrix is singular; the file's geometry is damaged.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (i, j, k)."""
        i, j, k = self.array.shape
        return i, j, k

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Distance between neighbouring voxels along (i, j, k), in millimetres."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0), np.float64)

    @cached_property
    def ras_to_ijk(self) -> NDArray[np.float64]:
        """4x4 matrix from RAS millimetres to voxel indices."""
        return np.asarray(np.linalg.inv(self.affine), np.float64)

    def to_ras(self, ijk: ArrayLike) -> NDArray[np.float64]:
        """RAS millimetres (n, 3) of voxel coordinates (n, 3)."""
        return apply_affine(self.affine, ijk)

    def to_ijk(self, points_ras: ArrayLike) -> NDArray[np.float64]:
        """Continuous voxel coordinates (n, 3) of RAS points (n, 3) in millimetres."""
        return apply_affine(self.ras_to_ijk, points_ras)

    def with_array(self, array: NDArray) -> "Volume":
        """Other values on the same grid."""
        if array.shape != self.array.shape:
            raise VolumeError(f"{self.name}: values of shape {array.shape} do not fit the grid {self.array.shape}.")
        return Volume(array, self.affine, self.name)


def apply_affine(matrix: NDArray[np.float64], points: ArrayLike) -> NDArray[np.float64]:
    """Points (n, 3) through a 4x4 matrix."""
    points = np.atleast_2d(np.asarray(points, dtype=np.float64))
    return points @ matrix[:3, :3].T + matrix[:3, 3]
