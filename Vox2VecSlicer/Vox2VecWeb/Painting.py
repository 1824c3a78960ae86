"""Brush and eraser: trame-slicer's effects on the strokes of a session, with undo."""

from typing import Any

from trame_slicer.segmentation import SegmentationEffectErase, SegmentationEffectPaint
from trame_slicer.segmentation.paint_effect_parameters import BrushDiameterMode
from undo_stack import UndoStack

TOOLS = {"paint": SegmentationEffectPaint, "erase": SegmentationEffectErase}
BRUSH_MM = (1.0, 50.0)


class Painting:
    """What the left mouse button paints.

    :param editor: trame-slicer's segmentation editor.
    """

    def __init__(self, editor: Any) -> None:
        self._editor = editor
        self._undo = UndoStack(undo_limit=30)
        editor.set_undo_stack(self._undo)
        self._node: Any = None

    @property
    def canUndo(self) -> bool:
        """Whether a stroke can be undone."""
        return self._node is not None and self._undo.can_undo()

    @property
    def canRedo(self) -> bool:
        """Whether an undone stroke can be brought back."""
        return self._node is not None and self._undo.can_redo()

    def start(self, tool: str, strokesNode: Any, volumeNode: Any, segmentID: str, brushMm: float) -> None:
        """Paint or erase in a segment from now on."""
        if self._node is not strokesNode:
            self._node = strokesNode
            self._editor.set_active_segmentation(strokesNode, volumeNode)
        self._editor.set_active_segment_id(segmentID)
        _dropViewless(self._editor.get_effect(TOOLS[tool]))
        effect = self._editor.set_active_effect_type(TOOLS[tool])
        effect.set_use_sphere_brush(False)
        effect.set_brush_diameter(brushMm, BrushDiameterMode.Absolute)

    def stop(self) -> None:
        """The mouse explores again."""
        self._editor.deactivate_effect()

    def undo(self) -> None:
        """Take back the last stroke."""
        if self.canUndo:
            self._undo.undo()

    def redo(self) -> None:
        """Bring back the last stroke that was taken back."""
        if self.canRedo:
            self._undo.redo()

    def forget(self) -> None:
        """The strokes are gone."""
        self.stop()
        self._undo.clear()
        self._node = None


def _dropViewless(effect: Any) -> None:
    """Forget pipelines that trame-slicer made for views which came later, without telling them their view: it fails
    when it activates them. These views show the follow-up, in which nothing is painted."""
    pipelines = [(each, each()) for each in effect._pipelines]
    effect._pipelines = [each for each, found in pipelines if found is not None and found._view is not None]
