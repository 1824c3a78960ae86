"""Heads: saved, loaded, applied to other scans; a folder in a process of its own."""

import os
import sys
import threading
from pathlib import Path

import pytest

from Testing.module.test_segment import painted

__all__ = ["painted"]


@pytest.fixture
def trained(panel, painted):
    """A head from strokes."""
    panel.press(panel.ui.updatePreviewButton)
    panel.finish()
    assert panel.session.hasHead
    return painted


def test_nothing_learned_nothing_to_save(panel) -> None:
    assert not panel.ui.saveHeadButton.enabled
    assert not panel.ui.applyHeadButton.enabled
    assert "Nothing has been learned" in panel.ui.headLabel.text


def test_save_load_and_apply(panel, trained, add_ct, tmp_path: Path) -> None:
    import slicer
    from PySide6 import QtCore

    path = tmp_path / "head.safetensors"
    panel.desktop.answers.append(str(path))
    panel.press(panel.ui.saveHeadButton)
    assert path.is_file()
    panel.desktop.answers.append(str(path))
    load, threads = panel.session.headTool.load, []
    panel.session.headTool.tool.load = lambda path: (threads.append(threading.current_thread().name), load(path))[1]
    panel.press(panel.ui.loadHeadButton)
    panel.finish()
    assert threads == ["vox2vec-worker"]
    assert not panel.ui.errorLabel.visible
    other = add_ct("other", seed=3)
    panel.ui.headVolumesSelector.setCheckState(other, QtCore.Qt.Checked)
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    panel.press(panel.ui.applyHeadButton)
    panel.finish()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") > before


def test_forget_drops_the_head(panel, trained, tmp_path: Path) -> None:
    panel.desktop.answers.append(str(tmp_path / "head.safetensors"))
    panel.press(panel.ui.saveHeadButton)
    panel.press(panel.ui.dropHeadButton)
    panel.finish()
    assert not panel.session.hasHead
    assert not panel.ui.dropHeadButton.enabled and not panel.ui.saveHeadButton.enabled
    assert not panel.ui.applyButton.enabled
    assert "Nothing has been learned" in panel.ui.headLabel.text
    assert "Save or load a head first" in panel.ui.batchButton.toolTip


def test_a_file_that_is_no_head(panel, embedded, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    path.write_bytes(b"no head")
    panel.desktop.answers.append(str(path))
    panel.press(panel.ui.loadHeadButton)
    panel.finish()
    assert panel.ui.errorLabel.visible
    assert "no readable head" in panel.ui.errorLabel.text
    assert not panel.session.hasHead


def test_cancelled_dialogs_do_nothing(panel, trained) -> None:
    for button in (panel.ui.saveHeadButton, panel.ui.loadHeadButton):
        panel.desktop.answers.append("")
        panel.press(button)
    assert not panel.ui.errorLabel.visible


BATCH = """
import sys, time
print("arguments", *sys.argv[1:], flush=True)
for number in range(int(sys.argv[1])):
    print("scan", number, flush=True)
    if number == 1:
        print("Error: b.nii.gz: has no voxels.", file=sys.stderr, flush=True)
    time.sleep(0.02)
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch) -> str:
    """A module on the path that plays the command line."""
    (tmp_path / "played_command.py").write_text(BATCH, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "played_command"


def test_lines_arrive_and_the_end_is_told(panel, command) -> None:
    panel.widget.heads.batch.start(command, ["3", "0"])
    assert panel.widget.heads.batch.running
    panel.until(lambda: not panel.widget.heads.batch.running)
    log = panel.ui.batchLog.plainText
    assert "scan 2" in log
    assert panel.ui.batchLabel.text.splitlines() == ["Done.", "Error: b.nii.gz: has no voxels."]
    panel.widget.heads.batch.start(command, ["1", "0"])
    panel.until(lambda: not panel.widget.heads.batch.running)
    assert panel.ui.batchLabel.text == "Done.", "failures of the run before are gone"


def test_inside_slicer_its_own_python_is_started(panel, command, tmp_path: Path, monkeypatch) -> None:
    python = tmp_path / "PythonSlicer"
    python.write_text(f'#!/bin/sh\necho PythonSlicer\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    panel.widget.heads.batch.start(command, ["1", "0"])
    panel.until(lambda: not panel.widget.heads.batch.running)
    assert panel.ui.batchLog.plainText.splitlines()[:2] == ["PythonSlicer", "arguments 1 0"]


def test_a_failure_is_told(panel, command) -> None:
    panel.widget.heads.batch.start(command, ["1", "2"])
    panel.until(lambda: not panel.widget.heads.batch.running)
    assert "code 2" in panel.ui.batchLabel.text


def test_stop_stops(panel, command) -> None:
    panel.widget.heads.batch.start(command, ["100000", "0"])
    panel.until(lambda: "scan 3" in panel.ui.batchLog.plainText)
    panel.widget.heads.refresh()
    panel.press(panel.ui.batchButton)
    panel.until(lambda: not panel.widget.heads.batch.running)
    assert panel.ui.batchLabel.text != "Done."


def test_folder_needs_a_head_file_and_both_folders(panel, trained, tmp_path: Path, monkeypatch) -> None:
    from Vox2VecSlicerLib import Installation

    started = []
    monkeypatch.setattr(
        panel.widget.heads.batch, "start", lambda module, arguments: started.append([module, *arguments])
    )
    monkeypatch.setattr(Installation, "missing", lambda *_: [])
    panel.ui.inputFolderEdit.currentPath = str(tmp_path)
    panel.ui.outputFolderEdit.currentPath = str(tmp_path / "out")
    assert not panel.ui.batchButton.enabled
    assert "head" in panel.ui.batchButton.toolTip
    panel.desktop.answers.append(str(tmp_path / "head.safetensors"))
    panel.press(panel.ui.saveHeadButton)
    panel.press(panel.ui.batchButton)
    module, *arguments = started[0]
    assert module == "Vox2VecCore.cli"
    head = str(tmp_path / "head.safetensors")
    assert arguments[:7] == ["head", "apply", str(tmp_path), "--head", head, "--out", str(tmp_path / "out")]
    assert arguments[7:] == ["--model", panel.session.state.model, "--device", "auto", "--engine", "torch"]
    panel.session.updatePreview(wait=True)
    assert not panel.ui.batchButton.enabled, "what was learnt since is not in the file"
