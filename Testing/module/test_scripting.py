"""Everything from a script, without a panel: the logic's calls wait for their results."""

from pathlib import Path

import numpy as np
import pytest
import slicer

from Testing.module.test_segment import segment_ids
from Testing.support.scans import phantom
from Vox2VecCore.volume_io import read_labels, write_volume

LIVER, LUNG = (-28.0, 6.0, 8.0), (28.0, 0.0, 0.0)


@pytest.fixture
def logic(panel):
    """The module's logic with the tiny model; the panel stands beside it and has a session of its own."""
    import Vox2VecSlicer

    logic = Vox2VecSlicer.Vox2VecSlicerLogic()
    logic.session.state.device, logic.session.state.engine = "cpu", "torch"
    yield logic
    logic.shutdown()


def test_the_examples_of_the_documentation(logic, panel, add_ct, shared_cache, tmp_path: Path) -> None:
    ct, follow_up = add_ct(), add_ct("Follow-up", seed=5)
    logic.embed(ct)
    heat = logic.similarityMap(ct, positive=[LIVER], negative=[LUNG], balance=0.3)
    assert slicer.util.arrayFromVolume(heat).shape == slicer.util.arrayFromVolume(ct).shape
    assert 99 < slicer.util.arrayFromVolume(heat).max() <= 100
    result, segment = logic.makeSegment(ct, LIVER, threshold=90, name="Alike")
    assert np.count_nonzero(slicer.util.arrayFromSegmentBinaryLabelmap(result, segment, ct)) > 10
    logic.colors(ct)
    assert logic.session.state.view == "colors"
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "landmarks")
    points.AddControlPointWorld(list(LIVER))
    assert logic.match(ct, follow_up, points).GetNumberOfControlPoints() == 1
    strokes = logic.session.strokesNode()
    for segment, box in zip(
        segment_ids(strokes), (np.s_[13:17, 28:33, 20:28], np.s_[15:19, 18:25, 11:16]), strict=True
    ):
        mask = np.zeros((30, 40, 48), np.uint8)
        mask[box] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, strokes, segment, ct)
    result = logic.segment(ct, strokes)
    segment = result.GetSegmentation().GetSegmentIdBySegmentName("Structure 1")
    assert np.count_nonzero(slicer.util.arrayFromSegmentBinaryLabelmap(result, segment, ct)) > 100
    head = tmp_path / "head.safetensors"
    logic.saveHead(str(head))
    logic.applyHead(str(head), [follow_up])
    assert slicer.util.getNode("Follow-up segmentation").GetSegmentation().GetNumberOfSegments() == 1
    (tmp_path / "scans").mkdir()
    write_volume(phantom(seed=7), tmp_path / "scans" / "other.nii.gz")
    lines: list[str] = []
    assert logic.applyHeadToFolder(head, tmp_path / "scans", tmp_path / "out", lines.append) == 0, lines
    (written,) = (tmp_path / "out").glob("*.nii.gz")
    assert set(np.unique(read_labels(written).array)) == {0, 2}
