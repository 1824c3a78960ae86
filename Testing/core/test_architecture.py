"""Rules of the house: who may import what, nothing printed, nothing done on import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "Vox2VecCore"
FILES = sorted(CORE.rglob("*.py"))
IN_SLICER = {"torch", "numpy", "scipy", "SimpleITK", "nibabel", "safetensors"}
INTERFACES = {"slicer", "vtk", "vtkmodules", "qt", "ctk", "PySide6", "trame", "trame_slicer"}
COMMAND_LINE = {"typer", "rich", "click", "packaging"}
TALKS_TO_PEOPLE = ("cli",)


def imports(tree: ast.AST) -> Iterator[str]:
    """Top-level packages that a syntax tree imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


def at_file_scope(tree: ast.Module) -> ast.Module:
    """The statements that run on import (what is behind TYPE_CHECKING does not)."""

    def runs(node: ast.stmt) -> bool:
        hidden = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        return not hidden and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))

    return ast.Module([node for node in tree.body if runs(node)], [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CORE).as_posix())
def test_imports(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    talks = path.relative_to(CORE).parts[0] in TALKS_TO_PEOPLE
    everywhere, on_import = set(imports(tree)), set(imports(at_file_scope(tree)))
    assert not everywhere & INTERFACES
    assert talks or not everywhere & COMMAND_LINE
    third_party = on_import - set(sys.stdlib_module_names) - {"Vox2VecCore"}
    allowed = IN_SLICER | COMMAND_LINE if talks else IN_SLICER
    assert third_party <= allowed, "optional packages are imported where they are used"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CORE).as_posix())
def test_the_core_does_not_print_and_files_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    printed = [call for call in calls if isinstance(call, ast.Name) and call.id in ("print", "input")]
    assert not printed
    assert text.count("\n") <= 400, "a file is one room"


def test_importing_the_package_is_light() -> None:
    code = "import sys, Vox2VecCore; print(sorted({'torch', 'numpy', 'SimpleITK', 'scipy'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=CORE.parent, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_core_runs_on_what_slicer_has() -> None:
    """Embedding and similarity work when nothing but Slicer's packages, torch, nibabel and safetensors is there."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"openvino", "typer", "rich", "matplotlib", "lightning_fabric", "tensorboard"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import tempfile
from pathlib import Path
from Testing.support.models import random_model
from Testing.support.scans import phantom
from Vox2VecCore import embed, similarity_map
import Vox2VecCore.engines
Vox2VecCore.engines.openvino_installed = lambda: False
pyramid = embed(phantom(), random_model(Path(tempfile.mkdtemp())), cache=False)
print(similarity_map(pyramid, [(0, 0, 0)]).array.max())
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=CORE.parent, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) > 90
