"""Strokes: one label a structure, removal retrains, names and colours live on, other volumes are segmented."""

from dataclasses import replace

import numpy as np
import pytest
import slicer

from Testing.mrml.test_session import paint
from Testing.support.slicer_heads import said
from Testing.support.slicer_nodes import GEOMETRIES, put, sliceViews, volumeNode
from Vox2VecCore.errors import Vox2VecError
from Vox2VecSlicerLib.SegmentContents import labelBox
from Vox2VecSlicerLib.Segments import addSegment, segmentIDs, segmentVoxels, storedLabels, terminology

TERMS = "Segmentation category and type~SCT^85756007^Tissue~SCT^10200004^Liver~^^~Anatomic codes~^^~^^"


@pytest.fixture
def painted(session):
    """A session with an embedded volume under a transform and two strokes."""
    node = volumeNode(GEOMETRIES["left-handed oblique"])
    put(node, "linear")
    sliceViews(node)
    session.state.volume = node
    session.embed(wait=True)
    strokes = session.strokesNode()
    session.ids_ = segmentIDs(strokes)
    paint(session, session.ids_[0], [(2, 2, k) for k in range(8, 18)])
    session.wait()
    assert session.headTool.prepared == 1 and session.headTool.learnt == 0, "the time until the second stroke is used"
    paint(session, session.ids_[1], [(20, 17, k) for k in range(8, 18)])
    session.wait()
    assert session.headTool.learnt == 1
    return session


def test_labels_lie_on_the_voxels_that_were_painted(painted):
    scan = painted.embeddings.scan(painted.state.volume)
    labels = painted.strokes.labels(scan)
    whole = scan.part.turned(labels.array)
    assert {tuple(v) for v in np.argwhere(whole == 2)} == {(20, 17, k) for k in range(8, 18)}
    assert {tuple(v) for v in np.argwhere(whole == 1)} == {(2, 2, k) for k in range(8, 18)}


def test_painting_updates_the_preview_by_itself_and_only_once_strokes_rest(painted):
    tool, before = painted.headTool, painted.headTool.learnt
    for k in range(5):
        paint(painted, painted.ids_[1], [(20, 17, 8 + k)])
    painted.wait()
    assert tool.learnt == before + 1
    painted.state.autoUpdate = False
    paint(painted, painted.ids_[1], [(20, 17, 9)])
    painted.wait()
    assert tool.learnt == before + 1
    painted.updatePreview(wait=True)
    assert tool.learnt == before + 2


def test_removed_strokes_are_forgotten(painted):
    second = painted.addStructure("Spleen")
    paint(painted, second, [(30, 17, k) for k in range(8, 18)])
    painted.wait()
    assert painted.fewShot.head.labels == [1, 2, 3]
    painted.strokesNode().GetSegmentation().RemoveSegment(second)
    painted.wait()
    assert painted.fewShot.head.labels == [1, 2]
    paint(painted, painted.ids_[1], [(20, 17, 8)])
    painted.wait()
    assert painted.fewShot.head.counts == [10, 1], "erased voxels do not count any more"
    paint(painted, painted.ids_[1], np.zeros((0, 3), int))
    painted.wait()
    assert painted.fewShot.preview is None
    assert "only background" in painted.strokesStatus()


def test_a_structure_keeps_its_label_when_another_is_removed(painted):
    second = painted.addStructure("Spleen")
    labels = {key: each.label for key, each in painted.strokes.structures().items()}
    painted.strokesNode().GetSegmentation().RemoveSegment(painted.ids_[1])
    assert painted.strokes.structures()[second].label == labels[second]
    third = painted.addStructure("Kidney")
    assert painted.strokes.structures()[third].label != labels[second]


def test_names_colours_and_terminology_reach_the_result(painted):
    segment = painted.strokesNode().GetSegmentation().GetSegment(painted.ids_[1])
    segment.SetName("Liver")
    segment.SetColor(0.2, 0.4, 0.6)
    segment.SetTag(segment.GetTerminologyEntryTagName(), TERMS)
    painted.updatePreview(wait=True)
    node = painted.apply(wait=True)
    found = node.GetSegmentation().GetSegment(node.GetSegmentation().GetSegmentIdBySegmentName("Liver"))
    np.testing.assert_allclose(found.GetColor(), (0.2, 0.4, 0.6))
    assert terminology(found) == TERMS
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is painted.state.volume
    assert painted.fewShot.previewNode is None
    assert painted.canUndo
    painted.undo()
    assert len(segmentVoxels(node, segmentIDs(node)[0], painted.state.volume)) == 0
    segment.SetName("Spleen")
    segment.SetColor(0.9, 0.1, 0.3)
    painted.updatePreview(wait=True)
    painted.apply(wait=True)
    (only,) = segmentIDs(node)
    found = node.GetSegmentation().GetSegment(only)
    assert found.GetName() == "Spleen"
    np.testing.assert_allclose(found.GetColor(), (0.9, 0.1, 0.3))
    assert len(segmentVoxels(node, only, painted.state.volume)) > 0


