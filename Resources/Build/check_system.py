"""Say in one sentence what this computer lacks before ``make install`` starts.

The one file here that Pythons too old for the rest must be able to run (3.6 and newer), or they could not be refused.
"""

import ctypes.util
import importlib.util
import shutil
import sys
from pathlib import Path

# Libraries that Slicer's views need to draw without a window, and the Debian and Ubuntu packages that hold them.
GRAPHICS = {
    "EGL": "libegl1",
    "EGL_mesa": "libegl-mesa0",
    "GL": "libgl1",
    "GLX_mesa": "libglx-mesa0",
    "X11": "libx11-6",
    "Xrender": "libxrender1",
}
DRIVERS = "libgl1-mesa-dri"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_PACKAGE = "chromium"
DEBIAN = Path("/etc/debian_version")
OF_PLAYWRIGHT = ".venv/bin/python -m playwright install chromium"


def browser():
    """Path of a Chromium that the tests of the browser viewer can drive, or ``None``."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def has_browser_package():
    """Whether apt-get can bring Chromium: on Debian; Ubuntu has it only as a snap."""
    if not DEBIAN.exists():
        return False
    return "ubuntu" not in Path("/etc/os-release").read_text(encoding="utf-8").lower()


def missing_packages():  # no annotations: old Pythons would evaluate them
    """Debian and Ubuntu packages that the tests of Slicer's views lack; on other systems none."""
    if sys.platform != "linux":
        return []
    lacking = [package for library, package in GRAPHICS.items() if ctypes.util.find_library(library) is None]
    if lacking:
        lacking.append(DRIVERS)
    if browser() is None and has_browser_package():
        lacking.append(BROWSER_PACKAGE)
    return lacking


def missing():
    """What is missing and how to get it, or ``None``."""
    version = ".".join(map(str, sys.version_info[:2]))
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        return f"Python {version} is not supported (3.10 to 3.13 are): make install PYTHON=python3.12"
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        return f"Python's venv module is missing: on Debian or Ubuntu, apt-get install python{version}-venv"
    return None


def advice():
    """What only the tests of Slicer's views lack and how to get it, or ``None``."""
    packages = missing_packages()
    if packages:
        return f"To run the tests of Slicer's views: on Debian or Ubuntu, apt-get install {' '.join(packages)}"
    return browser_advice()


def browser_advice():
    """How to get the Chromium that the tests of the browser viewer lack, or ``None``."""
    if browser() is not None:
        return None
    way = f"apt-get install {BROWSER_PACKAGE}" if has_browser_package() else f"after make install, {OF_PLAYWRIGHT}"
    return f"The tests of the browser viewer need Chromium: {way}"


if __name__ == "__main__":
    if "--packages" in sys.argv:
        sys.stdout.write(" ".join(missing_packages()))
        sys.exit()
    hint = advice()
    if hint:
        sys.stderr.write(hint + "\n")
    sys.exit(missing())
