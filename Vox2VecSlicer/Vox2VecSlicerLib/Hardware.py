"""Whether a graphics card can be expected, told without loading PyTorch."""

import os
import platform
import shutil
import sys
from pathlib import Path

from Vox2VecCore.versions import installed_version


def graphicsCardExpected() -> bool:
    """True when the driver of a card that PyTorch can use is here and PyTorch was not built without it."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return _nvidiaDriver() and not _builtForProcessorOnly()


def _nvidiaDriver() -> bool:
    windows = Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32" / "nvcuda.dll"
    return bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia/version").exists() or windows.exists()


def _builtForProcessorOnly() -> bool:
    return (installed_version("torch") or "").endswith("+cpu")
