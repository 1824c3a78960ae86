"""Live similarity: displayed slices hold the values of the whole map, whatever way they cut; little else is made."""

import numpy as np
import pytest
import slicer

from Testing.mrml.test_overlay import scanOf
from Testing.support.slicer_nodes import GEOMETRIES, PARENTS, linearTransform, put, rigid, sliceViews, volumeNode
from Vox2VecCore.similarity import calibration, make_query, whole_scan
from Vox2VecSlicerLib import Geometry, Planes
from Vox2VecSlicerLib.Planes import (
    alignedPlanes,
    everyNth,
    isAligned,
    obliqueVoxels,
    planeInGrid,
    shownOf,
    writeSlices,
)


def queryOf(scan, world):
    query = make_query(scan.pyramid, scan.fromWorld([world]))
    return query, calibration(scan.pyramid, query)


def cornersOfDisplayed(scan, sliceNode, count=400):
    """Grid voxels whose values a slice view interpolates: corners of the cells around random points of the slice."""
    rng = np.random.default_rng(0)
    onSlice = np.column_stack([rng.uniform(-60, 60, (count, 2)), np.zeros(count), np.ones(count)])
    world = (Geometry.toNumpy(sliceNode.GetSliceToRAS()) @ onSlice.T).T[:, :3]
    grid = scan.pyramid.grid.to_voxels(scan.fromWorld(world))
    low = np.floor(grid)
    near = np.concatenate([low + corner for corner in np.ndindex(2, 2, 2)]).astype(int)
    weights = np.concatenate(
        [np.where(corner, grid - low, 1 - (grid - low)).prod(axis=1) for corner in np.ndindex(2, 2, 2)]
    )
    inside = ((near >= 0) & (near < np.array(scan.pyramid.grid.shape))).all(axis=1)
    return near[inside & (weights > 0.01)]


@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_what_the_views_show_is_what_the_whole_map_holds(name, parent):
    node = volumeNode(GEOMETRIES[name])
    put(node, parent)
    views = sliceViews(node)
    scan = scanOf(node)
    middle = scan.toWorld(scan.pyramid.grid.to_ras([np.array(scan.pyramid.grid.shape) / 2]))[0]
    for view in views:
        view.JumpSliceByCentering(*middle)
    query, calibrate = queryOf(scan, middle)
    whole = whole_scan(scan.pyramid, query, calibrate)
    values = np.full(scan.pyramid.grid.shape, -1, np.float32)
    writeSlices(scan, query, calibrate, shownOf(scan, views, None), values)
    for view in views:
        shown = tuple(cornersOfDisplayed(scan, view).T)
        assert len(shown[0]) > 100
        np.testing.assert_allclose(values[shown], whole[shown], atol=0.05)
    if parent in ("none", "linear") and name in ("plain", "left-handed", "permuted", "anisotropic"):
        assert (values < 0).mean() > 0.5, "and little else was computed"


def test_aligned_planes_are_one_or_two():
    shape = (10, 12, 14)
    assert alignedPlanes(np.array([0, 0, 1, 5.0]), shape) == (2, [5])
    assert alignedPlanes(np.array([0, 1, 0, 5.4]), shape) == (1, [5, 6])
    assert alignedPlanes(np.array([1, 0, 0, 9.5]), shape) == (0, [9])
    assert alignedPlanes(np.array([1, 0, 0, 40.0]), shape) == (0, [])
    assert isAligned(np.array([0, 1e-4, 1, 5.0]), shape)
    assert not isAligned(np.array([0, 0.02, 1, 5.0]), shape)


def test_an_oblique_slice_touches_few_voxels():
    shape = (60, 60, 60)
    voxels = obliqueVoxels(np.array([0.3, 0.2, 1, 45.0]), shape)
    assert len(voxels) < 5 * 60 * 60
    assert len(np.unique(voxels, axis=0)) == len(voxels)


