"""Segments on the right voxels under every transform; masking, overwriting and undo as in the Segment Editor."""

import numpy as np
import pytest
import slicer
import vtk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from Testing.support.slicer_nodes import GEOMETRIES, PARENTS, geometry, put, volumeNode
from Vox2VecCore.errors import Vox2VecError
from Vox2VecSlicerLib import Geometry
from Vox2VecSlicerLib.SegmentContents import SegmentContent, merged
from Vox2VecSlicerLib.Segments import (
    SegmentWriter,
    addSegment,
    align,
    newSegmentation,
    segmentVoxels,
)

SHAPE = (12, 10, 9)
RED, GREEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


def small(affine=None):
    rng = np.random.default_rng(0)
    return volumeNode(affine, rng.integers(-500, 500, SHAPE).astype(np.int16))


def content(box):
    """A box of voxels, as (first, size)."""
    first, size = box
    return SegmentContent(np.ones(size, bool), tuple(first))


def write(writer, segmentationNode, volumeNode, contents):
    """What the result does in pieces, at once."""
    writer.begin(segmentationNode, volumeNode)
    for segmentID, each in contents.items():
        old = segmentVoxels(segmentationNode, segmentID, volumeNode)
        writer.put(segmentationNode, segmentID, volumeNode, *merged(old, each))


def asSet(voxels):
    return {tuple(v) for v in voxels.tolist()}


def boxVoxels(box):
    first, size = box
    return {tuple(np.add(first, i)) for i in np.ndindex(*size)}


boxes = st.tuples(*[st.tuples(st.integers(0, n - 2), st.integers(1, 4)) for n in SHAPE]).map(
    lambda axes: (
        tuple(a for a, _ in axes),
        tuple(min(s, n - a) for (a, s), n in zip(axes, SHAPE, strict=True)),
    )
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    box=boxes,
    parent=st.sampled_from(PARENTS),
    angles=st.tuples(*[st.floats(-40, 40)] * 3),
    flips=st.tuples(*[st.sampled_from((-1, 1))] * 3),
    spacing=st.tuples(*[st.floats(0.5, 5)] * 3),
)
def test_what_is_written_is_read_and_seen_at_the_same_place(slicer_app, box, parent, angles, flips, spacing):
    slicer_app.clear()
    node = small(geometry(angles, spacing, flips, shape=SHAPE, centre=(10, -20, 30)))
    put(node, parent)
    result = newSegmentation(slicer.mrmlScene, "result", node)
    segmentID = addSegment(result, "A", RED)
    write(SegmentWriter(slicer.mrmlScene), result, node, {segmentID: content(box)})
    expected = boxVoxels(box)
    assert asSet(segmentVoxels(result, segmentID, node)) == expected
    array = slicer.util.arrayFromSegmentBinaryLabelmap(result, segmentID, node)
    assert asSet(np.argwhere(array)[:, ::-1]) == expected, "and so says Slicer itself"


@pytest.mark.parametrize("other", PARENTS)
@pytest.mark.parametrize("parent", ["none", "linear", "grid"])
def test_a_segmentation_under_another_transform_is_brought_over_and_stays_in_place(parent, other):
    """The trap: painted under another transform than the volume's, voxels get the transform twice."""
    node = small(GEOMETRIES["anisotropic"])
    put(node, parent)
    strokes = newSegmentation(slicer.mrmlScene, "strokes", node)
    segmentID = addSegment(strokes, "A", RED)
    writer = SegmentWriter(slicer.mrmlScene)
    write(writer, strokes, node, {segmentID: content(((3, 3, 3), (4, 4, 3)))})
    before = asSet(segmentVoxels(strokes, segmentID, node))
    centre = Geometry.toWorld(node, [Geometry.ijkToLocal(node)[:3] @ (4.5, 4.5, 4, 1)])[0]
    put(strokes, other)
    moved = Geometry.toWorld(strokes, [Geometry.ijkToLocal(node)[:3] @ (4.5, 4.5, 4, 1)])[0]
    assert align(strokes, node) == (other != "none" or parent != "none")
    assert strokes.GetParentTransformNode() is node.GetParentTransformNode()
    after = segmentVoxels(strokes, segmentID, node)
    wanted = Geometry.worldToIjk(node, [moved])[0]
    if ((wanted > 1) & (wanted < np.array(SHAPE) - 2)).all() and len(after):
        assert np.linalg.norm((after.mean(axis=0) - wanted) * (1.1, 1.4, 6.0)) < 4, "the segment stays in the world"
    if other == "none" and parent == "none":
        assert asSet(after) == before
        np.testing.assert_allclose(centre, moved)
    second = addSegment(strokes, "B", GREEN)
    write(writer, strokes, node, {second: content(((1, 1, 1), (2, 2, 2)))})
    assert asSet(segmentVoxels(strokes, second, node)) == boxVoxels(((1, 1, 1), (2, 2, 2)))


