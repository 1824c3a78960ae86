"""A pyramid as a folder of memory-mapped arrays and a JSON description.

``pyramid.json`` is written last and lists the size of every file, so a folder without it or with a file of
another size is not a pyramid. Nothing is pickled.
"""

import json
import mmap
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.config import LevelStatistics, ModelConfig
from Vox2VecCore.errors import CacheError
from Vox2VecCore.grid import ModelGrid
from Vox2VecCore.pyramid import FeaturePyramid, PyramidLevel, storage_dtype
from Vox2VecCore.shapes import Triple, ceil_divide

FORMAT_VERSION = 1
DESCRIPTION = "pyramid.json"
BODY = "body.npy"


def level_files(index: int) -> tuple[str, str]:
    """Names of a level's unit vectors and magnitudes."""
    return f"level{index}_unit.npy", f"level{index}_magnitude.npy"


def new_levels(config: ModelConfig, shape: Triple, folder: Path | None) -> list[PyramidLevel]:
    """Levels full of zeros for a grid of this shape, memory-mapped in ``folder`` or, without one, in memory."""
    levels = []
    architecture = config.architecture
    for i, (stride, channels) in enumerate(zip(architecture.level_strides, architecture.level_channels, strict=True)):
        cells = ceil_divide(shape, stride)
        unit, magnitude = level_files(i)
        levels.append(
            PyramidLevel(
                stride,
                _new_array(folder, unit, (*cells, channels), storage_dtype(channels)),
                _new_array(folder, magnitude, cells, np.float16),
            )
        )
    return levels


def _new_array(folder: Path | None, name: str, shape: tuple[int, ...], dtype: type) -> NDArray:
    if folder is None:
        return np.zeros(shape, dtype)
    array = np.lib.format.open_memmap(folder / name, "w+", dtype, shape)
    _reserve(folder / name)
    return array


def _reserve(path: Path) -> None:
    """Take the disk space now: writing to a mapped file on a full disk would end the process without a word."""
    size = path.stat().st_size
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, size)
    elif shutil.disk_usage(path.parent).free < size:
        raise OSError(f"no space for {size / 1e9:.2f} GB")


def release_memory(levels: Sequence[PyramidLevel]) -> None:
    """Let go of the memory in which parts of mapped levels were written; the system keeps and writes them by itself."""
    for level in levels:
        for array in (level.unit, level.magnitude):
            if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                array.base.madvise(mmap.MADV_DONTNEED)


def write_description(folder: Path, pyramid: FeaturePyramid, scan_name: str) -> None:
    """Make a folder with level files complete: body mask, then ``pyramid.json``."""
    np.save(folder / BODY, pyramid.packed_body, allow_pickle=False)
    for level in pyramid.levels:
        for array in (level.unit, level.magnitude):
            if isinstance(array, np.memmap):
                array.flush()
    statistics = pyramid.statistics
    description = {
        "format_version": FORMAT_VERSION,
        "scan": scan_name,
        "model": pyramid.model_name,
        "model_hash": pyramid.model_hash,
        "grid": pyramid.grid.as_dict(),
        "strides": [level.stride for level in pyramid.levels],
        "statistics": None if statistics is None else [{"mean": s.mean, "std": s.std} for s in statistics],
        "bytes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }
    (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")


def read_description(folder: Path) -> dict[str, Any]:
    """Contents of ``pyramid.json``.

    :raises CacheError: if it is missing, unreadable or of another version.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CacheError(f"{folder}: no readable {DESCRIPTION}.") from error
    if not isinstance(description, dict) or description.get("format_version") != FORMAT_VERSION:
        raise CacheError(f"{folder}: written by another version of Vox2Vec.")
    if not all(isinstance(description.get(name), str) for name in ("scan", "model")):
        raise CacheError(f"{folder}: {DESCRIPTION} is damaged.")
    return description


def open_pyramid(folder: Path) -> FeaturePyramid:
    """Pyramid of a folder, its arrays memory-mapped for reading.

    :raises CacheError: if anything in the folder is not as it was written.
    """
    description = read_description(folder)
    try:
        for name, size in description["bytes"].items():
            if (folder / name).stat().st_size != size:
                raise CacheError(f"{folder}: {name} is damaged.")
        statistics = description["statistics"]
        return FeaturePyramid(
            grid=ModelGrid.from_dict(description["grid"]),
            levels=_open_levels(folder, description["strides"]),
            packed_body=np.load(folder / BODY, allow_pickle=False),
            statistics=None if statistics is None else [LevelStatistics(**level) for level in statistics],
            model_name=description["model"],
            model_hash=description["model_hash"],
            path=folder,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{folder}: damaged ({error}).") from error


def _open_levels(folder: Path, strides: Sequence[Sequence[int]]) -> list[PyramidLevel]:
    levels = []
    for i, (x, y, z) in enumerate(strides):
        unit, magnitude = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in level_files(i))
        levels.append(PyramidLevel((x, y, z), unit, magnitude))
    return levels
