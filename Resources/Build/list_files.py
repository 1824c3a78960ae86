"""Write the lists of packaged files in the CMakeLists of the Slicer extension.

Slicer packages what is listed and nothing else, without a word about the rest. Run this after adding or removing a
file; a test compares the lists with the tree.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CORE = REPOSITORY / "Vox2VecCore"
MODULE = REPOSITORY / "Vox2VecSlicer"
MODELS = REPOSITORY / "Resources" / "Models"
NOT_IN_SLICER = ("Testing", "Vox2VecWeb")
"""Folders beside the module that are not installed: its tests, and the viewer for a browser."""


def files_below(folder: Path, *patterns: str) -> list[str]:
    """Files as CMake lists them: relative to the folder, with forward slashes, sorted; none of caches or tests."""
    found = {path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}
    relative = (path.relative_to(folder) for path in found)
    return sorted(
        path.as_posix() for path in relative if "__pycache__" not in path.parts and path.parts[0] not in NOT_IN_SLICER
    )


def lists() -> dict[Path, dict[str, list[str]]]:
    """For each CMakeLists its variables and what belongs in them."""
    return {
        CORE / "CMakeLists.txt": {
            "VOX2VECCORE_PYTHON_SCRIPTS": files_below(CORE, "*.py"),
            "VOX2VECCORE_MODELS": files_below(MODELS, "*/*"),
        },
        MODULE / "CMakeLists.txt": {
            "MODULE_PYTHON_SCRIPTS": files_below(MODULE, "*.py"),
            "MODULE_PYTHON_RESOURCES": [f"Resources/{name}" for name in files_below(MODULE / "Resources", "*")],
        },
    }


def with_list(cmake: str, variable: str, files: Iterable[str]) -> str:
    """The text of a CMakeLists in which ``set(variable ...)`` lists these files."""
    body = "".join(f"\n  {name}" for name in files)
    changed, count = re.subn(rf"set\({variable}\b[^)]*\)", f"set({variable}{body}\n  )", cmake)
    if count != 1:
        raise SystemExit(f"set({variable} ...) stands {count} times in the CMakeLists instead of once.")
    return changed


def main() -> None:
    """Write every list."""
    for path, variables in lists().items():
        text = path.read_text(encoding="utf-8")
        for variable, files in variables.items():
            text = with_list(text, variable, files)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
