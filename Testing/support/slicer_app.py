"""Slicer's singletons over the slicer-core wheel: a real MRML scene without Qt and without a display.

The product sees what it sees in the desktop application: ``slicer.mrmlScene``, ``slicer.app``, ``slicer.modules``
and ``slicer.util``. Singletons of VTK factories leak, so there is one App per process.
"""

import importlib
import importlib.util
import os
import sys
import tempfile
import types
from pathlib import Path

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")  # no display is asked for, none is missed

import slicer
import vtk
from vtkmodules.vtkCommonCore import vtkCollection, vtkOutputWindow

SCENE_SUFFIXES = (".mrb", ".mrml")


def _terminologies() -> str | None:
    """Folder of the terminologies that trame-slicer ships."""
    spec = importlib.util.find_spec("trame_slicer")
    if spec is None or not spec.submodule_search_locations:
        return None
    return str(Path(spec.submodule_search_locations[0]) / "resources" / "terminologies")


class _Module:
    def __init__(self, logic: object) -> None:
        self._logic = logic

    def logic(self) -> object:
        return self._logic


class CoreIO:
    """Stands in for qSlicerCoreIOManager, which is Qt: the kinds of files that the module meets."""

    KINDS = {  # noqa: RUF012
        "SegmentationFile": ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
        "MarkupsFile": ("vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsJsonStorageNode"),
        "TransformFile": ("vtkMRMLTransformNode", "vtkMRMLTransformStorageNode"),
    }
    SUFFIXES = (
        (".seg.nrrd", "SegmentationFile"),
        (".mrb", "SceneFile"),
        (".mrml", "SceneFile"),
        (".mrk.json", "MarkupsFile"),
        (".h5", "TransformFile"),
        (".tfm", "TransformFile"),
    )

    def __init__(self, app: "App") -> None:
        self._app = app

    def fileType(self, path: str) -> str:
        return next((kind for suffix, kind in self.SUFFIXES if str(path).lower().endswith(suffix)), "VolumeFile")

    def fileWriterFileType(self, node: object) -> str:
        return node.GetClassName()  # type: ignore[attr-defined]

    def loadNodes(self, kind: str, properties: dict, loaded: object = None, messages: object = None) -> bool:
        path, scene = str(properties["fileName"]), self._app.mrmlScene()
        name = properties.get("name") or Path(path).name.split(".")[0]
        if kind == "SceneFile":
            if path.endswith(".mrb"):
                return bool(scene.ReadFromMRB(path, False))
            scene.SetURL(path)
            return bool(scene.Import())
        if kind == "VolumeFile":
            node = slicer.modules.volumes.logic().AddArchetypeVolume(path, name, int(bool(properties.get("labelmap"))))
        else:
            node_class, storage_class = self.KINDS[kind]
            node, storage = scene.AddNewNodeByClass(node_class, name), scene.AddNewNodeByClass(storage_class)
            storage.SetFileName(path)
            if storage.ReadData(node):
                node.SetAndObserveStorageNodeID(storage.GetID())
            else:
                scene.RemoveNode(storage)
                scene.RemoveNode(node)
                node = None
        if node is not None and loaded is not None:
            loaded.AddItem(node)  # type: ignore[attr-defined]
        return node is not None

    def saveNodes(self, kind: str, properties: dict, messages: object = None) -> bool:
        path, scene = str(properties["fileName"]), self._app.mrmlScene()
        if kind == "SceneFile":
            if path.endswith(".mrb"):
                return bool(scene.WriteToMRB(path, None))
            scene.SetURL(path)
            scene.SetRootDirectory(str(Path(path).parent))
            return bool(scene.Commit())
        node = scene.GetNodeByID(properties["nodeID"])
        if not node.GetStorageNode():
            node.AddDefaultStorageNode(path)
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))


