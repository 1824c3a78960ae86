"""The desktop around the module: application signals, settings, dialogs with prepared answers, open and reload."""

import importlib.util
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from Testing.support.qt_stand_in import ctk_widgets, failures, loader, module_widgets, pythonqt, scripted_module

QMRML_WIDGETS = {**scripted_module.node_selectors.WIDGETS, **module_widgets.WIDGETS}


class Emitter:
    """Signals of an application object that is no widget."""

    def __init__(self, *signatures: str) -> None:
        self.slots: dict[str, list[Callable[..., Any]]] = {signature: [] for signature in signatures}

    def connect(self, signature: str, slot: Callable[..., Any]) -> bool:
        if signature not in self.slots:
            raise AttributeError(f"no signal {signature}")
        self.slots[signature].append(slot)
        return True

    def disconnect(self, signature: str, slot: Callable[..., Any]) -> bool:
        if slot in self.slots[signature]:
            self.slots[signature].remove(slot)
        return True

    def emit(self, signature: str, *values: Any) -> None:
        for slot in list(self.slots[signature]):
            failures.watched(slot, pythonqt.accepted_arguments(slot))(*values)


class Unanswered(AssertionError):
    """A dialog came up for which the test has no answer: it would have stood in the user's way."""


class Desktop:
    """Makes ``qt``, ``ctk`` and the rest importable, and plays the application for one module.

    :ivar messages: (kind, text) of every message box.
    :ivar answers: what the next dialogs return, first to last; a dialog without an answer raises.
    :ivar installed: every pip or PyTorch installation that was asked for.
    """

    def __init__(self, app: Any, module: Path, settings_folder: Path) -> None:
        self.qt_application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
        self.module, self.messages, self.answers = module, [], []
        self.sample_data: list[dict[str, Any]] = []
        self.panel: Any = None
        self._settings(settings_folder)
        self._extend(app)
        self._install_names()
        self._answer_dialogs()
        failures.install()

    def _settings(self, folder: Path) -> None:
        QtCore.QCoreApplication.setOrganizationName("Vox2VecTests")
        QtCore.QCoreApplication.setApplicationName("Slicer")
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, str(folder))

    def _extend(self, app: Any) -> None:
        self.signals = Emitter("startupCompleted()", "aboutToQuit()")
        manager = Emitter("moduleAboutToBeUnloaded(QString)")
        app.connect, app.disconnect = self.signals.connect, self.signals.disconnect
        app.moduleManager = lambda: manager
        app.applicationName = "Slicer"
        app.processEvents = self.qt_application.processEvents
        app.setOverrideCursor = self.qt_application.setOverrideCursor
        app.restoreOverrideCursor = self.qt_application.restoreOverrideCursor

    def _install_names(self) -> None:
        qt = types.ModuleType("qt")
        own = {"QUiLoader": loader.UiLoader, "QFileDialog": self._file_dialog()}
        qt.__getattr__ = lambda name: own[name] if name in own else pythonqt.find(name)  # type: ignore[method-assign]
        ctk = types.ModuleType("ctk")
        for name, kind in ctk_widgets.WIDGETS.items():
            setattr(ctk, name, kind)
        for name, kind in QMRML_WIDGETS.items():
            setattr(slicer, name, kind)
        loader.UiLoader.custom = {**ctk_widgets.WIDGETS, **QMRML_WIDGETS}
        samples = types.ModuleType("SampleData")
        samples.SampleDataLogic = types.SimpleNamespace(  # type: ignore[attr-defined]
            registerCustomSampleDataSource=lambda **source: self.sample_data.append(source)
        )
        sys.modules.update({"qt": qt, "ctk": ctk, "SampleData": samples, **scripted_module.modules()})

    def _next_answer(self, kind: str, text: str) -> Any:
        self.messages.append((kind, text))
        if not self.answers:
            raise Unanswered(f"{kind}: {text}")
        return self.answers.pop(0)

    def _file_dialog(self) -> type:
        ask = self._next_answer

        class QFileDialog:
            """PythonQt: the path alone, an empty string when the user cancels."""

            getOpenFileName = staticmethod(lambda _parent, caption, *_: ask("open", caption))
            getSaveFileName = staticmethod(lambda _parent, caption, *_: ask("save", caption))
            getExistingDirectory = staticmethod(lambda _parent, caption, *_: ask("folder", caption))

        return QFileDialog

    def _answer_dialogs(self) -> None:
        for kind in ("info", "warning", "error"):

            def show(text: str, *_: Any, kind: str = kind, **__: Any) -> None:
                self.messages.append((kind, text))

            setattr(slicer.util, f"{kind}Display", show)
        slicer.util.confirmOkCancelDisplay = lambda text, *_, **__: self._next_answer("confirm", text)
        slicer.util.confirmYesNoDisplay = slicer.util.confirmOkCancelDisplay

    def open_module(self) -> Any:
        """Import the module's file, make its panel, enter it; returns the widget class's object."""
        name = self.module.stem
        if str(self.module.parent) not in sys.path:
            sys.path.insert(0, str(self.module.parent))
        spec = importlib.util.spec_from_file_location(name, self.module)
        source = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        sys.modules[name] = source
        spec.loader.exec_module(source)  # type: ignore[union-attr]
        parent = types.SimpleNamespace(path=str(self.module))
        self.about = getattr(source, name)(parent)
        self.signals.emit("startupCompleted()")
        self.panel = scripted_module.ModulePanel()
        self.panel.__dict__["module_name"] = name
        setattr(
            slicer.modules,
            name.lower(),
            types.SimpleNamespace(path=str(self.module), widgetRepresentation=lambda: self.panel),
        )
        self.panel.setMRMLScene(slicer.mrmlScene)
        widget = self.panel.fill()
        self.panel.show()
        self.panel.enter()
        return widget

    @property
    def widget(self) -> Any:
        """The module's widget; another one after a reload."""
        return getattr(slicer.modules, f"{self.module.stem}Widget")

    def close_module(self) -> None:
        """Leave the module and unload it, as the application does when it quits."""
        if self.panel is None:
            return
        self.panel.exit()
        slicer.app.moduleManager().emit("moduleAboutToBeUnloaded(QString)", self.module.stem)
        self.panel.hide()
        for selector in self.panel.findChildren(scripted_module.node_selectors.qMRMLNodeComboBox):
            selector.setMRMLScene(None)  # as its destructor does in Slicer
        self.panel.deleteLater()
        self.panel = None
        self.qt_application.processEvents()
        delattr(slicer.modules, f"{self.module.stem}Widget")

    def spin(self, until: Callable[[], bool], seconds: float = 60.0) -> None:
        """Run the event loop until something holds.

        :raises TimeoutError: if it does not hold in time.
        """
        clock = QtCore.QElapsedTimer()
        clock.start()
        while not until():
            if clock.elapsed() > seconds * 1000:
                raise TimeoutError(f"not reached within {seconds:g} s")
            self.qt_application.processEvents(QtCore.QEventLoop.AllEvents, 10)
            time.sleep(0.001)  # an event loop that has nothing to do leaves Python's lock to the worker