def test_planes_follow_the_parent_transform():
    node = volumeNode()
    scan = scanOf(node)
    (axial,) = sliceViews(node, ("Red",))
    before = planeInGrid(scan, axial)
    node.SetAndObserveTransformNodeID(linearTransform(rigid((0, 0, 0), (0, 0, 8))).GetID())
    after = planeInGrid(scan, axial)
    assert before[3] - after[3] == pytest.approx(8 / 4, abs=1e-6)


@pytest.fixture
def explored(session):
    """A session with an embedded volume in three views, and the crosshair."""
    node = volumeNode()
    session.state.volume = node
    session.views_ = sliceViews(node)
    session.embed(node, wait=True)
    session.crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    return session


def moveMouse(session, world, view=0):
    session.crosshair.SetCursorPositionXYZ([100.0, 100.0, 0.0], session.views_[view])
    session.crosshair.SetCursorPositionRAS(list(world))


def test_the_overlay_follows_the_mouse(explored):
    explored.state.hover = True
    moveMouse(explored, (10.0, 0.0, 0.0))
    assert explored.hover.tick()
    overlay = explored.overlayNode
    scan = explored.embeddings.scan(explored.state.volume)
    query, calibrate = queryOf(scan, (10.0, 0.0, 0.0))
    whole = whole_scan(scan.pyramid, query, calibrate)
    shown = np.asarray(slicer.util.arrayFromVolume(overlay)).T
    for view in explored.views_:
        voxels = tuple(cornersOfDisplayed(scan, view).T)
        np.testing.assert_allclose(shown[voxels], whole[voxels], atol=0.05)
    assert not explored.hover.tick(), "nothing has moved, nothing is computed"
    explored.views_[0].SetSliceOffset(explored.views_[0].GetSliceOffset() + 9)
    assert explored.hover.tick(), "another slice is displayed"
    voxels = tuple(cornersOfDisplayed(scan, explored.views_[0]).T)
    np.testing.assert_allclose(np.asarray(slicer.util.arrayFromVolume(overlay)).T[voxels], whole[voxels], atol=0.05)


