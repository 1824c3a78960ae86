"""The extension configured, built and installed by CMake (against a stub of Slicer): what arrives is complete."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STUB = Path(__file__).parent / "stub_slicer"


def cmake(*arguments: str | Path, cwd: Path) -> str:
    """Run cmake (that of the ``cmake`` wheel when the system has none) or fail with its output."""
    command = shutil.which("cmake") or str(Path(sys.executable).with_name("cmake"))
    run = subprocess.run([command, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of scripted modules of an installed extension."""
    build, prefix = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("installed")
    options = [f"-DSlicer_DIR={STUB}", f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DBUILD_TESTING=ON"]
    for language in ("C", "CXX"):  # project() asks for compilers, and nothing here is compiled
        options += [f"-DCMAKE_{language}_COMPILER={sys.executable}", f"-DCMAKE_{language}_COMPILER_FORCED=ON"]
    cmake("-S", REPOSITORY, "-B", build, *options, cwd=build)
    cmake("--build", build, cwd=build)
    cmake("--install", build, cwd=build)
    return prefix / "lib" / "Slicer-5.12" / "qt-scripted-modules"


def test_everything_arrives(installed: Path) -> None:
    for name in (
        "Vox2VecSlicer.py",
        "Vox2VecSlicerLib/Session.py",
        "Vox2VecSlicerPanels/EmbedPanel.py",
        "Resources/UI/Vox2VecSlicer.ui",
        "Resources/Icons/Vox2VecSlicer.svg",
        "Resources/requirements.txt",
        "Vox2VecCore/__init__.py",
        "Vox2VecCore/cli/__main__.py",
        "Vox2VecCore/Models/vox2vec-small/model.safetensors",
    ):
        assert (installed / name).is_file(), name
    assert not (installed / "Testing").exists()


def test_the_installed_library_works_by_itself(installed: Path) -> None:
    """From the installed folder alone, with the shipped model."""
    code = (
        "import Vox2VecCore, sys; from Vox2VecCore.model import list_models; "
        "print(Vox2VecCore.__file__, [model.config.name for model in list_models()])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=installed,
        env={"PYTHONPATH": str(installed), "PATH": "", "HOME": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(installed) in run.stdout, run.stdout + run.stderr
    assert "vox2vec-small" in run.stdout
