"""Similarity under the mouse, live: of the grid, only the planes that are displayed are computed.

Nothing is queued: every tick looks where the mouse is now and which slices are displayed now, and computes only if
something has changed. While the mouse is away, the map of the pinned points is shown.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from Vox2VecCore.errors import PointError
from Vox2VecSlicerLib import Geometry
from Vox2VecSlicerLib.Layers import shownIn, sliceNodesShowing
from Vox2VecSlicerLib.Planes import writeSlices
from Vox2VecSlicerLib.Points import PointLists
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.Similarity import KIND, Similarity
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Views import Views

if TYPE_CHECKING:
    from slicer import vtkMRMLScene, vtkMRMLVolumeNode

SAME_PLACE_MM = 1e-3


class Hover:
    """Follows the mouse over the slice views, always (``state.hover``) or while Shift is pressed.

    Slicer moves the crosshair to the mouse while Shift is pressed; that is how it is noticed.
    """

    def __init__(
        self,
        scene: "vtkMRMLScene",
        state: ModuleState,
        points: PointLists,
        views: Views,
        similarity: Similarity,
        scans: "Callable[[vtkMRMLVolumeNode | None], Scan | None]",
    ) -> None:
        self.updated = Signal()
        self._scene = scene
        self._state = state
        self._points = points
        self._views = views
        self._similarity = similarity
        self._scans = scans
        self._shown: tuple | None = None

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
        sliceNodes = [sliceNodesShowing(self._scene, scan.volumeNode) for scan in scans]
        now = self._fingerprint(world, scans, sliceNodes)
        if now == self._shown:
            return False
        if not self._compute(source, world, scans, sliceNodes):
            self.end()
            return False
        self._shown = now
        self.updated.emit()
        return True

    def end(self) -> None:
        """Back to the map of the pinned points."""
        if self._shown is not None:
            self._shown = None
            self._similarity.restore()

    def forget(self) -> None:
        """The overlay shows something else now."""
        self._shown = None

    def _place(self) -> "tuple[vtkMRMLVolumeNode, tuple[float, ...]] | None":
        """Volume and point in the world under the mouse, if its similarity is wanted."""
        crosshair = self._scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if crosshair is None or not self._views.isActive or self._state.view != KIND:
            return None
        world = [0.0, 0.0, 0.0]
        if not crosshair.GetCursorPositionRAS(world):
            return None
        if not self._state.hover and not np.allclose(crosshair.GetCrosshairRAS(), world, atol=SAME_PLACE_MM):
            return None
        sliceNode = crosshair.GetCursorPositionXYZ([0.0, 0.0, 0.0])
        volumeNode = shownIn(self._scene, sliceNode) or self._state.volume
        return None if volumeNode is None else (volumeNode, tuple(world))

    def _fingerprint(self, world: tuple[float, ...], scans: list[Scan], sliceNodes: list[list[Any]]) -> tuple:
        slices = tuple(
            (node.GetID(), Geometry.toNumpy(node.GetSliceToRAS()).tobytes()) for nodes in sliceNodes for node in nodes
        )
        return world, slices, tuple(map(id, scans)), self._state.balance, self._points.negative.tobytes()

    def _compute(self, source: Scan, world: tuple[float, ...], scans: list[Scan], sliceNodes: list[list[Any]]) -> bool:
        from Vox2VecCore.similarity import calibration, make_query

        negative = self._points.negative
        negative = source.fromWorld(negative[source.contains(negative)]) if len(negative) else negative
        try:
            query = make_query(source.pyramid, source.fromWorld([world]), negative, self._state.balance)
        except PointError:  # air, where nothing was embedded
            return False
        for scan, nodes in zip(scans, sliceNodes, strict=True):
            overlay = self._views.fill(KIND, scan)
            writeSlices(scan, query, calibration(scan.pyramid, query), nodes, overlay.values)
            overlay.modified()
        if self._shown is None:
            self._views.update()
        return True
