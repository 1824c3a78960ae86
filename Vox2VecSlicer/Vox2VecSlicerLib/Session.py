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

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
import vtk

from Vox2VecCore.errors import Vox2VecError
from Vox2VecSlicerLib import Setup, Volumes
from Vox2VecSlicerLib.Embedding import Embeddings
from Vox2VecSlicerLib.FewShot import FewShot
from Vox2VecSlicerLib.Heads import HeadTool, LazyHeadTool
from Vox2VecSlicerLib.HeadUse import HeadUse
from Vox2VecSlicerLib.Hover import Hover
from Vox2VecSlicerLib.Layers import compositeNodes
from Vox2VecSlicerLib.Layout import SideBySide
from Vox2VecSlicerLib.Matching import Matching, MatchRow
from Vox2VecSlicerLib.Observers import Observers
from Vox2VecSlicerLib.Pca import PcaColors
from Vox2VecSlicerLib.Points import PointLists
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.Similarity import Similarity
from Vox2VecSlicerLib.SimilarityResults import SimilarityResults
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Strokes import Strokes
from Vox2VecSlicerLib.Views import Views
from Vox2VecSlicerLib.Worker import Job, JobProgress, Worker

if TYPE_CHECKING:
    from slicer import (
        vtkMRMLMarkupsFiducialNode,
        vtkMRMLMarkupsROINode,
        vtkMRMLScalarVolumeNode,
        vtkMRMLScene,
        vtkMRMLSegmentationNode,
        vtkMRMLSegmentEditorNode,
    )

POLL_SECONDS = 0.02


