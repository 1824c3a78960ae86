"""The similarity map of the pinned points: computed in the worker when they change, for the scan and its target.

Spreading needs a graph of the scan, which takes seconds and is made once, from when the scan is embedded. Until it is
there a click is answered without spreading, and that map is replaced when it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.errors import PointError, Vox2VecError
from Vox2VecCore.progress import Progress
from Vox2VecSlicerLib.Points import PointLists
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Texts import tr as _
from Vox2VecSlicerLib.Views import Views
from Vox2VecSlicerLib.Worker import NOW, SOON, Worker

if TYPE_CHECKING:
    from slicer import vtkMRMLVolumeNode

    from Vox2VecCore.pyramid import FeaturePyramid
    from Vox2VecCore.similarity import Query

KIND = "similarity"
PREPARING = "spreading"


@dataclass(frozen=True, eq=False)
class SimilarityMap:
    """Percentiles (X, Y, Z) on a scan's grid.

    :param spread: gives those that the map will have; ``None`` when it has them.
    """

    scan: Scan
    values: NDArray[np.float32]
    spread: Callable[[Progress], NDArray[np.float32]] | None = None

    def final(self, progress: Progress) -> NDArray[np.float32]:
        """The percentiles, spread if they shall be. For the worker."""
        return self.values if self.spread is None else self.spread(progress)

    def onVolume(self) -> Callable[[Progress], NDArray[np.float32]]:
        """What gives the final map on the volume's own voxels (i, j, k), 0 where nothing was embedded. For the worker:
        it takes a while."""
        grid, part, box, final = self.scan.pyramid.grid, self.scan.part, self.scan.partBox(), self.final
        shape = self.scan.volumeNode.GetImageData().GetDimensions()

        def make(progress: Progress) -> NDArray[np.float32]:
            whole = np.zeros(shape, np.float32, order="F")
            whole[box] = part.turned(grid.to_source(final(progress)))
            return whole

        return make


@dataclass(frozen=True, eq=False)
class Question:
    """Points (n, 3) of an embedded scan, in its space: what looks like them?"""

    pyramid: "FeaturePyramid"
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    balance: float

    def answer(
        self, pyramids: "list[FeaturePyramid]", spreading: bool, progress: Progress
    ) -> list[NDArray[np.float32]]:
        """Percentiles in scans. For the worker."""
        from Vox2VecCore.similarity import make_query

        if spreading:
            prepare(self.pyramid, self.balance, progress)
        query = make_query(self.pyramid, self.positive, self.negative, self.balance, spreading=spreading)
        return [percentiles(pyramid, query, progress) for pyramid in pyramids]


def prepare(pyramid: "FeaturePyramid", balance: float, progress: Progress) -> None:
    """Make the graph that spreading needs, unless it is there. For the worker: it takes seconds."""
    from Vox2VecCore import spreading
    from Vox2VecCore.similarity import level_weights

    spreading.prepare(pyramid, level_weights(len(pyramid.levels), balance), progress)


def percentiles(pyramid: "FeaturePyramid", query: "Query", progress: Progress) -> NDArray[np.float32]:
    """Percentiles (X, Y, Z) that answer a query in a scan, ready to be shown. For the worker."""
    from Vox2VecCore.similarity import calibration, whole_scan

    return whole_scan(pyramid, query, calibration(pyramid, query), progress, order="F")


class Similarity:
    """Keeps the map of the pinned points up to date.

    :param scans: the embedding of a volume, or ``None``.
    """

    def __init__(
        self,
        state: ModuleState,
        worker: Worker,
        points: PointLists,
        views: Views,
        scans: "Callable[[vtkMRMLVolumeNode | None], Scan | None]",
        onFailed: Callable[[Vox2VecError], None],
    ) -> None:
        self.updated = Signal()
        self._state = state
        self._worker = worker
        self._points = points
        self._views = views
        self._scans = scans
        self._onFailed = onFailed
        self._maps: list[SimilarityMap] = []
        self._prepared: WeakSet[FeaturePyramid] = WeakSet()
        self._awaitsGraph = False
        self._asked: tuple[bytes, bytes] | None = None
        points.changed.connect(self._onPoints)
        state.changed.connect(self._onState)

    def shownScans(self) -> list[Scan]:
        """The scan, and its target when both are embedded by the same model."""
        found = [self._scans(node) for node in (self._state.volume, self._state.target)]
        if found[0] is None:
            return []
        hashed = found[0].pyramid.model_hash
        return [scan for scan in found if scan is not None and scan.pyramid.model_hash == hashed]

    def update(self) -> None:
        """Compute the map of the pinned points anew; a computation under way is dropped."""
        self._asked = self._places()
        scans = self.shownScans()
        positive = self._inside(scans, self._points.positive)
        if len(positive) == 0:
            self._worker.cancel(KIND)
            self._maps, self._awaitsGraph = [], False
            self._views.empty(KIND)
            self.updated.emit()
            self.prepare()
            return
        negative = self._inside(scans, self._points.negative)
        question = Question(scans[0].pyramid, positive, negative, self._state.balance)
        later = self._awaitsGraph = self._state.spreading and question.pyramid not in self._prepared
        spreading = self._state.spreading and not later
        pyramids = [scan.pyramid for scan in scans]

        def work(progress: Progress) -> list[NDArray[np.float32]]:
            return question.answer(pyramids, spreading, progress)

        def spread(scan: Scan) -> Callable[[Progress], NDArray[np.float32]] | None:
            pyramid = scan.pyramid
            return (lambda progress: question.answer([pyramid], True, progress)[0]) if later else None

        def show(found: list[NDArray[np.float32]]) -> None:
            pairs = zip(scans, found, strict=True)
            self._maps = [SimilarityMap(scan, values, spread(scan)) for scan, values in pairs if scan.isCurrent]
            self.restore()
            self.updated.emit()

        self._worker.submit(KIND, _("Similarity"), work, show, self._failed, urgency=NOW)
        self.prepare()

    def prepare(self) -> None:
        """Make the graph that spreading needs, if it shall spread; a map that was made without it is then made anew."""
        scans = self.shownScans()
        if not scans or not self._state.spreading or self._worker.isBusyWith(PREPARING):
            return
        pyramid = scans[0].pyramid
        if pyramid in self._prepared:
            return
        balance = self._state.balance

        def done(_: None) -> None:
            self._prepared.add(pyramid)
            if self._awaitsGraph:
                self.update()

        title = _("Preparing to spread similarity")
        self._worker.submit(
            PREPARING, title, lambda progress: prepare(pyramid, balance, progress), done, self._onFailed, urgency=SOON
        )

    def restore(self) -> None:
        """Show the map of the pinned points again, after something else was written to the overlays."""
        if not self._maps:
            self._views.empty(KIND)
            return
        for each in self._maps:
            self._views.setMap(KIND, each.scan, each.values)
        self._views.update()

    def mapOf(self, volumeNode: "vtkMRMLVolumeNode | None") -> SimilarityMap | None:
        """The map of the pinned points in a volume."""
        return next((each for each in self._maps if each.scan.volumeNode is volumeNode), None)

    def at(self, world: Any) -> float | None:
        """Percentile at a point in the volume; ``None`` outside, or when there is no map."""
        shown = self.mapOf(self._state.volume)
        if shown is None or not shown.scan.contains([world])[0]:
            return None
        try:
            voxel = shown.scan.pyramid.grid.nearest_voxels(shown.scan.fromWorld([world]))[0]
        except PointError:
            return None
        return float(shown.values[tuple(voxel)])

    def clear(self) -> None:
        """Forget the maps."""
        self._worker.cancel(KIND)
        self._worker.cancel(PREPARING)
        self._maps, self._asked, self._awaitsGraph = [], None, False

    def release(self) -> None:
        """:meth:`clear`, and no longer follow points and parameters."""
        self.clear()
        self._points.changed.disconnect(self._onPoints)
        self._state.changed.disconnect(self._onState)

    def _failed(self, error: Vox2VecError) -> None:
        self._maps, self._asked, self._awaitsGraph = [], None, False
        self._views.empty(KIND)
        self._onFailed(error)

    def _inside(self, scans: list[Scan], points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (n, 3) of the world that lie in the scan, in its space."""
        if not scans or len(points) == 0:
            return np.zeros((0, 3))
        return scans[0].fromWorld(points[scans[0].contains(points)])

    def _places(self) -> tuple[bytes, bytes]:
        return self._points.positive.tobytes(), self._points.negative.tobytes()

    def _onPoints(self) -> None:
        """Markups tell several times of one click, and of names, too."""
        if self._places() != self._asked:
            self.update()

    def _onState(self, name: str) -> None:
        if name in ("balance", "spreading", "volume", "target"):
            self.update()
