"""The tests of this folder can fail: with a small fault put into a copy of the module, the right one goes red."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "Vox2VecSlicer"
PANELS = "Vox2VecSlicerPanels"

FAULTS = {
    "a signal that is not connected": (
        f"{PANELS}/EmbedPanel.py",
        "actions.button(ui.embedButton, self.embed)",
        "pass",
        "test_embed.py::test_press_and_watch",
    ),
    "a slider for the wrong parameter": (
        f"{PANELS}/ExplorePanel.py",
        'binding.number(ui.opacitySlider, "opacity")',
        'binding.number(ui.opacitySlider, "balance")',
        "test_explore.py::test_sliders_and_parameters_are_the_same",
    ),
    "a property by a wrong name": (
        f"{PANELS}/StatusPanel.py",
        "ui.progressLabel.text = text",
        "ui.progressLabel.caption = text",
        "test_embed.py::test_press_and_watch",
    ),
    "a method called that is a property": (
        f"{PANELS}/Binding.py",
        "bool(button.checked)",
        "bool(button.checked())",
        "test_explore.py::test_hover_toggle_by_key",
    ),
    "a widget renamed in the .ui file": (
        "Resources/UI/Vox2VecSlicer.ui",
        'name="cancelButton"',
        'name="stopButton"',
        "test_embed.py::test_cancel_really_stops",
    ),
    "where to paint next does not jump": (
        f"{PANELS}/SegmentPanel.py",
        "self._session.jumpTo(place)",
        "pass",
        "test_segment.py::test_where_to_paint_next_jumps_the_slices",
    ),
    "strokes that nobody learns from": (
        "Vox2VecSlicerLib/Strokes.py",
        "        self.changed.emit()\n\n\ndef _label",
        "        pass\n\n\ndef _label",
        "test_segment.py::test_each_stroke_updates_the_preview_by_itself",
    ),
    "the editor's scene before its node": (
        f"{PANELS}/SegmentPanel.py",
        "editor.setMRMLSegmentEditorNode(self._session.segmentEditorNode())",
        "editor.setMRMLSegmentEditorNode(None)",
        "test_segment.py::test_editor_gets_its_nodes_in_the_right_order",
    ),
    "a worker that is not polled": (
        "Vox2VecSlicer.py",
        "self._timer.start()",
        "pass",
        "test_embed.py::test_press_and_watch",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_fault_turns_the_right_test_red(tmp_path: Path, fault: tuple[str, str, str, str]) -> None:
    name, right, wrong, test = fault
    copy = tmp_path / MODULE.name
    shutil.copytree(MODULE, copy, ignore=shutil.ignore_patterns("__pycache__", "Testing", "Vox2VecWeb"))
    text = (copy / name).read_text(encoding="utf-8")
    assert right in text, "the fault no longer fits the code"
    (copy / name).write_text(text.replace(right, wrong), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--timeout=40", f"Testing/module/{test}"],
        cwd=REPOSITORY,
        env={**os.environ, "VOX2VEC_MODULE_UNDER_TEST": str(copy / "Vox2VecSlicer.py")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 1, run.stdout[-2000:] + run.stderr[-2000:]
    assert "no tests ran" not in run.stdout
