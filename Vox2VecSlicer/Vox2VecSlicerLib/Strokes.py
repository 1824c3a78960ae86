"""The strokes: a segmentation that is painted with Slicer's own Segment Editor, one segment a structure."""

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from Vox2VecCore.volume import Volume
from Vox2VecSlicerLib.Heads import BACKGROUND, Structure
from Vox2VecSlicerLib.Observers import Observers
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.Segments import (
    addSegment,
    align,
    hasVoxels,
    newSegmentation,
    segmentIDs,
    segmentVoxels,
    tag,
    terminology,
)
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.State import ModuleState

if TYPE_CHECKING:
    from slicer import vtkMRMLScene, vtkMRMLSegmentationNode, vtkMRMLSegmentEditorNode, vtkMRMLVolumeNode

EDITOR_TAG = "Vox2VecSegmentEditor"
BACKGROUND_COLOR = (0.45, 0.45, 0.5)
COLORS = [
    (0.90, 0.35, 0.30),
    (0.30, 0.75, 0.45),
    (0.35, 0.60, 0.95),
    (0.95, 0.80, 0.30),
    (0.75, 0.45, 0.85),
    (0.35, 0.85, 0.85),
    (0.95, 0.60, 0.30),
    (0.65, 0.80, 0.35),
]
LABEL_TAG = "Vox2Vec.Label"


class Strokes:
    """The strokes of a scene; :attr:`changed` tells when they are painted, erased, undone, renamed or removed."""

    def __init__(self, scene: "vtkMRMLScene", state: ModuleState) -> None:
        self.changed = Signal()
        self._scene = scene
        self._state = state
        self._observers = Observers()
        self._watched: Any = None
        state.changed.connect(self._onState)
        self._watch()

    def node(self) -> "vtkMRMLSegmentationNode":
        """The strokes' segmentation; made on first use, with a background and one structure.

        :raises ValueError: if no volume is chosen.
        """
        volumeNode = self._volumeNode()
        node = self._state.strokes
        if node is None:
            node = newSegmentation(self._scene, f"{volumeNode.GetName()} strokes", volumeNode)
            self._state.backgroundSegment = addSegment(node, "Background", BACKGROUND_COLOR)
            addSegment(node, "Structure 1", COLORS[0])
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
        return addSegment(node, name or f"Structure {count}", color or COLORS[(count - 1) % len(COLORS)])

    def structureIDs(self, node: "vtkMRMLSegmentationNode") -> list[str]:
        """Segments other than the background, in order."""
        return [each for each in segmentIDs(node) if each != self._state.backgroundSegment]

    def structures(self) -> dict[str, Structure]:
        """Segments and what they stand for; a structure keeps its label when others are removed."""
        node = self._state.strokes
        if node is None:
            return {}
        found, used = {}, {BACKGROUND}
        for segmentID in self.structureIDs(node):
            segment = node.GetSegmentation().GetSegment(segmentID)
            label = _label(segment)
            if label in used:
                label = max([*used, *(_label(node.GetSegmentation().GetSegment(s)) for s in segmentIDs(node))]) + 1
                segment.SetTag(LABEL_TAG, str(label))
            used.add(label)
            r, g, b = segment.GetColor()
            found[segmentID] = Structure(label, segment.GetName(), (r, g, b), terminology(segment))
        return found

    def labels(self, scan: Scan) -> Volume:
        """The strokes as labels on the embedded part of a scan: 0 unlabelled, 1 background, structures from 2."""
        node = self._state.strokes
        grid = scan.pyramid.grid
        labels = np.zeros(grid.source_shape, np.int16, order="F")
        if node is not None:
            align(node, scan.volumeNode)
            numbers = {self._state.backgroundSegment: BACKGROUND}
            numbers |= {segmentID: each.label for segmentID, each in self.structures().items()}
            for segmentID in segmentIDs(node):
                voxels = segmentVoxels(node, segmentID, scan.volumeNode) - np.array(scan.part.first)
                voxels = voxels[((voxels >= 0) & (voxels < labels.shape)).all(axis=1)]
                scan.part.turned(labels)[tuple(voxels.T)] = numbers[segmentID]
        return Volume(labels, grid.source_affine, "strokes")

    def status(self) -> str:
        """What is missing before a head can be trained, in one sentence; empty when nothing is."""
        node = self._state.strokes
        if node is None or not hasVoxels(node):
            return "Paint a few strokes: some in the structure, some in what surrounds it (Background)."
        painted = [s for s in segmentIDs(node) if hasVoxels(node, s)]
        structures = [s for s in painted if s != self._state.backgroundSegment]
        if not structures:
            return "Paint at least one stroke in a structure; so far there is only background."
        if len(painted) < 2:
            return "Paint at least one stroke in the background, or in a second structure."
        return ""

    def release(self) -> None:
        """Remove the observers."""
        self._observers.remove()
        self._watched = None
        self._state.changed.disconnect(self._onState)

    def _volumeNode(self) -> "vtkMRMLVolumeNode":
        if self._state.volume is None:
            raise ValueError("Choose a CT volume before painting.")
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
        self.changed.emit()


def _label(segment: Any) -> int:
    """The label that was given to a segment, or 1, which no structure has."""
    text = tag(segment, LABEL_TAG)
    return int(text) if text.isdigit() else BACKGROUND
