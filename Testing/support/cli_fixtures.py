"""Fixtures for tests of the command line: two random models, two small scans, and a way to run a command on them."""

from pathlib import Path

import numpy as np
import pytest

from Testing.support.commands import Run, runner
from Testing.support.models import random_model
from Testing.support.scans import phantom
from Vox2VecCore.cli import console
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import write_volume

SIMILAR = ("similarity", "scan.nii.gz", "-m", "rough")
"""The beginning of a command line on the scan in :func:`folder`."""
CANCELLED = "Cancelled; nothing was left half done.\n"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a quick model ("rough") and one with more tiles and more work ("slow")."""
    folder = tmp_path_factory.mktemp("models")
    random_model(folder, base_channels=4, tile_shape=(64, 64, 64), statistics=True, name="rough")
    random_model(folder, base_channels=24, spacing_mm=(2.0, 2.0, 2.0), name="slow")
    return folder


@pytest.fixture
def only_these_models(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the one that is shipped."""
    monkeypatch.setenv("VOX2VEC_MODELS_DIR", str(models))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small scan, ``scan.nii.gz``, and the same one shifted by 6 mm, ``other.nii.gz``."""
    write_volume(phantom(), tmp_path / "scan.nii.gz")
    shifted = phantom()
    affine = shifted.affine.copy()
    affine[0, 3] += 6
    write_volume(Volume(shifted.array, affine), tmp_path / "other.nii.gz")
    return tmp_path


@pytest.fixture
def run(
    folder: Path, only_these_models: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command line in the folder: exit code, stdout, stderr."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(console, "LOG_EVERY_S", np.inf)  # on a slow machine a line may be due

    return runner(capsys)
