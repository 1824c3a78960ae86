"""The result: the segmentation that is written to, without holding up the interface, and in which writing is undone."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.progress import Progress
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.SegmentContents import SegmentContent, merged
from Vox2VecSlicerLib.Segments import SegmentWriter, newSegmentation, voxelReader
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.StoredLabels import StoredLabels
from Vox2VecSlicerLib.Strokes import Strokes
from Vox2VecSlicerLib.Texts import tr as _
from Vox2VecSlicerLib.Worker import NOW, Worker

if TYPE_CHECKING:
    from slicer import vtkMRMLScene, vtkMRMLSegmentationNode, vtkMRMLVolumeNode

Labels = tuple[NDArray[np.uint8], tuple[int, int, int]]
"""Labels (i, j, k) of a box of a volume's voxels, and the first of them."""


@dataclass(eq=False)
class Writing:
    """Segments whose labels are ready and that are not all written yet."""

    node: "vtkMRMLSegmentationNode"
    scan: Scan
    labels: dict[str, Labels]
    onDone: Callable[[], None]
    onFailed: Callable[[Vox2VecError], None]
    begun: bool = field(default=False)


class Result:
    """Writes into ``state.result`` as the Segment Editor's masking and overwriting allow.

    What the segments are to hold is computed in the worker; Slicer's own writing, which takes up to some hundredths of
    a second a segment, is done one segment at a time by :meth:`tick`.
    """

    def __init__(self, scene: "vtkMRMLScene", state: ModuleState, worker: Worker, strokes: Strokes) -> None:
        self._scene = scene
        self._state = state
        self._worker = worker
        self._strokes = strokes
        self._writer: SegmentWriter | None = None
        self._ready: deque[Writing] = deque()
        self._topics: set[str] = set()

    def node(self, volumeNode: "vtkMRMLVolumeNode") -> "vtkMRMLSegmentationNode":
        """The segmentation that is written to, made on first use."""
        if self._state.result is None:
            self._state.result = newSegmentation(
                self._scene, _("{name} segmentation").format(name=volumeNode.GetName()), volumeNode
            )
        return self._state.result

    def write(
        self,
        scan: Scan,
        contents: dict[str, Callable[[Progress], SegmentContent]],
        title: str,
        onDone: Callable[[], None],
        onFailed: Callable[[Vox2VecError], None],
        urgency: int = NOW,
    ) -> None:
        """Make segments of the result hold what is computed in the worker; one step for undo.

        :param onDone: called when the last segment is written, or when there is nothing to write to any more.
        :raises Vox2VecError: if the settings mask by a segment that the result does not have.
        """
        node = self.node(scan.volumeNode)
        self.writer.prepare(node, scan.volumeNode)
        copied: dict[int, StoredLabels] = {}
        before = {segmentID: voxelReader(node, segmentID, scan.volumeNode, copied) for segmentID in contents}

        def work(progress: Progress) -> dict[str, Labels]:
            return {segmentID: merged(before[segmentID](), make(progress)) for segmentID, make in contents.items()}

        topic = f"write {' '.join(contents)}"
        self._topics.add(topic)
        self._worker.submit(
            topic,
            title,
            work,
            lambda labels: self._ready.append(Writing(node, scan, labels, onDone, onFailed)),
            onFailed,
            urgency=urgency,
        )

    @property
    def isUnderWay(self) -> bool:
        """Whether something is to be written."""
        self._topics = {topic for topic in self._topics if self._worker.isBusyWith(topic)}
        return bool(self._ready or self._topics)

    def tick(self) -> bool:
        """Write one segment; returns whether there are more to write."""
        if not self._ready:
            return False
        writing = self._ready[0]
        try:
            self._write(writing)
        except Vox2VecError as error:
            self._ready.popleft()
            writing.onFailed(error)
        else:
            if not writing.labels:
                self._ready.popleft()
                writing.onDone()
        return bool(self._ready)

    def undo(self) -> None:
        """Undo the last writing."""
        if self.canUndo:
            self.writer.undo()

    def redo(self) -> None:
        """Undo :meth:`undo`."""
        if self.canRedo:
            self.writer.redo()

    @property
    def canUndo(self) -> bool:
        """Whether there is something to undo."""
        return self._writer is not None and not self.isUnderWay and self._writer.canUndo

    @property
    def canRedo(self) -> bool:
        """Whether there is something to redo."""
        return self._writer is not None and not self.isUnderWay and self._writer.canRedo

    @property
    def writer(self) -> SegmentWriter:
        """Writes with the settings of the module's Segment Editor."""
        if self._writer is None:
            self._writer = SegmentWriter(self._scene, self._strokes.editorNode())
        return self._writer

    def release(self) -> None:
        """Write nothing more, and drop the undo states, which are copies of segmentations."""
        for topic in self._topics:
            self._worker.cancel(topic)
        self._topics.clear()
        self._ready.clear()
        if self._writer is not None:
            self._writer.release()
            self._writer = None

    def _write(self, writing: Writing) -> None:
        """The next segment, or before the first the state for undo."""
        node, volumeNode = writing.node, writing.scan.volumeNode
        if node.GetScene() is not self._scene or not writing.scan.isCurrent:
            writing.labels.clear()
        elif not writing.begun:
            self.writer.begin(node, volumeNode)
            writing.begun = True
        else:
            segmentID = next(iter(writing.labels))
            labels, first = writing.labels.pop(segmentID)
            if node.GetSegmentation().GetSegment(segmentID) is not None:
                self.writer.put(node, segmentID, volumeNode, labels, first)
