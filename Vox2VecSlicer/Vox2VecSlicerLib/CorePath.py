"""Where the library lies: beside the module when installed, one folder up when run from a source tree."""

import importlib.util
import sys
from pathlib import Path


def makeCoreImportable() -> None:
    """Let ``import Vox2VecCore`` work when only the module's own folder is on the path ("additional module paths")."""
    if importlib.util.find_spec("Vox2VecCore") is None:
        sys.path.append(str(Path(__file__).resolve().parents[2]))
