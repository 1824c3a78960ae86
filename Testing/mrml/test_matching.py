"""Points in a second volume: shown, labelled, honest when there is none; whole lists carried over."""

from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from scipy.ndimage import gaussian_filter

from Testing.support.handmade import handmade_pyramid
from Testing.support.scans import phantom
from Testing.support.slicer_nodes import SHAPE, geometry, linearTransform, rigid, sliceViews, volumeNode
from Vox2VecCore.errors import Vox2VecError
from Vox2VecSlicerLib.Embedding import Embedded
from Vox2VecSlicerLib.Layout import SIDE_BY_SIDE, TARGET_VIEWS, SideBySide, register
from Vox2VecSlicerLib.Points import worldPositions

SHIFT = np.array([15.0, -10.0, 6.0])


@pytest.fixture
def pair(session):
    """A scan and the same scan elsewhere, under a registration of its own; both embedded."""
    texture = gaussian_filter(np.random.default_rng(0).normal(0, 1, SHAPE), 2.0)
    array = (phantom(SHAPE).array + 200 * texture / texture.std()).astype(np.int16)
    source, target = volumeNode(array=array), volumeNode(geometry(centre=SHIFT), array, "Follow-up")
    session.moved = rigid((0, 0, 5), (3, 0, 0))
    target.SetAndObserveTransformNodeID(linearTransform(session.moved).GetID())
    session.embeddings._embed = lambda part, *_: Embedded(handmade_pyramid(part.volume()))
    session.state.volume = source
    session.embed(wait=True)
    session.setTarget(target)
    session.wait()
    session.target_ = target
    return session


def inTarget(session, world):
    """Where a point of the first scan lies in the second."""
    return session.moved[:3, :3] @ (np.asarray(world) + SHIFT) + session.moved[:3, 3]


def test_pinned_points_appear_in_the_target(pair):
    said = []
    pair.matchesUpdated.connect(said.append)
    points = [(-20.0, 0.0, 5.0), (25.0, 5.0, -8.0)]
    for point in points:
        pair.points.addPositive(point)
    pair.wait()
    assert len(pair.matches) == len(said[-1]) == 2
    for row, point in zip(pair.matches, points, strict=True):
        assert row.reliable, row
        assert np.linalg.norm(np.array(row.targetWorld) - inTarget(pair, point)) < 4
        assert row.cycleErrorMm < 4
        assert "cycle error" in row.text
    node = pair.targetPointsNode
    np.testing.assert_allclose(worldPositions(node), [row.targetWorld for row in pair.matches], atol=1e-6)
    assert node.GetNthControlPointLabel(0) == "+1"
    pair.points.clear()
    pair.wait()
    assert pair.matches == []
    assert node.GetNumberOfControlPoints() == 0
    assert not node.GetSaveWithScene()


def test_the_same_query_colours_the_target(pair):
    pair.points.addPositive((-20.0, 0.0, 5.0))
    pair.wait()
    shown = pair.similarity.mapOf(pair.target_)
    assert shown is not None
    place = shown.scan.pyramid.grid.nearest_voxels(shown.scan.fromWorld([inTarget(pair, (-20.0, 0.0, 5.0))]))[0]
    assert shown.values[tuple(place)] > 95


def test_no_reliable_match_is_said_plainly(pair, monkeypatch):
    import dataclasses

    from Vox2VecCore import matching

    real = matching.match_points

    def doubtful(*arguments, **options):
        return [dataclasses.replace(match, reliable=False) for match in real(*arguments, **options)]

    monkeypatch.setattr(matching, "match_points", doubtful)
    pair.points.addPositive((-20.0, 0.0, 5.0))
    pair.wait()
    assert "no reliable match" in pair.matches[0].text
    node = pair.targetPointsNode
    assert node.GetNthControlPointLabel(0) == "+1 ?"
    assert not node.GetNthControlPointSelected(0)