class Session:
    """The module over one scene. All methods are for the main thread.

    :param scene: ``slicer.mrmlScene`` when left out.
    :param headTool: how heads are trained; the core's own when left out.
    """

    def __init__(self, scene: "vtkMRMLScene | None" = None, headTool: HeadTool | None = None) -> None:
        self.scene = scene or slicer.mrmlScene
        self.progressChanged = Signal()
        self.failed = Signal()
        self.warned = Signal()
        self.embedded = Signal()
        self.similarityUpdated = Signal()
        self.matchesUpdated = Signal()
        self.previewUpdated = Signal()
        self.pointsChanged = Signal()
        self.modelsChanged = Signal()
        self.deviceDescribed = Signal()
        self.sceneClosed = Signal()
        self._errors: list[Vox2VecError] = []
        self._progress: JobProgress | None = None
        self.headTool = LazyHeadTool(headTool)
        self._observers = Observers()
        self._worker = Worker()
        self.state = ModuleState(self.scene)
        self.points = PointLists(self.scene, self.state)
        self.embeddings = Embeddings(self._worker)
        self.views = Views(self.scene, self.state)
        scan = self.embeddings.scan
        self.similarity = Similarity(self.state, self._worker, self.points, self.views, scan, self._fail)
        self.hover = Hover(self.scene, self.state, self.points, self.views, self.similarity, scan)
        self.pca = PcaColors(self.state, self._worker, self.views, self.similarity.shownScans, self._fail)
        self.matching = Matching(self.scene, self.state, self._worker, self.points, scan, self._fail)
        self.strokes = Strokes(self.scene, self.state)
        self.fewShot = FewShot(
            self.scene, self.state, self._worker, self.strokes, self.views, scan, self.headTool, self._fail
        )
        self.heads = HeadUse(
            self.scene, self.state, self._worker, self.embeddings, self.fewShot, self.headTool, self._fail
        )
        self.similarityResults = SimilarityResults(
            self.scene, self.state, self._worker, self.points, self.similarity, self.fewShot, self._fail
        )
        self.sideBySide = SideBySide(self.scene)
        self._connect()

    # Life

    def poll(self, waitSeconds: float = 0.0) -> bool:
        """Deliver finished work and follow the mouse; returns whether something is under way."""
        self._worker.poll(waitSeconds)
        pending = self.fewShot.tick()
        self.hover.tick()
        progress = self._worker.progress
        if progress != self._progress:
            self._progress = progress
            self.progressChanged.emit(progress)
        return pending or self._worker.busy

    def wait(self, timeoutSeconds: float = 600.0) -> None:
        """For scripts: poll until everything is done.

        :raises Vox2VecError: the first error since the last call, or if it takes longer.
        """
        deadline = time.monotonic() + timeoutSeconds
        while self.poll(POLL_SECONDS):
            if time.monotonic() > deadline:
                raise Vox2VecError(f"Not finished within {timeoutSeconds:g} s; wait longer or cancel.")
        errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    @property
    def busy(self) -> bool:
        """Whether a job is waiting or running."""
        return self._worker.busy

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
        ended = self._worker.shutdown(timeoutSeconds)
        for each in (self.fewShot, self.strokes, self.matching, self.pca, self.similarity, self.points, self.views):
            each.release()
        self.embeddings.clear()
        self.state.release()
        return ended

    # Set-up

    def models(self) -> list[str]:
        """Models that can be chosen by name."""
        return Setup.models()

    def checkModel(self, nameOrFolder: str) -> str | None:
        """Why a model cannot be used, in one sentence, or ``None``."""
        return Setup.checkModel(nameOrFolder)

    def fetchModel(self, name: str = "vox2vec") -> None:
        """Download a published model in the worker; :attr:`modelsChanged` tells when it is there."""
        self._worker.submit(
            "fetch",
            f"Downloading {name}",
            lambda progress: Setup.fetchModel(name, progress),
            lambda _: self.modelsChanged.emit(),
            self._fail,
        )

    def requestDeviceDescription(self) -> None:
        """Look at device, memory and engine in the worker; the answer comes by :attr:`deviceDescribed`."""
        device, engine = self.state.device, self.state.engine
        self._worker.submit(
            "device",
            "Looking at this computer",
            lambda _: Setup.describeDevice(device, engine),
            lambda found: self.deviceDescribed.emit(*found),
            self._fail,
            urgent=True,
        )

    def cacheBytes(self) -> int:
        """Size of the embedding cache on disk."""
        return Setup.cacheBytes()

    def clearCache(self) -> int:
        """Empty the embedding cache on disk; returns the bytes freed. Embeddings in use are dropped."""
        self.releaseMemory()
        return Setup.clearCache()

    # Embed

    def checkVolume(self, volumeNode: "vtkMRMLScalarVolumeNode | None") -> tuple[str | None, str | None]:
        """Why a volume cannot be embedded, and what speaks against it: one sentence each, or ``None``."""
        return Volumes.check(volumeNode)

    def embed(self, volumeNode: "vtkMRMLScalarVolumeNode | None" = None, wait: bool = False) -> None:
        """Embed a volume (the chosen one when left out; the region of interest crops the chosen one).

        :raises VolumeError: if the node cannot be embedded.
        :raises ModelError: if the model cannot be used.
        """
        if volumeNode is not None and self.state.volume is None:
            self.state.volume = volumeNode
        volumeNode = volumeNode or self.state.volume
        self.embeddings.request(
            volumeNode,
            self.state.model,
            roi=self._roiOf(volumeNode),
            device=self.state.device,
            engine=self.state.engine,
            onFailed=self._fail,
        )
        if wait:
            self.wait()

    def isEmbedded(self, volumeNode: "vtkMRMLScalarVolumeNode | None") -> bool:
        """Whether a volume is embedded as it is now."""
        return self.embeddings.scan(volumeNode) is not None

    # Explore

    def updateSimilarity(self, wait: bool = False) -> None:
        """Compute the map of the pinned points anew; happens by itself when they change."""
        self.similarity.update()
        if wait:
            self.wait()

    def similarityAt(self, world: Any) -> float | None:
        """Percentile of the map of the pinned points at a point in the world."""
        return self.similarity.at(world)

    @property
    def overlayNode(self) -> Any:
        """The volume that shows the similarity, if there is one."""
        return None if self.state.volume is None else self.views.overlay("similarity", self.state.volume).node

    def showLegend(self, shown: bool) -> None:
        """A legend of the overlay's colours in the views."""
        self.views.showLegend(shown)

    def exportSimilarity(self) -> "vtkMRMLScalarVolumeNode":
        """The map of the pinned points as a volume of its own, on the voxels of the CT; filled when it is computed.

        :raises Vox2VecError: if there is no map.
        """
        return self.similarityResults.export()

    def makeSegment(self, world: Any = None, name: str | None = None) -> str:
        """A segment of what is above the threshold and connected to a point (the last positive one when left out).

        :return: the segment in ``state.result``; it is filled when it is computed.
        :raises Vox2VecError: if there is no map or no point.
        """
        return self.similarityResults.makeSegment(world, name)

    # Match

    def setTarget(self, volumeNode: "vtkMRMLScalarVolumeNode | None") -> None:
        """Compare with a second volume; it is embedded if it is not yet."""
        self.state.target = volumeNode
        if volumeNode is not None and not self.isEmbedded(volumeNode) and not self.embeddings.isUnderWay(volumeNode):
            self.embed(volumeNode)

    @property
    def matches(self) -> list[MatchRow]:
        """The pinned points in the target."""
        return self.matching.rows

    @property
    def targetPointsNode(self) -> Any:
        """The matches as Markups in the target, if there are any."""
        return self.matching.targetPointsNode

    def propagate(self, markupsNode: "vtkMRMLMarkupsFiducialNode", wait: bool = False) -> "vtkMRMLMarkupsFiducialNode":
        """All points of a list in the target, as a new list."""
        node = self.matching.propagate(markupsNode)
        if wait:
            self.wait()
        return node

    def showSideBySide(self) -> None:
        """The volume above, the target below, three slice views each."""
        self.sideBySide.show(self.state.volume, self.state.target)
        self.views.update()

    def showSingle(self) -> None:
        """The layout that was there before."""
        self.sideBySide.hide()

    # Segment

    def strokesNode(self) -> "vtkMRMLSegmentationNode":
        """The segmentation to paint strokes in, made on first use."""
        return self.strokes.node()

    def segmentEditorNode(self) -> "vtkMRMLSegmentEditorNode":
        """The module's own segment editor node."""
        return self.strokes.editorNode()

    def addStructure(self, name: str | None = None, color: tuple[float, float, float] | None = None) -> str:
        """A further structure to paint; returns its segment."""
        return self.strokes.addStructure(name, color)

    def setBackgroundSegment(self, segmentID: str) -> None:
        """Which segment of the strokes says "not a structure"."""
        self.state.backgroundSegment = segmentID

    def strokesStatus(self) -> str:
        """What is missing before a head can be trained, in one sentence; empty when nothing is."""
        return self.strokes.status()

    def updatePreview(self, wait: bool = False) -> None:
        """Learn from the strokes now; happens by itself with ``state.autoUpdate``."""
        self.fewShot.update()
        if wait:
            self.wait()

    def clearPreview(self) -> None:
        """Drop the preview."""
        self.fewShot.clearPreview()

    def apply(self) -> "vtkMRMLSegmentationNode":
        """Write the preview into the result, heeding the Segment Editor's masking and overwriting."""
        return self.fewShot.apply()

    def undo(self) -> None:
        """Undo the last writing into the result."""
        self.fewShot.writer.undo()

    def redo(self) -> None:
        """Undo :meth:`undo`."""
        self.fewShot.writer.redo()

    @property
    def canUndo(self) -> bool:
        """Whether there is something to undo."""
        return self.fewShot.writer.canUndo

    @property
    def canRedo(self) -> bool:
        """Whether there is something to redo."""
        return self.fewShot.writer.canRedo

    def whereToPaintNext(self) -> tuple[float, float, float] | None:
        """Where a further stroke would help most, in the world; ``None`` if nothing says so."""
        preview = self.fewShot.preview
        if preview is None or preview.prediction.next_ras is None:
            return None
        r, a, s = preview.scan.toWorld([preview.prediction.next_ras])[0]
        return float(r), float(a), float(s)

    def jumpTo(self, world: Any) -> None:
        """Let all slice views show a point of the world."""
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode", self.scene):
            node.JumpSliceByCentering(*(float(v) for v in world))

    # Heads

    @property
    def hasHead(self) -> bool:
        """Whether a head has been trained or loaded."""
        return self.fewShot.head is not None

    def headSummary(self) -> str:
        """One line about the head, empty without one."""
        return self.heads.summary()

    def saveHead(self, path: str | Path) -> None:
        """Write the head to a file.

        :raises Vox2VecError: if there is none or the file cannot be written.
        """
        self.heads.save(Path(path))

    def loadHead(self, path: str | Path) -> None:
        """Read a head from a file.

        :raises ModelError: if it is not a head or belongs to another model.
        """
        self.heads.load(Path(path))

    def applyHead(self, volumeNodes: "list[vtkMRMLScalarVolumeNode]", wait: bool = False) -> None:
        """Segment other volumes with the head, embedding them first when needed: one segmentation each.

        :raises Vox2VecError: if there is no head or a node cannot be embedded.
        """
        for volumeNode in self.heads.apply(volumeNodes):
            self.embed(volumeNode)
        if wait:
            self.wait()

    # Inner workings

    def _connect(self) -> None:
        self.embeddings.embedded.connect(self._onEmbedded)
        self.embeddings.warned.connect(self.warned.emit)
        self.similarity.updated.connect(self.similarityUpdated.emit)
        self.hover.updated.connect(self._onHover)
        self.hover.ended.connect(self.matching.dropCursor)
        self.matching.updated.connect(self.matchesUpdated.emit)
        self.fewShot.updated.connect(self.previewUpdated.emit)
        self.points.changed.connect(self.pointsChanged.emit)
        scene = self.scene
        self._observers.add(scene, scene.StartCloseEvent, self._onStartClose)
        self._observers.add(scene, [scene.EndCloseEvent, scene.EndImportEvent], self._onNewScene)
        self._observers.add(scene, scene.NodeAboutToBeRemovedEvent, self._onNodeRemoved)

    def _fail(self, error: Vox2VecError) -> None:
        self._errors.append(error)
        self.failed.emit(str(error))

    def _freeMemory(self) -> None:
        """Everything that is computed goes; what the user has made stays."""
        self.hover.forget()
        self.similarity.clear()
        self.matching.clear()
        self.pca.clear()
        self.fewShot.freeMemory()
        self.heads.freeMemory()
        self.views.clear()
        self.embeddings.clear()
        Setup.releaseDeviceMemory()

    def _onEmbedded(self, volumeNode: "vtkMRMLScalarVolumeNode") -> None:
        if volumeNode is self.state.volume and not compositeNodes(self.scene, volumeNode):
            for composite in compositeNodes(self.scene):
                composite.SetBackgroundVolumeID(volumeNode.GetID())
        if volumeNode in (self.state.volume, self.state.target):
            self.hover.forget()
            self.similarity.update()
            self.matching.update()
            self.pca.update()
        self.heads.onEmbedded(volumeNode)
        self.embedded.emit(volumeNode)

    def _roiOf(self, volumeNode: "vtkMRMLScalarVolumeNode | None") -> "vtkMRMLMarkupsROINode | None":
        """The region of interest belongs to the chosen volume, not to its target."""
        return self.state.roi if volumeNode is self.state.volume else None

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
