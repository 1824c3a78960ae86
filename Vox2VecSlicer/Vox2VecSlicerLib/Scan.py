"""An embedded volume: its pyramid, and the ways between the world, the pyramid and the volume's voxels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from Vox2VecCore.volume import apply_affine
from Vox2VecSlicerLib import Geometry, Volumes

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode

    from Vox2VecCore.pyramid import FeaturePyramid


@dataclass(frozen=True, eq=False)
class Scan:
    """A volume node together with its embedding.

    :param pyramid: embedding of the part that was embedded, in the scan's space.
    :param source: the volume as it was embedded: which part, in which space.
    :param canvas: values (X, Y, Z) of the pyramid's grid for the slices under the mouse to be written into, if they
        were made ahead.
    """

    volumeNode: "vtkMRMLScalarVolumeNode"
    pyramid: "FeaturePyramid"
    source: Volumes.ScanSource
    canvas: NDArray[np.float32] | None = None

    @property
    def part(self) -> Volumes.Part:
        """Where the embedded part lies among the volume's voxels."""
        return self.source.part

    @property
    def isCurrent(self) -> bool:
        """Whether the volume is still what was embedded."""
        return (
            self.volumeNode.GetScene() is not None and Volumes.fingerprint(self.volumeNode) == self.source.fingerprint
        )

    def fromWorld(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (n, 3) in the world, in the scan's space, where the pyramid answers."""
        return apply_affine(self.source.fromLocal, Geometry.toLocal(self.volumeNode, points))

    def toWorld(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (n, 3) in the scan's space, in the world."""
        return Geometry.toWorld(self.volumeNode, apply_affine(np.linalg.inv(self.source.fromLocal), points))

    def contains(self, points: ArrayLike) -> NDArray[np.bool_]:
        """Whether points (n, 3) in the world lie in the part that was embedded."""
        grid = self.pyramid.grid
        voxels = apply_affine(grid.ras_to_source, self.fromWorld(points))
        return np.asarray(((voxels >= -0.5) & (voxels <= np.array(grid.source_shape) - 0.5)).all(axis=1))

    @property
    def gridToLocal(self) -> NDArray[np.float64]:
        """Voxels of the pyramid's grid to the volume's own space (4, 4)."""
        return np.linalg.inv(self.source.fromLocal) @ self.pyramid.grid.affine

    def partBox(self) -> tuple[slice, slice, slice]:
        """The part that was embedded, in indices of the volume's voxels."""
        i, j, k = (slice(a, a + n) for a, n in zip(self.part.first, self.pyramid.grid.source_shape, strict=True))
        return i, j, k
