"""Files to take away: segmentation, similarity map, head, scene.

On the main thread, where the scene lives, voxels are copied, or written by Slicer as they are; what takes long, going
through and packing them, is done beside it.
"""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.progress import Progress
from Vox2VecCore.volume import Volume
from Vox2VecSlicerLib import Geometry
from Vox2VecSlicerLib.Segments import hasVoxels, segmentIDs, voxelReader
from Vox2VecSlicerLib.Session import Session
from Vox2VecSlicerLib.StoredLabels import StoredLabels
from Vox2VecWeb.Files import Transfers, safeName
from Vox2VecWeb.Packing import compressNrrd, packFolder
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

        node, copied = self._result(), dict[int, StoredLabels]()
        readers = [voxelReader(node, each, volumeNode, copied) for each in segmentIDs(node)]
        shape, affine, name = volumeNode.GetImageData().GetDimensions(), Geometry.ijkToLocal(volumeNode), node.GetName()

        def write() -> None:
            labels = np.zeros(shape, np.uint8, order="F")
            for number, read in enumerate(readers, start=1):
                labels[tuple(read().T)] = number
            write_volume(Volume(labels, affine, name), path)

        return write

    def _map(self, volumeNode: Any, path: Path) -> Callable[[], Any]:
        from Vox2VecCore.volume_io import write_volume

        shown = self._session.similarity.mapOf(volumeNode)
        if shown is None:
            raise Vox2VecError("There is no similarity map yet: click a place first.")
        if shown.spread is not None:
            self._session.similarity.prepare()  # it may have been cancelled
            raise Vox2VecError("The map is not spread yet; download it when it is, in a moment.")
        onVolume, affine, name = shown.onVolume(), Geometry.ijkToLocal(volumeNode), f"{volumeNode.GetName()} similarity"
        return lambda: write_volume(Volume(onVolume(Progress()), affine, name), path)

    def _head(self, _volumeNode: Any, path: Path) -> Callable[[], Any]:
        if not self._session.hasHead:
            raise Vox2VecError("There is no head to save; paint strokes first.")
        return lambda: self._session.saveHead(path)

    def _segmentation(self, _volumeNode: Any, path: Path) -> Callable[[], Any]:
        """Slicer writes it, here on the main thread: it is the scene's own node."""
        plain = path.with_name("plain.seg.nrrd")
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(plain))
        storage.SetUseCompression(False)
        if not storage.WriteData(self._result()):
            raise Vox2VecError("The segmentation could not be written; see the log.")
        return lambda: compressNrrd(plain, path)

    def _bundle(self, _volumeNode: Any, path: Path) -> Callable[[], Any]:
        """As :meth:`_segmentation`: the scene itself, as the folder that an ``.mrb`` holds packed."""
        folder = path.with_suffix("")
        folder.mkdir()
        storages = []
        for node in slicer.util.getNodesByClass("vtkMRMLStorableNode", self._scene):
            if node.GetSaveWithScene():
                if node.GetStorageNode() is None:
                    node.AddDefaultStorageNode()
                storages.append(node.GetStorageNode())
        before = [(each, each.GetUseCompression()) for each in storages if each is not None]
        for storage, _ in before:
            storage.SetUseCompression(False)
        try:
            written = self._scene.SaveSceneToSlicerDataBundleDirectory(str(folder), None)
        finally:
            for storage, compresses in before:
                storage.SetUseCompression(compresses)
        if not written:
            shutil.rmtree(folder, ignore_errors=True)
            raise Vox2VecError("The scene could not be written; see the log.")
        return lambda: packFolder(folder, path)
