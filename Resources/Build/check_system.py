"""Say in one sentence what this computer lacks before ``make install`` starts.

The one file here that Pythons too old for the rest must be able to run (3.6 and newer), or they could not be refused.
"""

import ctypes.util
import importlib.util
import sys

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


def missing_packages():  # no annotations: old Pythons would evaluate them
    """Debian and Ubuntu packages that the tests of Slicer's views lack; on other systems none."""
    if sys.platform != "linux":
        return []
    lacking = [package for library, package in GRAPHICS.items() if ctypes.util.find_library(library) is None]
    return [*lacking, DRIVERS] if lacking else []


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
    if not packages:
        return None
    return f"To run the tests of Slicer's views: on Debian or Ubuntu, apt-get install {' '.join(packages)}"


if __name__ == "__main__":
    if "--packages" in sys.argv:
        sys.stdout.write(" ".join(missing_packages()))
        sys.exit()
    hint = advice()
    if hint:
        sys.stderr.write(hint + "\n")
    sys.exit(missing())
