"""What the user has chosen, typed, kept in a node of the scene and so saved with it."""

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import slicer
from slicer import vtkMRMLNode, vtkMRMLScene, vtkMRMLScriptedModuleNode

from Vox2VecSlicerLib.Observers import Observers
from Vox2VecSlicerLib.Signal import Signal

MODULE_NAME = "Vox2VecSlicer"
DEFAULT_MODEL = "vox2vec-small"

T = TypeVar("T")


class Parameter(Generic[T]):
    """A typed value that is kept as text in the node; what is damaged there reads as the default.

    :param read: from text; raises ``ValueError`` for what is not allowed.
    :param write: to text that ``read`` understands.
    """

    def __init__(self, default: T, read: Callable[[str], T], write: Callable[[T], str] = str) -> None:
        self.default = default
        self._read = read
        self._write = write
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, state: "ModuleState", owner: type | None = None) -> T:
        if state is None:
            return self  # type: ignore[unreachable]
        text = state.node.GetParameter(self._name)
        try:
            return self._read(text) if text else self.default
        except ValueError:
            return self.default

    def __set__(self, state: "ModuleState", value: T) -> None:
        try:
            text = self._write(self._read(self._write(value)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self._name} cannot be {value!r}: {error}.") from error
        state.node.SetParameter(self._name, text)


class NodeParameter:
    """A node of the scene, or none; kept as a reference of the node."""

    def __init__(self, className: str) -> None:
        self._class = className
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, state: "ModuleState", owner: type | None = None) -> Any:
        if state is None:
            return self
        node = state.node.GetNodeReference(self._name)
        return node if node is not None and node.IsA(self._class) else None

    def __set__(self, state: "ModuleState", node: vtkMRMLNode | None) -> None:
        if node is not None and not node.IsA(self._class):
            raise ValueError(f"{self._name} cannot be {node.GetName()}: it is a {node.GetClassName()}.")
        state.node.SetNodeReferenceID(self._name, None if node is None else node.GetID())


def _between(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"it must lie between {low:g} and {high:g}")
        return value

    return read


def _one_of(*names: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"it must be one of {', '.join(names)}")
        return text

    return read


def _flag(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError("it must be True or False")
    return text == "True"


def _text(text: str) -> str:
    return text


def _number(value: float) -> str:
    return repr(float(value))


class ModuleState:
    """The parameters of the module; setting one tells everyone through :attr:`changed`.

    One object for the life of a session: when the scene is closed or loaded it follows the scene's node, and tells
    :attr:`changed` about every parameter.
    """

    volume = NodeParameter("vtkMRMLScalarVolumeNode")
    roi = NodeParameter("vtkMRMLMarkupsROINode")
    target = NodeParameter("vtkMRMLScalarVolumeNode")
    positivePoints = NodeParameter("vtkMRMLMarkupsFiducialNode")
    negativePoints = NodeParameter("vtkMRMLMarkupsFiducialNode")
    strokes = NodeParameter("vtkMRMLSegmentationNode")
    result = NodeParameter("vtkMRMLSegmentationNode")
    head = NodeParameter("vtkMRMLTextNode")
    loadedHead = NodeParameter("vtkMRMLTextNode")
    model = Parameter(DEFAULT_MODEL, _text)
    device = Parameter("auto", _one_of("auto", "cpu", "cuda", "mps"))
    engine = Parameter("auto", _one_of("auto", "torch", "openvino"))
    balance = Parameter(0.5, _between(0, 1), _number)
    spreading = Parameter(True, _flag)
    threshold = Parameter(95.0, _between(0, 100), _number)
    opacity = Parameter(0.5, _between(0, 1), _number)
    hover = Parameter(False, _flag)
    view = Parameter("similarity", _one_of("similarity", "colors", "uncertainty", "none"))
    autoUpdate = Parameter(True, _flag)
    headMethod = Parameter("auto", _one_of("auto", "prototype", "ridge", "logistic", "mlp"))
    backgroundSegment = Parameter("", _text)

    NAMES = tuple(name for name, value in list(vars().items()) if isinstance(value, Parameter | NodeParameter))

    def __init__(self, scene: vtkMRMLScene) -> None:
        self.changed = Signal()
        self._scene = scene
        self._observers = Observers()
        self._known: dict[str, Any] = {}
        self.node: vtkMRMLScriptedModuleNode = self._bind()
        self._known = self._values()

    def follow(self) -> None:
        """Take the node of the scene as it is now (after closing, loading or restoring a view of it) and tell about
        every parameter."""
        self.node = self._bind()
        self._known = self._values()
        for name in self.NAMES:
            self.changed.emit(name)

    def release(self) -> None:
        """Remove the observers; the node stays in the scene."""
        self._observers.remove()

    def reset(self) -> None:
        """Every value back to its default; chosen nodes stay."""
        for name in self.NAMES:
            if isinstance(vars(type(self))[name], Parameter):
                self.node.UnsetParameter(name)

    def _bind(self) -> vtkMRMLScriptedModuleNode:
        """The scene's node for this module, made as Slicer's own modules make theirs."""
        self._observers.remove()
        node = self._scene.GetSingletonNode(MODULE_NAME, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(MODULE_NAME)
            node.SetName(MODULE_NAME)
            node = self._scene.AddNode(node)
        node.SetModuleName(MODULE_NAME)
        node.SetAttribute("ModuleName", MODULE_NAME)
        node.SetHideFromEditors(True)
        events = ["ModifiedEvent", node.ReferenceAddedEvent, node.ReferenceModifiedEvent, node.ReferenceRemovedEvent]
        self._observers.add(node, events, self._onModified)
        return node

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.NAMES}

    def _onModified(self, _caller: Any = None, _event: Any = None) -> None:
        if self._scene.IsImporting() or self._scene.IsRestoring():
            return  # the nodes that are referred to are not there yet; :meth:`follow` comes when they are
        before, self._known = self._known, self._values()
        for name, value in self._known.items():
            if before.get(name) != value:
                self.changed.emit(name)
