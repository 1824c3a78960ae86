"""Volume nodes as the core's volumes: which part, which orientation, what is refused and what is warned about."""

import numpy as np
import pytest
import slicer
import vtk

from Testing.support.slicer_nodes import GEOMETRIES, PARENTS, linearTransform, put, rigid, volumeNode
from Vox2VecCore.errors import VolumeError
from Vox2VecCore.volume import apply_affine
from Vox2VecSlicerLib import Geometry, Volumes
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.Volumes import check, source


def scanOf(node, **options):
    """An embedded volume without an embedding."""
    return Scan(node, None, source(node, **options))


def worldOfVoxel(node, voxel):
    """Where Slicer itself puts a voxel."""
    local, world = [0.0] * 4, [0.0] * 3
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    matrix.MultiplyPoint([*map(float, voxel), 1.0], local)
    node.TransformPointToWorld(local[:3], world)
    return world


@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_voxel_is_where_slicer_shows_it(name, parent):
    node = volumeNode(GEOMETRIES[name], array=np.arange(7 * 6 * 5, dtype=np.int16).reshape(7, 6, 5))
    put(node, parent)
    scan = scanOf(node)
    volume = scan.source.volume()
    for voxel in [(0, 0, 0), (6, 0, 4), (3, 5, 1), (6, 5, 4)]:
        point = scan.fromWorld([worldOfVoxel(node, voxel)])
        index = np.rint(volume.to_ijk(point))[0].astype(int)
        assert volume.array[tuple(index)] == np.ravel_multi_index(voxel, (7, 6, 5))
        np.testing.assert_allclose(scan.toWorld(point)[0], worldOfVoxel(node, voxel), atol=0.01)


def test_the_volume_is_a_copy():
    node = volumeNode()
    volume = source(node).volume()
    slicer.util.arrayFromVolume(node)[:] = 7
    assert len(np.unique(volume.array)) > 10


def test_a_registration_changes_nothing_that_is_embedded():
    node = volumeNode(GEOMETRIES["oblique"])
    before = source(node)
    node.SetAndObserveTransformNodeID(linearTransform(rigid()).GetID())
    after = source(node)
    np.testing.assert_array_equal(before.affine, after.affine)


@pytest.mark.parametrize(
    "matrix", [np.diag([-1.0, 1, 1, 1]), np.diag([1.0, 1, 2, 1]), rigid((90, 0, 0)), rigid((0, 0, 180))]
)
def test_a_parent_that_corrects_the_header_is_seen_by_the_network(matrix):
    node = volumeNode(GEOMETRIES["plain"])
    own = source(node).affine
    node.SetAndObserveTransformNodeID(linearTransform(matrix).GetID())
    linear = np.array(matrix)
    linear[:3, 3] = 0
    seen = scanOf(node)
    corners = np.array([[0, 0, 0], [39, 33, 25]])
    np.testing.assert_allclose(
        sorted(apply_affine(linear @ own, corners)[:, 2]),
        sorted(apply_affine(seen.source.affine, corners)[:, 2]),
        atol=1e-3,
    )
    np.testing.assert_allclose(seen.toWorld(seen.fromWorld([(5, 6, 7)])), [(5, 6, 7)], atol=1e-6)


def test_a_region_of_interest_crops_to_its_voxels():
    node = volumeNode(GEOMETRIES["left-handed oblique"])
    parent = put(node, "linear")
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    middle = worldOfVoxel(node, (20, 15, 12))
    roi.SetXYZ(middle)
    roi.SetRadiusXYZ(16, 16, 16)
    part = source(node, roi)
    assert parent is not None
    assert all(n < full for n, full in zip(part.array.shape, (40, 34, 26), strict=True))
    scan = scanOf(node, roiNode=roi)
    volume = part.volume()
    index = np.rint(volume.to_ijk(scan.fromWorld([middle])))[0].astype(int)
    assert volume.array[tuple(index)] == Volumes.voxels(node)[20, 15, 12]
    roi.SetXYZ(2000, 0, 0)
    with pytest.raises(VolumeError, match="lies outside CT"):
        source(node, roi)


def test_a_new_region_of_interest_holds_the_whole_scan(session, scene):
    node = session.state.volume = volumeNode(GEOMETRIES["oblique"])
    put(node, "linear")
    roi = session.state.roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    assert session.checkVolume(node) == (None, None)
    assert source(node, roi).array.shape == node.GetImageData().GetDimensions()
    roi.SetSize(30, 30, 30)
    session.state.roi = None
    session.state.roi = roi
    assert source(node, roi).array.shape < node.GetImageData().GetDimensions(), "one that was drawn stays"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64, np.float32, np.int16])
def test_values_of_every_type_arrive(dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    volume = source(volumeNode(array=array)).volume()
    assert volume.array.dtype == (np.float32 if dtype == np.float32 else np.int16)
    turned = volume.array
    np.testing.assert_array_equal(turned, array)


def test_what_is_refused_and_what_is_warned_about(scene):
    assert check(None)[0] == "Choose a CT volume."
    label = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    assert "label map" in check(label)[0]
    vector = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "RGB")
    assert "vector" in check(vector)[0]
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    assert "no voxels" in check(empty)[0]
    ours = volumeNode(name="Map")
    ours.SetAttribute(Volumes.OVERLAY, "similarity")
    assert "draws over" in check(ours)[0]
    assert "every voxel" in check(volumeNode(array=np.full((4, 4, 4), 3, np.int16)))[0]
    magnetic = volumeNode(array=np.random.default_rng(0).integers(0, 900, (8, 8, 8)).astype(np.int16), name="MR")
    refusal, warning = check(magnetic)
    assert refusal is None
    assert "not CT" in warning
    assert check(volumeNode()) == (None, None)
    for node in (label, vector, empty):
        with pytest.raises(VolumeError):
            source(node)


def test_a_change_of_voxels_or_geometry_is_noticed():
    node = volumeNode()
    scan = scanOf(node)
    assert scan.isCurrent
    put(node, "linear")
    assert scan.isCurrent, "a registration is no change"
    slicer.util.arrayFromVolume(node)[0, 0, 0] = 5
    slicer.util.arrayFromVolumeModified(node)
    assert not scan.isCurrent
    scan = scanOf(node)
    node.SetOrigin(1, 2, 3)
    assert not scan.isCurrent
    scan = scanOf(node)
    slicer.mrmlScene.RemoveNode(node)
    assert not scan.isCurrent


@pytest.mark.parametrize("name", GEOMETRIES)
def test_saved_and_loaded_it_is_the_same_scan_for_the_cache(name, tmp_path, slicer_app):
    node = volumeNode(GEOMETRIES[name])
    before = source(node)
    path = tmp_path / "ct.nrrd"
    assert slicer.util.saveNode(node, str(path))
    slicer_app.clear()
    after = source(slicer.util.loadVolume(str(path)))
    np.testing.assert_array_equal(before.volume().array, after.volume().array)
    np.testing.assert_array_equal(before.affine, after.affine)


def test_the_world_and_back_under_a_grid():
    node = volumeNode()
    put(node, "linear over grid")
    points = np.random.default_rng(0).uniform(-40, 40, (20, 3))
    there = Geometry.toLocal(node, points)
    assert np.abs(there - points).max() > 3
    np.testing.assert_allclose(Geometry.toWorld(node, there), points, atol=0.01)
