"""Strokes to a segmentation with the core's own heads, through MRML: on the demo CT, against its labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import slicer
from scipy.ndimage import binary_fill_holes, binary_opening, distance_transform_edt

from Testing.conftest import DEMO_CT
from Testing.mrml.test_session import paint
from Testing.support.models import random_model
from Testing.support.scans import phantom
from Testing.support.slicer_nodes import GEOMETRIES, SHAPE, put, sliceViews, volumeNode
from Vox2VecCore import Volume, train_head
from Vox2VecCore.errors import ModelError, Vox2VecError
from Vox2VecCore.volume_io import read_labels
from Vox2VecSlicerLib.Segments import segmentIDs, segmentVoxels, terminology
from Vox2VecSlicerLib.Session import Session

LIVER = 5
HEIGHTS = (0.2, 0.5, 0.8)
MARGIN = 4
"""Voxels that strokes keep away from the border of the structure."""
ENOUGH = 0.7
"""Dice that six short lines of a brush have to give."""
AROUND_THE_LIVER_MM = (125.0, 95.0, 55.0)
LUNG = np.array([(i, 16, k) for i in (27, 28) for k in range(8, 18)])
BONE = np.array([(i, 8, k) for i in (19, 20) for k in range(6, 20)])
BODY = np.array([(i, j, k) for i, j in ((12, 8), (20, 25), (11, 18), (20, 14)) for k in range(8, 18)])
"""Voxels of the phantom."""
TERMS = "Segmentation category and type~SCT^85756007^Tissue~SCT^10200004^Liver~^^~Anatomic codes~^^~^^"


@dataclass
class Bench:
    """A session on the demo CT, and what a radiologist says about it."""

    session: Session
    node: Any
    truth: np.ndarray
    ids: dict[str, str]

    def stroke(self, label: int, height: float, away: bool = False) -> np.ndarray:
        """Voxels of two lines of a brush that cross in a structure, or of the same lines outside of it.

        :param height: of the axial slice, from 0 at the lower end of the embedded part of the structure to 1.
        """
        box = self.session.embeddings.scan(self.node).partBox()
        inside = np.zeros(self.truth.shape, bool)
        inside[box] = self.truth[box] == label
        planes = np.flatnonzero(inside.any(axis=(0, 1)))
        k = int(planes[int(height * (len(planes) - 1))])
        depth = distance_transform_edt(inside[:, :, k])
        i, j = np.unravel_index(depth.argmax(), depth.shape)
        lines = np.zeros(depth.shape, bool)
        lines[i - 2 : i + 3, :] = lines[:, j - 2 : j + 3] = True
        if away:
            body = binary_fill_holes(binary_opening(slicer.util.arrayFromVolume(self.node)[k].T > -300, iterations=4))
            lines &= (distance_transform_edt(~inside[:, :, k]) > MARGIN) & body
        else:
            lines &= depth > MARGIN
        here = np.zeros(depth.shape, bool)
        here[box[:2]] = lines[box[:2]]
        ij = np.argwhere(here)
        return np.column_stack([ij, np.full(len(ij), k)])

    def dice(self, segmentation: Any, name: str, label: int) -> float:
        """Overlap of a segment with the labels, in the embedded part."""
        scan = self.session.embeddings.scan(self.node)
        found = np.zeros(self.truth.shape, bool)
        segmentID = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
        found[tuple(segmentVoxels(segmentation, segmentID, self.node).T)] = True
        box = scan.partBox()
        truth, found = (self.truth == label)[box], found[box]
        return float(2 * (truth & found).sum() / (truth.sum() + found.sum()))


@pytest.fixture
def real(scene):
    session = Session()
    yield session
    assert session.shutdown(), "the worker did not end"


@pytest.fixture
def bench(real, demo_ct, shared_cache) -> Bench:
    """The demo CT, embedded around the liver by the shipped model, with strokes in the liver and around it."""
    labels = read_labels(DEMO_CT.with_name("demo_ct_labels.nii.gz"))
    loaded = slicer.util.loadVolume(str(DEMO_CT.with_name("demo_ct_labels.nii.gz")))
    truth = np.array(slicer.util.arrayFromVolume(loaded).T)  # Slicer may turn voxels over that it reads
    slicer.mrmlScene.RemoveNode(loaded)
    node = slicer.util.loadVolume(str(demo_ct))
    sliceViews(node)
    liver = np.argwhere(labels.array == LIVER)
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetXYZ(labels.to_ras([liver.mean(axis=0)])[0])
    roi.SetRadiusXYZ(AROUND_THE_LIVER_MM)
    put(node, "linear")
    put(roi, "none")
    roi.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    real.state.volume, real.state.roi = node, roi
    real.embed(wait=True)
    strokes = real.strokesNode()
    background, structure = segmentIDs(strokes)
    segment = strokes.GetSegmentation().GetSegment(structure)
    segment.SetName("Liver")
    segment.SetTag(segment.GetTerminologyEntryTagName(), TERMS)
    found = Bench(real, node, truth, {"Background": background, "Liver": structure})
    paint(real, structure, np.concatenate([found.stroke(LIVER, height) for height in HEIGHTS]))
    paint(real, background, np.concatenate([found.stroke(LIVER, height, away=True) for height in HEIGHTS]))
    real.wait()
    return found


def test_a_few_strokes_give_the_organ(bench):
    session = bench.session
    assert bench.dice(session.fewShot.previewNode, "Liver", LIVER) > ENOUGH
    assert "Liver" in session.headSummary()
    place = session.whereToPaintNext()
    assert place is not None
    assert session.embeddings.scan(bench.node).contains([place])[0]
    result = session.apply(wait=True)
    assert bench.dice(result, "Liver", LIVER) > ENOUGH
    segment = result.GetSegmentation().GetSegment(result.GetSegmentation().GetSegmentIdBySegmentName("Liver"))
    assert terminology(segment) == TERMS
    session.undo()
    assert bench.dice(result, "Liver", LIVER) == 0


@pytest.fixture
def learning(real, tiny_model):
    """A session that learns with the core's heads on an embedded phantom under a transform, with two strokes."""
    node = volumeNode(GEOMETRIES["left-handed oblique"], name="Phantom")
    put(node, "grid")
    sliceViews(node)
    real.state.model, real.state.device, real.state.engine = str(tiny_model), "cpu", "torch"
    real.state.volume = node
    real.embed(wait=True)
    real.ids_ = segmentIDs(real.strokesNode())
    paint(real, real.ids_[0], BODY)
    paint(real, real.ids_[1], LUNG)
    real.wait()
    return real


