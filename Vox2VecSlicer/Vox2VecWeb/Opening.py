"""Opening scans: reading outside the event loop, then into the scene and the views."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.volume import Volume
from Vox2VecWeb.Files import whatToOpen
from Vox2VecWeb.Scans import addToScene, nameOf

logger = logging.getLogger("Vox2Vec")


def readScan(path: Path) -> Volume:
    """Read a scan from a file or a DICOM folder, its voxels in the order of Slicer's images: reordering a large one
    takes a while, and the scene takes one in order at once.

    :raises VolumeError: if it cannot be read.
    """
    from Vox2VecCore.volume_io import read_volume

    volume = read_volume(path)
    return volume.with_array(np.asfortranarray(volume.array))


class Opening:
    """Reads one scan after another.

    :param onOpened: called with the new volume node and whether it is the follow-up.
    :param onFailed: called with one sentence.
    :param onBusy: called with what is being done, empty when nothing is.
    """

    def __init__(
        self,
        scene: Any,
        onOpened: Callable[[Any, bool], None],
        onFailed: Callable[[str], None],
        onBusy: Callable[[str], None],
    ) -> None:
        self._scene = scene
        self._onOpened = onOpened
        self._onFailed = onFailed
        self._onBusy = onBusy
        self._turn = asyncio.Lock()

    async def open(self, path: Path, target: bool) -> None:
        """Open a scan from a file or folder of this computer."""
        await self._do(nameOf(path), lambda: path, target)

    async def openUploaded(self, folder: Path, target: bool) -> None:
        """Open a scan from uploaded files."""
        await self._do("upload", lambda: whatToOpen(folder), target)

    async def _do(self, name: str, find: Callable[[], Path], target: bool) -> None:
        def read() -> tuple[Path, Volume]:
            path = find()
            return path, readScan(path)

        async with self._turn:
            self._onBusy(f"Reading {name}")
            try:
                path, volume = await asyncio.get_running_loop().run_in_executor(None, read)
            except Vox2VecError as error:
                self._onFailed(str(error))
                return
            except Exception as error:
                logger.exception("Reading failed")
                self._onFailed(f"{name}: something unexpected went wrong ({error}); details are in the log.")
                return
            finally:
                self._onBusy("")
            self._onOpened(addToScene(self._scene, volume, _title(path, name)), target)


def _title(path: Path, name: str) -> str:
    return nameOf(path) if path.is_file() else ("DICOM series" if name == "upload" else path.name)
