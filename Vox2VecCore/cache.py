"""The embedding cache: pyramids on disk, found by the content of scan and model, bounded in size."""

import hashlib
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from Vox2VecCore.errors import CacheError
from Vox2VecCore.model import Model
from Vox2VecCore.paths import cache_folder, new_folder
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.pyramid_files import DESCRIPTION, FORMAT_VERSION, open_pyramid, read_description
from Vox2VecCore.volume import Volume

DEFAULT_MAX_GB = 20.0
ABANDONED_AFTER_S = 24 * 3600.0


def max_bytes() -> int:
    """Size bound of the cache: ``$VOX2VEC_CACHE_MAX_GB``, else 20 GB."""
    value = os.environ.get("VOX2VEC_CACHE_MAX_GB", "")
    try:
        size = float(value or DEFAULT_MAX_GB) * 1e9
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise CacheError(f"VOX2VEC_CACHE_MAX_GB must be a number of gigabytes, not '{value}'.")
    return int(size)


@dataclass(frozen=True)
class CacheEntry:
    """One cached pyramid."""

    key: str
    folder: Path
    scan: str
    model: str
    bytes: int
    last_used: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class PyramidCache:
    """Cached pyramids in one folder, one sub-folder a pyramid, named by what it was computed from."""

    folder: Path = field(default_factory=lambda: cache_folder() / "pyramids")

    @staticmethod
    def key(volume: Volume, model: Model) -> str:
        """Key of a scan and a model: voxel values, geometry, weights and tile contract all count."""
        digest = hashlib.blake2b(digest_size=20)
        array = np.asfortranarray(volume.array)  # the order of files and of Slicer, so usually no copy
        digest.update(f"{FORMAT_VERSION} {model.hash} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(volume.affine).tobytes())
        digest.update(array.T.data.cast("B"))
        return digest.hexdigest()

    def find(self, key: str) -> FeaturePyramid | None:
        """The pyramid of a key; a damaged one is removed and not found.

        :raises CacheError: if the folder may not be read.
        """
        folder = self.folder / key
        try:
            if not folder.is_dir():
                return None
        except OSError as error:
            raise CacheError(
                f"The embedding cache {self.folder} cannot be read ({error.strerror or error}): check its rights, or "
                "set VOX2VEC_CACHE_DIR to another folder."
            ) from error
        try:
            pyramid = open_pyramid(folder)
        except CacheError:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        with suppress(OSError):  # a read-only cache still answers; it only loses track of what was used last
            os.utime(folder / DESCRIPTION)
        return pyramid

    @contextmanager
    def create(self, key: str) -> Iterator[Path]:
        """A folder to write a pyramid into; it becomes the entry when the block ends well.

        :raises CacheError: if the disk is full or the folder cannot be written, or the bound makes no sense.
        """
        bound = max_bytes()
        try:
            with new_folder(self.folder / key) as folder:
                yield folder
        except FileNotFoundError as error:
            raise CacheError(
                f"The embedding cache {self.folder} was cleared while a scan was being embedded; embed it again."
            ) from error
        except OSError as error:
            raise CacheError(
                f"The embedding cache {self.folder} cannot be written ({error.strerror or error}): free some space, "
                "run 'vox2vec cache clear', or set VOX2VEC_CACHE_DIR to another folder."
            ) from error
        self._make_room(key, bound)

    def entries(self) -> list[CacheEntry]:
        """All readable entries, last used first."""
        found = []
        for folder in self.folder.glob("[!.]*/"):
            try:
                description = read_description(folder)
                used = (folder / DESCRIPTION).stat().st_mtime
                size = folder_bytes(folder)
            except (CacheError, OSError):
                continue
            found.append(CacheEntry(folder.name, folder, description["scan"], description["model"], size, used))
        return sorted(found, key=lambda entry: -entry.last_used)

    def clear(self) -> int:
        """Remove everything, half-written folders of killed runs too; returns the bytes freed.

        :raises CacheError: if something cannot be removed.
        """
        freed = 0
        for folder in [path for path in self.folder.glob("*/") if path.is_dir()]:
            try:
                size = folder_bytes(folder)
                shutil.rmtree(folder)
                freed += size
            except FileNotFoundError:  # another process was faster
                continue
            except OSError as error:
                raise CacheError(
                    f"{folder}: cannot be removed ({error.strerror or error}); check its rights."
                ) from error
        return freed

    def _make_room(self, keep: str, bound: int) -> None:
        """Drop what killed runs left behind, then the entries not used for longest, until the bound holds."""
        for folder in self.folder.glob(".*.tmp"):
            with suppress(FileNotFoundError):  # another process has just finished it
                if time.time() - folder.stat().st_mtime > ABANDONED_AFTER_S:
                    shutil.rmtree(folder, ignore_errors=True)
        entries = self.entries()
        total = sum(entry.bytes for entry in entries)
        for entry in reversed(entries):
            if total <= bound:
                break
            if entry.key != keep:
                shutil.rmtree(entry.folder, ignore_errors=True)
                total -= entry.bytes


def folder_bytes(folder: Path) -> int:
    """Size of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