def found(session, name):
    """Voxels of a structure in the preview."""
    node = session.fewShot.previewNode
    segmentID = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    return {tuple(v) for v in segmentVoxels(node, segmentID, session.state.volume)} if segmentID else set()


def asSet(voxels):
    return {tuple(int(x) for x in v) for v in voxels}


def test_strokes_hold_and_names_go_along(learning):
    assert asSet(LUNG) <= found(learning, "Structure 1")
    assert not asSet(BODY) & found(learning, "Structure 1")
    hu = slicer.util.arrayFromVolume(learning.state.volume).T
    values = np.array([hu[v] for v in found(learning, "Structure 1")])
    assert len(values) > 2 * len(LUNG)
    assert (values < -300).mean() > 0.8, "what is found is lung like what was painted"


def test_a_second_structure_and_its_removal(learning):
    before = found(learning, "Structure 1")
    second = learning.addStructure("Bone", (0.1, 0.2, 0.9))
    paint(learning, second, BONE)
    learning.wait()
    assert asSet(BONE) <= found(learning, "Bone")
    assert not found(learning, "Bone") & found(learning, "Structure 1")
    node = learning.fewShot.previewNode
    segment = node.GetSegmentation().GetSegment(node.GetSegmentation().GetSegmentIdBySegmentName("Bone"))
    np.testing.assert_allclose(segment.GetColor(), (0.1, 0.2, 0.9), atol=1e-6)
    learning.strokesNode().GetSegmentation().RemoveSegment(second)
    learning.wait()
    assert found(learning, "Bone") == set()
    again = found(learning, "Structure 1")
    assert len(again ^ before) <= 0.1 * len(before), "as if it had never been painted"


def test_a_saved_scene_brings_the_head_back_and_strokes_can_still_be_removed(learning, scene, slicer_app, tmp_path):
    summary, classes = learning.headSummary(), learning.fewShot.head.classes
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer_app.clear()
    assert not learning.hasHead
    assert scene.ReadFromMRB(str(path), False)
    learning.wait()
    assert learning.headSummary() == summary
    assert learning.fewShot.head.classes == classes
    voxels = learning.fewShot.head.voxels
    paint(learning, learning.state.backgroundSegment, BODY[:20])
    learning.wait()
    assert learning.fewShot.head.voxels[1] < voxels[1], "strokes that were saved are not learnt from twice"


