"""What the index's reviewers object to: work when a file is imported, and imports that Slicer does not bring."""

import ast
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "Vox2VecSlicer"
OWN = {"Vox2VecCore", "Vox2VecSlicerLib", "Vox2VecSlicerPanels", "Vox2VecSlicer"}
IN_SLICER = {"slicer", "vtk", "vtkmodules", "qt", "ctk", "numpy", "scipy", "SimpleITK"}
HARMLESS_CALLS = {
    "array",
    "list",
    "ndindex",
    "TypeVar",
    "frozenset",
    "Path",
    "getLogger",
    "compile",
    "tuple",
    "set",
    "dict",
    "namedtuple",
}
"""Calls at file scope that only make a value."""

FILES = sorted(
    path for path in MODULE.rglob("*.py") if path.relative_to(MODULE).parts[0] not in ("Testing", "Vox2VecWeb")
)


def file_scope(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run on import, those in class bodies included."""
    found: list[ast.stmt] = []
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef):
            found += [inner for inner in statement.body if not isinstance(inner, ast.FunctionDef)]
        elif not isinstance(statement, ast.FunctionDef):
            found.append(statement)
    return found


def is_type_checking(statement: ast.stmt) -> bool:
    """``if TYPE_CHECKING:`` runs in no program."""
    return isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test)


def calls(node: ast.AST) -> list[str]:
    """Names of what is called, outside of functions and lambdas."""
    found = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.Call):
            found.append(ast.unparse(child.func).rsplit(".", 1)[-1])
        found += calls(child)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_at_file_scope_come_with_slicer(path: Path) -> None:
    for statement in file_scope(ast.parse(path.read_text(encoding="utf-8"))):
        if is_type_checking(statement):
            continue
        for node in ast.walk(statement):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "relative import"
                names = [node.module or ""]
            for name in names:
                root = name.partition(".")[0]
                assert root in OWN | IN_SLICER or root in sys.stdlib_module_names, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_is_done_at_file_scope(path: Path) -> None:
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.If)
    for statement in file_scope(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring
        assert isinstance(statement, allowed), ast.unparse(statement)
        assert not isinstance(statement, ast.If) or is_type_checking(statement), ast.unparse(statement)
        calm = {
            *HARMLESS_CALLS,
            "field",
            "Path",
            "resolve",
            "Parameter",
            "NodeParameter",
            "_one_of",
            "_between",
            "vars",
            "items",
            "isinstance",
        }
        assert set(calls(statement)) <= calm, ast.unparse(statement)


def test_only_panels_and_the_module_know_qt() -> None:
    for path in FILES:
        if path.parent.name == "Vox2VecSlicerLib":
            text = ast.parse(path.read_text(encoding="utf-8"))
            imported = {alias.name for node in ast.walk(text) if isinstance(node, ast.Import) for alias in node.names}
            assert not imported & {"qt", "ctk"}, path.name
            assert "layoutManager" not in path.read_text(encoding="utf-8"), path.name


def test_module_is_wiring_only() -> None:
    assert len((MODULE / "Vox2VecSlicer.py").read_text(encoding="utf-8").splitlines()) < 500


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_syntax_of_slicers_python(path: Path) -> None:
    """Slicer 5.10 has Python 3.12; the repository supports 3.10."""
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
