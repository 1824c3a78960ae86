"""Reads lists out of CMakeLists files: enough of CMake for ``set(NAME file file ...)``."""

import re
from pathlib import Path


def cmake_list(path: Path, variable: str) -> list[str]:
    """The words of ``set(variable ...)``, variables in them replaced, comments left out.

    :raises LookupError: if it is not set exactly once.
    """
    text = re.sub(r"#[^\n]*", "", path.read_text(encoding="utf-8"))
    found = re.findall(rf"set\(\s*{variable}\s+([^)]*)\)", text)
    if len(found) != 1:
        raise LookupError(f"{path}: set({variable} ...) stands {len(found)} times")
    words = re.findall(r'"([^"]*)"|(\S+)', found[0])
    values = [quoted or plain for quoted, plain in words]
    return [re.sub(r"\$\{(\w+)\}", lambda match: cmake_list(path, match[1])[0], value) for value in values]