def test_a_whole_list_is_carried_over(pair, scene):
    mine = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
    for label, point in (("apex", [-20.0, 0.0, 5.0]), ("tip", [25.0, 5.0, -8.0])):
        mine.AddControlPointWorld(point, label)
    found = pair.propagate(mine, wait=True)
    assert found.GetName() == "Landmarks in Follow-up"
    assert [found.GetNthControlPointLabel(i) for i in range(2)] == ["apex", "tip"]
    assert "cycle error" in found.GetNthControlPointDescription(0)
    assert found.GetSaveWithScene()
    with pytest.raises(Vox2VecError, match="holds no points"):
        pair.propagate(scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Empty"))


def test_without_a_target_it_is_said(session):
    with pytest.raises(Vox2VecError, match="second volume"):
        session.propagate(session.points.positiveNode)


def test_the_cursor_is_shown_and_goes(pair):
    pair.matching.followCursor((-20.0, 0.0, 5.0))
    pair.wait()
    assert pair.targetPointsNode.GetNthControlPointLabel(0).startswith("cursor")
    pair.matching.dropCursor()
    assert pair.targetPointsNode.GetNumberOfControlPoints() == 0


def test_the_hovering_mouse_is_followed(pair, scene):
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    pair.state.hover = True
    crosshair.SetCursorPositionRAS([-20.0, 0.0, 5.0])
    pair.poll()
    pair.wait()
    assert pair.targetPointsNode.GetNthControlPointLabel(0).startswith("cursor")
    crosshair.SetCursorPositionRAS([900.0, 0.0, 5.0])
    pair.poll()
    assert pair.targetPointsNode.GetNumberOfControlPoints() == 0


def test_the_views_of_the_target_show_the_match(pair, scene):
    """While the mouse moves, and for a row of the table; those of the volume show the point itself."""
    own, other = sliceViews(pair.state.volume, ("Red", "Yellow"))
    composites = {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
    composites["Yellow"].SetBackgroundVolumeID(pair.state.target.GetID())
    for node in (own, other):
        node.SetOrientationToAxial()
    pair.points.addPositive((-20.0, 0.0, 5.0))
    pair.wait()
    row = next(row for row in pair.matches if row.reliable)
    assert list(pair.targetPointsNode.GetDisplayNode().GetViewNodeIDs()) == [other.GetID()], "not in the other scan"
    pair.jumpToMatch(row)
    assert own.GetSliceOffset() == pytest.approx(row.sourceWorld[2], abs=1e-3)
    assert other.GetSliceOffset() == pytest.approx(row.targetWorld[2], abs=1e-3)
    for node in (own, other):
        node.SetSliceOffset(60.0)
    pair.matching.followCursor(row.sourceWorld)
    pair.wait()
    assert other.GetSliceOffset() == pytest.approx(row.targetWorld[2], abs=1e-3)
    assert own.GetSliceOffset() == pytest.approx(60.0)


def test_removing_the_target_removes_its_matches(pair, scene):
    pair.points.addPositive((-20.0, 0.0, 5.0))
    pair.wait()
    scene.RemoveNode(pair.target_)
    pair.wait()
    assert pair.matches == []
    assert pair.similarityAt((-20.0, 0.0, 5.0)) > 99, "the scan itself is still explored"


def test_both_volumes_side_by_side(pair, scene):
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    layout.AddLayoutDescription(3, "<layout type='horizontal'></layout>")
    layout.SetViewArrangement(3)
    pair.showSideBySide()
    assert layout.GetViewArrangement() == SIDE_BY_SIDE
    assert all(name in layout.GetLayoutDescription(SIDE_BY_SIDE) for name in TARGET_VIEWS)
    composite = slicer.vtkMRMLSliceCompositeNode()
    composite.SetSingletonTag(TARGET_VIEWS[0])
    composite.SetLayoutName(TARGET_VIEWS[0])
    composite = scene.AddNode(composite)
    pair.points.addPositive((-20.0, 0.0, 5.0))
    pair.wait()
    pair.showSideBySide()
    assert composite.GetBackgroundVolumeID() == pair.target_.GetID()
    shown = scene.GetNodeByID(composite.GetForegroundVolumeID())
    assert shown is pair.views.overlay("similarity", pair.target_).node
    pair.showSingle()
    assert layout.GetViewArrangement() == 3


def test_a_scene_that_was_saved_side_by_side_has_views(scene):
    fresh = slicer.vtkMRMLLayoutNode()  # of a Slicer in which the layout was never shown
    register(SimpleNamespace(GetFirstNodeByClass=lambda _name: fresh))
    fresh.SetViewArrangement(SIDE_BY_SIDE)
    assert TARGET_VIEWS[0] in fresh.GetCurrentLayoutDescription()
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    layout.AddLayoutDescription(layout.SlicerLayoutFourUpView, "<layout type='horizontal'></layout>")
    again = SideBySide(scene)
    layout.SetViewArrangement(SIDE_BY_SIDE)
    again.hide()
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView, "what was there before is not known"
    again.release()
