"""Say in one sentence what this computer lacks before ``make install`` starts."""

import importlib.util
import sys


def missing() -> str | None:
    """What is missing and how to get it, or ``None``."""
    version = ".".join(map(str, sys.version_info[:2]))
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        return f"Python {version} is not supported (3.10 to 3.13 are): make install PYTHON=python3.12"
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        return f"Python's venv module is missing: on Debian or Ubuntu, apt-get install python{version}-venv"
    return None


if __name__ == "__main__":
    sys.exit(missing())
