"""The similarity map of the pinned points: computed in the worker when they change, for the scan and its target."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from Vox2VecSlicerLib.Worker import Worker

if TYPE_CHECKING:
    from slicer import vtkMRMLVolumeNode

    from Vox2VecCore.pyramid import FeaturePyramid
    from Vox2VecCore.similarity import Query

KIND = "similarity"
PREPARING = "spreading"


@dataclass(frozen=True, eq=False)
class SimilarityMap:
    """Percentiles (X, Y, Z) on a scan's grid, and the query that they answer."""

    scan: Scan
    query: "Query"
    values: NDArray[np.float32]

    def onVolume(self) -> Callable[[], NDArray[np.float32]]:
        """What gives the map on the volume's own voxels (i, j, k), 0 where nothing was embedded. For the worker: it
        takes a while."""
        grid, part, box, values = self.scan.pyramid.grid, self.scan.part, self.scan.partBox(), self.values
        shape = self.scan.volumeNode.GetImageData().GetDimensions()

        def make() -> NDArray[np.float32]:
            whole = np.zeros(shape, np.float32, order="F")
            whole[box] = part.turned(grid.to_source(values))
            return whole

        return make


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
            self._maps = []
            self._views.empty(KIND)
            self.updated.emit()
            if scans and self._state.spreading:
                self._prepare(scans[0].pyramid)
            return
        negative = self._inside(scans, self._points.negative)
        balance, spreading = self._state.balance, self._state.spreading
        pyramids = [scan.pyramid for scan in scans]

        def work(progress: Progress) -> list[tuple[Any, NDArray[np.float32]]]:
            from Vox2VecCore.similarity import make_query

            query = make_query(pyramids[0], positive, negative, balance, spreading=spreading)
            return [(query, percentiles(pyramid, query, progress)) for pyramid in pyramids]

        self._worker.submit(
            KIND, _("Similarity"), work, lambda results: self._show(scans, results), self._failed, urgent=True
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
        self._maps, self._asked = [], None

    def release(self) -> None:
        """:meth:`clear`, and no longer follow points and parameters."""
        self.clear()
        self._points.changed.disconnect(self._onPoints)
        self._state.changed.disconnect(self._onState)

    def _prepare(self, pyramid: "FeaturePyramid") -> None:
        """Do now what the first click would otherwise wait for."""

        balance = self._state.balance

        def work(progress: Progress) -> None:
            from Vox2VecCore.similarity import level_weights
            from Vox2VecCore.spreading import prepare

            prepare(pyramid, level_weights(len(pyramid.levels), balance), progress)

        self._worker.submit(PREPARING, "", work)

    def _show(self, scans: list[Scan], results: list[tuple[Any, NDArray[np.float32]]]) -> None:
        pairs = zip(scans, results, strict=True)
        self._maps = [SimilarityMap(scan, query, values) for scan, (query, values) in pairs if scan.isCurrent]
        self.restore()
        self.updated.emit()

    def _failed(self, error: Vox2VecError) -> None:
        self._maps, self._asked = [], None
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
