"""Between the world that the user points in and a volume's own space, under any parent transform.

A volume is embedded in its own space: as its node stores it, without the parent transform. The parent, linear or
not, is applied to the points that go in and to the nodes that come out, so registering a scan to another one costs
no new embedding. Only a linear parent that turns the patient around or changes the scale (a wrong header put
right, say) changes what the network has to see; its linear part is then composed into the scan's space.
"""

from typing import TYPE_CHECKING

import numpy as np
import vtk
from numpy.typing import ArrayLike, NDArray
from slicer import vtkMRMLTransformNode

from Vox2VecCore.orientation import closest_canonical
from Vox2VecCore.volume import apply_affine

if TYPE_CHECKING:
    from slicer import vtkMRMLTransformableNode, vtkMRMLVolumeNode

SAME_SCALE = 0.1
"""Parents that stretch a scan by less than this share are registrations, not corrections of its header."""


def toNumpy(matrix: vtk.vtkMatrix4x4) -> NDArray[np.float64]:
    """A VTK matrix as an array (4, 4)."""
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def toVtk(matrix: NDArray) -> vtk.vtkMatrix4x4:
    """An array (4, 4) as a VTK matrix."""
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, np.float64).ravel())
    return result


def ijkToLocal(volumeNode: "vtkMRMLVolumeNode") -> NDArray[np.float64]:
    """Voxel indices to the volume's own space (4, 4), without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return toNumpy(matrix)


def isLinear(node: "vtkMRMLTransformableNode") -> bool:
    """Whether the transforms above a node are linear, or there is none."""
    parent = node.GetParentTransformNode()
    return parent is None or bool(parent.IsTransformToWorldLinear())


def localToWorldMatrix(node: "vtkMRMLTransformableNode") -> NDArray[np.float64]:
    """The linear transforms above a node, as one matrix (4, 4)."""
    matrix = vtk.vtkMatrix4x4()
    vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(node.GetParentTransformNode(), None, matrix)
    return toNumpy(matrix)


def toWorld(node: "vtkMRMLTransformableNode", points: ArrayLike) -> NDArray[np.float64]:
    """Points (n, 3) in a node's own space, in the world."""
    return _transformed(node.GetParentTransformNode(), None, points)


def toLocal(node: "vtkMRMLTransformableNode", points: ArrayLike) -> NDArray[np.float64]:
    """Points (n, 3) in the world, in a node's own space."""
    return _transformed(None, node.GetParentTransformNode(), points)


def worldToIjk(volumeNode: "vtkMRMLVolumeNode", points: ArrayLike) -> NDArray[np.float64]:
    """Points (n, 3) in the world as continuous voxel indices."""
    return apply_affine(np.linalg.inv(ijkToLocal(volumeNode)), toLocal(volumeNode, points))


def correction(volumeNode: "vtkMRMLVolumeNode") -> NDArray[np.float64]:
    """What of the parent transform the network has to see, as a matrix (4, 4) from the volume's own space.

    The identity for registrations, linear or not; the linear part of a linear parent that exchanges or flips the
    patient's axes or scales by more than a tenth.
    """
    if not isLinear(volumeNode):
        return np.eye(4)
    linear = localToWorldMatrix(volumeNode)
    linear[:3, 3] = 0
    own = ijkToLocal(volumeNode)
    before, after = closest_canonical(own), closest_canonical(linear @ own)
    scales = np.linalg.svd(linear[:3, :3], compute_uv=False)
    same = (before.order, before.flipped) == (after.order, after.flipped)
    return np.eye(4) if same and (np.abs(scales - 1) <= SAME_SCALE).all() else linear


def _transformed(
    source: vtkMRMLTransformNode | None, target: vtkMRMLTransformNode | None, points: ArrayLike
) -> NDArray[np.float64]:
    points = np.atleast_2d(np.asarray(points, np.float64)).reshape(-1, 3)
    if source is target or len(points) == 0:
        return points
    transform = vtk.vtkGeneralTransform()
    vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, transform)
    return np.array([transform.TransformPoint(point) for point in points])
