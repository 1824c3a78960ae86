"""Slicer without its desktop: the scene, the logics and what the controllers expect of ``slicer.app``."""

import importlib
import os
import sys
import types
from typing import Any

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "" if os.environ.get("DISPLAY") else "vtkEGLRenderWindow")
if not os.environ["VTK_DEFAULT_OPENGL_WINDOW"]:
    del os.environ["VTK_DEFAULT_OPENGL_WINDOW"]

import slicer
import vtk
from trame_slicer.core import SlicerApp
from vtkmodules.vtkCommonCore import vtkLogger, vtkOutputWindow

KNOWN_NOTICE = "WindowResizeEvent will not be generated"
"""trame-slicer observes an event that VTK has moved; it invokes it itself."""


class _Module:
    """Plays an entry of ``slicer.modules``."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic

    def logic(self) -> Any:
        return self._logic


class Application:
    """Plays ``slicer.app``; makes ``slicer.mrmlScene`` and ``slicer.modules``. One in a process.

    :ivar errors: lines that VTK wrote as errors or warnings; VTK does not raise.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.core = SlicerApp()
        self._listenToVtk()
        self.scene = self.core.scene
        self._addSingletons()
        colors = slicer.vtkSlicerColorLogic()  # for legends; the default tables come from the plain colour logic
        colors.SetMRMLApplicationLogic(self.core.app_logic)
        logics = {
            "colors": colors,
            "volumes": self.core.volumes_logic,
            "segmentations": self.core.segmentations_logic,
            "terminologies": self.core.terminologies_logic,
            "subjecthierarchy": self.core.subject_hierarchy_logic,
            "markups": self.core.app_logic.GetModuleLogic("Markups"),
        }
        slicer.app, slicer.mrmlScene = self, self.scene
        slicer.modules = types.SimpleNamespace(**{name: _Module(logic) for name, logic in logics.items()})
        importlib.import_module("slicer.util")

    def _listenToVtk(self) -> None:
        """Keep what VTK complains of, and write it to the terminal but for the one notice."""
        window = self._window = vtkOutputWindow()
        window.SetDisplayModeToNever()
        vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)

        def note(_caller: Any, event: str, text: str) -> None:
            if KNOWN_NOTICE not in text:
                self.errors.append(f"{event}: {text.strip()}")
                sys.stderr.write(f"VTK {self.errors[-1]}\n")

        note.CallDataType = vtk.VTK_STRING  # type: ignore[attr-defined]
        window.AddObserver("ErrorEvent", note)
        window.AddObserver("WarningEvent", note)
        vtkOutputWindow.SetInstance(window)

    def _addSingletons(self) -> None:
        """Nodes that Slicer's application puts into every scene."""
        for className in ("vtkMRMLInteractionNode", "vtkMRMLSelectionNode"):
            node = getattr(slicer, className)()
            node.SetSingletonTag("Singleton")
            self.scene.AddNode(node)

    def mrmlScene(self) -> Any:
        return self.scene

    def applicationLogic(self) -> Any:
        return self.core.app_logic

    def layoutManager(self) -> None:
        return None

    def processEvents(self) -> None:
        pass

    def pauseRender(self) -> None:
        pass

    def resumeRender(self) -> None:
        pass
