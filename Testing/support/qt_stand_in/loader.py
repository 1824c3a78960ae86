"""QUiLoader for .ui files with CTK and qMRML widgets. A class that it does not know raises."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from Testing.support.qt_stand_in import pythonqt

NOT_CLASSES = {"Line"}
"""Names that Designer uses for what is another class."""


class UiLoader(QtUiTools.QUiLoader):
    """Makes every widget of the class that PythonQt would show, and draws the connections to the MRML scene.

    :param custom: CTK and qMRML classes by name.
    """

    custom: dict[str, type] = {}

    def load(self, file: QtCore.QFile, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        """The widget of a .ui file.

        :raises AttributeError: for a class, property or connection that is not known.
        """
        path = Path(file.fileName())
        tree = ElementTree.parse(path).getroot()
        self._refuse_unknown_properties(tree)
        connections = tree.findall("./connections/connection")
        for element in tree.findall("connections"):
            tree.remove(element)  # their types are of MRML; drawn below
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.ReadOnly)
        pythonqt.loading.append(path.name)
        try:
            widget = super().load(buffer, parent)
        finally:
            pythonqt.loading.pop()
        if widget is None:
            raise RuntimeError(f"{path}: {self.errorString()}")
        for connection in connections:
            self._connect(widget, connection)
        return widget

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        """A widget for ``<widget class=...>``."""
        widget = self._class(class_name)(parent)
        widget.setObjectName(name)
        return widget

    def createLayout(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        """A layout for ``<layout class=...>``."""
        kind = pythonqt.find(class_name)
        layout = kind(parent) if isinstance(parent, QtWidgets.QWidget) else kind()
        layout.setObjectName(name)
        return layout

    def _class(self, class_name: str) -> type:
        if class_name in self.custom:
            return self.custom[class_name]
        return pythonqt.find(class_name)

    def _refuse_unknown_properties(self, tree: ElementTree.Element) -> None:
        for element in tree.iter("widget"):
            class_name = element.attrib["class"]
            meta = self._class(class_name).staticMetaObject  # type: ignore[attr-defined]
            for found in element.findall("property"):
                name = found.attrib["name"]
                if meta.indexOfProperty(name) < 0 and found.get("stdset") != "0":
                    raise AttributeError(f"{element.get('name')}: {class_name} has no property {name}")

    def _connect(self, root: Any, connection: ElementTree.Element) -> None:
        def end(which: str) -> Any:
            name = connection.findtext(which)
            found = root if QtCore.QObject.objectName(root) == name else root.findChild(QtCore.QObject, name)
            if found is None:
                raise AttributeError(f"the .ui file connects {name}, which it does not have")
            return found

        slot = (connection.findtext("slot") or "").partition("(")[0]
        end("sender").connect(connection.findtext("signal"), getattr(end("receiver"), slot))
