"""Slicer reads the segments that ``vox2vec head apply --format seg.nrrd`` writes."""

import numpy as np
import pytest
import slicer

from Testing.support.slicer_nodes import GEOMETRIES, volumeNode
from Vox2VecCore.slicer_segments import FileSegment, read_segments, write_segments
from Vox2VecCore.volume import Volume
from Vox2VecSlicerLib.Segments import segmentVoxels

CODES = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
    "~SCT^10200004^Liver~^^~Anatomic codes - DICOM master list~^^~^^"
)
SEGMENTS = [
    FileSegment(2, "liver", (0.1, 0.2, 0.3), CODES),
    FileSegment(3, "not found", (0.0, 1.0, 0.0)),
    FileSegment(7, "Gefäß", (1.0, 0.5, 0.0)),
]


@pytest.mark.parametrize("kind", ["plain", "left-handed oblique", "permuted"])
def test_slicer_reads_names_colours_codes_and_voxels(scene, kind, tmp_path):
    affine = GEOMETRIES[kind]
    array = np.zeros((9, 8, 7), np.int16)
    array[1:4, 2:5, 3:6], array[6, 6, 1:6] = 2, 7
    write_segments(Volume(array, affine), SEGMENTS, tmp_path / "found.seg.nrrd")
    loaded = slicer.util.loadSegmentation(str(tmp_path / "found.seg.nrrd"))
    content = loaded.GetSegmentation()
    ids = [content.GetNthSegmentID(n) for n in range(content.GetNumberOfSegments())]
    found = [content.GetSegment(each) for each in ids]
    assert [each.GetName() for each in found] == [each.name for each in SEGMENTS]
    assert [each.GetColor() for each in found] == [pytest.approx(each.colour, abs=1e-5) for each in SEGMENTS]
    assert [each.GetLabelValue() for each in found] == [2, 3, 7]
    codes = [read.terminology for read in read_segments(tmp_path / "found.seg.nrrd")]
    assert codes == [CODES, "", ""]
    assert "Liver" in str(found[0])
    node = volumeNode(affine, np.zeros(array.shape, np.int16))
    for segment, segmentID in zip(SEGMENTS, ids, strict=True):
        voxels = {tuple(v) for v in segmentVoxels(loaded, segmentID, node).tolist()}
        assert voxels == {tuple(v) for v in np.argwhere(array == segment.value).tolist()}