@pytest.mark.parametrize("parent", ["linear", "grid"])
def test_a_large_oblique_or_curved_slice_is_coarse_until_the_mouse_rests(explored, monkeypatch, parent):
    """Fewer voxels at once, each of them right and in its place; all of them a moment later."""
    monkeypatch.setattr(Planes, "MOVING_VOXELS", 5000)
    node = explored.state.volume
    put(node, parent)
    explored.views_[1].SetOrientationToAxial()
    explored.state.hover = True
    scan = explored.embeddings.scan(node)
    middle = scan.toWorld(scan.pyramid.grid.to_ras([np.array(scan.pyramid.grid.shape) / 2]))[0]
    for view in explored.views_:
        view.JumpSliceByCentering(*middle)
    moveMouse(explored, middle)
    step = shownOf(scan, explored.views_, 5000).step
    assert step in (2, 4)
    assert explored.hover.tick() and explored.hover.isPending
    query, calibrate = queryOf(scan, middle)
    whole = whole_scan(scan.pyramid, query, calibrate)
    coarse, overlay = np.asarray(slicer.util.arrayFromVolume(explored.overlayNode)).T, explored.overlayNode
    assert coarse.shape == everyNth(whole.shape, step)
    ijk = np.argwhere(coarse > 0)
    assert len(ijk) > 20
    local = (Geometry.ijkToLocal(overlay) @ np.column_stack([ijk, np.ones(len(ijk))]).T).T[:, :3]
    voxels = scan.pyramid.grid.to_voxels(scan.fromWorld(Geometry.toWorld(overlay, local)))
    np.testing.assert_allclose(voxels, np.rint(voxels), atol=0.02)
    np.testing.assert_allclose(coarse[tuple(ijk.T)], whole[tuple(np.rint(voxels).astype(int).T)], atol=0.5)
    for view in explored.views_ if parent == "linear" else []:
        low = np.floor((cornersOfDisplayed(scan, view) - step // 2) / step).astype(int)
        shown = tuple(low[((low >= 0) & (low < coarse.shape)).all(axis=1)].T)
        np.testing.assert_allclose(
            coarse[shown], whole[step // 2 :: step, step // 2 :: step, step // 2 :: step][shown], atol=0.5
        )
    explored.wait()
    assert not explored.hover.isPending
    np.testing.assert_allclose(np.asarray(slicer.util.arrayFromVolume(overlay)).T, whole, atol=1e-4)
    explored.views_[0].SetSliceOffset(explored.views_[0].GetSliceOffset() + 9)
    assert not explored.hover.tick(), "the whole map is there already"
    moveMouse(explored, middle + np.array([9.0, 0, 0]))
    assert explored.hover.tick() and explored.hover.isPending
    moveMouse(explored, (900.0, 0.0, 0.0))
    explored.wait()
    assert not explored.hover.isShown and not explored.hover.isPending


def test_many_moves_are_one_computation(explored):
    explored.state.hover = True
    count = []
    explored.hover.updated.connect(lambda *_: count.append(1))
    for x in range(20):
        moveMouse(explored, (float(x), 0.0, 0.0))
    explored.poll()
    explored.poll()
    assert len(count) == 1


def test_shift_is_noticed_by_the_crosshair(explored):
    moveMouse(explored, (10.0, 0.0, 0.0))
    explored.crosshair.SetCrosshairRAS(0.0, 0.0, 0.0)
    assert not explored.hover.tick()
    explored.crosshair.SetCrosshairRAS(10.0, 0.0, 0.0)
    assert explored.hover.tick()


def test_the_pinned_map_comes_back_when_the_mouse_leaves(explored):
    explored.points.addPositive((-20.0, 0.0, 0.0))
    explored.wait()
    pinned = np.array(slicer.util.arrayFromVolume(explored.overlayNode))
    explored.state.hover = True
    moveMouse(explored, (30.0, 0.0, 0.0))
    assert explored.hover.tick()
    assert not np.array_equal(slicer.util.arrayFromVolume(explored.overlayNode), pinned)
    moveMouse(explored, (900.0, 0.0, 0.0))
    explored.hover.tick()
    assert not explored.hover.isShown
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(explored.overlayNode), pinned)
    explored.crosshair.SetCursorPositionInvalid()
    assert not explored.hover.tick()


def test_nothing_happens_when_the_module_is_left(explored):
    explored.state.hover = True
    moveMouse(explored, (10.0, 0.0, 0.0))
    explored.exit()
    assert not explored.hover.tick()
    explored.enter()
    assert explored.hover.tick()


def test_the_map_spreads_unless_told_not_to(explored):
    place = (10.0, 0.0, 0.0)
    scan = explored.embeddings.scan(explored.state.volume)
    explored.points.addPositive(place)
    for spreading in (True, False):
        explored.state.spreading = spreading
        explored.wait()
        query = make_query(scan.pyramid, scan.fromWorld([place]), spreading=spreading)
        expected = whole_scan(scan.pyramid, query, calibration(scan.pyramid, query))
        shown = np.asarray(slicer.util.arrayFromVolume(explored.overlayNode)).T
        np.testing.assert_allclose(shown, expected, atol=0.05)


def test_moving_a_point_moves_the_map(explored):
    explored.points.addPositive((0.0, 0.0, 0.0))
    explored.wait()
    first = np.array(slicer.util.arrayFromVolume(explored.overlayNode))
    explored.points.positiveNode.SetNthControlPointPositionWorld(0, 25.0, 0.0, 0.0)
    explored.wait()
    assert explored.similarityAt((25.0, 0.0, 0.0)) > 99
    assert not np.array_equal(first, slicer.util.arrayFromVolume(explored.overlayNode))
    explored.points.addNegative((0.0, 0.0, 0.0))
    before = explored.similarityAt((0.0, 0.0, 0.0))
    explored.wait()
    assert explored.similarityAt((0.0, 0.0, 0.0)) < before
    explored.points.clear()
    explored.wait()
    assert explored.similarityAt((25.0, 0.0, 0.0)) is None
