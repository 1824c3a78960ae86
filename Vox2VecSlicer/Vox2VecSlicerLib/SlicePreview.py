"""What a head says about the displayed slices, shown while the whole scan is still being segmented."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import numpy_to_vtk

from Vox2VecCore.errors import Vox2VecError
from Vox2VecSlicerLib import Geometry
from Vox2VecSlicerLib.Heads import Example, HeadTool
from Vox2VecSlicerLib.Layers import visibleSliceNodesShowing
from Vox2VecSlicerLib.Planes import Patch, Shown, patches, shownOf, stepsToGrid
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.Worker import NOW, Worker

if TYPE_CHECKING:
    from slicer import vtkMRMLScene, vtkOrientedImageData

TOPIC = "head slices"
OBLIQUE_VOXELS = 300_000
"""So many voxels of slices that cross the grid obliquely are segmented at most: about a tenth of a second."""


@dataclass(frozen=True, eq=False)
class Slices:
    """Labels of displayed slices, on their way from the worker.

    :param planes: axis and index of the planes of the grid that are among them, or were there before.
    """

    scan: Scan
    head: Any
    example: Example
    shown: Shown
    patches: list[Patch]
    planes: set[tuple[int, int]] = field(default_factory=set)


def slicesOf(
    tool: HeadTool, head: Any, example: Example, scan: Scan, shown: Shown, planes: "set[tuple[int, int]] | None" = None
) -> Slices:
    """What a head says about displayed slices. For the worker.

    :param planes: what is there already.
    """
    known = set(planes or ())
    found = patches(
        shown,
        lambda axis, index: tool.onPlane(head, example, axis, index),
        lambda voxels: tool.atVoxels(head, example, voxels),
        known,
    )
    return Slices(scan, head, example, shown, found, known)


class SlicePreview:
    """Labels on the grid of an embedding, where slice views show them; follows the views as they are scrolled.

    The image of the labels is handed over once; later slices are written into it.

    :param draw: shows an image of labels; called again when it has changed.
    """

    def __init__(
        self,
        scene: "vtkMRMLScene",
        worker: Worker,
        tool: HeadTool,
        draw: "Callable[[Scan, Any, vtkOrientedImageData], None]",
        onFailed: Callable[[Vox2VecError], None],
    ) -> None:
        self._scene = scene
        self._worker = worker
        self._tool = tool
        self._draw = draw
        self._onFailed = onFailed
        self._slices: Slices | None = None
        self._image: Any = None
        self._labels: NDArray[np.uint8] | None = None

    @property
    def isShown(self) -> bool:
        """Whether labels of slices are shown and nothing has replaced them yet."""
        return self._slices is not None

    def shown(self, scan: Scan) -> Shown:
        """What the slice views show of a scan now."""
        return shownOf(scan, visibleSliceNodesShowing(self._scene, scan.volumeNode), OBLIQUE_VOXELS)

    def show(self, slices: Slices) -> None:
        """Show labels of slices, and those of the same head that were shown before."""
        last = self._slices
        if last is None or last.head is not slices.head or last.shown.shape != slices.shown.shape:
            self._begin(slices)
        assert self._labels is not None
        for place, labels in slices.patches:
            self._labels[place] = labels
        self._slices = slices
        self._image.GetPointData().GetScalars().Modified()
        self._image.Modified()
        self._draw(slices.scan, slices.head, self._image)

    def tick(self) -> None:
        """Let slices follow that are displayed by now."""
        last = self._slices
        if last is None or not last.scan.isCurrent or self._worker.isBusyWith(TOPIC):
            return
        shown = self.shown(last.scan)
        if shown == last.shown:
            return
        planes = last.planes if shown.shape == last.shown.shape else None
        tool, head, example, scan = self._tool, last.head, last.example, last.scan
        self._worker.submit(
            TOPIC,
            "",
            lambda _progress: slicesOf(tool, head, example, scan, shown, planes),
            self.show,
            self._onFailed,
            urgency=NOW,
        )

    def end(self) -> None:
        """Something else is shown now; what was shown goes."""
        self._worker.cancel(TOPIC)
        self._slices = self._image = self._labels = None

    def _begin(self, slices: Slices) -> None:
        shape = slices.shown.shape
        self._labels = np.zeros(shape, np.uint8, order="F")
        image = self._image = slicer.vtkOrientedImageData()
        image.SetImageToWorldMatrix(Geometry.toVtk(slices.scan.gridToLocal @ stepsToGrid(slices.shown.step)))
        image.SetDimensions(*shape)
        image.GetPointData().SetScalars(numpy_to_vtk(self._labels.ravel(order="K")))
