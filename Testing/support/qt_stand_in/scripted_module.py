"""What Slicer puts under a scripted module: its base classes and translation. Written from their documentation."""

import inspect
import sys
import types
import unittest
from pathlib import Path
from typing import Any

import slicer

from Testing.support.qt_stand_in import ctk_widgets, node_selectors, pythonqt

translated: list[str] = []
"""Texts that went through the translation, for the test that none was forgotten."""


def tr(text: str) -> str:
    translated.append(text)
    return text


def translate(_context: str, text: str) -> str:
    translated.append(text)
    return text


def getContext(source_file: str) -> str:
    """Of a file: folder, if it is a package, and name."""
    path = Path(source_file)
    return f"{path.parent.name}.{path.stem}" if (path.parent / "__init__.py").is_file() else path.stem


class ScriptedLoadableModule:
    """Meta-information of a module; ``parent`` is what the application shows of it."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title, parent.categories, parent.dependencies, parent.contributors = "", [], [], []
        parent.helpText = parent.acknowledgementText = ""
        icon = Path(parent.path).parent / "Resources" / "Icons" / f"{self.moduleName}.svg"
        if icon.is_file():
            parent.icon = pythonqt.find("QIcon")(str(icon))

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        return f"<p>Documentation: {docPage or self.moduleName}</p>"


class ScriptedLoadableModuleWidget:
    """The module's side of its panel; ``parent`` is the panel."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        self.layout = parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def _onModuleAboutToBeUnloaded(self, name: str) -> None:
        if name == self.moduleName:
            self.cleanup()

    def resourcePath(self, name: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)

    def setup(self) -> None:
        """Only the developer's section, which is off."""

    def cleanup(self) -> None:
        """For the module to override."""

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    """Base of what a script can call."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of the test that a developer starts from the module."""

    def delayDisplay(self, message: str, requestedDelay: Any = None, msec: Any = None) -> None:
        """Nothing waits here."""

    def runTest(self) -> None:
        """For the module to override."""


class ModulePanel(node_selectors.qMRMLWidget):
    """qSlicerScriptedLoadableModuleWidget: the panel that the application owns and the Python class fills."""

    module_name = ""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["_entered"] = False
        pythonqt.find("QVBoxLayout")(self)

    isEntered = pythonqt.QtCore.Property(bool, lambda self: self._entered)

    def reload(self) -> None:
        """As the application does after the source was loaded again: a new Python object in the same panel."""
        old = getattr(slicer.modules, f"{self.module_name}Widget", None)
        was_entered = self._entered
        self.__dict__["_entered"] = False
        if old is not None:
            delattr(slicer.modules, f"{self.module_name}Widget")
        self.fill()
        if was_entered:
            self.enter()

    def fill(self) -> Any:
        """Make the widget class of the module and let it set up."""
        widget = getattr(sys.modules[self.module_name], f"{self.module_name}Widget")(self)
        setattr(slicer.modules, f"{self.module_name}Widget", widget)
        widget.setup()
        return widget

    def enter(self) -> None:
        self.__dict__["_entered"] = True
        getattr(slicer.modules, f"{self.module_name}Widget").enter()

    def exit(self) -> None:
        self.__dict__["_entered"] = False
        getattr(slicer.modules, f"{self.module_name}Widget").exit()


def modules() -> dict[str, types.ModuleType]:
    """``slicer.ScriptedLoadableModule`` and ``slicer.i18n``."""
    base = types.ModuleType("slicer.ScriptedLoadableModule")
    names = [
        kind
        for kind in globals().values()
        if inspect.isclass(kind) and kind.__name__.startswith("ScriptedLoadableModule")
    ]
    for kind in names:
        setattr(base, kind.__name__, kind)
    base.__all__ = [kind.__name__ for kind in names]  # type: ignore[attr-defined]
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr, i18n.translate, i18n.getContext = tr, translate, getContext  # type: ignore[attr-defined]
    return {"slicer.ScriptedLoadableModule": base, "slicer.i18n": i18n}


WIDGETS = {**ctk_widgets.WIDGETS, **node_selectors.WIDGETS}
