"""Fixtures for tests that need Slicer's MRML: one application a process, an empty scene a test, no VTK complaint."""

import functools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from Testing.support.slicer_app import App

theApp = functools.cache(App)
"""One for all layers of a process: each has these fixtures as its own, and its tests may come in any order."""


@pytest.fixture(scope="session")
def slicer_app() -> App:
    """Slicer's singletons."""
    return theApp()


@pytest.fixture(autouse=True)
def scene(slicer_app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """An empty scene; the test fails if VTK or an observer complains."""
    raised: list[str] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, value, _trace: raised.append(f"{kind.__name__}: {value}"))
    monkeypatch.setattr(sys, "unraisablehook", lambda report: raised.append(str(report.exc_value)))
    slicer_app.clear()
    slicer_app.errors.clear()
    yield slicer_app.mrmlScene()
    slicer_app.mrmlScene().Clear(0)
    slicer_app.close_views()
    complaints, slicer_app.errors[:] = list(slicer_app.errors), []
    assert not complaints, f"VTK complained: {complaints}"
    assert not raised, f"an exception in an observer: {raised}"


@pytest.fixture
def expect_vtk_errors(slicer_app: App) -> Iterator[list[str]]:
    """For a test that provokes complaints: the list of them; it has to hold some, and they are forgiven."""
    yield slicer_app.errors
    assert slicer_app.errors, "the expected complaint of VTK did not come"
    slicer_app.errors.clear()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model with random weights."""
    from Testing.support.models import random_model

    return random_model(tmp_path_factory.mktemp("models"), statistics=True).directory


@pytest.fixture
def shared_cache(private_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """For tests that embed the same part of a real CT: the first one computes, the others find it."""
    known = tmp_path_factory.getbasetemp() / "known embeddings"
    if known.is_dir():
        shutil.copytree(known, private_cache, dirs_exist_ok=True)
    yield private_cache
    shutil.copytree(private_cache, known, dirs_exist_ok=True)


@pytest.fixture
def session(scene: object, tiny_model: Path) -> Iterator:
    """A session with the tiny model and a simple head."""
    from Testing.support.slicer_heads import NearestClass
    from Vox2VecSlicerLib.Session import Session

    session = Session(headTool=NearestClass())
    session.state.model = str(tiny_model)
    session.state.device, session.state.engine = "cpu", "torch"
    yield session
    assert session.shutdown(), "the worker did not end"
