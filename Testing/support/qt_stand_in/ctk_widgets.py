"""CTK widgets that the module uses: the interface of CTK's headers, drawn with plain Qt."""

from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from Testing.support.qt_stand_in.pythonqt import like_pythonqt

HEAD_HEIGHT = 24


class ctkCollapsibleButton(like_pythonqt(QtWidgets.QAbstractButton)):  # type: ignore[misc]
    """A titled section that folds; its widgets vanish when it does."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(2, HEAD_HEIGHT, 2, 2)
        QtCore.QObject.connect(self, QtCore.SIGNAL("toggled(bool)"), self._show)

    def _is_collapsed(self) -> bool:
        return not self.isChecked()

    def _set_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = QtCore.Property(bool, _is_collapsed, _set_collapsed)

    def setCollapsed(self, collapsed: bool) -> None:
        self._set_collapsed(collapsed)

    def _show(self, shown: bool) -> None:
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly):
            child.setVisible(shown)
        self.updateGeometry()
        self.update()
        self.contentsCollapsed.emit(not shown)

    def sizeHint(self) -> QtCore.QSize:
        layout = QtWidgets.QWidget.layout(self)
        if layout is None or not self.isChecked():
            return QtCore.QSize(200, HEAD_HEIGHT)
        return layout.totalSizeHint()

    def minimumSizeHint(self) -> QtCore.QSize:
        layout = QtWidgets.QWidget.layout(self)
        if layout is None or not self.isChecked():
            return QtCore.QSize(100, HEAD_HEIGHT)
        return layout.totalMinimumSize()

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        child = event.child()
        if event.added() and isinstance(child, QtWidgets.QWidget) and not self.isChecked():
            child.setVisible(False)
        super().childEvent(event)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < HEAD_HEIGHT

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        head = QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), HEAD_HEIGHT - 2)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = head
        painter.drawControl(QtWidgets.QStyle.CE_PushButtonBevel, option)
        arrow = "▼" if self.isChecked() else "▶"
        text = f"  {arrow}  {QtWidgets.QAbstractButton.text(self)}"
        painter.drawText(head, int(QtCore.Qt.AlignVCenter | QtCore.Qt.AlignLeft), text)


class ctkSliderWidget(like_pythonqt(QtWidgets.QWidget)):  # type: ignore[misc]
    """A slider and a spin box that agree. The spin box holds the value, the slider its place in the range."""

    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)
    mrml_signals = {"valueChanged(double)": "valueChanged", "valueIsChanging(double)": "valueIsChanging"}
    STEPS = 10000

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        inside = self.__dict__
        inside["_slider"] = QtWidgets.QSlider(QtCore.Qt.Horizontal, self)
        inside["_box"] = QtWidgets.QDoubleSpinBox(self)
        inside["_tracks"] = True
        self._slider.setRange(0, self.STEPS)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._box)
        self._slider.valueChanged.connect(self._slid)
        self._slider.sliderReleased.connect(self._released)
        self._box.valueChanged.connect(self._typed)

    def _slid(self, place: int) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        value = low + (high - low) * place / self.STEPS
        if self._slider.isSliderDown() and not self._tracks:
            self.valueIsChanging.emit(value)
        else:
            self._box.setValue(value)

    def _released(self) -> None:
        self._slid(self._slider.value())

    def _typed(self, value: float) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        self._slider.blockSignals(True)
        self._slider.setValue(round(self.STEPS * (value - low) / (high - low)) if high > low else 0)
        self._slider.blockSignals(False)
        self.valueChanged.emit(value)

    def _get_value(self) -> float:
        return self._box.value()

    def _set_value(self, value: float) -> None:
        self._box.setValue(value)

    def _set_tracking(self, tracks: bool) -> None:
        self.__dict__["_tracks"] = tracks

    value = QtCore.Property(float, _get_value, _set_value)
    minimum = QtCore.Property(float, lambda self: self._box.minimum(), lambda self, v: self._box.setMinimum(v))
    maximum = QtCore.Property(float, lambda self: self._box.maximum(), lambda self, v: self._box.setMaximum(v))
    singleStep = QtCore.Property(float, lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v))
    decimals = QtCore.Property(int, lambda self: self._box.decimals(), lambda self, v: self._box.setDecimals(v))
    suffix = QtCore.Property(str, lambda self: self._box.suffix(), lambda self, v: self._box.setSuffix(v))
    tracking = QtCore.Property(bool, lambda self: self._tracks, _set_tracking)

    def setValue(self, value: float) -> None:
        self._set_value(value)

    def slider(self) -> QtWidgets.QSlider:
        return self._slider

    def spinBox(self) -> QtWidgets.QDoubleSpinBox:
        return self._box


class ctkPathLineEdit(like_pythonqt(QtWidgets.QWidget)):  # type: ignore[misc]
    """A line for a path. Browsing takes the answer that a test has prepared."""

    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)
    Dirs, Files, NoSymLinks, Readable, Writable, Executable = 1, 2, 8, 16, 32, 64

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        inside = self.__dict__
        inside["_line"] = QtWidgets.QLineEdit(self)
        inside["_values"] = {"filters": 7, "nameFilters": [], "settingKey": "", "showHistoryButton": True, "label": ""}
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        browse = QtWidgets.QToolButton(self)
        browse.setText("...")
        layout.addWidget(browse)
        self._line.textChanged.connect(self._changed)

    def _changed(self, path: str) -> None:
        self.currentPathChanged.emit(path)
        self.validInputChanged.emit(Path(path).exists())

    def _get_path(self) -> str:
        return self._line.text()

    def _set_path(self, path: str) -> None:
        self._line.setText(path)

    currentPath = QtCore.Property(str, _get_path, _set_path)
    filters = QtCore.Property(
        "QVariant", lambda self: self._values["filters"], lambda self, v: self._values.update(filters=v)
    )
    nameFilters = QtCore.Property(
        "QStringList", lambda self: self._values["nameFilters"], lambda self, v: self._values.update(nameFilters=v)
    )
    settingKey = QtCore.Property(
        str, lambda self: self._values["settingKey"], lambda self, v: self._values.update(settingKey=v)
    )
    showHistoryButton = QtCore.Property(
        bool, lambda self: self._values["showHistoryButton"], lambda self, v: self._values.update(showHistoryButton=v)
    )
    label = QtCore.Property(str, lambda self: self._values["label"], lambda self, v: self._values.update(label=v))

    def setCurrentPath(self, path: str) -> None:
        self._set_path(path)

    def addCurrentPathToHistory(self) -> None:
        """Only remembered on the desktop."""


WIDGETS: dict[str, type] = {kind.__name__: kind for kind in (ctkCollapsibleButton, ctkSliderWidget, ctkPathLineEdit)}