def test_structures_may_be_called_alike(painted):
    second = painted.addStructure(painted.strokesNode().GetSegmentation().GetSegment(painted.ids_[1]).GetName())
    paint(painted, second, [(12, 17, k) for k in range(8, 18)])
    painted.wait()
    assert len(segmentIDs(painted.fewShot.previewNode)) == 2
    for _again in range(2):
        node = painted.apply(wait=True)
        first, other = (segmentVoxels(node, each, painted.state.volume).tolist() for each in segmentIDs(node))
        assert [20, 17, 10] in first and [12, 17, 10] in other
        painted.updatePreview(wait=True)
    labels = [each.label for each in painted.strokes.structures().values()]
    painted.fewShot.take(painted.fewShot.head, base=painted.fewShot.head)
    assert [each.label for each in painted.strokes.structures().values()] == labels, "those of the head, in its order"


def test_strokes_and_result_stay_with_their_scan(painted):
    volume, strokes, result = painted.state.volume, painted.strokesNode(), painted.apply(wait=True)
    other = painted.state.volume = volumeNode(name="Other")
    assert painted.state.strokes is painted.state.result is None
    mine = painted.strokesNode()
    assert mine is not strokes and painted.strokesStatus()
    assert not strokes.GetDisplayVisibility()
    painted.setBackgroundSegment(segmentIDs(mine)[1])
    painted.state.volume = volume
    assert (painted.state.strokes, painted.state.result) == (strokes, result)
    assert painted.state.backgroundSegment == painted.ids_[0]
    assert strokes.GetDisplayVisibility() and not mine.GetDisplayVisibility()
    painted.state.volume = other
    assert painted.state.strokes is mine and painted.state.backgroundSegment == segmentIDs(mine)[1]
    slicer.mrmlScene.RemoveNode(other)
    painted.state.volume = volumeNode(name="Other, cropped")
    assert painted.state.strokes is mine, "a crop goes on with the strokes of a scan that is no more"


