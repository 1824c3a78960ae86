"""What Slicer's own views draw: overlay, segmentation and points at the places in the patient where they belong."""

import os
from pathlib import Path

import numpy as np
import pytest
import slicer

from Testing.mrml.test_heads import BODY, LUNG
from Testing.mrml.test_hover import queryOf
from Testing.mrml.test_overlay import scanOf
from Testing.mrml.test_session import paint
from Testing.support.slicer_heads import HeldBack, said
from Testing.support.slicer_nodes import GEOMETRIES, PARENTS, SHAPE, put, volumeNode
from Testing.support.slicer_view import SliceView
from Vox2VecSlicerLib import Geometry
from Vox2VecSlicerLib.Planes import shownOf, writeSlices
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Views import Views

PICTURES = Path(os.environ.get("VOX2VEC_PICTURES", "pictures"))


@pytest.fixture
def view(scene):
    view = SliceView()
    yield view
    view.close()


@pytest.fixture
def overlays(scene):
    state = ModuleState(scene)
    views = Views(scene, state)
    views.state = state
    yield views
    views.release()
    state.release()


def isColoured(color, by=40):
    """Whether a pixel is not grey."""
    return color.max() - color.min() > by


CASES = [*(("oblique", parent) for parent in PARENTS), *((name, "linear over grid") for name in GEOMETRIES)]


@pytest.mark.parametrize(("name", "parent"), sorted(set(CASES)))
def test_the_overlay_is_drawn_where_its_voxels_are(view, overlays, name, parent):
    node = volumeNode(GEOMETRIES[name])
    put(node, parent)
    view.showBackground(node)
    scan = scanOf(node)
    overlays.state.volume = node
    overlays.state.opacity = 1.0
    grid = scan.pyramid.grid
    values = np.zeros(grid.shape, np.float32)
    voxel = (np.array(grid.shape) * (0.62, 0.35, 0.5)).astype(int)
    x, y, z = voxel
    values[x - 2 : x + 3, y - 2 : y + 3, z - 2 : z + 3] = 100
    overlays.fill("similarity", scan).setMap(scan, values)
    overlays.update()
    centre = scan.toWorld(grid.to_ras([voxel]))[0]
    view.jump(centre)
    picture = view.render()
    view.save(picture, PICTURES / f"overlay-{name}-{parent}.png")
    assert isColoured(view.color(picture, centre)), "the block is there"
    away = [centre + 35 * np.array(step) for step in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0))]
    assert not any(isColoured(view.color(picture, place)) for place in away if view_has(view, place))
    rows, columns = np.nonzero(np.ptp(picture[..., :3].astype(int), axis=-1) > 40)
    middle = view.pixel(centre)
    mm = view.sliceNode.GetFieldOfView()[0] / picture.shape[1]
    assert abs(rows.mean() - middle[0]) * mm < 4
    assert abs(columns.mean() - middle[1]) * mm < 4


def view_has(view, world):
    row, column = view.pixel(world)
    return 0 <= row < 300 and 0 <= column < 300


def test_colours_threshold_and_opacity(view, overlays):
    node = volumeNode(array=np.full((40, 34, 26), -200, np.int16))
    slicer.util.arrayFromVolume(node)[:13, :, :] = -100
    slicer.util.arrayFromVolumeModified(node)
    view.showBackground(node)
    scan = scanOf(node)
    overlays.state.volume = node
    grid = scan.pyramid.grid
    values = np.zeros(grid.shape, np.float32)
    third = grid.shape[0] // 3
    values[:third], values[third : 2 * third], values[2 * third :] = 60, 80, 100
    overlays.fill("similarity", scan).setMap(scan, values)
    overlays.state.threshold, overlays.state.opacity = 70.0, 1.0
    places = [
        scan.toWorld(grid.to_ras([((i + 0.5) * third, grid.shape[1] / 2, grid.shape[2] / 2)]))[0] for i in range(3)
    ]
    view.jump(places[0])
    below, middle, top = (view.color(view.render(), place) for place in places)
    assert not isColoured(below, 10), "below the threshold the CT is seen"
    table = overlays.overlay("similarity", node).node.GetDisplayNode().GetColorNode()
    for color, share in ((middle, (80 - 70) / 30), (top, 1.0)):
        rgba = [0.0] * 4
        table.GetColor(round(255 * share), rgba)
        np.testing.assert_allclose(color, 255 * np.array(rgba[:3]), atol=6)
    overlays.state.opacity = 0.5
    blended = view.color(view.render(), places[2])
    grey = np.full(3, below.mean())
    np.testing.assert_allclose(blended, (top + grey) / 2, atol=8)
    overlays.exit()
    assert not isColoured(view.color(view.render(), places[2]), 10)


