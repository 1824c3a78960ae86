"""The user's points as Markups: what to look for, and what to look away from."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import NDArray

from Vox2VecSlicerLib.Observers import Observers
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.State import ModuleState

if TYPE_CHECKING:
    from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScene

POSITIVE_COLOR = (0.2, 0.9, 0.3)
NEGATIVE_COLOR = (0.95, 0.25, 0.2)
TARGET_COLOR = (0.3, 0.7, 1.0)
LISTS = {
    "positivePoints": ("Vox2Vec alike", "+", POSITIVE_COLOR),
    "negativePoints": ("Vox2Vec unlike", "-", NEGATIVE_COLOR),
}


def newPointList(
    scene: "vtkMRMLScene", name: str, label: str, color: Sequence[float], saved: bool = True
) -> "vtkMRMLMarkupsFiducialNode":
    """A Markups list in which points are called by a label and a number."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    node.SetControlPointLabelFormat(f"{label}%d")
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetColor(*color)
    display.SetSelectedColor(*color)
    display.SetTextScale(2.5)
    display.SetGlyphScale(2.0)
    for each in (node, display):
        each.SetSaveWithScene(saved)
    return node


def worldPositions(node: "vtkMRMLMarkupsFiducialNode | None") -> NDArray[np.float64]:
    """Points (n, 3) of a list, in the world; points that are still being placed are left out."""
    points = []
    for index in range(0 if node is None else node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(index) == node.PositionDefined:
            point = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(index, point)
            points.append(point)
    return np.array(points, np.float64).reshape(-1, 3)


class PointLists:
    """The two lists of a scene, made when they are first needed; :attr:`changed` tells of every change in them."""

    def __init__(self, scene: "vtkMRMLScene", state: ModuleState) -> None:
        self.changed = Signal()
        self._scene = scene
        self._state = state
        self._observers = Observers()
        self._watched: dict[str, Any] = {}
        state.changed.connect(self._onState)
        self._watch()

    @property
    def positiveNode(self) -> "vtkMRMLMarkupsFiducialNode":
        """What to look for."""
        return self._node("positivePoints")

    @property
    def negativeNode(self) -> "vtkMRMLMarkupsFiducialNode":
        """What to look away from."""
        return self._node("negativePoints")

    @property
    def positive(self) -> NDArray[np.float64]:
        """Points (n, 3) to look for, in the world."""
        return worldPositions(self._state.positivePoints)

    @property
    def negative(self) -> NDArray[np.float64]:
        """Points (n, 3) to look away from, in the world."""
        return worldPositions(self._state.negativePoints)

    def addPositive(self, world: Sequence[float]) -> int:
        """Pin a point to look for; returns its index in the list."""
        return self.positiveNode.AddControlPointWorld(list(world))

    def addNegative(self, world: Sequence[float]) -> int:
        """Pin a point to look away from; returns its index in the list."""
        return self.negativeNode.AddControlPointWorld(list(world))

    def clear(self) -> None:
        """Remove all points; the lists stay."""
        for name in LISTS:
            node = getattr(self._state, name)
            if node is not None:
                node.RemoveAllControlPoints()

    def release(self) -> None:
        """Remove the observers."""
        self._observers.remove()
        self._state.changed.disconnect(self._onState)
        self._watched = {}

    def _node(self, name: str) -> "vtkMRMLMarkupsFiducialNode":
        node = getattr(self._state, name)
        if node is None:
            node = newPointList(self._scene, *LISTS[name])
            setattr(self._state, name, node)
        return node

    def _watch(self) -> None:
        nodes = {name: getattr(self._state, name) for name in LISTS}
        if nodes == self._watched:
            return
        self._observers.remove()
        self._watched = nodes
        for node in nodes.values():
            if node is not None:
                markups = slicer.vtkMRMLMarkupsNode
                events = [
                    markups.PointModifiedEvent,
                    markups.PointPositionDefinedEvent,
                    markups.PointPositionUndefinedEvent,
                    markups.PointRemovedEvent,
                    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
                ]
                self._observers.add(node, events, self._onPoints)

    def _onState(self, name: str) -> None:
        if name in LISTS:
            self._watch()
            self.changed.emit()

    def _onPoints(self, _caller: Any, _event: Any) -> None:
        self.changed.emit()
