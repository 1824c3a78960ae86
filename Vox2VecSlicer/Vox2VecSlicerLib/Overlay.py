"""The overlay in front of a scan: one volume that is used again and again, never saved with the scene."""

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import numpy_to_vtk

from Vox2VecSlicerLib import Geometry, Volumes
from Vox2VecSlicerLib.Colors import colorTable
from Vox2VecSlicerLib.Nodes import removeFromScene
from Vox2VecSlicerLib.Planes import everyNth, stepsToGrid
from Vox2VecSlicerLib.Scan import Scan

if TYPE_CHECKING:
    from slicer import vtkMRMLScene, vtkMRMLVolumeNode


def inImageOrder(values: NDArray) -> NDArray:
    """Values (X, Y, Z), or colours (X, Y, Z, 3), in the order in which images keep them. For the worker: reordering a
    large map takes a while, and showing one that is in order takes no time."""
    import torch

    turned = (2, 1, 0, 3)[: values.ndim]
    ordered = torch.from_numpy(values).permute(turned).contiguous().numpy()
    return ordered.transpose(turned)


def blank(shape: tuple[int, int, int], colors: bool = False) -> NDArray:
    """Values (X, Y, Z), or colours (X, Y, Z, 3), that are all 0, :func:`inImageOrder`."""
    x, y, z = shape
    return (np.full((z, y, x, 3), 0, np.uint8) if colors else np.full((z, y, x), 0, np.float32)).swapaxes(0, 2)


def imageOf(values: NDArray) -> vtk.vtkImageData:
    """Values (X, Y, Z), or colours (X, Y, Z, 3), as an image: the same memory when they are :func:`inImageOrder`."""
    flat = np.ascontiguousarray(values.transpose((2, 1, 0, 3)[: values.ndim]))
    image = vtk.vtkImageData()
    image.SetDimensions(*values.shape[:3])
    image.GetPointData().SetScalars(numpy_to_vtk(flat.reshape(-1, 3) if values.ndim == 4 else flat.ravel()))
    return image


class Overlay:
    """Values on the grid of a scan's embedding, drawn in front of the scan.

    The grid of the embedding is coarser than the scan, so writing a new map is quick; the slice views interpolate. The
    overlay lies under the scan's own parent transform, linear or not.

    :param colors: (X, Y, Z, 3) colours instead of (X, Y, Z) values.
    """

    def __init__(self, scene: "vtkMRMLScene", name: str, *, colors: bool = False) -> None:
        self._scene = scene
        self._name = name
        self._colors = colors
        self._node: vtkMRMLVolumeNode | None = None
        self._scan: Scan | None = None
        self._images: dict[int, vtk.vtkImageData] = {}

    @property
    def node(self) -> "vtkMRMLVolumeNode | None":
        """The volume, if it is in the scene."""
        return self._node if self._node is not None and self._node.GetScene() is self._scene else None

    @property
    def scan(self) -> Scan | None:
        """The scan on whose grid the values lie."""
        return self._scan if self.node is not None else None

    def fit(self, scan: Scan, step: int = 1) -> "vtkMRMLVolumeNode":
        """Make the volume, if need be, and lay it over a scan, with values to be written to.

        :param step: one value for so many voxels of the grid along each axis (:func:`Planes.everyNth`).
        """
        node = self._over(scan)
        if step not in self._images:
            shape = everyNth(scan.pyramid.grid.shape, step)
            made = scan.canvas if step == 1 and not self._colors else None
            self._images[step] = imageOf(blank(shape, self._colors) if made is None else made)
        self._put(self._images[step], scan, step)
        return node

    @property
    def values(self) -> NDArray:
        """The values (X, Y, Z), or colours (X, Y, Z, 3), that :meth:`fit` laid over the scan, sharing the volume's
        memory; say :meth:`modified` after writing."""
        assert self.node is not None
        if not self._colors:
            return Volumes.voxels(self.node)
        return np.moveaxis(slicer.util.arrayFromVolume(self.node), (0, 1, 2), (2, 1, 0))

    def setMap(self, scan: Scan, values: NDArray) -> "vtkMRMLVolumeNode":
        """Show values (X, Y, Z), or colours (X, Y, Z, 3), on a scan's grid.

        :param values: shown as they are in memory when they are :func:`inImageOrder`: nobody may write to them.
        """
        node = self._over(scan)
        self._put(imageOf(values), scan, 1)
        return node

    def _over(self, scan: Scan) -> "vtkMRMLVolumeNode":
        """The volume, under the transform of a scan; what was written for another scan goes."""
        node = self.node or self._make()
        if self._scan is not scan:
            self._images.clear()
            self._scan = scan
        self.follow()
        return node

    def _put(self, image: vtk.vtkImageData, scan: Scan, step: int) -> None:
        node = self._node
        assert node is not None
        if node.GetImageData() is image:
            return
        wasModifying = node.StartModify()
        node.SetIJKToRASMatrix(Geometry.toVtk(scan.gridToLocal @ stepsToGrid(step)))
        node.SetAndObserveImageData(image)
        node.EndModify(wasModifying)

    def follow(self) -> None:
        """Lie under the parent transform that the scan has by now."""
        if self.node is not None and self._scan is not None:
            self.node.SetAndObserveTransformNodeID(self._scan.volumeNode.GetTransformNodeID())

    def modified(self) -> None:
        """Let the views draw what was written to :attr:`values`."""
        assert self.node is not None
        image = self.node.GetImageData()
        image.GetPointData().GetScalars().Modified()
        image.Modified()

    def setRange(self, lowest: float, highest: float, table: str) -> None:
        """Colours of a table from ``lowest`` to ``highest``; lower values are transparent."""
        if self.node is None or self._colors:
            return
        display = self._display(self.node)
        wasModifying = display.StartModify()
        display.SetAndObserveColorNodeID(colorTable(self._scene, table).GetID())
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(lowest, max(highest, lowest + 1e-3))
        display.AutoThresholdOff()
        display.ApplyThresholdOn()
        display.SetThreshold(max(lowest, 1e-3), max(highest, lowest) + 1)
        display.EndModify(wasModifying)

    def showLegend(self, shown: bool, title: str) -> None:
        """A legend of the colours in the views."""
        node = self.node
        if node is None or self._colors:
            return
        legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(node)
        if legend is None and shown:
            legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(node)
            legend.SetSaveWithScene(False)
        if legend is not None:
            legend.SetTitleText(title)
            legend.SetLabelFormat("%.0f")
            legend.SetVisibility(shown)

    def remove(self) -> None:
        """Take the volume out of the scene and free its memory."""
        node, self._node, self._scan = self.node, None, None
        self._images.clear()
        if node is not None:
            removeFromScene(self._scene, node)

    def _make(self) -> "vtkMRMLVolumeNode":
        className = "vtkMRMLVectorVolumeNode" if self._colors else "vtkMRMLScalarVolumeNode"
        node = self._scene.AddNewNodeByClass(className, self._name)
        node.SetAttribute(Volumes.OVERLAY, self._name)
        node.SetSaveWithScene(False)
        self._display(node)
        self._node, self._scan = node, None
        self._images.clear()
        return node

    @staticmethod
    def _display(node: "vtkMRMLVolumeNode") -> Any:
        """How the volume is displayed; made anew if somebody has removed that."""
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SetSaveWithScene(False)
            node.GetDisplayNode().AutoWindowLevelOff()  # which would look through all voxels
            node.GetDisplayNode().SetWindowLevelMinMax(0, 255)
        return node.GetDisplayNode()