def test_a_loaded_head_keeps_its_structures_apart_from_new_ones(learning, tmp_path):
    learning.strokesNode().GetSegmentation().GetSegment(learning.ids_[1]).SetName("Lung")
    learning.updatePreview(wait=True)
    learning.saveHead(tmp_path / "lung.safetensors")
    tiny = learning.state.model
    slicer.mrmlScene.Clear(0)
    other = volumeNode(GEOMETRIES["oblique"], phantom(SHAPE, seed=5).array, name="Other")
    learning.state.model, learning.state.volume = tiny, other
    learning.state.device, learning.state.engine = "cpu", "torch"
    learning.embed(wait=True)
    learning.loadHead(tmp_path / "lung.safetensors", wait=True)
    bone = segmentIDs(learning.strokesNode())[1]
    learning.strokesNode().GetSegmentation().GetSegment(bone).SetName("Bone")
    paint(learning, bone, BONE)
    paint(learning, learning.state.backgroundSegment, BODY)
    learning.wait()
    assert {each.name: each.value for each in learning.fewShot.head.structures} == {"Lung": 2, "Bone": 3}
    assert found(learning, "Lung") and found(learning, "Bone")


def test_the_background_of_a_loaded_head_may_have_any_label(learning, tmp_path):
    """As the command line makes them: structure 1, background 3. Here strokes of the background become 3, too."""
    scan, strokes = learning.embeddings.scan(learning.state.volume), learning.strokes
    painted = strokes.labels(scan)
    swapped = np.choose(painted.array, [0, 3, 1]).astype(np.int16)
    given = train_head(
        [(scan.pyramid, Volume(swapped, painted.affine, "strokes"))],
        volumes=[scan.source.volume()],
        background=3,
        names={1: "Lung"},
    )
    given.save(tmp_path / "lung.safetensors")
    learning.strokesNode().GetSegmentation().GetSegment(learning.ids_[1]).SetName("Bone")
    paint(learning, learning.ids_[1], BONE)
    learning.loadHead(tmp_path / "lung.safetensors", wait=True)
    learning.updatePreview(wait=True)
    head = learning.fewShot.head
    assert {each.name: each.value for each in head.classes} == {"Lung": 1, "Background": 3, "Bone": 2}
    assert head.voxels[3] > given.voxels[3] and head.voxels[1] == given.voxels[1]
    assert len(found(learning, "Lung")) > len(LUNG) / 2 and asSet(BONE) <= found(learning, "Bone")
    assert not asSet(BODY) & (found(learning, "Lung") | found(learning, "Bone"))


def test_a_head_can_be_dropped(learning, scene, tmp_path):
    alone = learning.fewShot.head.voxels
    learning.saveHead(tmp_path / "head.safetensors")
    learning.dropHead()
    learning.wait()
    assert not learning.hasHead and learning.fewShot.previewNode is None, "the strokes rest until they are painted"
    assert scene.GetNumberOfNodesByClass("vtkMRMLTextNode") == 0
    learning.loadHead(tmp_path / "head.safetensors", wait=True)
    learning.updatePreview(wait=True)
    assert learning.fewShot.head.voxels[1] > alone[1], "strokes are added to a head that was loaded"
    learning.dropHead()
    learning.wait()
    assert learning.fewShot.head.voxels == alone, "and learnt from alone when it is dropped"


def test_a_head_is_applied_to_another_volume(learning):
    other = volumeNode(GEOMETRIES["permuted"], phantom(SHAPE, seed=5).array, name="Other")
    put(other, "linear")
    learning.applyHead([other], wait=True)
    node = slicer.util.getNode("Other segmentation")
    voxels = segmentVoxels(node, segmentIDs(node)[0], other)
    hu = slicer.util.arrayFromVolume(other).T
    assert len(voxels) > 50
    assert (hu[tuple(voxels.T)] < -300).mean() > 0.7


def test_a_head_of_another_model_is_refused(learning, tmp_path):
    learning.saveHead(tmp_path / "head.safetensors")
    learning.state.model = str(random_model(tmp_path / "other", base_channels=3, statistics=True).directory)
    learning.embed(wait=True)
    with pytest.raises(ModelError, match="trained on embeddings of"):
        learning.loadHead(tmp_path / "head.safetensors", wait=True)
    with pytest.raises(ModelError):
        learning.applyHead([learning.state.volume], wait=True)
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "head.safetensors").read_bytes()[:100])
    with pytest.raises(ModelError, match="torn"):
        learning.loadHead(tmp_path / "torn.safetensors", wait=True)
    slicer.mrmlScene.Clear(0)
    with pytest.raises(Vox2VecError, match="no head to save"):
        learning.saveHead(tmp_path / "none.safetensors")
