"""Nodes for tests: volumes of every geometry, and transforms to put above them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from vtkmodules.util.numpy_support import numpy_to_vtk

from Testing.support.scans import phantom

SHAPE = (40, 34, 26)
SPACING = (3.2, 3.0, 3.6)


def geometry(
    angles: Sequence[float] = (0, 0, 0),
    spacing: Sequence[float] = SPACING,
    flips: Sequence[int] = (1, 1, 1),
    order: Sequence[int] = (0, 1, 2),
    centre: Sequence[float] = (0, 0, 0),
    shape: Sequence[int] = SHAPE,
) -> NDArray[np.float64]:
    """Voxel indices to RAS: axes permuted and flipped (an odd number of flips is left-handed), then rotated.

    :param angles: Euler angles in degrees.
    :param centre: where the middle voxel lies.
    """
    directions = (
        Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.eye(3)[:, list(order)] @ np.diag(flips)
    )
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(spacing, float)
    affine[:3, 3] = np.asarray(centre, float) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


def volumeNode(
    affine: NDArray[np.float64] | None = None, array: NDArray | None = None, name: str = "CT"
) -> "slicer.vtkMRMLScalarVolumeNode":
    """A volume node with a phantom, or with an array (i, j, k)."""
    if array is None:
        array = phantom(SHAPE).array
    affine = geometry(shape=array.shape) if affine is None else affine
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(affine.ravel())
    return slicer.util.addVolumeFromArray(np.ascontiguousarray(array.T), matrix, name)


def linearTransform(matrix: NDArray[np.float64], name: str = "linear") -> Any:
    """A linear transform node."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    stored = vtk.vtkMatrix4x4()
    stored.DeepCopy(np.asarray(matrix, float).ravel())
    node.SetMatrixTransformToParent(stored)
    return node


def rigid(angles: Sequence[float] = (4, -6, 8), shift: Sequence[float] = (10, 20, 30)) -> NDArray[np.float64]:
    """A matrix as registrations make them."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def gridTransform(amplitude_mm: float = 6.0, seed: int = 0, name: str = "grid") -> Any:
    """A smooth non-linear transform: displacements on a coarse grid around the origin."""
    size, spacing = 9, 40.0
    rng = np.random.default_rng(seed)
    phases, shifts = rng.uniform(0, 2 * np.pi, 3), rng.uniform(-3, 3, 3)
    place = np.linspace(-1, 1, size)
    z, y, x = np.meshgrid(place, place, place, indexing="ij")
    fields = [amplitude_mm * np.sin(2 * (x + y - z) + p) + s for p, s in zip(phases, shifts, strict=True)]
    image = vtk.vtkImageData()
    image.SetDimensions(size, size, size)
    image.SetSpacing(spacing, spacing, spacing)
    image.SetOrigin(*[-(size - 1) / 2 * spacing] * 3)
    image.GetPointData().SetScalars(numpy_to_vtk(np.stack(fields, axis=-1).reshape(-1, 3), deep=True))
    transform = slicer.vtkOrientedGridTransform()
    transform.SetDisplacementGridData(image)
    transform.SetInterpolationModeToCubic()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", name)
    node.SetAndObserveTransformToParent(transform)
    return node


def parentOf(kind: str) -> Any:
    """A transform by the name of its kind, or ``None``."""
    if kind == "none":
        return None
    if kind == "linear":
        return linearTransform(rigid())
    if kind == "grid":
        return gridTransform()
    if kind == "linear over grid":
        outer, inner = linearTransform(rigid()), gridTransform()
        inner.SetAndObserveTransformNodeID(outer.GetID())
        return inner
    raise ValueError(kind)


def put(node: Any, kind: str) -> Any:
    """Put a node under a transform of a kind; returns the transform."""
    parent = parentOf(kind)
    node.SetAndObserveTransformNodeID(None if parent is None else parent.GetID())
    return parent


PARENTS = ("none", "linear", "grid", "linear over grid")
GEOMETRIES = {
    "plain": geometry(),
    "oblique": geometry((20, -15, 30), centre=(30, -80, 200)),
    "left-handed": geometry(flips=(1, 1, -1)),
    "left-handed oblique": geometry((10, 25, -12), flips=(-1, 1, 1), centre=(-50, 10, 0)),
    "permuted": geometry(order=(2, 0, 1), flips=(-1, 1, -1)),
    "anisotropic": geometry(spacing=(1.1, 1.4, 6.0)),
}


def sliceViews(background: Any = None, names: Sequence[str] = ("Red", "Yellow", "Green")) -> list[Any]:
    """Slice and composite nodes as a layout makes them; returns the slice nodes."""
    nodes = []
    for name, orientation in zip(names, ("Axial", "Sagittal", "Coronal"), strict=False):
        sliceNode = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSliceNode")  # so that it knows the orientations
        sliceNode.UnRegister(None)
        sliceNode.SetName(name)
        sliceNode.SetSingletonTag(name)
        sliceNode.SetLayoutName(name)
        sliceNode = slicer.mrmlScene.AddNode(sliceNode)
        sliceNode.SetOrientation(orientation)
        composite = slicer.vtkMRMLSliceCompositeNode()
        composite.SetSingletonTag(name)
        composite.SetLayoutName(name)
        composite = slicer.mrmlScene.AddNode(composite)
        if background is not None:
            composite.SetBackgroundVolumeID(background.GetID())
        nodes.append(sliceNode)
    return nodes
