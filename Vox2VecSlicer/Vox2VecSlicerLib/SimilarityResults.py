"""What is kept of a similarity map: a volume of its own, or a segment of what lights up."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import vtk

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.progress import Progress
from Vox2VecSlicerLib.Colors import nextColor
from Vox2VecSlicerLib.Overlay import imageOf
from Vox2VecSlicerLib.Points import PointLists
from Vox2VecSlicerLib.Result import Result
from Vox2VecSlicerLib.SegmentContents import SegmentContent
from Vox2VecSlicerLib.Segments import addSegment
from Vox2VecSlicerLib.Similarity import Similarity, SimilarityMap
from Vox2VecSlicerLib.SimilaritySegment import connectedContent
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Texts import tr as _
from Vox2VecSlicerLib.Worker import NOW, SOON, Worker

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScene


class SimilarityResults:
    """Keeps results of the map of the pinned points."""

    def __init__(
        self,
        scene: "vtkMRMLScene",
        state: ModuleState,
        worker: Worker,
        points: PointLists,
        similarity: Similarity,
        result: Result,
        onFailed: Callable[[Vox2VecError], None],
    ) -> None:
        self._scene = scene
        self._state = state
        self._worker = worker
        self._points = points
        self._similarity = similarity
        self._result = result
        self._onFailed = onFailed

    def export(self) -> "vtkMRMLScalarVolumeNode":
        """See :meth:`Session.exportSimilarity`."""
        shown = self._shownMap()
        volumeNode, onVolume = shown.scan.volumeNode, shown.onVolume()
        node = self._scene.AddNewNodeByClass(
            "vtkMRMLScalarVolumeNode", _("{name} similarity").format(name=volumeNode.GetName())
        )
        matrix = vtk.vtkMatrix4x4()
        volumeNode.GetIJKToRASMatrix(matrix)
        node.SetIJKToRASMatrix(matrix)
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())

        def done(whole: np.ndarray) -> None:
            if node.GetScene() is None:
                return
            node.CreateDefaultDisplayNodes()
            display = node.GetDisplayNode()
            display.AutoWindowLevelOff()  # which would look through all voxels
            display.SetWindowLevelMinMax(0, 100)
            node.SetAndObserveImageData(imageOf(whole))

        title = _("Similarity on the CT's voxels")
        self._worker.submit(f"export {node.GetID()}", title, onVolume, done, self._onFailed)
        return node

    def makeSegment(self, world: Any, name: str | None) -> str:
        """See :meth:`Session.makeSegment`."""
        shown = self._shownMap()
        scan, threshold = shown.scan, self._state.threshold
        if world is None:
            inside = self._points.positive[scan.contains(self._points.positive)]
            if len(inside) == 0:
                raise Vox2VecError(_("No positive point lies in the volume; pin one where the segment shall be."))
            world = inside[-1]
        if not scan.contains([world])[0]:
            raise Vox2VecError(_("The chosen point lies outside the embedded part of the volume."))
        point = scan.fromWorld([world])[0]
        node = self._result.node(scan.volumeNode)
        count = node.GetSegmentation().GetNumberOfSegments()
        color = nextColor(node, self._state.strokes)
        segmentID = addSegment(node, name or _("Alike {number}").format(number=count + 1), color)

        def failed(error: Vox2VecError) -> None:
            node.GetSegmentation().RemoveSegment(segmentID)
            self._onFailed(error)

        grid, part = scan.pyramid.grid, scan.part

        def content(progress: Progress) -> SegmentContent:
            return connectedContent(grid, shown.final(progress), part, point, threshold, progress)

        urgency = NOW if shown.spread is None else SOON
        self._result.write(scan, {segmentID: content}, _("Making a segment"), lambda: None, failed, urgency=urgency)
        return segmentID

    def _shownMap(self) -> SimilarityMap:
        shown = self._similarity.mapOf(self._state.volume)
        if shown is None or not shown.scan.isCurrent:
            raise Vox2VecError(_("There is no similarity map; embed the volume and pin a point in it first."))
        if shown.spread is not None:
            self._similarity.prepare()  # it may have been cancelled
        return shown
