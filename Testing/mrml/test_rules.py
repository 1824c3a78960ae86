"""What the controllers may not do: know a window, or load PyTorch before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import Vox2VecSlicerLib

FILES = sorted(Path(Vox2VecSlicerLib.__file__).parent.glob("*.py"))
WINDOWS = {"qt", "ctk", "PythonQt", "PySide6", "trame", "trame_slicer"}
HEAVY = ("torch", "openvino", "scipy", "nibabel")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_window_is_known(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & WINDOWS
        if isinstance(node, ast.Attribute):
            assert node.attr != "layoutManager"
            assert not (node.attr == "app" and isinstance(node.value, ast.Name) and node.value.id == "slicer")


def test_importing_loads_nothing_heavy():
    code = (
        "import sys; from Testing.support.slicer_app import App; App(); import Vox2VecSlicerLib.Session; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    repository = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_deliberate_fault_fits_the_code():
    """``Testing.tools.faults`` takes minutes; that it still has something to put its faults into is told here."""
    from Testing.tools.faults import FAULTS, LIBRARY

    for fault in FAULTS:
        assert (LIBRARY / fault.file).read_text(encoding="utf-8").count(fault.right) == 1, fault.name
