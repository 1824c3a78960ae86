"""Files to take away: segmentation, similarity map, head, scene.

Voxels are gathered on the main thread, where the scene lives; what takes long, packing them, is done beside it.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.volume import Volume
from Vox2VecSlicerLib import Geometry
from Vox2VecSlicerLib.Segments import hasVoxels, segmentIDs, segmentVoxels
from Vox2VecSlicerLib.Session import Session
from Vox2VecWeb.Files import Transfers, safeName
from Vox2VecWeb.Page import Page

SUFFIXES = {"nifti": ".nii.gz", "nrrd": ".seg.nrrd", "map": ".nii.gz", "head": ".safetensors", "scene": ".mrb"}


class Downloads:
    """Writes files that the page asks for and offers them to it.

    :param spawn: starts a coroutine beside the event loop's other work.
    :param onBusy: called with what is being done, empty when nothing is.
    """

    def __init__(
        self,
        page: Page,
        session: Session,
        scene: Any,
        transfers: Transfers,
        spawn: Callable[[Any], None],
        onBusy: Callable[[str], None],
    ) -> None:
        self._page = page
        self._session = session
        self._scene = scene
        self._transfers = transfers
        self._spawn = spawn
        self._onBusy = onBusy
        page.show(download=None)
        page.command("save", self._save)

    def _save(self, kind: str) -> None:
        volumeNode = self._session.state.volume
        if volumeNode is None:
            raise Vox2VecError("Open a scan first.")
        scan = volumeNode.GetName()
        name = {"map": f"{scan}_similarity", "head": "head", "scene": scan}.get(kind, f"{scan}_segmentation")
        path = self._transfers.newFolder() / f"{safeName(name)}{SUFFIXES[kind]}"
        writers = {
            "nifti": self._labels,
            "nrrd": self._segmentation,
            "map": self._map,
            "head": self._head,
            "scene": self._bundle,
        }
        self._spawn(self._write(writers[kind](volumeNode, path), path))

    async def _write(self, write: Callable[[], Any], path: Path) -> None:
        self._onBusy(f"Writing {path.name}")
        try:
            await asyncio.get_running_loop().run_in_executor(None, write)
        except (Vox2VecError, OSError) as error:
            with self._page.state:
                self._page.say(f"{path.name} could not be written: {error}")
            return
        finally:
            self._onBusy("")
        with self._page.state:
            self._page.show(download={"url": self._transfers.offer(path), "name": path.name})

    def _result(self) -> Any:
        node = self._session.state.result
        if node is None or not hasVoxels(node):
            raise Vox2VecError("There is no segmentation yet: make one and apply it.")
        return node

    # Each of these takes from the scene what it needs and returns what writes it, for another thread.

    def _labels(self, volumeNode: Any, path: Path) -> Callable[[], Any]:
        from Vox2VecCore.volume_io import write_volume

        node = self._result()
        labels = np.zeros(volumeNode.GetImageData().GetDimensions(), np.uint8, order="F")
        for number, segmentID in enumerate(segmentIDs(node), start=1):
            labels[tuple(segmentVoxels(node, segmentID, volumeNode).T)] = number
        volume = Volume(labels, Geometry.ijkToLocal(volumeNode), node.GetName())
        return lambda: write_volume(volume, path)

    def _map(self, volumeNode: Any, path: Path) -> Callable[[], Any]:
        from Vox2VecCore.volume_io import write_volume

        shown = self._session.similarity.mapOf(volumeNode)
        if shown is None:
            raise Vox2VecError("There is no similarity map yet: click a place first.")
        onVolume, affine, name = shown.onVolume(), Geometry.ijkToLocal(volumeNode), f"{volumeNode.GetName()} similarity"
        return lambda: write_volume(Volume(onVolume(), affine, name), path)

    def _head(self, _volumeNode: Any, path: Path) -> Callable[[], Any]:
        if not self._session.hasHead:
            raise Vox2VecError("There is no head to save; paint strokes first.")
        return lambda: self._session.saveHead(path)

    def _segmentation(self, _volumeNode: Any, path: Path) -> Callable[[], Any]:
        """Slicer writes it, here on the main thread: it is the scene's own node."""
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(path))
        if not storage.WriteData(self._result()):
            raise Vox2VecError("The segmentation could not be written; see the log.")
        return _done

    def _bundle(self, _volumeNode: Any, path: Path) -> Callable[[], Any]:
        """As :meth:`_segmentation`: the scene itself."""
        if not self._scene.WriteToMRB(str(path), None):
            raise Vox2VecError("The scene could not be written; see the log.")
        return _done


def _done() -> None:
    """It is written already."""
