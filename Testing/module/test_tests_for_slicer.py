"""The tests for a real Slicer, over the stand-in: that they can pass, not that they do in the desktop application."""

import sys
import types
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from Testing.support.slicer_nodes import volumeNode
from Vox2VecCore.volume_io import read_volume

FOLDER = Path(__file__).resolve().parents[2] / "Vox2VecSlicer" / "Testing" / "Python"
WITH_THE_SHIPPED_MODEL = ("Vox2VecTutorialTest",)
"""The others are quicker with a tiny one."""


def chest(path: Path, name: str) -> Any:
    """The middle of the demo CT, every third row and column, in place of a sample that would be downloaded."""
    volume = read_volume(path)
    affine = volume.affine @ np.array([[3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 1, 40], [0, 0, 0, 1]])
    return volumeNode(affine, np.asarray(volume.array)[::3, ::3, 40:100], name)


@pytest.fixture
def application(panel, monkeypatch, shared_cache, demo_ct) -> None:
    """What these tests ask of the application."""

    def select(name: str) -> None:
        if name == "Vox2VecSlicer":
            panel.desktop.panel.enter()
        else:
            panel.desktop.panel.exit()

    sources = {source["sampleName"]: types.SimpleNamespace(**source) for source in panel.desktop.sample_data}
    monkeypatch.setattr(slicer.util, "selectModule", select)
    monkeypatch.setattr(slicer.util, "getModuleWidget", lambda _name: panel.widget, raising=False)
    monkeypatch.setattr(slicer.modules, "sampleDataSources", {"Vox2Vec": [*sources.values()]}, raising=False)
    monkeypatch.setattr(sys.modules["SampleData"], "downloadSample", lambda name: chest(demo_ct, name), raising=False)
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for path in FOLDER.glob("*Test.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*Test.py")))
def test_they_pass_over_the_stand_in(application, monkeypatch, tiny_model, name: str) -> None:
    from Vox2VecSlicerLib.State import ModuleState

    if name not in WITH_THE_SHIPPED_MODEL:
        monkeypatch.setattr(vars(ModuleState)["model"], "default", tiny_model)
        monkeypatch.setattr(vars(ModuleState)["engine"], "default", "torch")
    suite = unittest.defaultTestLoader.loadTestsFromName(name)
    outcome = unittest.TestResult()
    suite.run(outcome)
    assert suite.countTestCases() == outcome.testsRun > 0
    assert not outcome.skipped
    assert [text for _, text in [*outcome.failures, *outcome.errors]] == []
