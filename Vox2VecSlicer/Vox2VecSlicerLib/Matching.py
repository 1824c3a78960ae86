"""The pinned points and the cursor in a second volume, or an honest "no reliable match"."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.progress import Progress
from Vox2VecSlicerLib.Layers import sliceNodesShowing
from Vox2VecSlicerLib.Nodes import removeFromScene
from Vox2VecSlicerLib.Points import TARGET_COLOR, PointLists, newPointList, worldPositions
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Texts import tr as _
from Vox2VecSlicerLib.ViewsOfScans import NOWHERE, drawOnlyIn, liesIn
from Vox2VecSlicerLib.Worker import NOW, Worker

if TYPE_CHECKING:
    from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScene, vtkMRMLVolumeNode

    from Vox2VecCore.matching import Match

NAME = "Vox2Vec matches"
CURSOR = "cursor"
UNRELIABLE_COLOR = (0.6, 0.6, 0.6)


@dataclass(frozen=True)
class MatchRow:
    """A point of the volume and where it lies in the target; points are in the world."""

    label: str
    sourceWorld: tuple[float, float, float]
    targetWorld: tuple[float, float, float]
    similarity: float
    cycleErrorMm: float
    reliable: bool

    @property
    def verdict(self) -> str:
        """For a table in which the figures stand beside it."""
        return _("found") if self.reliable else _("no reliable match")

    @property
    def text(self) -> str:
        """For people."""
        error = f"{self.cycleErrorMm:.1f}"
        if not self.reliable:
            return _("{point}: no reliable match (cycle error {error} mm)").format(point=self.label, error=error)
        return _("{point}: matched, cycle error {error} mm, similarity {similarity}").format(
            point=self.label, error=error, similarity=f"{self.similarity:.2f}"
        )


class Matching:
    """Shows in the target where the pinned points lie, and the cursor, which the target's slice views follow.

    :param scans: the embedding of a volume, or ``None``.
    """

    def __init__(
        self,
        scene: "vtkMRMLScene",
        state: ModuleState,
        worker: Worker,
        points: PointLists,
        scans: "Callable[[vtkMRMLVolumeNode | None], Scan | None]",
        onFailed: Callable[[Vox2VecError], None],
    ) -> None:
        self.updated = Signal()
        self.rows: list[MatchRow] = []
        self._cursor: MatchRow | None = None
        self._scene = scene
        self._state = state
        self._worker = worker
        self._points = points
        self._scans = scans
        self._onFailed = onFailed
        self._node: vtkMRMLMarkupsFiducialNode | None = None
        points.changed.connect(self.update)
        state.changed.connect(self._onState)

    @property
    def targetPointsNode(self) -> "vtkMRMLMarkupsFiducialNode | None":
        """The matches as Markups; not saved, because they are found again."""
        return self._node if self._node is not None and self._node.GetScene() is self._scene else None

    def update(self) -> None:
        """Match the pinned points anew; a computation under way is dropped."""
        world = self._points.positive
        node = self._state.positivePoints
        labels = [] if node is None else _labels(node)
        if not self._submit("match", world, labels, self._matched):
            self.rows, self._cursor = [], None
            self._draw()

    def followCursor(self, world: Any) -> None:
        """Match one point that changes all the time; while one is computed, newer ones wait for the next call."""
        if not self._worker.isBusyWith("match cursor"):
            self._submit("match cursor", np.array([world]), [CURSOR], self._cursorMatched)

    def dropCursor(self) -> None:
        """The cursor is gone."""
        self._worker.cancel("match cursor")
        if self._cursor is not None:
            self._cursor = None
            self._draw()

    def propagate(self, source: "vtkMRMLMarkupsFiducialNode") -> "vtkMRMLMarkupsFiducialNode":
        """A new list with all points of a list in the target, filled when the matches are found.

        Points without a reliable match are kept, unselected (grey) and described as such.

        :raises Vox2VecError: if the two volumes are not embedded or the list is empty.
        """
        if self._pair() is None:
            raise Vox2VecError(_("Choose a second volume and embed both before carrying points over."))
        world = worldPositions(source)
        if len(world) == 0:
            raise Vox2VecError(_("{name} holds no points.").format(name=source.GetName()))
        name = _("{points} in {scan}").format(points=source.GetName(), scan=self._state.target.GetName())
        node = newPointList(self._scene, name, "", TARGET_COLOR)
        node.GetDisplayNode().SetColor(*UNRELIABLE_COLOR)
        liesIn(node, self._state.target)
        self._submit(f"propagate {node.GetID()}", world, _labels(source), lambda rows: _write(node, rows))
        return node

    def clear(self) -> None:
        """Forget the matches and take them out of the scene."""
        self._worker.cancel("match")
        self._worker.cancel("match cursor")
        self.rows, self._cursor = [], None
        node, self._node = self.targetPointsNode, None
        if node is not None:
            removeFromScene(self._scene, node)

    def release(self) -> None:
        """:meth:`clear`, and no longer follow points and parameters."""
        self.clear()
        self._points.changed.disconnect(self.update)
        self._state.changed.disconnect(self._onState)

    def _pair(self) -> tuple[Scan, Scan] | None:
        source, target = self._scans(self._state.volume), self._scans(self._state.target)
        return None if source is None or target is None else (source, target)

    def _submit(
        self, topic: str, world: np.ndarray, labels: list[str], onDone: Callable[[list[MatchRow]], None]
    ) -> bool:
        """Match points of the world that lie in the source; returns whether there is anything to match."""
        pair = self._pair()
        inside = np.zeros(0, bool) if pair is None or len(world) == 0 else pair[0].contains(world)
        if pair is None or not inside.any():
            self._worker.cancel(topic)
            return False
        source, target = pair
        points, balance = source.fromWorld(world[inside]), self._state.balance
        names = [label for label, wanted in zip(labels, inside, strict=True) if wanted]

        def work(progress: Progress) -> "list[Match]":
            from Vox2VecCore.matching import match_points

            return match_points(source.pyramid, target.pyramid, points, balance=balance, progress=progress)

        def done(matches: "list[Match]") -> None:
            if source.isCurrent and target.isCurrent:
                onDone(_rows(names, world[inside], target, matches))

        self._worker.submit(topic, _("Matching"), work, done, self._onFailed, urgency=NOW)
        return True

    def _matched(self, rows: list[MatchRow]) -> None:
        self.rows = rows
        self._draw()

    def _cursorMatched(self, rows: list[MatchRow]) -> None:
        self._cursor = rows[0]
        if rows[0].reliable:
            for sliceNode in sliceNodesShowing(self._scene, self._state.target):
                sliceNode.JumpSliceByOffsetting(*rows[0].targetWorld)
        self._draw()

    def _draw(self) -> None:
        rows = [*self.rows, *([] if self._cursor is None else [self._cursor])]
        node = self.targetPointsNode
        if rows and node is None:
            node = self._node = newPointList(self._scene, NAME, "", TARGET_COLOR, saved=False)
            node.GetDisplayNode().SetColor(*UNRELIABLE_COLOR)
            node.SetLocked(True)
        if node is not None:
            _write(node, rows)
            self.showInTarget()
        self.updated.emit(rows)

    def showInTarget(self) -> None:
        """Draw the matches in the views of the target only, if there are any: elsewhere they mark wrong places."""
        node, target = self.targetPointsNode, self._state.target
        if node is not None and target is not None:
            drawOnlyIn(node, [view.GetID() for view in sliceNodesShowing(self._scene, target)] or [NOWHERE])

    def _onState(self, name: str) -> None:
        if name in ("volume", "target", "balance"):
            self.update()


def _labels(node: "vtkMRMLMarkupsFiducialNode") -> list[str]:
    defined = node.PositionDefined
    indices = range(node.GetNumberOfControlPoints())
    return [node.GetNthControlPointLabel(i) for i in indices if node.GetNthControlPointPositionStatus(i) == defined]


def _rows(labels: list[str], world: np.ndarray, target: Scan, matches: "list[Match]") -> list[MatchRow]:
    found = target.toWorld([match.target_ras for match in matches])
    return [
        MatchRow(label, tuple(map(float, p)), tuple(map(float, q)), m.similarity, m.cycle_error_mm, m.reliable)  # type: ignore[arg-type]
        for label, p, q, m in zip(labels, world, found, matches, strict=True)
    ]


def _write(node: "vtkMRMLMarkupsFiducialNode", rows: list[MatchRow]) -> None:
    """Make a list hold matches: reliable ones selected (coloured), others not (grey) and marked."""
    if node.GetScene() is None:
        return
    wasModifying = node.StartModify()
    node.RemoveAllControlPoints()
    for row in rows:
        index = node.AddControlPointWorld(list(row.targetWorld), row.label if row.reliable else f"{row.label} ?")
        node.SetNthControlPointDescription(index, row.text)
        node.SetNthControlPointSelected(index, row.reliable)
    node.EndModify(wasModifying)