def test_applying_again_takes_back_what_is_no_longer_found(painted):
    """Within the embedded part the result is what the preview says; outside of it nothing is touched."""
    painted.updatePreview(wait=True)
    volume, preview = painted.state.volume, painted.fewShot.preview
    node = painted.apply()
    assert painted.isWriting and not painted.canUndo
    with pytest.raises(Vox2VecError, match="still being written"):
        painted.apply()
    painted.wait()
    segmentID = segmentIDs(node)[0]
    before = {tuple(v) for v in segmentVoxels(node, segmentID, volume)}
    array = preview.labels.labels.copy(order="F")
    array[array.shape[0] // 2 :] = 0
    fewer = replace(preview, labels=labelBox(array, preview.labels.first))
    painted.fewShot.show(fewer)
    painted.apply(wait=True)
    after = {tuple(v) for v in segmentVoxels(node, segmentID, volume)}
    assert after == {tuple(v) for v in np.argwhere(fewer.labels.labels == 2) + fewer.labels.first}
    assert after < before
    painted.undo()
    assert {tuple(v) for v in segmentVoxels(node, segmentID, volume)} == before


def test_the_volume_goes_while_the_result_is_written(painted, scene):
    painted.updatePreview(wait=True)
    node = painted.apply()
    scene.RemoveNode(painted.state.volume)
    painted.wait()
    assert not painted.isWriting
    assert len(segmentVoxelsOf(node)) == 0


def segmentVoxelsOf(node):
    """Voxels of the first segment, wherever they lie."""
    stored = storedLabels(node, segmentIDs(node)[0])
    return [] if stored is None else stored.voxels()[0]


def test_applying_heeds_the_segment_editor(painted):
    painted.updatePreview(wait=True)
    editor = painted.segmentEditorNode()
    editor.SetSourceVolumeIntensityMask(True)
    editor.SetSourceVolumeIntensityMaskRange(0, 1000)
    preview = said(painted).array == 2
    scan = painted.embeddings.scan(painted.state.volume)
    node = painted.apply(wait=True)
    applied = segmentVoxels(node, segmentIDs(node)[0], painted.state.volume)
    hu = scan.part.turned(np.asarray(scan.source.array))
    expected = scan.part.turned(preview) & (hu >= 0)
    assert 0 < len(applied) < preview.sum()
    assert {tuple(v) for v in applied} == {tuple(v) for v in np.argwhere(expected)}


def test_doubt_is_shown_and_says_where_to_paint_next(painted):
    painted.state.view = "uncertainty"
    overlay = painted.views.overlay("uncertainty", painted.state.volume)
    assert overlay.node.GetDisplayNode().GetColorNode().GetName() == "Vox2Vec doubt"
    world = painted.whereToPaintNext()
    scan = painted.embeddings.scan(painted.state.volume)
    assert scan.contains([world])[0]
    painted.jumpTo(world)
    axial = slicer.util.getNodesByClass("vtkMRMLSliceNode")[0]
    normal = [axial.GetSliceToRAS().GetElement(i, 2) for i in range(3)]
    origin = [axial.GetSliceToRAS().GetElement(i, 3) for i in range(3)]
    assert np.dot(normal, np.subtract(world, origin)) == pytest.approx(0, abs=1e-3)


def test_other_volumes_are_segmented_with_the_head(painted):
    other = volumeNode(GEOMETRIES["permuted"], name="Other")
    painted.applyHead([other], wait=True)
    painted.wait()
    node = slicer.util.getNode("Other segmentation")
    assert node.GetSegmentation().GetNthSegment(0).GetName() == "Structure 1"
    assert len(segmentVoxels(node, segmentIDs(node)[0], other)) > 10


def test_a_head_is_saved_and_loaded(painted, tmp_path):
    painted.saveHead(tmp_path / "head.json")
    counts = painted.fewShot.head.counts
    painted.releaseMemory()
    assert painted.hasHead, "what was learnt is small, and the user's work"
    slicer.mrmlScene.Clear(0)
    assert not painted.hasHead
    with pytest.raises(Vox2VecError, match="no head to save"):
        painted.saveHead(tmp_path / "none.json")
    painted.loadHead(tmp_path / "head.json", wait=True)
    assert painted.fewShot.head.counts == counts
    assert painted.headSummary() == "1 structures"


def test_strokes_need_a_volume(session):
    with pytest.raises(Vox2VecError, match="Choose a CT volume"):
        session.strokesNode()


def test_a_foreign_segmentation_may_hold_the_strokes(painted, scene):
    from Vox2VecSlicerLib.Segments import newSegmentation

    mine = newSegmentation(scene, "mine", painted.state.volume)
    addSegment(mine, "Bone", (1.0, 1.0, 1.0))
    painted.state.strokes = mine
    assert painted.strokesNode() is mine
    assert [each.name for each in painted.strokes.structures().values()] == ["Bone"]


def test_the_preview_shows_what_the_head_says_voxel_by_voxel(painted):
    preview, node = painted.fewShot.preview, painted.fewShot.previewNode
    part = preview.scan.part
    expected = np.argwhere(part.turned(said(painted).array) == 2) + part.first
    found = segmentVoxels(node, segmentIDs(node)[0], painted.state.volume)
    assert len(expected) > 10
    assert not {tuple(v) for v in found} ^ {tuple(v) for v in expected}
    assert node.GetDisplayNode().GetVisibility()
    assert not node.GetSaveWithScene()


def test_overlapping_and_shared_labelmaps_are_read_alike(painted):
    second = painted.addStructure("Spleen")
    node, scan = painted.strokesNode(), painted.embeddings.scan(painted.state.volume)
    paint(painted, second, [(20, 17, k) for k in range(8, 12)])
    apart = painted.strokes.labels(scan).array
    whole = scan.part.turned(apart)
    assert [whole[20, 17, k] for k in (8, 11, 12)] == [3, 3, 2], "the later segment lies on top"
    layers = node.GetSegmentation().GetNumberOfLayers()
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    assert node.GetSegmentation().GetNumberOfLayers() < layers, "now background and a structure share a labelmap"
    np.testing.assert_array_equal(painted.strokes.labels(scan).array, apart)
    painted.wait()
