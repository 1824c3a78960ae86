"""A trained head beyond the strokes it was learnt from: kept in files and in the scene, applied to other volumes."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.progress import Progress
from Vox2VecSlicerLib import HeadStore, Libraries
from Vox2VecSlicerLib.Embedding import Embeddings
from Vox2VecSlicerLib.FewShot import READING, FewShot, Preview, fillSegmentation, previewOf
from Vox2VecSlicerLib.Heads import Example, HeadTool
from Vox2VecSlicerLib.Segments import newSegmentation
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Texts import tr as _
from Vox2VecSlicerLib.Worker import NOW, Worker

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScene


class HeadUse:
    """Saves, loads and applies the head that :class:`FewShot` holds.

    :ivar loaded: emitted with the file that a head was loaded from.
    """

    def __init__(
        self,
        scene: "vtkMRMLScene",
        state: ModuleState,
        worker: Worker,
        embeddings: Embeddings,
        fewShot: FewShot,
        tool: HeadTool,
        onFailed: Callable[[Vox2VecError], None],
    ) -> None:
        self._scene = scene
        self._state = state
        self._worker = worker
        self._embeddings = embeddings
        self._fewShot = fewShot
        self._tool = tool
        self._onFailed = onFailed
        self._waiting: list[str] = []
        self.loaded = Signal()

    def summary(self) -> str:
        """One line about the head, empty without one."""
        head = self._fewShot.head
        return "" if head is None else self._tool.describe(head)

    def save(self, path: Path) -> None:
        """Write the head to a file.

        :raises Vox2VecError: if there is none or the file cannot be written.
        """
        if self._fewShot.head is None:
            raise Vox2VecError(_("There is no head to save; paint strokes first."))
        self._tool.save(self._fewShot.head, path)

    def load(self, path: Path) -> None:
        """Read a head from a file; the scene keeps it, too. :attr:`loaded` tells when it is there.

        It fails for what is not a head, or one for another model than that of the chosen volume's embedding.
        """
        tool, scan = self._tool, self._embeddings.scan(self._state.volume)

        def read(_progress: Progress) -> tuple[Any, str]:
            Libraries.load()
            head = tool.load(path)
            if scan is not None:
                tool.check(head, scan.pyramid)
            return head, HeadStore.headText(tool, head)

        def done(result: tuple[Any, str]) -> None:
            head, text = result
            self._fewShot.take(head, base=head)
            for role in HeadStore.NODE_NAMES:
                HeadStore.storeHead(self._scene, self._state, text, role)
            self._fewShot.updated.emit()
            self.loaded.emit(path)

        self._worker.submit(READING, _("Reading the head"), read, done, self._onFailed, urgency=NOW)

    def drop(self) -> None:
        """Forget the head, in the scene, too; strokes that were added to a loaded one are learnt from alone again."""
        wasLoaded = self._fewShot.base is not None
        self._worker.cancel(READING)
        self._fewShot.clearPreview()
        self._fewShot.take(None, None)
        HeadStore.dropHead(self._scene, self._state)
        self._tool.forget()
        if wasLoaded:
            self._fewShot.relearn()
        else:
            self._fewShot.rest()
        self._fewShot.updated.emit()

    def restore(self) -> None:
        """Take the head that was saved with the scene, if there is one, as soon as the worker has read it."""
        self._fewShot.take(None, None)
        texts = HeadStore.storedTexts(self._state)
        if not any(texts):
            self._worker.cancel(READING)
            return
        tool = self._tool

        def read(_progress: Progress) -> list[Any]:
            Libraries.load()
            return [None if text is None else HeadStore.headOf(tool, text) for text in texts]

        def done(heads: list[Any]) -> None:
            if HeadStore.storedTexts(self._state) == texts:
                self._fewShot.take(*heads)
                self._fewShot.updated.emit()

        self._worker.submit(READING, _("Reading the head"), read, done, self._onFailed, urgency=NOW)

    def apply(self, volumeNodes: "list[vtkMRMLScalarVolumeNode]") -> "list[vtkMRMLScalarVolumeNode]":
        """Segment volumes with the head: one segmentation each.

        :return: those that have to be embedded first; they are segmented when they are.
        :raises Vox2VecError: if there is no head.
        """
        if self._fewShot.head is None:
            raise Vox2VecError(_("There is no head to apply; train or load one first."))
        missing = []
        for volumeNode in volumeNodes:
            if self._embeddings.scan(volumeNode) is not None:
                self._predict(volumeNode)
            else:
                self._waiting.append(volumeNode.GetID())
                missing.append(volumeNode)
        return missing

    def onEmbedded(self, volumeNode: "vtkMRMLScalarVolumeNode") -> None:
        """A volume is embedded: segment it if that was asked for."""
        if volumeNode.GetID() in self._waiting:
            self._waiting.remove(volumeNode.GetID())
            self._predict(volumeNode)

    def freeMemory(self) -> None:
        """Segment no volume any more that waits for its embedding, and drop what the tool keeps of scans."""
        self._waiting.clear()
        self._tool.forget()

    def _predict(self, volumeNode: "vtkMRMLScalarVolumeNode") -> None:
        scan = self._embeddings.scan(volumeNode)
        assert scan is not None
        tool, head = self._tool, self._fewShot.head

        def work(progress: Progress) -> Preview:
            found = tool.predict(head, Example(scan.pyramid, None, scan.source.volume), progress)
            return previewOf(tool, head, scan, found)

        def done(found: Preview) -> None:
            if scan.isCurrent:
                node = newSegmentation(
                    self._scene, _("{name} segmentation").format(name=volumeNode.GetName()), volumeNode
                )
                fillSegmentation(node, found)

        self._worker.submit(
            f"apply {volumeNode.GetID()}",
            _("Segmenting {name}").format(name=volumeNode.GetName()),
            work,
            done,
            self._onFailed,
        )
