"""Widgets of Slicer's own modules: placing markups, and the segment editor as a recorder of what it is told."""

from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from Testing.support.qt_stand_in import failures
from Testing.support.qt_stand_in.node_selectors import qMRMLWidget
from Testing.support.qt_stand_in.pythonqt import like_pythonqt


def remembered(name: str, default: bool) -> Any:
    """A property without an effect that could be imitated."""
    return QtCore.Property(
        bool, lambda self: self._values.get(name, default), lambda self, v: self._values.update({name: v})
    )


class qSlicerMarkupsPlaceWidget(like_pythonqt(QtWidgets.QWidget)):  # type: ignore[misc]
    """Its button starts place mode for its node in the real selection and interaction nodes."""

    activeMarkupsPlaceModeChanged = QtCore.Signal(bool)
    ShowPlaceMultipleMarkupsOption, HidePlaceMultipleMarkupsOption = 0, 1
    ForcePlaceSingleMarkup, ForcePlaceMultipleMarkups = 2, 3

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        button = QtWidgets.QToolButton(self)
        button.setText("\u25cf")
        button.setCheckable(True)
        self.__dict__.update(
            _scene=None, _node=None, _button=button, _multiple=0, _values={}, _interaction=None, _tags=[]
        )
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(button)
        button.clicked.connect(self.setPlaceModeEnabled)

    def setMRMLScene(self, scene: Any) -> None:
        for tag in self._tags:
            self._interaction.RemoveObserver(tag)
        self.__dict__.update(_scene=scene, _tags=[], _interaction=None)
        if scene is not None:
            interaction = slicer.app.applicationLogic().GetInteractionNode()
            watch = failures.watched(self._mode_changed, 0)
            tag = interaction.AddObserver("ModifiedEvent", watch)
            self.__dict__.update(_interaction=interaction, _tags=[tag])

    def setCurrentNode(self, node: Any) -> None:
        if node is not None and not node.IsA("vtkMRMLMarkupsNode"):
            raise TypeError(f"{node.GetClassName()} is no markups node")
        self.__dict__["_node"] = node
        self._button.setEnabled(node is not None)

    def currentNode(self) -> Any:
        return self._node

    def placeButton(self) -> QtWidgets.QToolButton:
        return self._button

    def setPlaceModeEnabled(self, enabled: bool) -> None:
        interaction = self._interaction
        if enabled and self._node is not None:
            selection = slicer.app.applicationLogic().GetSelectionNode()
            selection.SetReferenceActivePlaceNodeClassName(self._node.GetClassName())
            selection.SetActivePlaceNodeID(self._node.GetID())
            interaction.SetPlaceModePersistence(int(self._multiple == self.ForcePlaceMultipleMarkups))
            interaction.SetCurrentInteractionMode(interaction.Place)
        elif interaction is not None and self._node is not None:
            interaction.SwitchToViewTransformMode()

    def _placing(self) -> bool:
        if self._interaction is None or self._node is None:
            return False
        active = slicer.app.applicationLogic().GetSelectionNode().GetActivePlaceNodeID() == self._node.GetID()
        return active and self._interaction.GetCurrentInteractionMode() == self._interaction.Place

    def _mode_changed(self) -> None:
        placing = self._placing()
        if placing != self._button.isChecked():
            self._button.setChecked(placing)
            self.activeMarkupsPlaceModeChanged.emit(placing)

    def _set_multiple(self, value: int) -> None:
        self.__dict__["_multiple"] = int(value)

    placeModeEnabled = QtCore.Property(bool, _placing, setPlaceModeEnabled)
    placeMultipleMarkups = QtCore.Property(int, lambda self: self._multiple, _set_multiple)
    buttonsVisible = QtCore.Property(
        bool, lambda self: self._values.get("buttons", True), lambda self, v: self._values.update(buttons=v)
    )
    deleteAllControlPointsOptionVisible = QtCore.Property(
        bool, lambda self: self._values.get("delete", True), lambda self, v: self._values.update(delete=v)
    )


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Not an editor: it writes what it is told to the real editor node, and refuses a wrong order of calls.

    ``calls`` are the names of the methods in the order in which they came.
    """

    segmentationNodeSelectorVisible = remembered("segmentationNodeSelectorVisible", True)
    sourceVolumeNodeSelectorVisible = remembered("sourceVolumeNodeSelectorVisible", True)
    autoShowSourceVolumeNode = remembered("autoShowSourceVolumeNode", True)
    switchToSegmentationsButtonVisible = remembered("switchToSegmentationsButtonVisible", True)
    unorderedEffectsVisible = remembered("unorderedEffectsVisible", True)
    undoEnabled = remembered("undoEnabled", True)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.__dict__.update(calls=[], _editor=None, _values={"undoEnabled": True, "maximumNumberOfUndoStates": 10})
        box = QtWidgets.QLabel("(Segment Editor)", self)
        box.setAlignment(QtCore.Qt.AlignCenter)
        box.setFrameShape(QtWidgets.QFrame.Box)
        box.setMinimumHeight(60)
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(box)

    def _call(self, name: str) -> None:
        self.calls.append(name)

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not None and self._editor is None:
            raise RuntimeError("the editor node has to be set before the scene")
        self._call("setMRMLScene")
        super().setMRMLScene(scene)

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self._call("setMRMLSegmentEditorNode")
        if node is not None and not node.IsA("vtkMRMLSegmentEditorNode"):
            raise TypeError("not an editor node")
        self.__dict__["_editor"] = node

    def mrmlSegmentEditorNode(self) -> Any:
        return self._editor

    def _needs_editor(self, what: str) -> None:
        self._call(what)
        if self._editor is None:
            raise RuntimeError(f"{what}() before setMRMLSegmentEditorNode()")

    def setSegmentationNode(self, node: Any) -> None:
        if node is None and self._editor is None:
            self._call("setSegmentationNode")
            return
        self._needs_editor("setSegmentationNode")
        self._editor.SetAndObserveSegmentationNode(node)

    def segmentationNode(self) -> Any:
        return self._editor.GetSegmentationNode() if self._editor is not None else None

    def setSourceVolumeNode(self, node: Any) -> None:
        self._needs_editor("setSourceVolumeNode")
        if node is not None and self.segmentationNode() is None:
            raise RuntimeError("the segmentation has to be set before the source volume")
        self._editor.SetAndObserveSourceVolumeNode(node)
        if node is not None and self.autoShowSourceVolumeNode:
            for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
                composite.SetBackgroundVolumeID(node.GetID())
                composite.SetForegroundVolumeID(None)

    def sourceVolumeNode(self) -> Any:
        return self._editor.GetSourceVolumeNode() if self._editor is not None else None

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._needs_editor("setCurrentSegmentID")
        self._editor.SetSelectedSegmentID(segment_id)

    def setActiveEffect(self, effect: Any) -> None:
        self._call("setActiveEffect")
        if effect is not None:
            raise NotImplementedError("effects are Qt's and not imitated")
        if self._editor is not None:
            self._editor.SetActiveEffectName("")

    def setActiveEffectByName(self, name: str) -> None:
        self._needs_editor("setActiveEffectByName")
        self._editor.SetActiveEffectName(name)

    def setupViewObservations(self) -> None:
        self._call("setupViewObservations")

    def removeViewObservations(self) -> None:
        self._call("removeViewObservations")

    def installKeyboardShortcuts(self, _parent: Any = None) -> None:
        self._call("installKeyboardShortcuts")

    def uninstallKeyboardShortcuts(self) -> None:
        self._call("uninstallKeyboardShortcuts")

    def updateWidgetFromMRML(self) -> None:
        self._needs_editor("updateWidgetFromMRML")

    def setEffectNameOrder(self, names: list[str]) -> None:
        self._values["effectNameOrder"] = list(names)

    def setMaximumNumberOfUndoStates(self, number: int) -> None:
        self._values["maximumNumberOfUndoStates"] = number


WIDGETS: dict[str, type] = {kind.__name__: kind for kind in (qSlicerMarkupsPlaceWidget, qMRMLSegmentEditorWidget)}
