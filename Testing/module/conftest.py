"""The module on the Qt stand-in, over a real scene; every test fails on exceptions in slots and lines from VTK."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import pytest
import slicer
from PySide6 import QtCore, QtTest

from Testing.support.models import random_model
from Testing.support.qt_stand_in import failures
from Testing.support.qt_stand_in.desktop import Desktop
from Testing.support.scans import phantom
from Testing.support.slicer_app import App
from Testing.support.slicer_fixtures import shared_cache

__all__ = ["shared_cache"]

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "Vox2VecSlicer" / "Vox2VecSlicer.py"
PICTURES = REPOSITORY / ".data" / "pictures" / "module"


@pytest.fixture(scope="session")
def app() -> App:
    """Slicer's singletons."""
    return App()


@pytest.fixture(scope="session")
def desktop(app: App, tmp_path_factory: pytest.TempPathFactory) -> Desktop:
    """Qt and the application around the module."""
    return Desktop(app, MODULE, tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model directory with random weights; a phantom is embedded in well under a second."""
    random_model(tmp_path_factory.mktemp("models"))
    return str(tmp_path_factory.getbasetemp() / "models0" / "random")


class Panel:
    """The opened module and a user's hands."""

    def __init__(self, desktop: Desktop) -> None:
        self.desktop = desktop

    @property
    def widget(self) -> Any:
        return self.desktop.widget

    @property
    def session(self) -> Any:
        return self.widget.session

    @property
    def ui(self) -> Any:
        return self.widget.ui

    def press(self, button: Any) -> None:
        """Click on a button, where its text begins; one that is disabled or out of sight is a failure."""
        assert button.enabled, f"{button.name} is disabled: {button.toolTip}"
        section = button
        while section is not None and "Section" not in (QtCore.QObject.objectName(section) or ""):
            section = section.parent()
        if section is not None:
            section.collapsed = False
        self.breathe()
        QtTest.QTest.mouseClick(button, QtCore.Qt.LeftButton, pos=QtCore.QPoint(9, button.height // 2))
        self.breathe()

    def breathe(self, seconds: float = 0.0) -> None:
        """Let the event loop run."""
        end = time.monotonic() + seconds
        self.desktop.qt_application.processEvents()
        while time.monotonic() < end:
            self.desktop.qt_application.processEvents(QtCore.QEventLoop.AllEvents, 10)
            time.sleep(0.001)

    def until(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        """Run the event loop until something holds."""
        self.desktop.spin(holds, seconds)

    def finish(self) -> None:
        """Run the event loop until nothing is under way, not even strokes that rest before they are learnt from."""
        self.until(lambda: not self.session.poll())
        self.breathe(0.05)

    def grab(self, name: str, width: int = 460) -> Path:
        """A picture of the panel."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        panel = self.desktop.panel
        panel.resize(width, panel.minimumSizeHint().height())
        self.breathe()
        panel.resize(width, max(panel.sizeHint().height(), panel.minimumSizeHint().height()))
        self.breathe(0.05)
        path = PICTURES / f"{name}.png"
        assert panel.grab().save(str(path))
        return path


@pytest.fixture
def clean(app: App, desktop: Desktop) -> Iterator[None]:
    """An empty scene before; no exception in a slot and no line from VTK after."""
    QtCore.QSettings().clear()
    slicer.mrmlScene.Clear(0)
    desktop.messages.clear()
    desktop.answers.clear()
    failures.clear()
    app.errors.clear()
    yield
    desktop.close_module()
    slicer.mrmlScene.Clear(0)
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):  # singletons stay, without what makes a view of them
        slicer.mrmlScene.RemoveNode(node)
    assert failures.recorded == []
    assert app.errors == []


@pytest.fixture
def panel(clean: None, desktop: Desktop, tiny_model: str) -> Panel:
    """The module, opened and entered, with the tiny model."""
    widget = desktop.open_module()
    opened = Panel(desktop)
    widget.session.state.model = tiny_model
    widget.session.state.engine = "torch"
    opened.breathe()
    return opened


@pytest.fixture
def add_ct() -> Callable[..., Any]:
    """Adds a CT-like volume node to the scene."""

    def add(name: str = "CT", shape: tuple[int, int, int] = (48, 40, 30), seed: int = 0) -> Any:
        volume = phantom(shape, seed=seed, name=name)
        matrix = slicer.util.vtkMatrixFromArray(volume.affine)
        return slicer.util.addVolumeFromArray(volume.array.transpose(2, 1, 0).copy(), matrix, name)

    return add


@pytest.fixture
def red_slice(embedded: Any) -> Any:
    """A slice view's nodes, showing the embedded CT."""
    nodes = []
    for kind in (slicer.vtkMRMLSliceNode, slicer.vtkMRMLSliceCompositeNode):
        node = kind()
        node.SetName("Red")
        node.SetLayoutName("Red")
        nodes.append(slicer.mrmlScene.AddNode(node))
    nodes[0].SetDimensions(150, 150, 1)
    nodes[0].SetFieldOfView(150, 150, 1)
    nodes[1].SetBackgroundVolumeID(embedded.GetID())
    return nodes[0]


@pytest.fixture
def slow_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedding takes a while, in the real code: each tile waits before it is computed."""
    from Vox2VecCore import embedding

    original = embedding.tile_image

    def wait(*arguments: Any) -> Any:
        time.sleep(0.15)
        return original(*arguments)

    monkeypatch.setattr(embedding, "tile_image", wait)


@pytest.fixture
def embedded(panel: Panel, add_ct: Callable[..., Any], shared_cache: Path) -> Any:
    """A CT that is chosen and embedded; computed by the first test that asks for it, from the cache for the others."""
    ct = add_ct()
    panel.ui.volumeSelector.setCurrentNode(ct)
    panel.press(panel.ui.embedButton)
    panel.finish()
    assert panel.session.isEmbedded(ct)
    return ct
