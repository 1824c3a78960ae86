"""The tests of this folder can fail: with a small fault put into a copy of the module, the right one goes red."""

import importlib
import inspect
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from Testing.module.conftest import Panel
from Testing.module.test_segment import painted
from Testing.support.qt_stand_in import failures
from Testing.support.qt_stand_in.desktop import Desktop

__all__ = ["painted"]

MODULE = Path(__file__).resolve().parents[2] / "Vox2VecSlicer"
PANELS, LIBRARY = "Vox2VecSlicerPanels", "Vox2VecSlicerLib"
LIMIT_SECONDS = 3.0
"""How long a test waits for what a fault keeps from happening."""

FAULTS = {
    "a signal that is not connected": (
        f"{PANELS}/EmbedPanel.py",
        "actions.button(ui.embedButton, self.embed)",
        "pass",
        "test_embed.test_press_and_watch",
    ),
    "a slider for the wrong parameter": (
        f"{PANELS}/ExplorePanel.py",
        'binding.number(ui.opacitySlider, "opacity")',
        'binding.number(ui.opacitySlider, "balance")',
        "test_explore.test_sliders_and_parameters_are_the_same",
    ),
    "a property by a wrong name": (
        f"{PANELS}/StatusPanel.py",
        "ui.progressLabel.text = text",
        "ui.progressLabel.caption = text",
        "test_embed.test_press_and_watch",
    ),
    "a method called that is a property": (
        f"{PANELS}/Binding.py",
        "bool(button.checked)",
        "bool(button.checked())",
        "test_explore.test_hover_toggle_by_key",
    ),
    "a widget renamed in the .ui file": (
        "Resources/UI/Vox2VecSlicer.ui",
        'name="cancelButton"',
        'name="stopButton"',
        "test_embed.test_cancel_really_stops",
    ),
    "where to paint next does not jump": (
        f"{PANELS}/SegmentPanel.py",
        "self._session.jumpTo(place)",
        "pass",
        "test_segment.test_where_to_paint_next_jumps_the_slices",
    ),
    "strokes that nobody learns from": (
        f"{LIBRARY}/Strokes.py",
        "        self.changed.emit()\n\n\ndef _structureName",
        "        pass\n\n\ndef _structureName",
        "test_segment.test_each_stroke_updates_the_preview_by_itself",
    ),
    "the editor's scene before its node": (
        f"{PANELS}/SegmentPanel.py",
        "editor.setMRMLSegmentEditorNode(self._session.segmentEditorNode())",
        "editor.setMRMLSegmentEditorNode(None)",
        "test_segment.test_editor_gets_its_nodes_in_the_right_order",
    ),
    "a worker that is not polled": (
        "Vox2VecSlicer.py",
        "self._timer.start()",
        "pass",
        "test_embed.test_press_and_watch",
    ),
}


NO_FAULT = {
    f"{test} without a fault": (name, "", "", test)
    for name, _right, _wrong, test in FAULTS.values()
    if test in ("test_embed.test_press_and_watch", "test_segment.test_each_stroke_updates_the_preview_by_itself")
}
PARAMETERS = {"slider": "opacitySlider", "parameter": "opacity", "value": 0.8}
"""For the one test that has parameters."""


@pytest.fixture
def copied_module(tmp_path: Path, desktop: Desktop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the module that the application opens instead of the module itself."""
    copy = tmp_path / MODULE.name
    shutil.copytree(MODULE, copy, ignore=shutil.ignore_patterns("__pycache__", "Testing", "Vox2VecWeb"))
    monkeypatch.setattr(desktop, "module", copy / "Vox2VecSlicer.py")
    monkeypatch.syspath_prepend(str(copy))
    forget_module()
    yield copy
    forget_module()


def forget_module() -> None:
    """The module's packages are imported anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] in (PANELS, LIBRARY)]:
        del sys.modules[name]


@pytest.mark.parametrize("fault", [*FAULTS.values(), *NO_FAULT.values()], ids=[*FAULTS, *NO_FAULT])
def test_a_fault_turns_the_right_test_red(
    copied_module: Path, request: pytest.FixtureRequest, app, monkeypatch, fault: tuple[str, str, str, str]
) -> None:
    name, right, wrong, test = fault
    path = copied_module / name
    text = path.read_text(encoding="utf-8")
    assert right in text, "the fault no longer fits the code"
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    if right:
        until = Panel.until
        monkeypatch.setattr(Panel, "until", lambda panel, holds, seconds=0: until(panel, holds, LIMIT_SECONDS))
    file, _, function = test.partition(".")
    complaints = []
    try:
        run = getattr(importlib.import_module(f"Testing.module.{file}"), function)
        names = inspect.signature(run).parameters
        run(**{each: PARAMETERS.get(each) or request.getfixturevalue(each) for each in names})
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - whatever turns it red
        complaints.append(repr(error))
    complaints += [*failures.recorded, *app.errors]
    failures.clear()
    app.errors.clear()
    assert bool(complaints) == bool(right), complaints
