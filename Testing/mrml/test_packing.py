"""What the viewer packs beside its event loop is what Slicer would have written."""

import numpy as np
import pytest
import slicer

from Testing.support.slicer_nodes import GEOMETRIES, SHAPE, volumeNode
from Vox2VecSlicerLib.Segments import addSegment, newSegmentation, orientedImage, segmentVoxels, setSharedLabels
from Vox2VecWeb.Packing import compressNrrd, packFolder

BOX = np.s_[10:20, 5:30, 3:9]


def aSegmentation(node):
    """A segmentation of a volume with one box in it."""
    segmentation = newSegmentation(slicer.mrmlScene, "Result", node)
    labels = np.zeros(SHAPE, np.uint8, order="F")
    labels[BOX] = 3
    image = orientedImage(labels, (0, 0, 0), node)
    setSharedLabels(segmentation, image, {addSegment(segmentation, "Liver", (1.0, 0.5, 0.25)): 3})
    return segmentation


def test_a_segmentation_is_read_by_slicer(scene, tmp_path):
    node = volumeNode(GEOMETRIES["oblique"])
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "plain.seg.nrrd"))
    storage.SetUseCompression(False)
    assert storage.WriteData(aSegmentation(node))
    compressNrrd(tmp_path / "plain.seg.nrrd", tmp_path / "result.seg.nrrd")
    assert [each.name for each in tmp_path.iterdir()] == ["result.seg.nrrd"]
    assert b"encoding: gzip" in (tmp_path / "result.seg.nrrd").read_bytes()[:2000]
    found = slicer.util.loadSegmentation(str(tmp_path / "result.seg.nrrd"))
    segmentID = found.GetSegmentation().GetSegmentIdBySegmentName("Liver")
    expected = np.zeros(SHAPE, bool)
    expected[BOX] = True
    np.testing.assert_array_equal(segmentVoxels(found, segmentID, node), np.argwhere(expected)[order(expected)])
    (tmp_path / "other.nrrd").write_bytes(b"no header")
    with pytest.raises(OSError, match="Slicer"):
        compressNrrd(tmp_path / "other.nrrd", tmp_path / "half.nrrd")
    assert not (tmp_path / "half.nrrd").exists()


def order(mask):
    """In the order in which segments are read: plane by plane, line by line."""
    i, j, k = np.argwhere(mask).T
    return np.lexsort((i, j, k))


def test_a_scene_is_read_by_slicer(scene, tmp_path):
    node = volumeNode(GEOMETRIES["oblique"], name="Scan")
    before = slicer.util.arrayFromVolume(node).copy()
    aSegmentation(node)
    (tmp_path / "Scene").mkdir()
    assert scene.SaveSceneToSlicerDataBundleDirectory(str(tmp_path / "Scene"), None)
    packFolder(tmp_path / "Scene", tmp_path / "Scene.mrb")
    assert [each.name for each in tmp_path.iterdir()] == ["Scene.mrb"]
    scene.Clear(0)
    assert scene.ReadFromMRB(str(tmp_path / "Scene.mrb"), True)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(slicer.util.getNode("Scan")), before)
    assert slicer.util.getNode("Result").GetSegmentation().GetNthSegment(0).GetName() == "Liver"
