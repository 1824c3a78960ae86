"""The overlay in front of a scan: one volume that is used again and again, never saved with the scene."""

from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from Vox2VecSlicerLib import Geometry, Volumes
from Vox2VecSlicerLib.Colors import colorTable
from Vox2VecSlicerLib.Scan import Scan

if TYPE_CHECKING:
    from slicer import vtkMRMLScene, vtkMRMLVolumeNode

ROLE = "Vox2Vec.Overlay"


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

    @property
    def node(self) -> "vtkMRMLVolumeNode | None":
        """The volume, if it is in the scene."""
        return self._node if self._node is not None and self._node.GetScene() is self._scene else None

    @property
    def scan(self) -> Scan | None:
        """The scan on whose grid the values lie."""
        return self._scan if self.node is not None else None

    def fit(self, scan: Scan) -> "vtkMRMLVolumeNode":
        """Make the volume, if need be, and lay it over a scan; a volume on another grid becomes empty."""
        node = self.node or self._make()
        shape = scan.pyramid.grid.shape
        image = node.GetImageData()
        if image is None or self._scan is not scan or image.GetDimensions() != shape:
            image = vtk.vtkImageData()
            image.SetDimensions(*shape)
            image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR if self._colors else vtk.VTK_FLOAT, 3 if self._colors else 1)
            image.GetPointData().GetScalars().Fill(0)
            node.SetAndObserveImageData(image)
            node.SetIJKToRASMatrix(Geometry.toVtk(scan.gridToLocal))
            self._scan = scan
        node.SetAndObserveTransformNodeID(scan.volumeNode.GetTransformNodeID())
        return node

    @property
    def values(self) -> NDArray:
        """The values (X, Y, Z), or colours (X, Y, Z, 3), sharing the volume's memory; say :meth:`modified` after
        writing."""
        assert self.node is not None
        if not self._colors:
            return Volumes.voxels(self.node)
        return np.moveaxis(slicer.util.arrayFromVolume(self.node), (0, 1, 2), (2, 1, 0))

    def setMap(self, scan: Scan, values: NDArray) -> "vtkMRMLVolumeNode":
        """Show values (X, Y, Z), or colours (X, Y, Z, 3), on a scan's grid."""
        node = self.fit(scan)
        self.values[...] = values
        self.modified()
        return node

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
        display = self.node.GetDisplayNode()
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
        if node is not None:
            for index in reversed(range(node.GetNumberOfDisplayNodes())):
                self._scene.RemoveNode(node.GetNthDisplayNode(index))
            self._scene.RemoveNode(node)

    def _make(self) -> "vtkMRMLVolumeNode":
        className = "vtkMRMLVectorVolumeNode" if self._colors else "vtkMRMLScalarVolumeNode"
        node = self._scene.AddNewNodeByClass(className, self._name)
        node.SetAttribute(ROLE, self._name)
        node.CreateDefaultDisplayNodes()
        for each in (node, node.GetDisplayNode()):
            each.SetSaveWithScene(False)
        self._node, self._scan = node, None
        return node
