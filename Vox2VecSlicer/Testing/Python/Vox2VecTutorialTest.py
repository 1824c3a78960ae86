"""The README's tutorial in a real Slicer, on the CT that it names, which is downloaded.

With VOX2VEC_PICTURES set to a folder, a picture of the whole window is kept there after each step.
"""

import os
import tempfile
import unittest
from pathlib import Path

import numpy as np
import slicer
import vtk
from Vox2VecGeometryTest import world

SHIFT_MM = (20.0, -10.0, 0.0)
SPINE = (0.15, 0.36)
"""Where a spine lies on the way from the back of a body to its front."""
REACH = 6
"""Half the size of a square, in pixels of a CT of a chest, that lies within a vertebra."""


class Vox2VecTutorialTest(unittest.TestCase):
    """Its steps one after the other, as a user takes them."""

    def test_on_ctchest(self) -> None:
        import SampleData

        slicer.mrmlScene.Clear()
        self.ct = SampleData.downloadSample("CTChest")
        self.values = slicer.util.arrayFromVolume(self.ct).copy()
        slicer.util.selectModule("Vox2VecSlicer")
        widget = slicer.util.getModuleWidget("Vox2VecSlicer")
        self.ui, self.session = widget.ui, widget.session
        self.ui.volumeSelector.setCurrentNode(self.ct)
        self.show("setup")
        self.ui.embedButton.click()
        self.session.wait()
        self.assertTrue(self.session.isEmbedded(self.ct))
        self.show("embed")
        for step in (self.explore, self.match, self.segment, self.heads):
            with self.subTest(step.__name__):
                step()
                self.show(step.__name__)

    def show(self, section: str) -> None:
        """Open one section of the panel, and keep a picture of the window."""
        for name in ("setup", "embed", "explore", "match", "segment", "heads"):
            getattr(self.ui, f"{name}Section").collapsed = name != section
        slicer.app.processEvents()
        if "VOX2VEC_PICTURES" in os.environ:
            slicer.util.forceRenderAllViews()
            folder = Path(os.environ["VOX2VEC_PICTURES"])
            folder.mkdir(parents=True, exist_ok=True)
            self.assertTrue(slicer.util.mainWindow().grab().save(str(folder / f"{section}.png")))

    def explore(self) -> None:
        """A point in a vertebra, and what looks like it as a segment."""
        self.place = world(self.ct, self.vertebra())
        self.session.points.addPositive(self.place)
        self.session.wait()
        self.session.jumpTo(self.place)
        self.assertGreater(self.session.similarityAt(self.place), 99.0)
        self.ui.makeSegmentButton.click()
        self.session.wait()
        self.assertTrue(self.found(self.session.state.result)[self.vertebra()[::-1]])

    def match(self) -> None:
        """The same CT shifted, with noise: where the point is found again."""
        noise = np.random.default_rng(0).normal(0, 20, self.values.shape)
        matrix = vtk.vtkMatrix4x4()
        self.ct.GetIJKToRASMatrix(matrix)
        for axis, shift in enumerate(SHIFT_MM):
            matrix.SetElement(axis, 3, matrix.GetElement(axis, 3) + shift)
        moved = (self.values + noise).astype(np.int16)
        self.followUp = slicer.util.addVolumeFromArray(moved, matrix, "FollowUp")
        self.ui.targetSelector.setCurrentNode(self.followUp)
        self.session.wait()
        (row,) = self.session.matches
        self.assertTrue(row.reliable)
        np.testing.assert_allclose(np.subtract(row.targetWorld, self.place), SHIFT_MM, atol=10.0)
        self.session.showSideBySide()
        self.session.jumpToMatch(row)

    def segment(self) -> None:
        """Lines in the lung and beside it on three slices, learnt from, applied."""
        self.session.showSingle()
        self.session.points.clear()
        strokes = self.session.strokesNode()
        background, lung = (strokes.GetSegmentation().GetNthSegmentID(n) for n in range(2))
        middle = self.values.shape[0] // 2
        lines = {lung: self.values < -700, background: np.abs(self.values - 50) < 100}
        for segment, wanted in lines.items():
            mask = np.zeros(self.values.shape, np.uint8)
            for k in (middle - 10, middle, middle + 10):
                (top, left), (bottom, right) = self.body(k)
                row = (top + bottom) // 2  # wide there, so that no air around the body is left in between
                mask[k, row, left:right] = wanted[k, row, left:right]
            slicer.util.updateSegmentBinaryLabelmapFromArray(mask, strokes, segment, self.ct)
        self.session.updatePreview(wait=True)
        self.session.apply(wait=True)
        found = self.found(self.session.state.result, last=True)
        self.assertGreater((self.values[found] < -300).mean(), 0.9)
        litres = found.sum() * np.prod(self.ct.GetSpacing()) / 1e6
        self.assertTrue(1 < litres < 10, litres)

    def heads(self) -> None:
        """What was learnt, saved, loaded and used on the follow-up."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lung.safetensors"
            self.session.saveHead(path)
            self.session.loadHead(path, wait=True)
        self.session.applyHead([self.followUp], wait=True)

    def found(self, segmentation, last: bool = False) -> np.ndarray:
        """The first segment of a segmentation, or the last, on the voxels (k, j, i) of the CT."""
        segments = segmentation.GetSegmentation()
        segmentId = segments.GetNthSegmentID(segments.GetNumberOfSegments() - 1 if last else 0)
        return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentId, self.ct) > 0

    def body(self, k: int) -> np.ndarray:
        """First and last row and column of a body's slice: (2, 2)."""
        return np.percentile(np.argwhere(self.values[k] > -300), (1, 99), axis=0).astype(int)

    def vertebra(self) -> tuple:
        """A voxel (i, j, k) of bone in the middle of the CT, on the line from the middle of the back to the front."""
        k = self.values.shape[0] // 2
        first, last = self.body(k)
        matrix = vtk.vtkMatrix4x4()
        self.ct.GetIJKToRASMatrix(matrix)
        back, front = (first[0], last[0]) if matrix.GetElement(1, 1) > 0 else (last[0], first[0])
        rows = np.linspace(*(back + share * (front - back) for share in SPINE), 100).astype(int)
        column = (first[1] + last[1]) // 2
        thick = [self.values[k, row - REACH : row + REACH + 1, column - REACH : column + REACH + 1] for row in rows]
        row = rows[int(np.argmax([np.clip(values, 0, 400).mean() for values in thick]))]
        return column, int(row), k
