"""The tests for a real Slicer, over the stand-in: that they can pass, not that they do in the desktop application."""

import sys
import types
import unittest
from pathlib import Path

import pytest
import slicer

FOLDER = Path(__file__).resolve().parents[2] / "Vox2VecSlicer" / "Testing" / "Python"


@pytest.fixture
def application(panel, monkeypatch, shared_cache, tiny_model) -> None:
    """What these tests ask of the application, and a small model in place of the shipped one."""
    from Vox2VecSlicerLib.State import ModuleState

    def select(name: str) -> None:
        if name == "Vox2VecSlicer":
            panel.desktop.panel.enter()
        else:
            panel.desktop.panel.exit()

    sources = {source["sampleName"]: types.SimpleNamespace(**source) for source in panel.desktop.sample_data}
    monkeypatch.setattr(slicer.util, "selectModule", select)
    monkeypatch.setattr(slicer.util, "getModuleWidget", lambda _name: panel.widget, raising=False)
    monkeypatch.setattr(slicer.modules, "sampleDataSources", {"Vox2Vec": [*sources.values()]}, raising=False)
    monkeypatch.setattr(vars(ModuleState)["model"], "default", tiny_model)
    monkeypatch.setattr(vars(ModuleState)["engine"], "default", "torch")
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for path in FOLDER.glob("*Test.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*Test.py")))
def test_they_pass_over_the_stand_in(application, name: str) -> None:
    suite = unittest.defaultTestLoader.loadTestsFromName(name)
    outcome = unittest.TestResult()
    suite.run(outcome)
    assert suite.countTestCases() == outcome.testsRun > 2
    assert not outcome.skipped
    assert [text for _, text in [*outcome.failures, *outcome.errors]] == []
