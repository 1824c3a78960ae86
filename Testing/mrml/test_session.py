"""The facade from end to end on a small scan: embed, pin, segment, paint, apply; errors are said once."""

import numpy as np
import pytest
import slicer

from Testing.support.slicer_nodes import sliceViews, volumeNode
from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.fewshot.classes import COLOURS
from Vox2VecSlicerLib.Segments import segmentVoxels


def paint(session, segmentID, voxels):
    """Voxels (n, 3) of the volume into a segment of the strokes, as a brush would."""
    node = session.strokesNode()
    array = np.zeros(session.state.volume.GetImageData().GetDimensions()[::-1], np.uint8)
    array[tuple(np.asarray(voxels).T[::-1])] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segmentID, session.state.volume)


def test_from_a_volume_to_segments(session):
    sliceViews()
    node = volumeNode()
    said = []
    session.embedded.connect(said.append)
    session.embed(node, wait=True)
    assert said == [node]
    assert session.isEmbedded(node)
    session.points.addPositive((0.0, 0.0, 0.0))
    session.wait()
    assert session.similarityAt((0.0, 0.0, 0.0)) > 99
    session.state.threshold = 90.0
    segmentID = session.makeSegment(name="Likes")
    session.wait()
    result = session.state.result
    voxels = segmentVoxels(result, segmentID, node)
    assert [20, 17, 13] in voxels.tolist() or [19, 16, 12] in voxels.tolist()
    assert 10 < len(voxels) < 0.3 * node.GetImageData().GetNumberOfPoints()
    strokes = session.strokesNode()
    background, structure = (strokes.GetSegmentation().GetNthSegmentID(i) for i in range(2))
    assert "few strokes" in session.strokesStatus()
    paint(session, structure, [(20, 17, k) for k in range(8, 18)])
    assert "background" in session.strokesStatus()
    paint(session, background, [(2, 2, k) for k in range(8, 18)])
    assert session.strokesStatus() == ""
    session.wait()
    assert session.hasHead
    preview = session.fewShot.previewNode
    assert preview is not None
    session.apply(wait=True)
    found = result.GetSegmentation().GetSegmentIdBySegmentName("Structure 1")
    applied = segmentVoxels(result, found, node)
    assert len(applied) > 10
    assert [20, 17, 10] in applied.tolist()
    assert [2, 2, 10] not in applied.tolist()
    further = session.makeSegment()
    session.wait()
    segments = [(result, segmentID), (strokes, structure), (result, further), (strokes, session.addStructure())]
    colors = [node.GetSegmentation().GetSegment(each).GetColor() for node, each in segments]
    np.testing.assert_allclose(colors, COLOURS[:4], err_msg="each segment has a colour that no other one has")
    np.testing.assert_allclose(result.GetSegmentation().GetSegment(found).GetColor(), colors[1])


def test_a_click_is_computed_once_and_a_point_that_moves_again(session, monkeypatch):
    node = volumeNode()
    session.embed(node, wait=True)
    computed = []
    submit = session._worker.submit
    monkeypatch.setattr(
        session._worker, "submit", lambda topic, *a, **k: computed.append(topic) or submit(topic, *a, **k)
    )
    index = session.points.addPositive((0.0, 0.0, 0.0))
    session.points.positiveNode.SetNthControlPointLabel(index, "vertebra")
    assert computed.count("similarity") == 1
    session.wait()
    session.points.positiveNode.SetNthControlPointPositionWorld(index, 4.0, 0.0, 0.0)
    assert computed.count("similarity") == 2
    session.wait()
    session.points.clear()
    assert session.similarityAt((0.0, 0.0, 0.0)) is None
    session.points.addPositive((4.0, 0.0, 0.0))
    assert computed.count("similarity") == 3


def test_a_bad_choice_is_one_sentence(session):
    with pytest.raises(Vox2VecError, match="Choose a CT volume"):
        session.embed()
    with pytest.raises(Vox2VecError, match="no similarity map"):
        session.makeSegment((0, 0, 0))
    with pytest.raises(Vox2VecError, match="no preview"):
        session.apply(wait=True)
