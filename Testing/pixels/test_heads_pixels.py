"""What a user sees after a few strokes: strokes, and the organ that is found from them, drawn by Slicer's own views."""

from typing import Any

import numpy as np

from Testing.mrml.test_heads import HEIGHTS, LIVER, Bench, bench, real
from Testing.pixels.test_overlay_pixels import PICTURES, isColoured
from Testing.support.slicer_view import SliceView
from Vox2VecSlicerLib import Geometry

__all__ = ["bench", "real"]
SIZE = 460


def test_strokes_and_the_organ_that_they_give(bench: Bench) -> None:
    view = SliceView("Picture", size=SIZE)
    view.showBackground(bench.node)
    bench.node.GetDisplayNode().AutoWindowLevelOff()
    bench.node.GetDisplayNode().SetWindowLevel(400, 40)
    stroke = bench.stroke(LIVER, HEIGHTS[1])
    height = int(stroke[0, 2])
    middle = Geometry.toWorld(bench.node, [Geometry.ijkToLocal(bench.node)[:3] @ (*stroke.mean(axis=0), 1)])[0]
    bench.session.state.roi.GetDisplayNode().SetVisibility(False)
    turnToVolume(view, bench.node, middle)
    strokes = bench.session.strokesNode().GetDisplayNode()
    strokes.SetOpacity2DFill(0)
    strokes.SetSliceIntersectionThickness(2)
    view.save(view.render(), PICTURES / "segment-preview.png")
    strokes.SetVisibility(False)
    picture = view.render()
    rng = np.random.default_rng(0)
    ij = np.column_stack([rng.integers(0, n, 4000) for n in bench.truth.shape[:2]])
    box = bench.session.embeddings.scan(bench.node).partBox()
    ij = ij[((ij >= [s.start for s in box[:2]]) & (ij < [s.stop for s in box[:2]])).all(axis=1)]
    ijk = np.column_stack([ij, np.full(len(ij), height)])
    world = Geometry.toWorld(bench.node, ijk @ Geometry.ijkToLocal(bench.node)[:3, :3].T + middleOf(bench.node))
    seen = np.array([isColoured(view.color(picture, place), 25) for place in world])
    truth = bench.truth[tuple(ijk.T)] == LIVER
    assert 2 * (seen & truth).sum() / (seen.sum() + truth.sum()) > 0.75
    view.close()


def middleOf(node: Any) -> np.ndarray:
    """Where the first voxel of a volume lies in its own space."""
    return Geometry.ijkToLocal(node)[:3, 3]


def turnToVolume(view: SliceView, node: Any, centre: np.ndarray) -> None:
    """Show a volume's own axial slice through a point: the patient's right on the left, the front above."""
    local = np.array([Geometry.ijkToLocal(node)[:3] @ (*corner, 1) for corner in np.eye(4, 3, -1)])
    origin, *ends = Geometry.toWorld(node, local)
    matrix = view.sliceNode.GetSliceToRAS()
    for column, (end, sign) in enumerate(zip(ends, (-1, 1, 1), strict=True)):
        axis = (end - origin) / np.linalg.norm(end - origin)
        axis *= sign * np.sign(axis[column])
        for row in range(3):
            matrix.SetElement(row, column, axis[row])
    for row in range(3):
        matrix.SetElement(row, 3, centre[row])
    view.sliceNode.UpdateMatrices()
