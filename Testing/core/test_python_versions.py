"""Python 3.10 to 3.13: nothing newer is used than the oldest of them has, and the others are refused in a sentence.

New syntax is found by ruff, whose target is 3.10; this is about the standard library.
"""

import ast
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CHECK = REPOSITORY / "Resources" / "Build" / "check_system.py"
FOLDERS = ("Vox2VecCore", "Vox2VecSlicer", "Resources", "Testing")
FILES = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))

NEW_MODULES = {"tomllib", "compression", "annotationlib"}
NEW_NAMES = {
    "typing": "Self Never LiteralString assert_never assert_type reveal_type Required NotRequired Unpack TypeVarTuple "
    "override TypeAliasType ReadOnly TypeIs NoDefault clear_overloads dataclass_transform",
    "enum": "StrEnum ReprEnum EnumCheck verify member nonmember property",
    "datetime": "UTC",
    "itertools": "batched",
    "hashlib": "file_digest",
    "contextlib": "chdir",
    "asyncio": "TaskGroup timeout timeout_at Runner Barrier",
    "math": "exp2 cbrt sumprod",
    "logging": "getLevelNamesMapping getHandlerNames",
    "inspect": "getmembers_static markcoroutinefunction",
    "operator": "call",
    "warnings": "deprecated",
    "copy": "replace",
    "os": "process_cpu_count EX_OK_",
    "sys": "exception monitoring activate_stack_trampoline",
    "builtins": "ExceptionGroup BaseExceptionGroup PythonFinalizationError",
}
NEW_METHODS = {"add_note", "full_match", "from_uri", "walk"}
"""Of exceptions and paths; ``os.walk`` and ``ast.walk`` are older."""
NEW_KEYWORDS = {"walk_up", "case_sensitive", "recurse_symlinks", "onexc", "delete_on_close", "skip_file_prefixes"}


def too_new(tree: ast.AST) -> Iterator[str]:
    """What of a syntax tree Python 3.10 does not have."""
    names = {(module, name) for module, listed in NEW_NAMES.items() for name in listed.split()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in NEW_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module.split(".")[0] in NEW_MODULES:
                yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names if (node.module, a.name) in names)
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if (owner, node.attr) in names or (node.attr in NEW_METHODS and owner not in ("os", "ast")):
                yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.Name) and ("builtins", node.id) in names:
            yield node.id
        elif isinstance(node, ast.keyword) and node.arg in NEW_KEYWORDS:
            yield f"{node.arg}="


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_newer_than_the_oldest_python(folder: str) -> None:
    found = []
    for path in FILES:
        if path.relative_to(REPOSITORY).parts[0] == folder:
            tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
            found += [f"{path.relative_to(REPOSITORY)}: {name}" for name in too_new(tree)]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import tomllib",
        "from typing import Self",
        "import enum\nclass A(enum.StrEnum): pass",
        "raise ExceptionGroup('', [])",
        "for a in Path('.').walk(): pass",
        "import shutil; shutil.rmtree('a', onexc=print)",
    ],
)
def test_what_is_too_new_is_noticed(code: str) -> None:
    assert len(list(too_new(ast.parse(code)))) == 1


def test_the_promised_versions_are_the_same_everywhere() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.10"' in project
    assert 'target-version = "py310"' in project
    assert "(3, 10) <= sys.version_info[:2] <= (3, 13)" in CHECK.read_text(encoding="utf-8")
    assert "Python 3.10 to 3.13" in (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 9, 2), (3, 14, 0)])
def test_another_python_is_refused_in_a_sentence(version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(sys, "argv", [str(CHECK)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(CHECK), run_name="__main__")
    assert re.fullmatch(rf"Python 3\.{version[1]} is not supported .*make install PYTHON=python3\.12", str(end.value))


def test_the_check_itself_runs_on_old_pythons() -> None:
    """A Python that cannot read it would say something else instead of its sentence."""
    tree = ast.parse(CHECK.read_text(encoding="utf-8"), feature_version=(3, 6))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert functions
    assert all(node.returns is None for node in functions), "old Pythons evaluate annotations"
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.NamedExpr, ast.AnnAssign))]


def test_missing_parts_of_the_system_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check = runpy.run_path(str(CHECK))
    assert check["missing"]() is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert re.search(r"venv module is missing: .* apt-get install python3\.\d+-venv", check["missing"]())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None if name == "EGL" else name)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name == "chromium" else None)
    assert check["missing_packages"]() == ["libegl1", "libgl1-mesa-dri"]
    assert check["advice"]().endswith("apt-get install libegl1 libgl1-mesa-dri")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert check["advice"]() is None


@pytest.mark.parametrize(
    ("system", "packages", "advice"),
    [
        ("ID=debian\n", ["chromium"], "apt-get install chromium"),
        ("ID=ubuntu\nID_LIKE=debian\n", [], "after make install, .venv/bin/python -m playwright install chromium"),
        (None, [], "after make install, .venv/bin/python -m playwright install chromium"),
    ],
)
def test_a_missing_browser_is_named(
    monkeypatch: pytest.MonkeyPatch, system: str | None, packages: list[str], advice: str
) -> None:
    check = runpy.run_path(str(CHECK))
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("pathlib.Path.exists", lambda path: system is not None)
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: system or "")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.util.find_library", lambda name: name)
    assert check["missing_packages"]() == packages
    assert check["browser_advice"]().endswith(advice)
    assert check["advice"]().endswith(advice)


def test_make_install_stops_at_the_check(tmp_path: Path) -> None:
    """``make install PYTHON=...`` asks that Python first, and makes nothing when it is refused."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "asked $1"\nexit 1\n')
    python.chmod(0o755)
    command = ["make", "-C", str(REPOSITORY), "install", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "asked Resources/Build/check_system.py" in done.stdout
    assert not (tmp_path / "venv").exists()
