"""Similarity under the mouse, live: of the grid, only the planes that are displayed are computed.

Nothing is queued: every tick looks where the mouse is now and which slices are displayed now, and computes only if
something has changed. While the mouse is away, the map of the pinned points is shown.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from Vox2VecCore.errors import PointError
from Vox2VecCore.progress import Progress
from Vox2VecSlicerLib import Geometry, Planes
from Vox2VecSlicerLib.Layers import shownIn, visibleSliceNodesShowing
from Vox2VecSlicerLib.Points import PointLists
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.Similarity import KIND, Similarity, percentiles
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Views import Views
from Vox2VecSlicerLib.Worker import NOW, Worker

if TYPE_CHECKING:
    from slicer import vtkMRMLScene, vtkMRMLVolumeNode

SAME_PLACE_MM = 1e-3
REFINEMENT = "hover"
REST_SECONDS = 0.1
"""How long the mouse has to rest before what it shows is refined."""


class Hover:
    """Follows the mouse over the slice views, always (``state.hover``) or while Shift is pressed.

    Slicer moves the crosshair to the mouse while Shift is pressed; that is how it is noticed. What the slice views show
    is computed at once, on the main thread. Where that would take too long, because they cut a large scan obliquely or
    it lies under a curved transform, fewer voxels are (:func:`Planes.shownOf`); when the mouse rests, the worker
    computes the others.

    :ivar withShift: whether Shift counts; not where the crosshair shows what was clicked.
    """

    withShift = True

    def __init__(
        self,
        scene: "vtkMRMLScene",
        state: ModuleState,
        points: PointLists,
        views: Views,
        worker: Worker,
        similarity: Similarity,
        scans: "Callable[[vtkMRMLVolumeNode | None], Scan | None]",
    ) -> None:
        self.updated = Signal()  # (volume under the mouse, point in the world)
        self.ended = Signal()
        self._scene = scene
        self._state = state
        self._points = points
        self._views = views
        self._worker = worker
        self._similarity = similarity
        self._scans = scans
        self._shown: tuple | None = None
        self._coarseSince: float | None = None
        self._complete: tuple | None = None
        self._query: Any = None
        self._scansShown: list[Scan] = []

    @property
    def isPending(self) -> bool:
        """Whether what is shown will be refined."""
        return self._coarseSince is not None

    @property
    def isShown(self) -> bool:
        """Whether the overlay shows the similarity under the mouse."""
        return self._shown is not None

    def tick(self) -> bool:
        """Bring the overlay up to date with the mouse; returns whether anything was computed."""
        place = self._place()
        if place is None:
            self.end()
            return False
        volumeNode, world = place
        scans = [scan for scan in self._similarity.shownScans() if scan.isCurrent]
        source = next((scan for scan in scans if scan.volumeNode is volumeNode), None)
        if source is None or not source.contains([world])[0]:
            self.end()
            return False
        sliceNodes = [visibleSliceNodesShowing(self._scene, scan.volumeNode) for scan in scans]
        asked = (world, tuple(map(id, scans)), self._state.balance, self._points.negative.tobytes())
        now = (asked, self._slices(sliceNodes))
        if now == self._shown or asked == self._complete:
            self._refine()
            return False
        self._rest()
        if not self._compute(source, world, scans, sliceNodes):
            self.end()
            return False
        self._shown = now
        self.updated.emit(volumeNode, world)
        return True

    def end(self) -> None:
        """Back to the map of the pinned points."""
        if self._shown is not None:
            self.forget()
            self._similarity.restore()
            self.ended.emit()

    def forget(self) -> None:
        """The overlay shows something else now."""
        self._rest()
        self._shown = None

    def _rest(self) -> None:
        """Refine nothing any more."""
        self._worker.cancel(REFINEMENT)
        self._coarseSince = self._complete = None

    def _place(self) -> "tuple[vtkMRMLVolumeNode, tuple[float, ...]] | None":
        """Volume and point in the world under the mouse, if its similarity is wanted."""
        crosshair = self._scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if crosshair is None or not self._views.isActive or self._state.view != KIND:
            return None
        world = [0.0, 0.0, 0.0]
        if not crosshair.GetCursorPositionRAS(world):
            return None
        shift = self.withShift and np.allclose(crosshair.GetCrosshairRAS(), world, atol=SAME_PLACE_MM)
        if not self._state.hover and not shift:
            return None
        sliceNode = crosshair.GetCursorPositionXYZ([0.0, 0.0, 0.0])
        volumeNode = shownIn(self._scene, sliceNode) or self._state.volume
        return None if volumeNode is None else (volumeNode, tuple(world))

    @staticmethod
    def _slices(sliceNodes: list[list[Any]]) -> tuple:
        """Changes when another slice is displayed."""
        return tuple(
            (node.GetID(), Geometry.toNumpy(node.GetSliceToRAS()).tobytes()) for nodes in sliceNodes for node in nodes
        )

    def _compute(self, source: Scan, world: tuple[float, ...], scans: list[Scan], sliceNodes: list[list[Any]]) -> bool:
        from Vox2VecCore.similarity import calibration, make_query

        negative = self._points.negative
        negative = source.fromWorld(negative[source.contains(negative)]) if len(negative) else negative
        try:
            query = make_query(source.pyramid, source.fromWorld([world]), negative, self._state.balance)
        except PointError:  # air, where nothing was embedded
            return False
        for scan, nodes in zip(scans, sliceNodes, strict=True):
            shown = Planes.shownOf(scan, nodes, Planes.MOVING_VOXELS)
            overlay = self._views.fill(KIND, scan, shown.step)
            Planes.writeSlices(scan, query, calibration(scan.pyramid, query), shown, overlay.values)
            overlay.modified()
            if shown.step > 1:
                self._coarseSince = time.monotonic()
        self._query, self._scansShown = query, scans
        if self._shown is None:
            self._views.update()
        return True

    def _refine(self) -> None:
        """Once the mouse rests, let the worker compute all voxels of what is shown."""
        if self._coarseSince is None or time.monotonic() - self._coarseSince < REST_SECONDS:
            return
        self._coarseSince = None
        assert self._shown is not None
        asked, query, scans = self._shown[0], self._query, self._scansShown

        def work(progress: Progress) -> list[Any]:
            return [percentiles(scan.pyramid, query, progress) for scan in scans]

        def done(maps: list[Any]) -> None:
            if self._shown is not None and self._shown[0] == asked:
                self._complete = asked
                for scan, values in zip(scans, maps, strict=True):
                    self._views.setMap(KIND, scan, values)

        self._worker.submit(REFINEMENT, "", work, done, urgency=NOW)
