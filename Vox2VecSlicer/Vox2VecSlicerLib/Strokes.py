"""The strokes: a segmentation that is painted with Slicer's own Segment Editor, one segment a structure."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import NDArray

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.fewshot.classes import BACKGROUND, BACKGROUND_COLOUR, UNLABELLED
from Vox2VecCore.volume import Volume
from Vox2VecSlicerLib.Colors import nextColor
from Vox2VecSlicerLib.Heads import Structure
from Vox2VecSlicerLib.Observers import Observers
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.Segments import (
    BINARY_LABELMAP,
    addSegment,
    align,
    hasVoxels,
    newSegmentation,
    segmentIDs,
    tag,
    terminology,
    voxelReader,
)
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.StoredLabels import StoredLabels
from Vox2VecSlicerLib.Texts import tr as _

if TYPE_CHECKING:
    from slicer import vtkMRMLScene, vtkMRMLSegmentationNode, vtkMRMLSegmentEditorNode, vtkMRMLVolumeNode

EDITOR_TAG = "Vox2VecSegmentEditor"
LABEL_TAG = "Vox2Vec.Label"


class Strokes:
    """The strokes of a scene; :attr:`changed` tells when they are painted, erased, undone, renamed or removed."""

    def __init__(self, scene: "vtkMRMLScene", state: ModuleState) -> None:
        self.changed = Signal()
        self._scene = scene
        self._state = state
        self._observers = Observers()
        self._watched: Any = None
        self._known: list[Structure] = []
        self._background = BACKGROUND
        self._painted: dict[str, tuple[Any, bool]] = {}
        self._numbering = False
        state.changed.connect(self._onState)
        self._watch()

    def node(self) -> "vtkMRMLSegmentationNode":
        """The strokes' segmentation; made on first use, with a background and one structure.

        :raises Vox2VecError: if no volume is chosen.
        """
        volumeNode = self._volumeNode()
        node = self._state.strokes
        if node is None:
            node = newSegmentation(self._scene, _("{name} strokes").format(name=volumeNode.GetName()), volumeNode)
            self._state.backgroundSegment = addSegment(node, _("Background"), BACKGROUND_COLOUR)
            addSegment(node, _structureName(1), nextColor(self._state.result))
            self._state.strokes = node
        else:
            align(node, volumeNode)
        return node

    def editorNode(self) -> "vtkMRMLSegmentEditorNode":
        """The module's own segment editor node, which keeps masking and overwriting."""
        node = self._scene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag(EDITOR_TAG)
            node.SetHideFromEditors(True)
            node.SetOverwriteMode(node.OverwriteAllSegments)
            node = self._scene.AddNode(node)
        return node

    def addStructure(self, name: str | None = None, color: tuple[float, float, float] | None = None) -> str:
        """A further structure to paint; returns its segment."""
        node = self.node()
        count = len(self.structureIDs(node)) + 1
        return addSegment(node, name or _structureName(count), color or nextColor(node, self._state.result))

    def structureIDs(self, node: "vtkMRMLSegmentationNode") -> list[str]:
        """Segments other than the background, in order."""
        return [each for each in segmentIDs(node) if each != self._state.backgroundSegment]

    def structures(self) -> dict[str, Structure]:
        """Segments and what they stand for; a structure keeps its label when others are removed."""
        node = self._state.strokes
        if node is None:
            return {}
        found, used, kept = {}, {self._background}, [each.label for each in self._known]
        for segmentID in self.structureIDs(node):
            segment = node.GetSegmentation().GetSegment(segmentID)
            own = [each.label for each in self._known if each.name == segment.GetName() and each.label not in used]
            label = _label(segment)
            if own:
                label = own[0]
            elif label == UNLABELLED or label in used or label in kept:
                given = [_label(node.GetSegmentation().GetSegment(s)) for s in segmentIDs(node)]
                label = max([*used, *kept, *given]) + 1
            if label != _label(segment):
                self._numbering = True  # our own number is no change that has to be learnt from
                segment.SetTag(LABEL_TAG, str(label))
                self._numbering = False
            used.add(label)
            r, g, b = segment.GetColor()
            found[segmentID] = Structure(label, segment.GetName(), (r, g, b), terminology(segment))
        return found

    def origins(self) -> dict[int, str]:
        """By the label of a structure: which strokes of which segmentation it is painted with."""
        node = self._state.strokes
        return {each.label: f"{node.GetID()} {segmentID}" for segmentID, each in self.structures().items()}

    def keepLabelsOf(self, known: list[Structure], background: int = BACKGROUND) -> None:
        """Structures of a head that was loaded keep their labels: segments of the same names mean the same, and
        others get labels that the head does not use. What is painted as background gets the head's own label for it."""
        self._known = known
        self._background = background

    def labels(self, scan: Scan) -> Volume:
        """The strokes as labels on the embedded part of a scan: 0 unlabelled, then background and structures."""
        return self.reader(scan)()

    def reader(self, scan: Scan) -> Callable[[], Volume]:
        """What gives :meth:`labels` of the strokes as they are now. They are only copied here; it is for the worker."""
        node, grid, part = self._state.strokes, scan.pyramid.grid, scan.part
        painted: list[tuple[Callable[[], NDArray[np.int64]], int]] = []
        if node is not None:
            align(node, scan.volumeNode)
            numbers = {self._state.backgroundSegment: self._background}
            numbers |= {segmentID: each.label for segmentID, each in self.structures().items()}
            copied: dict[int, StoredLabels] = {}
            painted = [(voxelReader(node, each, scan.volumeNode, copied), numbers[each]) for each in segmentIDs(node)]

        def read() -> Volume:
            labels = np.zeros(grid.source_shape, np.int16, order="F")
            for voxelsOf, number in painted:
                voxels = voxelsOf() - np.array(part.first)
                voxels = voxels[((voxels >= 0) & (voxels < labels.shape)).all(axis=1)]
                part.turned(labels)[tuple(voxels.T)] = number
            return Volume(labels, grid.source_affine, "strokes")

        return read

    def status(self) -> str:
        """What is missing before a head can be trained, in one sentence; empty when nothing is."""
        node = self._state.strokes
        painted = [] if node is None else [each for each in segmentIDs(node) if self.isPainted(node, each)]
        if not painted:
            return _("Paint a few strokes: some in the structure, some in what surrounds it (Background).")
        structures = [s for s in painted if s != self._state.backgroundSegment]
        if not structures:
            return _("Paint at least one stroke in a structure; so far there is only background.")
        if len(painted) < 2:
            return _("Paint at least one stroke in the background, or in a second structure.")
        return ""

    @property
    def isBegun(self) -> bool:
        """Whether anything is painted."""
        node = self._state.strokes
        return node is not None and any(self.isPainted(node, each) for each in segmentIDs(node))

    def isPainted(self, node: "vtkMRMLSegmentationNode", segmentID: str) -> bool:
        """Whether a segment holds a voxel; looked up once for each change of it."""
        segment = node.GetSegmentation().GetSegment(segmentID)
        image = segment.GetRepresentation(BINARY_LABELMAP)
        if image is None:
            return False
        scalars = image.GetPointData().GetScalars()
        now = (image.GetMTime(), 0 if scalars is None else scalars.GetMTime(), segment.GetLabelValue())
        if self._painted.get(segmentID, (None, False))[0] != now:
            self._painted[segmentID] = (now, hasVoxels(node, segmentID))
        return self._painted[segmentID][1]

    def release(self) -> None:
        """Remove the observers."""
        self._observers.remove()
        self._watched = None
        self._state.changed.disconnect(self._onState)

    def _volumeNode(self) -> "vtkMRMLVolumeNode":
        if self._state.volume is None:
            raise Vox2VecError(_("Choose a CT volume before painting."))
        return self._state.volume

    def _watch(self) -> None:
        node = self._state.strokes
        if node is self._watched:
            return
        self._observers.remove()
        self._watched = node
        if node is not None:
            segmentation = slicer.vtkSegmentation
            events = [
                segmentation.SourceRepresentationModified,
                segmentation.SegmentAdded,
                segmentation.SegmentRemoved,
                segmentation.SegmentModified,
            ]
            self._observers.add(node.GetSegmentation(), events, self._onStrokes)

    def _onState(self, name: str) -> None:
        if name == "strokes":
            self._watch()
            self.changed.emit()

    def _onStrokes(self, _caller: Any, _event: Any) -> None:
        if not self._numbering:
            self.changed.emit()


def _structureName(number: int) -> str:
    return _("Structure {number}").format(number=number)


def _label(segment: Any) -> int:
    """The label that was given to a segment, or 0, which no structure has."""
    text = tag(segment, LABEL_TAG)
    return int(text) if text.isdigit() else UNLABELLED
