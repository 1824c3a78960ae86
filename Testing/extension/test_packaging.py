"""Slicer packages what the CMakeLists list, and says nothing about the rest: the lists have to equal the tree."""

import importlib
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from Testing.support.cmake_lists import cmake_list

REPOSITORY = Path(__file__).resolve().parents[2]
CORE = REPOSITORY / "Vox2VecCore"
MODULE = REPOSITORY / "Vox2VecSlicer"
NOT_INSTALLED = {"Testing", "Vox2VecWeb"}


def tree(folder: Path, suffix: str = "") -> set[str]:
    """Files that git knows or would know, relative to the folder."""
    command = ["git", "-C", str(folder), "ls-files", "--cached", "--others", "--exclude-standard", "."]
    known = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    files = {name for name in known if name.endswith(suffix) and (folder / name).is_file()}
    return {name for name in files if name.split("/")[0] not in NOT_INSTALLED}


LISTS = [
    (CORE, "VOX2VECCORE_PYTHON_SCRIPTS", lambda: tree(CORE, ".py")),
    (CORE, "VOX2VECCORE_MODELS", lambda: {name for name in tree(REPOSITORY / "Resources" / "Models") if "/" in name}),
    (MODULE, "MODULE_PYTHON_SCRIPTS", lambda: tree(MODULE, ".py")),
    (MODULE, "MODULE_PYTHON_RESOURCES", lambda: {f"Resources/{name}" for name in tree(MODULE / "Resources")}),
]


@pytest.mark.parametrize(("folder", "variable", "expected"), LISTS, ids=[variable for _, variable, _ in LISTS])
def test_cmake_lists_equal_the_tree_both_ways(folder, variable, expected) -> None:
    listed = cmake_list(folder / "CMakeLists.txt", variable)
    assert len(listed) == len(set(listed)), "listed twice"
    assert set(listed) == expected(), "run python Resources/Build/list_files.py"


def test_a_missing_and_a_surplus_file_are_noticed(tmp_path) -> None:
    """The comparison itself can fail."""
    cmake = tmp_path / "CMakeLists.txt"
    cmake.write_text("set(NAME b)\nset(FILES\n  a.py  # first\n  ${NAME}.py\n  )\n", encoding="utf-8")
    assert cmake_list(cmake, "FILES") == ["a.py", "b.py"]
    with pytest.raises(LookupError, match="0 times"):
        cmake_list(cmake, "OTHER")


def test_writing_the_lists_changes_nothing() -> None:
    before = {path: path.read_text(encoding="utf-8") for path in (CORE / "CMakeLists.txt", MODULE / "CMakeLists.txt")}
    subprocess.run([sys.executable, str(REPOSITORY / "Resources" / "Build" / "list_files.py")], check=True)
    after = {path: path.read_text(encoding="utf-8") for path in before}
    for path, text in before.items():
        path.write_text(text, encoding="utf-8")
    assert after == before


def test_only_the_module_lies_at_the_top() -> None:
    """Slicer takes every .py at the top of a scripted-modules folder for a module."""
    assert {path.name for path in MODULE.glob("*.py")} == {"Vox2VecSlicer.py"}


def test_every_test_for_a_real_slicer_is_registered() -> None:
    folder = MODULE / "Testing" / "Python"
    listed = cmake_list(folder / "CMakeLists.txt", "VOX2VEC_PYTHON_TESTS")
    assert set(listed) == {path.name for path in folder.glob("*Test.py")}
    assert listed


def test_requirements_are_the_librarys_own() -> None:
    """What Slicer installs is what ``pyproject.toml`` asks for, less what Slicer brings."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    for path in (MODULE / "Resources").glob("requirements*.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert f'"{line}"' in text, f"{path.name}: {line}"


def test_everything_asked_for_is_pinned_for_the_tests() -> None:
    """Every package that ``pyproject.toml`` names has the version that tests run on in ``constraints.txt``."""
    pinned = re.findall(r"^([\w.-]+)==", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    known = {name.lower().replace("_", "-") for name in pinned}
    asked = {requirement.name.lower() for requirement in map(Requirement, metadata.requires("vox2vec-slicer") or [])}
    assert len(pinned) == len(known), "pinned twice"
    assert asked - {"vox2vec-slicer"} <= known


def test_the_wheel_takes_all_that_is_needed_at_run_time() -> None:
    """The command, the viewer with its page and the shipped model; paths as ``pyproject.toml`` has them."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.search(r"^packages = \[(.*)\]$", text, re.MULTILINE)
    assert packages is not None
    for folder in re.findall(r'"([^"]+)"', packages[1]):
        assert (REPOSITORY / folder / "__init__.py").is_file()
    assert '"Resources/Models" = "Vox2VecCore/Models"' in text
    code = re.search(r'^vox2vec = "([\w.]+):(\w+)"$', text, re.MULTILINE)
    assert code is not None
    assert callable(getattr(importlib.import_module(code[1]), code[2]))
