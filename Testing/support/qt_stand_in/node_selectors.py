"""qMRMLWidget and the combo boxes of nodes, bound to the real MRML scene."""

from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from Testing.support.qt_stand_in import failures
from Testing.support.qt_stand_in.pythonqt import like_pythonqt

NODE_SIGNALS = {"currentNodeChanged(vtkMRMLNode*)": "node_changed", "nodeActivated(vtkMRMLNode*)": "node_activated"}


class qMRMLWidget(like_pythonqt(QtWidgets.QWidget)):  # type: ignore[misc]
    """A widget that hands its scene on."""

    scene_changed = QtCore.Signal(object)
    mrml_signals = {"mrmlSceneChanged(vtkMRMLScene*)": "scene_changed"}

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.__dict__["_scene"] = None

    def setMRMLScene(self, scene: Any) -> None:
        self.__dict__["_scene"] = scene
        self.scene_changed.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene


def switch(name: str, kind: type = bool) -> Any:
    """A property that only has to be remembered, and asked when the list is made."""

    def write(self: Any, value: Any) -> None:
        self._options[name] = value
        self._refill()

    return QtCore.Property("QStringList" if kind is list else kind, lambda self: self._options[name], write)


class qMRMLNodeComboBox(like_pythonqt(QtWidgets.QWidget)):  # type: ignore[misc]
    """Nodes of the scene of the wanted classes; follows what is added, renamed, removed, closed and loaded."""

    node_changed = QtCore.Signal(object)
    node_activated = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)
    mrml_signals = NODE_SIGNALS

    nodeTypes = switch("nodeTypes", list)
    hideChildNodeTypes = switch("hideChildNodeTypes", list)
    showChildNodeTypes = switch("showChildNodeTypes")
    showHidden = switch("showHidden")
    noneEnabled = switch("noneEnabled")
    addEnabled = switch("addEnabled")
    removeEnabled = switch("removeEnabled")
    renameEnabled = switch("renameEnabled")
    editEnabled = switch("editEnabled")
    selectNodeUponCreation = switch("selectNodeUponCreation")
    noneDisplay = switch("noneDisplay", str)
    baseName = switch("baseName", str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.__dict__.update(
            _scene=None,
            _observers=[],
            _nodes=[],
            _current=None,
            _options={
                **dict.fromkeys(("showHidden", "noneEnabled"), False),
                **dict.fromkeys(("showChildNodeTypes", "addEnabled", "removeEnabled", "selectNodeUponCreation"), True),
                **dict.fromkeys(("renameEnabled", "editEnabled"), False),
                "nodeTypes": [],
                "hideChildNodeTypes": [],
                "noneDisplay": "None",
                "baseName": "",
            },
            _box=QtWidgets.QComboBox(self),
        )
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.setEnabled(False)
        self._box.activated.connect(self._chosen)

    def setMRMLScene(self, scene: Any) -> None:
        for tag in self._observers:
            self._scene.RemoveObserver(tag)
        self.__dict__.update(_scene=scene, _observers=[])
        self._box.setEnabled(scene is not None)
        if scene is not None:
            follow = failures.watched(self._follow, 2)
            events = ("NodeAddedEvent", "NodeRemovedEvent", "EndCloseEvent", "EndImportEvent", "EndBatchProcessEvent")
            self._observers.extend(scene.AddObserver(getattr(scene, event), follow) for event in events)
        self._refill()

    def mrmlScene(self) -> Any:
        return self._scene

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        if node is not None and not isinstance(node, slicer.vtkMRMLNode):
            raise TypeError(f"setCurrentNode() needs a node, not {node!r}")
        self._select(node if node in self._nodes else None)

    def _node_id(self) -> str:
        return self._current.GetID() if self._current is not None else ""

    def _set_node_id(self, node_id: str) -> None:
        self._select(next((node for node in self._nodes if node.GetID() == node_id), None))

    currentNodeID = QtCore.Property(str, _node_id, _set_node_id)

    def setCurrentNodeID(self, node_id: str) -> None:
        self._set_node_id(node_id)

    def nodeCount(self) -> int:
        return len(self._nodes)

    def nodeFromIndex(self, index: int) -> Any:
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def addNode(self, class_name: str = "") -> Any:
        node = self._scene.AddNewNodeByClass(class_name or self._options["nodeTypes"][0], self._options["baseName"])
        if self._options["selectNodeUponCreation"]:
            self.setCurrentNode(node)
        return node

    def _follow(self, _scene: Any, event: str) -> None:
        if not self._scene.IsBatchProcessing() or event in ("EndCloseEvent", "EndBatchProcessEvent"):
            self._refill()

    def _wanted(self, node: Any) -> bool:
        options = self._options
        if node.GetHideFromEditors() and not options["showHidden"]:
            return False
        if not options["showChildNodeTypes"]:
            return node.GetClassName() in options["nodeTypes"]
        hidden = any(node.IsA(name) for name in options["hideChildNodeTypes"])
        return not hidden and any(node.IsA(name) for name in options["nodeTypes"])

    def _refill(self) -> None:
        scene = self._scene
        found = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())] if scene is not None else []
        self.__dict__["_nodes"] = [node for node in found if self._wanted(node)]
        self._show()
        keep = self._current if self._current in self._nodes else None
        if keep is None and self._nodes and not self._options["noneEnabled"]:
            keep = self._nodes[0]
        self._select(keep)

    def _show(self) -> None:
        self._box.blockSignals(True)
        self._box.clear()
        if self._options["noneEnabled"] or not self._nodes:
            self._box.addItem(self._options["noneDisplay"])
        for node in self._nodes:
            self._box.addItem(node.GetName() or "")
        self._box.blockSignals(False)

    def _select(self, node: Any) -> None:
        before = self._current
        self.__dict__["_current"] = node
        first = self._box.count() - len(self._nodes)
        self._box.blockSignals(True)
        self._box.setCurrentIndex(0 if node is None else first + self._nodes.index(node))
        self._box.blockSignals(False)
        if node is not before:
            self.node_changed.emit(node)
            self.currentNodeIDChanged.emit(self._node_id())

    def _chosen(self, row: int) -> None:
        first = self._box.count() - len(self._nodes)
        self._select(self._nodes[row - first] if row >= first else None)
        self.node_activated.emit(self._current)


class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Several nodes at once; the ticks live in the widget only."""

    checkedNodesChanged = QtCore.Signal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.__dict__["_checked"] = []

    def checkedNodes(self) -> tuple[Any, ...]:
        return tuple(node for node in self._nodes if node in self._checked)

    def noneChecked(self) -> bool:
        return not self.checkedNodes()

    def setCheckState(self, node: Any, state: Any) -> None:
        checked = [other for other in self._checked if other is not node]
        self.__dict__["_checked"] = [*checked, node] if state == QtCore.Qt.Checked else checked
        self.checkedNodesChanged.emit()


WIDGETS: dict[str, type] = {
    kind.__name__: kind for kind in (qMRMLWidget, qMRMLNodeComboBox, qMRMLCheckableNodeComboBox)
}
