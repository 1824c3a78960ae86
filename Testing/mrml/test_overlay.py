"""The overlay and the views: right place, one node used again, former foregrounds back, nothing saved."""

import numpy as np
import pytest
import slicer
import vtk

from Testing.support.pyramids import ISOTROPIC, pyramid_of, random_levels
from Testing.support.slicer_nodes import (
    GEOMETRIES,
    PARENTS,
    linearTransform,
    put,
    rigid,
    sliceViews,
    volumeNode,
)
from Vox2VecCore.grid import grid_scan
from Vox2VecSlicerLib import Geometry, Volumes
from Vox2VecSlicerLib.Layers import compositeNodes
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Views import Views


def scanOf(node, spacing=(4.0, 4.0, 4.0)):
    """A volume with an embedding of noise on its real grid."""
    source = Volumes.source(node)
    scan = grid_scan(source.volume(), spacing)
    levels = random_levels(scan.grid.shape, smooth=1)
    return Scan(node, pyramid_of(levels, ISOTROPIC, grid=scan.grid, body=scan.body), source)


@pytest.fixture
def views(scene):
    state = ModuleState(scene)
    views = Views(scene, state)
    views.state = state
    yield views
    views.release()
    state.release()


@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_value_appears_where_the_scan_has_its_voxel(views, name, parent):
    node = volumeNode(GEOMETRIES[name])
    put(node, parent)
    scan = scanOf(node)
    overlay = views.fill("similarity", scan)
    values = np.zeros(scan.pyramid.grid.shape, np.float32)
    voxel = tuple(n // 3 for n in values.shape)
    values[voxel] = 100
    overlay.setMap(scan, values)
    world = scan.toWorld(scan.pyramid.grid.to_ras([voxel]))
    ijk = np.rint(Geometry.worldToIjk(overlay.node, world))[0].astype(int)
    assert slicer.util.arrayFromVolume(overlay.node)[tuple(ijk[::-1])] == 100
    inScan = Geometry.worldToIjk(node, world)[0]
    assert ((inScan > 0) & (inScan < np.array(node.GetImageData().GetDimensions()))).all()


def test_one_node_is_used_again(views, scene):
    node = volumeNode()
    views.state.volume = node
    scan = scanOf(node)
    for _ in range(3):
        views.fill("similarity", scan).modified()
        views.update()
    views.showLegend(True)
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(views.overlay("similarity", node).node)
    assert legend.GetVisibility()
    other = volumeNode(GEOMETRIES["oblique"], name="Other")
    views.state.volume = other
    assert not legend.GetVisibility(), "what it explains is not shown for this scan"
    views.fill("similarity", scanOf(other))
    names = [n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert sorted(names) == ["CT", "Other", "Vox2Vec similarity"]
    assert scene.GetNumberOfNodesByClass("vtkMRMLColorTableNode") == len(
        {n.GetID() for n in slicer.util.getNodesByClass("vtkMRMLColorTableNode")}
    )


def test_a_display_node_that_was_deleted_is_made_again(views, scene):
    node = volumeNode()
    views.state.volume = node
    overlay = views.fill("similarity", scanOf(node))
    views.update()
    scene.RemoveNode(overlay.node.GetDisplayNode())
    views.update()
    assert overlay.node.GetDisplayNode().GetWindowLevelMax() == 100
    assert not overlay.node.GetDisplayNode().GetSaveWithScene()


def test_former_foregrounds_come_back(views):
    node, former = volumeNode(), volumeNode(name="PET")
    views.state.volume = node
    sliceViews(node)
    layers = compositeNodes(slicer.mrmlScene)
    layers[0].SetForegroundVolumeID(former.GetID())
    layers[0].SetForegroundOpacity(0.3)
    layers[2].SetBackgroundVolumeID(former.GetID())
    views.state.opacity = 0.6
    overlay = views.fill("similarity", scanOf(node))
    views.update()
    shown = [each.GetForegroundVolumeID() for each in layers[:3]]  # earlier tests may have left further views
    assert shown == [overlay.node.GetID()] * 2 + [None], "only in views that show the scan"
    assert layers[0].GetForegroundOpacity() == 0.6
    views.exit()
    assert layers[0].GetForegroundVolumeID() == former.GetID()
    assert layers[0].GetForegroundOpacity() == 0.3
    assert layers[1].GetForegroundVolumeID() is None
    views.enter()
    assert layers[0].GetForegroundVolumeID() == overlay.node.GetID()
    layers[0].SetBackgroundVolumeID(former.GetID())
    views.update()
    assert layers[0].GetForegroundVolumeID() == former.GetID(), "another scan came behind it: nothing of ours is left"
    layers[0].SetBackgroundVolumeID(node.GetID())
    views.update()
    slicer.mrmlScene.RemoveNode(former)
    views.exit()
    assert layers[0].GetForegroundVolumeID() is None


def test_a_foreground_that_the_user_has_chosen_meanwhile_stays(views):
    node, mine = volumeNode(), volumeNode(name="mine")
    views.state.volume = node
    sliceViews(node)
    views.fill("similarity", scanOf(node))
    views.update()
    layer = compositeNodes(slicer.mrmlScene)[0]
    layer.SetForegroundVolumeID(mine.GetID())
    views.exit()
    assert layer.GetForegroundVolumeID() == mine.GetID()


def test_threshold_opacity_and_view_are_followed(views):
    node = volumeNode()
    views.state.volume = node
    sliceViews(node)
    overlay = views.fill("similarity", scanOf(node))
    views.state.threshold = 80.0
    display = overlay.node.GetDisplayNode()
    assert display.GetApplyThreshold()
    assert display.GetLowerThreshold() == 80
    assert display.GetColorNode().GetName() == "Vox2Vec likeness"
    views.state.opacity = 0.2
    layer = compositeNodes(slicer.mrmlScene)[0]
    assert layer.GetForegroundOpacity() == pytest.approx(0.2)
    views.state.view = "none"
    assert layer.GetForegroundVolumeID() is None
    views.state.view = "similarity"
    views.showLegend(True)
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(overlay.node)
    assert legend.GetVisibility()


def test_nothing_of_it_is_saved(views, scene, tmp_path):
    node = volumeNode()
    views.state.volume = node
    sliceViews(node)
    overlay = views.fill("similarity", scanOf(node))
    views.showLegend(True)
    layer = compositeNodes(scene)[0]
    path = tmp_path / "scene.mrml"
    scene.StartState(scene.SaveState)  # as the application's dialog does; slicer-core alone says nothing
    assert slicer.util.saveScene(str(path))
    scene.EndState(scene.SaveState)
    text = path.read_text()
    assert "Vox2Vec similarity" not in text
    assert "ColorLegend" not in text
    assert overlay.node.GetID() not in text, "no view refers to it either"
    assert layer.GetForegroundVolumeID() == overlay.node.GetID(), "it is shown again after saving"


def test_everything_goes_when_it_is_cleared(views, scene):
    node = volumeNode()
    views.state.volume = node
    sliceViews(node)
    before = scene.GetNumberOfNodes()
    views.fill("similarity", scanOf(node))
    views.fill("colors", views.overlay("similarity", node).scan)
    views.showLegend(True)
    views.clear()
    left = scene.GetNumberOfNodes() - before
    assert left <= 1, "only the colour table stays"


def test_the_map_follows_a_scan_that_is_moved(session):
    """By a transform that it is put under, and by one that changes; the point is another place in the scan then."""
    node = volumeNode()
    sliceViews(node)
    session.embed(node, wait=True)
    point = np.array((10.0, 0.0, 0.0))
    session.points.addPositive(point)
    session.wait()
    first = slicer.util.arrayFromVolume(session.overlayNode).copy()
    session.state.view = "colors"
    session.wait()
    transform = linearTransform(rigid((0, 0, 5), (20, 0, 0)))
    node.SetAndObserveTransformNodeID(transform.GetID())
    session.wait()
    for kind in ("similarity", "colors"):
        assert session.views.overlay(kind, node).node.GetParentTransformNode() is transform
    assert session.similarityAt(point) > 99, "the place that is under the point now"
    moved = slicer.util.arrayFromVolume(session.overlayNode).copy()
    assert (moved != first).any()
    transform.SetMatrixTransformToParent(vtk.vtkMatrix4x4())
    session.wait()
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(session.overlayNode), first)
    assert session.isEmbedded(node)
    transform.SetMatrixTransformToParent(Geometry.toVtk(np.diag([-1.0, 1, 1, 1])))
    assert not session.isEmbedded(node), "the patient is turned around: the network has to see that"
