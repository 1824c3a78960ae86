"""Actions of a session on strokes, their preview, the result, and heads."""

from pathlib import Path
from typing import TYPE_CHECKING

import slicer

from Vox2VecSlicerLib.SessionSetup import SetupActions
from Vox2VecSlicerLib.ViewsOfScans import scanOf

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLSegmentEditorNode

USE = "Vox2Vec.Use"
BACKGROUND = "Vox2Vec.Background"
OF_A_SCAN = ("strokes", "result")
"""Parameters whose segmentations lie in one scan; each is marked with what it is used for."""


class SegmentActions(SetupActions):
    """Segment, and Heads."""

    def _takeSegmentationsOfVolume(self) -> None:
        """Another scan was chosen: strokes (hidden) and result of the former one stay in the scene, its own come."""
        state, former = self.state, self.state.strokes
        nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", self.scene)
        if former is not None:
            former.SetAttribute(BACKGROUND, state.backgroundSegment)
        for name in OF_A_SCAN:
            node = getattr(state, name)
            if node is None or scanOf(node) not in (None, state.volume):
                own = [each for each in nodes if each.GetAttribute(USE) == name and scanOf(each) is state.volume]
                setattr(state, name, own[-1] if own else None)
        if state.strokes is former:
            return
        if former is not None:
            former.SetDisplayVisibility(False)
        if state.strokes is not None:
            state.strokes.SetDisplayVisibility(True)
            state.backgroundSegment = state.strokes.GetAttribute(BACKGROUND) or state.backgroundSegment

    def strokesNode(self) -> "vtkMRMLSegmentationNode":
        """The segmentation to paint strokes in, made on first use."""
        return self.strokes.node()

    def segmentEditorNode(self) -> "vtkMRMLSegmentEditorNode":
        """The module's own segment editor node."""
        return self.strokes.editorNode()

    def addStructure(self, name: str | None = None, color: tuple[float, float, float] | None = None) -> str:
        """A further structure to paint; returns its segment."""
        return self.strokes.addStructure(name, color)

    def setBackgroundSegment(self, segmentID: str) -> None:
        """Which segment of the strokes says "not a structure"."""
        self.state.backgroundSegment = segmentID

    def strokesStatus(self) -> str:
        """What is missing before a head can be trained, in one sentence; empty when nothing is."""
        return self.strokes.status()

    def updatePreview(self, wait: bool = False) -> None:
        """Learn from the strokes now; happens by itself with ``state.autoUpdate``."""
        self.fewShot.update()
        if wait:
            self.wait()

    def clearPreview(self) -> None:
        """Drop the preview."""
        self.fewShot.clearPreview()

    def apply(self, wait: bool = False) -> "vtkMRMLSegmentationNode":
        """Write the preview into the result, heeding the Segment Editor's masking and overwriting.

        :raises Vox2VecError: if there is no preview or the settings forbid all of it.
        """
        node = self.fewShot.apply()
        if wait:
            self.wait()
        return node

    def undo(self) -> None:
        """Undo the last writing into the result."""
        self.result.undo()

    def redo(self) -> None:
        """Undo :meth:`undo`."""
        self.result.redo()

    @property
    def isWriting(self) -> bool:
        """Whether something is being written into the result."""
        return self.result.isUnderWay

    @property
    def canUndo(self) -> bool:
        """Whether there is something to undo."""
        return self.result.canUndo

    @property
    def canRedo(self) -> bool:
        """Whether there is something to redo."""
        return self.result.canRedo

    def whereToPaintNext(self) -> tuple[float, float, float] | None:
        """Where a further stroke would help most, in the world; ``None`` if nothing says so."""
        preview = self.fewShot.preview
        if preview is None or preview.next_ras is None:
            return None
        r, a, s = preview.scan.toWorld([preview.next_ras])[0]
        return float(r), float(a), float(s)

    @property
    def hasHead(self) -> bool:
        """Whether a head has been trained or loaded."""
        return self.fewShot.head is not None

    def headSummary(self) -> str:
        """One line about the head, empty without one."""
        return self.heads.summary()

    def saveHead(self, path: str | Path) -> None:
        """Write the head to a file.

        :raises Vox2VecError: if there is none or the file cannot be written.
        """
        self.heads.save(Path(path))

    def loadHead(self, path: str | Path, wait: bool = False) -> None:
        """Read a head from a file; :attr:`headLoaded` tells when it is there.

        :raises ModelError: with ``wait``, if it is not a head or belongs to another model.
        """
        self.heads.load(Path(path))
        if wait:
            self.wait()

    def dropHead(self) -> None:
        """Forget the head that was trained or loaded, in the scene, too; files stay.

        Strokes that were added to a loaded head are learnt from alone again.
        """
        self.heads.drop()

    def applyHead(self, volumeNodes: "list[vtkMRMLScalarVolumeNode]", wait: bool = False) -> None:
        """Segment other volumes with the head, embedding them first when needed: one segmentation each.

        :raises Vox2VecError: if there is no head or a node cannot be embedded.
        """
        for volumeNode in self.heads.apply(volumeNodes):
            self.embed(volumeNode)
        if wait:
            self.wait()
