"""Scans into the scene, and how a radiologist looks at them."""

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtkmodules.util.numpy_support import numpy_to_vtk

from Vox2VecCore.volume import Volume

WINDOWS = {
    "Soft tissue": (400, 40),
    "Lung": (1500, -600),
    "Bone": (1800, 400),
    "Liver": (160, 60),
    "Mediastinum": (350, 50),
    "Brain": (80, 40),
    "Angio": (600, 300),
}
"""Window and level, in HU, by the name that they go by."""
SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


def nameOf(path: Path) -> str:
    """What a scan is called after its file."""
    name = path.name
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


def addToScene(scene: Any, volume: Volume, name: str) -> Any:
    """A volume node with the voxels of a scan; its window is set to soft tissue.

    :param volume: intensities in HU (i, j, k) and their affine to RAS. The node shares their memory if they are in the
        order of Slicer's images, which is that of Fortran: nobody may write to them any more.
    """
    image = vtk.vtkImageData()
    image.SetDimensions(*volume.array.shape)
    values = numpy_to_vtk(np.asfortranarray(volume.array).ravel(order="K"))
    values.SetName("HU")
    image.GetPointData().SetScalars(values)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.CreateDefaultDisplayNodes()
    setWindow(node, *WINDOWS["Soft tissue"])  # before there are voxels, of which Slicer would make a histogram
    node.SetAndObserveImageData(image)
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(volume.affine, float).ravel())
    node.SetIJKToRASMatrix(matrix)
    return node


def setWindow(node: Any, width: float, level: float) -> None:
    """Show intensities from ``level - width / 2`` to ``level + width / 2``."""
    display = node.GetDisplayNode()
    wasModifying = display.StartModify()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(width, level)
    display.EndModify(wasModifying)


def window(node: Any) -> tuple[float, float]:
    """Window and level of a volume."""
    display = node.GetDisplayNode()
    return display.GetWindow(), display.GetLevel()


def intensityAt(node: Any, world: Any) -> float | None:
    """HU of the voxel at a point of the world, or ``None`` outside."""
    toIjk = vtk.vtkMatrix4x4()
    node.GetRASToIJKMatrix(toIjk)
    local = [0.0, 0.0, 0.0]
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, node.GetParentTransformNode(), transform)
    transform.TransformPoint(list(world), local)
    i, j, k = (int(np.floor(v + 0.5)) for v in toIjk.MultiplyPoint((*local, 1.0))[:3])
    image = node.GetImageData()
    if not all(0 <= v < n for v, n in zip((i, j, k), image.GetDimensions(), strict=True)):
        return None
    return float(image.GetScalarComponentAsDouble(i, j, k, 0))


def describe(node: Any) -> dict[str, str]:
    """Name, size and spacing of a scan, for the page."""
    size = " x ".join(str(n) for n in node.GetImageData().GetDimensions())
    spacing = " x ".join(f"{s:.3g}" for s in node.GetSpacing())
    return {"id": node.GetID(), "name": node.GetName(), "grid": f"{size}, {spacing} mm"}