def test_a_hovered_slice_looks_like_the_whole_map(view, overlays):
    from Vox2VecCore.similarity import whole_scan

    node = volumeNode(GEOMETRIES["oblique"])
    view.showBackground(node)
    scan = scanOf(node)
    overlays.state.volume, overlays.state.threshold = node, 30.0
    centre = scan.toWorld(scan.pyramid.grid.to_ras([np.array(scan.pyramid.grid.shape) / 2]))[0]
    view.jump(centre)
    query, calibrate = queryOf(scan, centre)
    overlay = overlays.fill("similarity", scan)
    writeSlices(scan, query, calibrate, shownOf(scan, [view.sliceNode], None), overlay.values)
    overlay.modified()
    overlays.update()
    hovered = view.render().astype(int)
    view.save(hovered.astype(np.uint8), PICTURES / "hover-oblique.png")
    overlay.setMap(scan, whole_scan(scan.pyramid, query, calibrate))
    whole = view.render().astype(int)
    assert (np.ptp(whole, axis=-1) > 40).mean() > 0.05
    assert (np.abs(hovered - whole).max(axis=-1) > 3).mean() < 0.002


def test_points_and_segments_are_drawn_in_place(view, session):
    node = volumeNode(GEOMETRIES["oblique"])
    put(node, "linear")
    view.showBackground(node)
    session.state.volume, session.state.view = node, "none"
    session.embed(wait=True)
    scan = session.embeddings.scan(node)
    toWorld = lambda ijk: scan.toWorld(scan.fromWorld(scan.toWorld(scan.pyramid.grid.to_ras([ijk]))))[0]  # noqa: E731
    centre = toWorld(np.array(scan.pyramid.grid.shape) / 2)
    session.points.addPositive(centre)
    view.jump(centre)
    picture = view.render()
    view.save(picture, PICTURES / "point.png")
    row, column = view.pixel(centre)
    near = picture[row - 12 : row + 13, column - 12 : column + 13].astype(int)
    green = (near[..., 1] - near[..., [0, 2]].max(axis=-1)) > 60
    assert green.any(), "the pinned point is green"
    session.points.positiveNode.GetDisplayNode().SetVisibility(False)
    strokes = session.strokesNode()
    background, structure = (strokes.GetSegmentation().GetNthSegmentID(i) for i in range(2))
    from Vox2VecSlicerLib import Geometry

    ijk = np.rint(Geometry.worldToIjk(node, [centre])[0]).astype(int)
    block = [tuple(ijk + np.array(step) - 3) for step in np.ndindex(7, 7, 7)]
    session.state.autoUpdate = False
    paint(session, structure, block)
    paint(session, background, [(2, 2, 2)])
    picture = view.render()
    view.save(picture, PICTURES / "segment.png")
    inside = view.color(picture, centre)
    assert inside[0] - inside[2] > 30, "the segment's red lies over the place that was painted"
    assert not isColoured(view.color(picture, centre + np.array([40.0, 0, 0])))


def test_strokes_and_their_preview_are_drawn_in_place(view, session):
    node = volumeNode(GEOMETRIES["left-handed oblique"])
    put(node, "linear over grid")
    view.showBackground(node)
    tool = session.headTool.tool = HeldBack()
    session.state.volume, session.state.view = node, "none"
    session.embed(wait=True)
    strokes = session.strokesNode()
    background, structure = (strokes.GetSegmentation().GetNthSegmentID(i) for i in range(2))
    view.jump(Geometry.toWorld(node, [Geometry.ijkToLocal(node)[:3] @ (*(np.array(SHAPE) / 2), 1)])[0])
    paint(session, structure, LUNG)
    paint(session, background, BODY)
    while not session.fewShot.isPartial:
        session.poll(0.01)
    strokes.GetDisplayNode().SetVisibility(False)
    first = view.render()
    view.save(first, PICTURES / "preview-slices.png")
    tool.gate.set()
    session.wait()
    picture = view.render()
    view.save(picture, PICTURES / "preview.png")
    scan, labels = session.fewShot.preview.scan, said(session)
    ijk = np.argwhere(np.ones(labels.shape, bool))
    world = scan.toWorld(labels.to_ras(ijk))
    plane = np.array([[view.sliceNode.GetSliceToRAS().GetElement(i, j) for j in (2, 3)] for i in range(3)])
    near = np.abs((world - plane[:, 1]) @ plane[:, 0]) < 0.3
    places, values = world[near], labels.array[tuple(ijk[near].T)]
    here = np.array([view_has(view, p) for p in places])
    assert min((values[here] == 2).sum(), (values[here] == 0).sum()) > 20
    for each in (first, picture):  # the displayed slices alone, and the whole scan
        seen = np.array([isColoured(view.color(each, p), 25) for p in places[here]])
        assert (seen == (values[here] == 2)).mean() > 0.93
