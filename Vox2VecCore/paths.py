"""Where Vox2Vec keeps things on this computer, and how files and folders come into being all at once."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

PATIENCE_S = 10.0
"""How long a block of :func:`alone`, which takes milliseconds, may last before it counts as dead."""


def cache_folder() -> Path:
    """Folder of the embedding cache: ``$VOX2VEC_CACHE_DIR``, else the user's cache folder."""
    return _from_environment("VOX2VEC_CACHE_DIR") or _user_folder("XDG_CACHE_HOME", ".cache", "Caches")


def models_folder() -> Path:
    """Folder of fetched and imported models: ``$VOX2VEC_MODELS_DIR``, else the user's data folder."""
    return _from_environment("VOX2VEC_MODELS_DIR") or (
        _user_folder("XDG_DATA_HOME", ".local/share", "Application Support") / "models"
    )


def shipped_models_folders() -> list[Path]:
    """Where models that come with Vox2Vec may lie: inside the package when installed, else in the checkout."""
    package = Path(__file__).resolve().parent
    return [package / "Models", package.parent / "Resources" / "Models"]


def shipped_tasks_folders() -> list[Path]:
    """Where the task files of ``vox2vec evaluate`` may lie, in the same way."""
    package = Path(__file__).resolve().parent
    return [package / "Tasks", package.parent / "Resources" / "Tasks"]


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None


def _user_folder(xdg_variable: str, linux: str, mac: str) -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "Vox2Vec"
    if sys.platform == "darwin":
        return Path.home() / "Library" / mac / "Vox2Vec"
    return Path(os.environ.get(xdg_variable, Path.home() / linux)) / "vox2vec"


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A temporary folder that takes the name ``final`` when the block ends well, and vanishes when it does not.

    When ``final`` exists by then (another process was faster) the newcomer is dropped.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        try:
            temporary.rename(final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replace_file(final: Path) -> Iterator[Path]:
    """A temporary path beside ``final`` that replaces it when the block ends well, and vanishes when it does not.

    It ends like ``final``, because writers choose their format by the suffix.
    """
    temporary = final.with_name(f".{uuid4().hex}.tmp.{final.name}")
    try:
        yield temporary
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def alone(final: Path) -> Iterator[None]:
    """Change a file while no other process does, on drives that several computers share, too.

    A process that was killed in such a block holds the others up for a few seconds only.
    """
    lock = final.with_name(f".{final.name}.lock")
    seen, until = None, time.monotonic() + PATIENCE_S
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            with suppress(FileNotFoundError):
                state = lock.stat()
                holder = (state.st_ino, state.st_mtime_ns)
                if holder != seen:  # patience is with one process, not with all that come before
                    seen, until = holder, time.monotonic() + PATIENCE_S
                elif time.monotonic() > until:
                    lock.unlink()
        except PermissionError:  # on Windows also a lock that is vanishing at this moment
            if os.name != "nt" or time.monotonic() > until:
                raise
        time.sleep(0.01)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
