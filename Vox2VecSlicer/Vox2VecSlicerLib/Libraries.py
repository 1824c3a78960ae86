"""PyTorch and OpenVINO, loaded in the worker without holding up the interface.

Opening a library of hundreds of megabytes takes a fifth of a second, in which ``import`` keeps Python's lock, and so
stops everything that the interface does in Python. ``dlopen`` called through ctypes does not keep it; the import that
follows finds the library open.
"""

import ctypes
import importlib
import importlib.util
import os
import sys
from pathlib import Path

from Vox2VecCore.errors import Vox2VecError
from Vox2VecSlicerLib.Texts import tr as _

LARGE = {"torch": "lib/libtorch_python.*", "openvino": "libs/libopenvino.*"}
"""Packages and their large libraries, which bring the others along."""


def load() -> None:
    """Import what every computation needs. For the worker, before anything of the core that brings PyTorch.

    :raises Vox2VecError: if PyTorch is not installed.
    """
    if "torch" in sys.modules:
        return
    for package, pattern in LARGE.items():
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            for path in Path(found.origin).parent.glob(pattern):
                _open(path)
        elif package == "torch":
            raise Vox2VecError(_("PyTorch is not installed yet; press Install under Set-up."))
    importlib.import_module("torch")
    importlib.import_module("Vox2VecCore.similarity")  # for the interface's own thread, when the mouse first moves


def _open(path: Path) -> None:
    """Open a library; where that fails, importing it says why. On Windows PyTorch itself opens its libraries so."""
    dlopen = None if sys.platform == "win32" else getattr(ctypes.CDLL(None), "dlopen", None)
    if dlopen is not None:
        dlopen.argtypes, dlopen.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
        dlopen(os.fsencode(path), os.RTLD_NOW)
