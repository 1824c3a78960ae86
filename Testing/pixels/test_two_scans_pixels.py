"""Two scans beside each other: what lies in one is not drawn in the views of the other."""

import os
from pathlib import Path

import numpy as np
import pytest

from Testing.mrml.test_matching import inTarget, pair
from Testing.mrml.test_session import paint
from Testing.support.slicer_nodes import geometry, rigid, volumeNode
from Testing.support.slicer_view import SliceView
from Vox2VecSlicerLib import Geometry
from Vox2VecSlicerLib.Layout import SOURCE_VIEWS, TARGET_VIEWS
from Vox2VecSlicerLib.Points import NEGATIVE_COLOR, POSITIVE_COLOR, TARGET_COLOR
from Vox2VecSlicerLib.Segments import segmentIDs

__all__ = ["pair"]

PICTURES = Path(os.environ.get("VOX2VEC_PICTURES", "pictures"))
POINT, OTHER = (-20.0, 0.0, 5.0), (20.0, 10.0, 5.0)


@pytest.fixture
def beside(pair):
    """Views of either scan, a positive and a negative point, and the match."""
    views = [SliceView(names[0]) for names in (SOURCE_VIEWS, TARGET_VIEWS)]
    pair.state.view = "none"
    for view, volume in zip(views, (pair.state.volume, pair.target_), strict=True):
        view.showBackground(volume)
    pair.points.addPositive(POINT)
    pair.points.addNegative(OTHER)
    pair.wait()
    pair.beside = views
    yield pair
    for view in views:
        view.close()


def drawn(view, world, color, name=""):
    """Whether pixels of a colour are near a place."""
    view.jump(world)
    picture = view.render()
    if name:
        view.save(picture, PICTURES / f"{name}.png")
    row, column = view.pixel(world)
    near = picture[max(row - 9, 0) : row + 10, max(column - 9, 0) : column + 10].astype(int)
    return bool((np.abs(near - 255 * np.array(color)).max(axis=-1) < 40).any())


def test_points_are_drawn_in_the_views_of_their_own_scan(beside):
    own, other = beside.beside
    found = beside.matches[0].targetWorld
    assert np.linalg.norm(inTarget(beside, POINT) - found) < 4
    assert drawn(own, POINT, POSITIVE_COLOR, "beside-source")
    assert drawn(own, OTHER, NEGATIVE_COLOR)
    assert drawn(other, found, TARGET_COLOR, "beside-target")
    assert not drawn(other, POINT, POSITIVE_COLOR)
    assert not drawn(other, OTHER, NEGATIVE_COLOR)
    assert not drawn(own, found, TARGET_COLOR)


def test_what_is_shown_is_followed(beside):
    own, other = beside.beside
    found = beside.matches[0].targetWorld
    own.showBackground(beside.target_)
    assert not drawn(own, POINT, POSITIVE_COLOR) and drawn(own, found, TARGET_COLOR)
    for view in (own, other):
        view.showBackground(beside.state.volume)
    assert drawn(own, POINT, POSITIVE_COLOR) and drawn(other, POINT, POSITIVE_COLOR)
    assert not drawn(own, found, TARGET_COLOR), "its scan is nowhere to be seen"
    other.showBackground(beside.target_)
    beside.setTarget(None)
    beside.wait()
    assert drawn(other, POINT, POSITIVE_COLOR), "nothing is compared any more"


def test_strokes_and_lists_stay_in_their_scan(beside, scene):
    own, other = beside.beside
    beside.points.clear()
    mine = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
    mine.AddControlPointWorld(POINT)
    carried = beside.propagate(mine, wait=True)
    place = carried.GetNthControlPointPositionWorld(0)
    assert drawn(other, place, TARGET_COLOR) and not drawn(own, place, TARGET_COLOR)
    strokes = beside.strokesNode()
    beside.state.autoUpdate = False
    block = [np.array((20, 17, 13)) + step for step in np.ndindex(4, 4, 2)]
    paint(beside, segmentIDs(strokes)[1], block)
    beside.poll()
    from Vox2VecSlicerLib import Geometry

    world = Geometry.ijkToLocal(beside.state.volume)[:3] @ (21.5, 18.5, 13.0, 1.0)
    colored = [np.ptp(view.color((view.jump(world), view.render())[1], world)) for view in (own, other)]
    assert colored[0] > 60 and colored[1] < 10


def test_scans_that_lie_far_apart_are_in_view(pair):
    views = [SliceView(names[0]) for names in (SOURCE_VIEWS, TARGET_VIEWS)]
    pair.target_.GetParentTransformNode().SetMatrixTransformToParent(Geometry.toVtk(rigid((0, 0, 0), (0, 0, 900))))
    pair.showSideBySide()
    assert all(view.render().max() > 100 for view in views)
    further = volumeNode(geometry(centre=(0, 700, -900)), name="Further")
    pair.state.volume = further
    backgrounds = [view.logic.GetSliceCompositeNode().GetBackgroundVolumeID() for view in views]
    assert backgrounds == [further.GetID(), pair.target_.GetID()], "what is chosen is shown"
    assert views[0].render().max() > 100
    views[0].sliceNode.SetMappedInLayout(True)
    pair.setTarget(None)
    pair.state.volume = pair.target_
    background = views[0].logic.GetSliceCompositeNode().GetBackgroundVolumeID()
    assert background == pair.target_.GetID(), "a view that the layout does not show does not count"
    for view in views:
        view.close()
