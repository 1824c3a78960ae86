"""The controllers of a session: made once, told of each other, and driven by one call."""

import time
from typing import TYPE_CHECKING

import slicer

from Vox2VecCore.errors import Vox2VecError
from Vox2VecSlicerLib.Embedding import Embeddings
from Vox2VecSlicerLib.FewShot import FewShot
from Vox2VecSlicerLib.Heads import HeadTool, LazyHeadTool
from Vox2VecSlicerLib.HeadUse import HeadUse
from Vox2VecSlicerLib.Hover import Hover
from Vox2VecSlicerLib.Layout import SideBySide
from Vox2VecSlicerLib.Matching import Matching
from Vox2VecSlicerLib.Observers import Observers
from Vox2VecSlicerLib.Pca import PcaColors
from Vox2VecSlicerLib.Points import PointLists
from Vox2VecSlicerLib.Result import Result
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.Similarity import Similarity
from Vox2VecSlicerLib.SimilarityResults import SimilarityResults
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Strokes import Strokes
from Vox2VecSlicerLib.Texts import tr as _
from Vox2VecSlicerLib.Views import Views
from Vox2VecSlicerLib.ViewsOfScans import ViewsOfScans
from Vox2VecSlicerLib.Worker import JobProgress, Worker

if TYPE_CHECKING:
    from slicer import vtkMRMLScene

POLL_SECONDS = 0.02


class SessionParts:
    """What all actions of a session stand on.

    :param scene: ``slicer.mrmlScene`` when left out.
    :param headTool: how heads are trained; the core's own when left out.
    """

    def __init__(self, scene: "vtkMRMLScene | None" = None, headTool: HeadTool | None = None) -> None:
        self.scene = scene or slicer.mrmlScene
        self.progressChanged = Signal()
        self.failed = Signal()
        self.warned = Signal()
        self.embedded = Signal()
        self.regionMoved = Signal()
        self.similarityUpdated = Signal()
        self.matchesUpdated = Signal()
        self.previewUpdated = Signal()
        self.headLoaded = Signal()
        self.pointsChanged = Signal()
        self.modelsChanged = Signal()
        self.deviceDescribed = Signal()
        self.sceneClosed = Signal()
        self._errors: list[Vox2VecError] = []
        self._reported: tuple[JobProgress | None, bool] = (None, False)
        self.headTool = LazyHeadTool(headTool)
        self._observers = Observers()
        self._worker = Worker()
        self.state = ModuleState(self.scene)
        self.points = PointLists(self.scene, self.state)
        self.embeddings = Embeddings(self._worker)
        self.views = Views(self.scene, self.state)
        scan = self.embeddings.scan
        self.similarity = Similarity(self.state, self._worker, self.points, self.views, scan, self._fail)
        self.hover = Hover(self.scene, self.state, self.points, self.views, self._worker, self.similarity, scan)
        self.pca = PcaColors(self.state, self._worker, self.views, self.similarity.shownScans, self._fail)
        self.matching = Matching(self.scene, self.state, self._worker, self.points, scan, self._fail)
        self.strokes = Strokes(self.scene, self.state)
        self.result = Result(self.scene, self.state, self._worker, self.strokes)
        self.fewShot = FewShot(
            self.scene, self.state, self._worker, self.strokes, self.views, scan, self.headTool, self.result, self._fail
        )
        self.heads = HeadUse(
            self.scene, self.state, self._worker, self.embeddings, self.fewShot, self.headTool, self._fail
        )
        self.similarityResults = SimilarityResults(
            self.scene, self.state, self._worker, self.points, self.similarity, self.result, self._fail
        )
        self.sideBySide = SideBySide(self.scene)
        self.viewsOfScans = ViewsOfScans(self.scene, self.state)

    def poll(self, waitSeconds: float = 0.0) -> bool:
        """Deliver finished work and follow the mouse; returns whether something is under way."""
        self._worker.poll(waitSeconds)
        pending = self.fewShot.tick()
        pending = self.result.tick() or pending
        self.hover.tick()
        self.viewsOfScans.tick()
        pending = self.hover.isPending or pending
        progress = (self._worker.progress, self._worker.busy)
        if progress != self._reported:
            self._reported = progress
            self.progressChanged.emit(progress[0])
        return pending or self._worker.busy

    def wait(self, timeoutSeconds: float = 600.0) -> None:
        """For scripts: poll until everything is done.

        :raises Vox2VecError: the first error since the last call, or if it takes longer.
        """
        deadline = time.monotonic() + timeoutSeconds
        while self.poll(POLL_SECONDS):
            if time.monotonic() > deadline:
                raise Vox2VecError(
                    _("Not finished within {seconds} s; wait longer or cancel.").format(seconds=f"{timeoutSeconds:g}")
                )
        errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    @property
    def busy(self) -> bool:
        """Whether a job is waiting or running."""
        return self._worker.busy

    def _fail(self, error: Vox2VecError) -> None:
        self._errors.append(error)
        self.failed.emit(str(error))
