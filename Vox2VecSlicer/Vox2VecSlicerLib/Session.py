"""Everything that the module can do, in one object over a scene, without any window.

    from Vox2VecSlicerLib.Session import Session
    session = Session()
    session.embed(slicer.util.getNode("CTChest"), wait=True)
    session.points.addPositive((30, 40, -120))
    session.wait()
    session.makeSegment(name="Alike")
    session.wait()

A user interface calls :meth:`Session.poll` from a timer and connects to the signals.
"""

from typing import TYPE_CHECKING, Any

import vtk

from Vox2VecSlicerLib import Setup, Volumes
from Vox2VecSlicerLib.Heads import HeadTool
from Vox2VecSlicerLib.Layers import showVolume
from Vox2VecSlicerLib.Observers import Observers
from Vox2VecSlicerLib.SessionExplore import ExploreActions
from Vox2VecSlicerLib.SessionSegment import OF_A_SCAN, USE, SegmentActions
from Vox2VecSlicerLib.Worker import Job

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScene


class Session(ExploreActions, SegmentActions):
    """The module over one scene. All methods are for the main thread.

    :param scene: ``slicer.mrmlScene`` when left out.
    :param headTool: how heads are trained; the core's own when left out.
    """

    def __init__(self, scene: "vtkMRMLScene | None" = None, headTool: HeadTool | None = None) -> None:
        super().__init__(scene, headTool)
        self._moved = self._regionMoved = False
        self._scans = Observers()
        self._connect()

    def poll(self, waitSeconds: float = 0.0) -> bool:
        """Deliver finished work; follow mouse, transforms and the region; returns whether something is under way."""
        if self._moved:
            self._moved = False
            self.views.follow()
            self.hover.forget()
            self.similarity.update()
            self.matching.update()
        if self._regionMoved:
            self._regionMoved = False
            self.regionMoved.emit()
        return super().poll(waitSeconds)

    def cancel(self) -> None:
        """Stop what is under way at its next step."""
        self._worker.cancel()

    def enter(self) -> None:
        """The module is shown: its overlays come back."""
        self.views.enter()

    def exit(self) -> None:
        """The module is left: the views get their former foreground back."""
        self.hover.end()
        self.views.exit()

    def releaseMemory(self) -> None:
        """Drop embeddings, maps, previews and the GPU's cache; the cache on disk and what was learnt stay."""
        self._worker.cancel()
        self._freeMemory()

    def shutdown(self, timeoutSeconds: float = 5.0) -> bool:
        """End the thread, waiting for it no longer than asked, and leave no observer; returns whether it has ended."""
        self._observers.remove()
        self._scans.remove()
        ended = self._worker.shutdown(timeoutSeconds)
        for each in (
            self.fewShot,
            self.result,
            self.strokes,
            self.matching,
            self.pca,
            self.similarity,
            self.points,
            self.viewsOfScans,
            self.sideBySide,
            self.views,
        ):
            each.release()
        self.embeddings.clear()
        self.state.release()
        return ended

    def _connect(self) -> None:
        self.embeddings.embedded.connect(self._onEmbedded)
        self.embeddings.warned.connect(self.warned.emit)
        self.similarity.updated.connect(self.similarityUpdated.emit)
        self.hover.updated.connect(self._onHover)
        self.hover.ended.connect(self.matching.dropCursor)
        self.matching.updated.connect(self.matchesUpdated.emit)
        self.viewsOfScans.changed.connect(self.views.update)
        self.viewsOfScans.changed.connect(self.matching.showInTarget)
        self.fewShot.updated.connect(self.previewUpdated.emit)
        self.heads.loaded.connect(self.headLoaded.emit)
        self.points.changed.connect(self.pointsChanged.emit)
        self.state.changed.connect(self._onState)
        self._watchScans()
        scene = self.scene
        self._observers.add(scene, scene.StartCloseEvent, self._onStartClose)
        events = [scene.EndCloseEvent, scene.EndImportEvent, scene.EndRestoreEvent]
        self._observers.add(scene, events, self._onNewScene)
        self._observers.add(scene, scene.NodeAboutToBeRemovedEvent, self._onNodeRemoved)

    def _freeMemory(self) -> None:
        """Everything that is computed goes; what the user has made stays."""
        self.hover.forget()
        self.similarity.clear()
        self.matching.clear()
        self.pca.clear()
        self.fewShot.freeMemory()
        self.result.release()
        self.heads.freeMemory()
        self.views.clear()
        self.embeddings.clear()
        Setup.releaseDeviceMemory()

    def _onEmbedded(self, volumeNode: "vtkMRMLScalarVolumeNode") -> None:
        if volumeNode is self.state.volume:
            showVolume(self.scene, volumeNode, self.state.target)
        if volumeNode in (self.state.volume, self.state.target):
            self.hover.forget()
            self.similarity.update()
            self.matching.update()
            self.pca.update()
        self.heads.onEmbedded(volumeNode)
        self.embedded.emit(volumeNode)

    def _onState(self, name: str) -> None:
        if name == "volume" and self.state.volume is not None:
            self._takeSegmentationsOfVolume()
            if Volumes.refusal(self.state.volume) is None:
                showVolume(self.scene, self.state.volume, self.state.target)
        if name in OF_A_SCAN and getattr(self.state, name) is not None:
            getattr(self.state, name).SetAttribute(USE, name)
        if name in ("volume", "roi") and self.state.roi is not None:
            Volumes.fitRegion(self.state.roi, self.state.volume)
        if name in ("volume", "target", "roi"):
            self._watchScans()

    def _watchScans(self) -> None:
        """Their parent transforms may be moved, by a registration or by hand, and the region of interest dragged."""
        self._scans.remove()
        region = self.state.roi
        if region is not None:
            events = ["ModifiedEvent", region.PointModifiedEvent, region.TransformModifiedEvent]
            self._scans.add(region, events, self._onRegionMoved)
        for node in (self.state.volume, self.state.target):
            if node is not None:
                self._scans.add(node, node.TransformModifiedEvent, self._onMoved)

    def _onMoved(self, _caller: Any, _event: Any) -> None:
        self._moved = True

    def _onRegionMoved(self, _caller: Any, _event: Any) -> None:
        self._regionMoved = True  # many events a drag: looked at once a poll

    def _onHover(self, volumeNode: Any, world: Any) -> None:
        if volumeNode is self.state.volume and self.isEmbedded(self.state.target):
            self.matching.followCursor(world)

    def _onStartClose(self, _caller: Any, _event: Any) -> None:
        self._worker.cancel()
        self._freeMemory()
        self.fewShot.forget()
        self.sceneClosed.emit()

    def _onNewScene(self, _caller: Any, _event: Any) -> None:
        self.state.follow()
        self.heads.restore()
        self.fewShot.rest()
        for volumeNode in (self.state.volume, self.state.target):
            if Volumes.refusal(volumeNode) is None and self.checkModel(self.state.model) is None:
                self.embeddings.requestCached(volumeNode, self.state.model, self._roiOf(volumeNode))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, _caller: Any, _event: Any, node: Any) -> None:
        if node is None or not node.IsA("vtkMRMLScalarVolumeNode") or self.scene.IsClosing():
            return
        if self.embeddings.isUnderWay(node) or self.isEmbedded(node):
            self.embeddings.forget(node.GetID())
        if node in (self.state.volume, self.state.target):
            self.hover.forget()
            self.similarity.clear()
            self.similarity.restore()
            self.matching.clear()
            if node is self.state.volume:
                self.fewShot.clearPreview()


__all__ = ["Job", "Session"]