@pytest.fixture
def editor(scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    node.SetOverwriteMode(node.OverwriteNone)
    return node


@pytest.fixture
def bed(scene, editor):
    """A volume, a segmentation with segment A in a box, and a writer with an editor's settings."""
    node = small()
    result = newSegmentation(scene, "result", node)
    a, b = addSegment(result, "A", RED), addSegment(result, "B", GREEN)
    writer = SegmentWriter(scene, editor)
    write(writer, result, node, {a: content(((2, 2, 2), (4, 4, 4)))})
    return node, result, a, b, writer


OVERLAPPING = ((4, 4, 4), (4, 4, 4))


def test_overwriting_is_honoured(bed, editor):
    node, result, a, b, writer = bed
    for mode, left in ((editor.OverwriteNone, 64), (editor.OverwriteVisibleSegments, 56)):
        editor.SetOverwriteMode(mode)
        write(writer, result, node, {b: content(OVERLAPPING)})
        assert len(segmentVoxels(result, a, node)) == left
        assert asSet(segmentVoxels(result, b, node)) == boxVoxels(OVERLAPPING)


def test_hidden_segments_are_spared_when_only_visible_ones_may_be_overwritten(bed, editor):
    node, result, a, b, writer = bed
    result.GetDisplayNode().SetSegmentVisibility(a, False)
    editor.SetOverwriteMode(editor.OverwriteVisibleSegments)
    write(writer, result, node, {b: content(OVERLAPPING)})
    assert len(segmentVoxels(result, a, node)) == 64
    editor.SetOverwriteMode(editor.OverwriteAllSegments)
    write(writer, result, node, {b: content(OVERLAPPING)})
    assert len(segmentVoxels(result, a, node)) == 56


def test_the_editable_intensities_are_honoured(bed, editor):
    node, result, _, b, writer = bed
    editor.SetSourceVolumeIntensityMask(True)
    editor.SetSourceVolumeIntensityMaskRange(0, 500)
    write(writer, result, node, {b: content(OVERLAPPING)})
    array = slicer.util.arrayFromVolume(node).T
    assert asSet(segmentVoxels(result, b, node)) == {v for v in boxVoxels(OVERLAPPING) if array[v] >= 0}


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_the_editable_area_is_honoured(bed, editor, where):
    node, result, a, b, writer = bed
    modes = slicer.vtkMRMLSegmentationNode
    inside = boxVoxels(((2, 2, 2), (4, 4, 4)))
    if where == "inside":
        editor.SetMaskMode(modes.EditAllowedInsideSingleSegment)
        editor.SetAndObserveSegmentationNode(result)
        editor.SetMaskSegmentID(a)
        expected = boxVoxels(OVERLAPPING) & inside
    else:
        editor.SetMaskMode(modes.EditAllowedOutsideAllSegments)
        expected = boxVoxels(OVERLAPPING) - inside
    write(writer, result, node, {b: content(OVERLAPPING)})
    assert asSet(segmentVoxels(result, b, node)) == expected


def test_a_mask_segment_of_the_strokes_is_meant_by_its_name(bed, editor, scene):
    node, result, _, b, writer = bed
    strokes = newSegmentation(scene, "strokes", node)
    mask = addSegment(strokes, "A", RED)
    editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    editor.SetAndObserveSegmentationNode(strokes)
    editor.SetMaskSegmentID(mask)
    write(writer, result, node, {b: content(OVERLAPPING)})
    assert len(segmentVoxels(result, b, node)) == 8
    strokes.GetSegmentation().GetSegment(mask).SetName("Elsewhere")
    with pytest.raises(Vox2VecError, match="Elsewhere"):
        write(writer, result, node, {b: content(OVERLAPPING)})


def test_undo_and_redo(bed):
    node, result, a, b, writer = bed
    write(writer, result, node, {b: content(OVERLAPPING), a: content(((0, 0, 0), (1, 1, 1)))})
    after = {s: asSet(segmentVoxels(result, s, node)) for s in (a, b)}
    assert writer.canUndo
    writer.undo()
    assert len(segmentVoxels(result, a, node)) == 64
    assert len(segmentVoxels(result, b, node)) == 0
    assert writer.canRedo
    writer.redo()
    assert {s: asSet(segmentVoxels(result, s, node)) for s in (a, b)} == after


@pytest.mark.parametrize("parent", PARENTS)
def test_a_saved_file_has_the_grid_of_the_volume(parent, tmp_path):
    node = small(GEOMETRIES["oblique"])
    put(node, parent)
    result = newSegmentation(slicer.mrmlScene, "result", node)
    segmentID = addSegment(result, "A", RED)
    write(SegmentWriter(slicer.mrmlScene), result, node, {segmentID: content(OVERLAPPING)})
    assert slicer.util.saveNode(result, str(tmp_path / "a.seg.nrrd"))
    loaded = slicer.util.loadSegmentation(str(tmp_path / "a.seg.nrrd"))
    loaded.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    assert asSet(segmentVoxels(loaded, loaded.GetSegmentation().GetNthSegmentID(0), node)) == boxVoxels(OVERLAPPING)


def test_the_segmentation_refers_to_its_volume():
    node = small()
    result = newSegmentation(slicer.mrmlScene, "result", node)
    assert result.GetNodeReference(result.GetReferenceImageGeometryReferenceRole()) is node


def test_the_segmentation_comes_into_the_study_of_its_volume(scene):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def listed(_scene, _event, node):  # Slicer's own plugins do it there
        if node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLSegmentationNode"):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    tag = scene.AddObserver(scene.NodeAddedEvent, listed)
    node = small()
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(patient, "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
    result = newSegmentation(scene, "result", node)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result)) == study
    scene.RemoveObserver(tag)


def test_the_writer_leaves_nothing_in_the_scene(bed, scene):
    writer = bed[-1]
    writer.release()
    assert scene.GetSingletonNode("Vox2VecWriter", "vtkMRMLSegmentEditorNode") is None
