"""Everything that a user does with the module, on a large scan, each as one action that can be done again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from Testing.support.slicer_nodes import sliceViews
from Vox2VecCore.volume import Volume

PLACES = ((-70.0, 20.0, 20.0), (60.0, 0.0, 10.0), (-75.0, 25.0, 30.0))


@dataclass
class Desk:
    """The panel, and two large scans in the scene that are in the cache.

    :param folder: for files.
    """

    panel: Any
    ct: Any
    other: Any
    folder: Path
    turn: int = 0

    @classmethod
    def of(cls, panel: Any, volume: Volume, folder: Path) -> "Desk":
        nodes = [
            slicer.util.addVolumeFromArray(volume.array.T.copy(), slicer.util.vtkMatrixFromArray(volume.affine), name)
            for name in ("CT", "FollowUp")
        ]
        sliceViews(nodes[0])
        panel.session.state.autoUpdate = False
        return cls(panel, *nodes, folder)

    def next_place(self) -> tuple[float, float, float]:
        """Another place each time."""
        self.turn += 1
        return PLACES[self.turn % len(PLACES)]

    # Actions

    def choose(self) -> None:
        self.panel.ui.volumeSelector.setCurrentNode(None)
        self.panel.ui.volumeSelector.setCurrentNode(self.ct)

    def embed(self) -> None:
        self.panel.session.releaseMemory()
        self.panel.finish()
        self.panel.press(self.panel.ui.embedButton)

    def hover(self) -> None:
        state = self.panel.session.state
        state.hover = True
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        for _ in range(3):
            place = self.next_place()
            for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
                node.JumpSliceByOffsetting(*place)
            crosshair.SetCursorPositionRAS(list(place))
            self.panel.breathe(0.06)
        state.hover = False

    def click(self) -> None:
        points = self.panel.session.points
        points.clear()
        points.addPositive(self.next_place())
        points.addNegative(PLACES[1])
        points.positiveNode.SetNthControlPointPositionWorld(0, *PLACES[0])

    def slide(self) -> None:
        self.turn += 1
        for name in ("balanceSlider", "thresholdSlider", "opacitySlider"):
            slider = getattr(self.panel.ui, name)
            for share in np.linspace(0.6, 0.9, 6) - 0.01 * (self.turn % 9):
                slider.value = float(slider.maximum * share)
                self.panel.breathe()

    def colours(self) -> None:
        self.panel.session.state.view = "similarity"
        self.panel.session.pca.clear()
        self.panel.session.views.clear()
        self.panel.session.state.view = "colors"

    def similarity_and_legend(self) -> None:
        self.panel.session.state.view = "similarity"
        self.panel.ui.legendCheckBox.checked = not self.panel.ui.legendCheckBox.checked

    def make_segment(self) -> None:
        self.panel.session.state.threshold = 97.0
        self.panel.press(self.panel.ui.makeSegmentButton)

    def undo(self) -> None:
        self.panel.session.undo()
        self.panel.session.redo()
        self.panel.session.undo()

    def keep_map(self) -> None:
        self.panel.press(self.panel.ui.exportSimilarityButton)

    def match(self) -> None:
        self.panel.ui.targetSelector.setCurrentNode(None)
        self.panel.session.embeddings.forget(self.other.GetID())
        self.panel.ui.targetSelector.setCurrentNode(self.other)

    def forget_overlays(self) -> None:
        self.panel.session.views.clear()

    def side_by_side(self) -> None:
        self.panel.session.showSideBySide()
        self.panel.session.jumpToMatch(self.panel.session.matches[0])
        self.panel.session.showSingle()

    def carry_over(self) -> None:
        self.panel.session.propagate(self.panel.session.points.positiveNode)

    def open_editor(self) -> None:
        self.panel.ui.segmentSection.collapsed = not self.panel.ui.segmentSection.collapsed
        self.panel.ui.segmentSection.collapsed = False

    def learn(self) -> None:
        self.panel.session.updatePreview()

    def doubt_and_next(self) -> None:
        self.panel.session.state.view = "uncertainty"
        self.panel.press(self.panel.ui.paintNextButton)
        self.panel.session.state.view = "similarity"

    def save_head(self) -> None:
        self.panel.session.saveHead(self.folder / "head.safetensors")

    def load_head(self) -> None:
        self.panel.session.loadHead(self.folder / "head.safetensors")

    def apply_head(self) -> None:
        self.panel.session.applyHead([self.other])

    def apply_preview(self) -> None:
        if self.panel.session.fewShot.preview is None:
            self.panel.session.updatePreview()
            self.panel.session.wait()
        self.panel.session.apply()

    def undo_by_button(self) -> None:
        self.panel.press(self.panel.ui.undoButton)
        self.panel.press(self.panel.ui.redoButton)

    def leave_and_enter(self) -> None:
        self.panel.desktop.panel.exit()
        self.panel.desktop.panel.enter()

    def release_memory(self) -> None:
        self.panel.session.releaseMemory()

    def close_scene(self) -> None:
        slicer.mrmlScene.Clear(0)


ACTIONS: tuple[Callable[[Desk], None], ...] = (
    Desk.choose,
    Desk.embed,
    Desk.hover,
    Desk.click,
    Desk.slide,
    Desk.colours,
    Desk.similarity_and_legend,
    Desk.make_segment,
    Desk.undo,
    Desk.keep_map,
    Desk.match,
    Desk.side_by_side,
    Desk.carry_over,
    Desk.open_editor,
    Desk.learn,
    Desk.doubt_and_next,
    Desk.apply_preview,
    Desk.undo_by_button,
    Desk.save_head,
    Desk.load_head,
    Desk.apply_head,
    Desk.leave_and_enter,
    Desk.release_memory,
    Desk.close_scene,
)


AS_NEW: dict[Callable[[Desk], None], Callable[[Desk], None]] = {
    Desk.hover: Desk.embed,
    Desk.match: Desk.forget_overlays,
    Desk.learn: Desk.forget_overlays,
}
"""What has to be done before an action so that it is done for the first time again."""


def paint_strokes(desk: Desk) -> None:
    """A line through the body as background, a small block as structure."""
    strokes = desk.panel.session.strokesNode()
    shape = slicer.util.arrayFromVolume(desk.ct).shape
    for n, box in enumerate((np.s_[98:102, 170:180, 60:260], np.s_[108:112, 150:200, 100:110])):
        mask = np.zeros(shape, np.uint8)
        mask[box] = 1
        segment = strokes.GetSegmentation().GetNthSegmentID(n)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, strokes, segment, desk.ct)
