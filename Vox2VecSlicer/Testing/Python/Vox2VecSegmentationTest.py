"""Strokes in a real Slicer: painted in the embedded editor's segmentation, learned, applied, undone."""

import time
import unittest

import numpy as np
import slicer
from Vox2VecGeometryTest import scan


class Vox2VecSegmentationTest(unittest.TestCase):
    """The panel's Segment section with the real qMRMLSegmentEditorWidget."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        slicer.util.selectModule("Vox2VecSlicer")
        self.widget = slicer.util.getModuleWidget("Vox2VecSlicer")
        self.session = self.widget.session
        self.ct = scan()
        self.session.state.volume = self.ct
        self.session.embed(wait=True)

    def paint(self, segmentId: str, box) -> None:
        """A box of voxels in a segment."""
        strokes = self.session.strokesNode()
        mask = np.zeros(slicer.util.arrayFromVolume(self.ct).shape, np.uint8)
        mask[box] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, strokes, segmentId, self.ct)

    def segmented(self) -> None:
        """Strokes in the ball and in the body, learned and applied."""
        segmentation = self.session.strokesNode().GetSegmentation()
        background, structure = segmentation.GetNthSegmentID(0), segmentation.GetNthSegmentID(1)
        self.paint(background, np.s_[30:33, 55:60, 40:50])
        self.paint(structure, np.s_[28:32, 37:43, 57:63])
        self.session.updatePreview(wait=True)
        self.session.apply(wait=True)

    def test_editor_has_nodes_of_its_own(self) -> None:
        self.widget.ui.segmentSection.collapsed = False
        slicer.app.processEvents()
        editor = self.widget.ui.segmentEditorWidget
        self.assertIs(editor.segmentationNode(), self.session.strokesNode())
        self.assertIs(editor.sourceVolumeNode(), self.ct)
        self.assertNotEqual(editor.mrmlSegmentEditorNode().GetSingletonTag(), "SegmentEditor")

    def test_strokes_become_a_segmentation_on_the_right_voxels(self) -> None:
        self.segmented()
        result = self.session.state.result
        segmentId = result.GetSegmentation().GetNthSegmentID(0)
        found = slicer.util.arrayFromSegmentBinaryLabelmap(result, segmentId, self.ct)
        self.assertTrue(found[30, 40, 60])
        self.assertFalse(found[30, 40, 28])

    def test_undo(self) -> None:
        self.segmented()
        self.session.undo()
        result = self.session.state.result
        empty = True
        for index in range(result.GetSegmentation().GetNumberOfSegments()):
            segmentId = result.GetSegmentation().GetNthSegmentID(index)
            empty &= not slicer.util.arrayFromSegmentBinaryLabelmap(result, segmentId, self.ct).any()
        self.assertTrue(empty)

    def test_scene_close_during_a_job(self) -> None:
        self.session.state.volume = scan(seed=1)
        self.session.embed()
        slicer.mrmlScene.Clear()
        deadline = time.monotonic() + 60  # the tile that is being computed is finished first
        while self.session.busy and time.monotonic() < deadline:
            slicer.app.processEvents()
            time.sleep(0.01)
        self.assertFalse(self.session.busy)
        self.assertIsNone(self.session.state.volume)