class App:
    """Plays ``slicer.app``.

    :ivar errors: every line that VTK wrote as an error or a warning since it was last emptied; VTK does not raise.
    """

    LOGICS = {  # noqa: RUF012
        "volumes": "vtkSlicerVolumesLogic",
        "segmentations": "vtkSlicerSegmentationsModuleLogic",
        "markups": "vtkSlicerMarkupsLogic",
        "transforms": "vtkSlicerTransformLogic",
        "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
        "terminologies": "vtkSlicerTerminologiesModuleLogic",
        "models": "vtkSlicerModelsLogic",
    }

    def __init__(self) -> None:
        assert not isinstance(getattr(slicer, "app", None), App), "a second App: its scene would not be the one in use"
        if importlib.util.find_spec("Vox2VecSlicerLib") is None:  # Slicer puts a module's folder there, too
            sys.path.append(str(Path(__file__).parents[2] / "Vox2VecSlicer"))
        self.errors: list[str] = []
        self._listen_to_vtk()
        scene = self._scene = slicer.vtkMRMLScene()
        logic = self._logic = slicer.vtkSlicerApplicationLogic()
        logic.SetMRMLScene(scene)
        logic.SetTemporaryPath(tempfile.mkdtemp())
        home = Path(tempfile.mkdtemp())
        colors_folder = home / "share" / "ColorFiles"
        colors_folder.mkdir(parents=True)  # the colour logic complains when there is none, label maps without a table
        (colors_folder / "GenericColors.txt").write_text("0 background 0 0 0 0\n1 tissue 128 174 128 255\n")
        logic.SetHomeDirectory(str(home))
        logic.SetShareDirectory("share")
        logic.SetSliceLogics(vtkCollection())
        logic.SetViewLogics(vtkCollection())
        for factory in (
            slicer.vtkMRMLSliceViewDisplayableManagerFactory,
            slicer.vtkMRMLThreeDViewDisplayableManagerFactory,
        ):
            factory.GetInstance().SetMRMLApplicationLogic(logic)
        self._add_default_nodes()
        self._add_remote_io()  # without its cache and data managers an .mrb can be written but not read
        modules = types.SimpleNamespace()
        colors = slicer.vtkSlicerColorLogic()
        colors.SetMRMLApplicationLogic(logic)
        colors.SetMRMLScene(scene)
        colors.AddDefaultColorNodes()
        logic.SetModuleLogic("Colors", colors)
        modules.colors = _Module(colors)
        share = _terminologies()
        for name, class_name in self.LOGICS.items():
            module_logic = getattr(slicer, class_name)()
            if share and hasattr(module_logic, "SetModuleShareDirectory"):
                module_logic.SetModuleShareDirectory(share)  # before the scene: it reads the terminologies then
            module_logic.SetMRMLScene(scene)
            module_logic.SetMRMLApplicationLogic(logic)
            logic.SetModuleLogic(name.capitalize(), module_logic)
            setattr(modules, name, _Module(module_logic))
        slicer.app, slicer.mrmlScene, slicer.modules = self, scene, modules
        self._io = CoreIO(self)
        importlib.import_module("slicer.util")

    def _listen_to_vtk(self) -> None:
        window = self._window = vtkOutputWindow()
        window.SetDisplayModeToAlwaysStdErr()

        def note(_caller: object, event: str, text: str) -> None:
            self.errors.append(f"{event}: {text}")

        note.CallDataType = vtk.VTK_STRING  # type: ignore[attr-defined]
        window.AddObserver("ErrorEvent", note)
        window.AddObserver("WarningEvent", note)
        vtkOutputWindow.SetInstance(window)

    def _add_default_nodes(self) -> None:
        """What the application puts into every scene, and what stays when the scene is closed."""
        if self._scene.GetFirstNodeByClass("vtkMRMLCrosshairNode") is None:
            crosshair = slicer.vtkMRMLCrosshairNode()
            crosshair.SetCrosshairName("default")
            self._scene.AddNode(crosshair)
        for class_name in ("vtkMRMLInteractionNode", "vtkMRMLSelectionNode", "vtkMRMLLayoutNode"):
            if self._scene.GetFirstNodeByClass(class_name) is not None:
                continue
            node = getattr(slicer, class_name)()
            node.SetSingletonTag("vtkMRMLLayout" if class_name.endswith("LayoutNode") else "Singleton")
            self._scene.AddNode(node)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self._scene, True)

    def _add_remote_io(self) -> None:
        self._remote = slicer.vtkMRMLRemoteIOLogic()
        self._remote.SetMRMLScene(self._scene)
        self._remote.SetMRMLApplicationLogic(self._logic)
        self._remote.GetCacheManager().SetRemoteCacheDirectory(tempfile.mkdtemp())
        self._data = slicer.vtkDataIOManagerLogic()
        self._data.SetMRMLScene(self._scene)
        self._data.SetMRMLApplicationLogic(self._logic)
        self._data.SetAndObserveDataIOManager(self._remote.GetDataIOManager())
        self._remote.AddDataIOToScene()

    def clear(self) -> None:
        """Close the scene as the application does, which then offers its own nodes again."""
        self._scene.Clear(0)
        self._add_default_nodes()

    def close_views(self) -> None:
        """Remove the nodes of slice views, which outlive the scene."""
        for class_name in ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode"):
            while (node := self._scene.GetFirstNodeByClass(class_name)) is not None:
                self._scene.RemoveNode(node)

    def mrmlScene(self) -> "slicer.vtkMRMLScene":
        return self._scene

    def applicationLogic(self) -> "slicer.vtkSlicerApplicationLogic":
        return self._logic

    def coreIOManager(self) -> CoreIO:
        return self._io

    def layoutManager(self) -> None:
        return None

    def testingEnabled(self) -> bool:
        return True

    def processEvents(self) -> None:
        pass

    def translate(self, _context: str, text: str) -> str:
        return text

    def pauseRender(self) -> None:
        pass

    def resumeRender(self) -> None:
        pass
