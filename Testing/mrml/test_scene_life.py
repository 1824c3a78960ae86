"""Closing, deleting, saving, reopening and reloading, also in the middle of a job; faults while embedding."""

import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import slicer

from Testing.mrml.test_session import paint
from Testing.support.slicer_heads import NearestClass
from Testing.support.slicer_nodes import GEOMETRIES, put, sliceViews, volumeNode
from Vox2VecCore.errors import CacheError, DeviceMemoryError, Vox2VecError
from Vox2VecSlicerLib import Libraries
from Vox2VecSlicerLib.Embedding import Embedded, Embeddings, embedSource
from Vox2VecSlicerLib.Segments import segmentVoxels
from Vox2VecSlicerLib.Session import Session
from Vox2VecSlicerLib.Worker import Worker


@pytest.fixture
def held(session):
    """A session whose embedding waits, between two steps, until the test lets it go on."""
    held = {"started": threading.Event(), "go": threading.Event()}

    def embed(*arguments):
        held["started"].set()
        held["go"].wait(20)
        arguments[-1].check()
        return embedSource(*arguments)

    session.embeddings._embed = embed
    session.held = held
    yield session
    held["go"].set()


def test_deleting_the_volume_in_the_middle_of_a_job(held, scene):
    failed, done = [], []
    held.failed.connect(failed.append)
    held.embedded.connect(done.append)
    node = volumeNode()
    held.embed(node)
    held.held["started"].wait(10)
    scene.RemoveNode(node)
    held.held["go"].set()
    held.wait()
    assert failed == done == []
    other = volumeNode(name="Other")
    held.embed(other, wait=True)
    assert held.isEmbedded(other), "the session stays usable"


def test_closing_the_scene_in_the_middle_of_a_job(held, slicer_app, scene, tiny_model):
    closed = []
    held.sceneClosed.connect(lambda: closed.append(1))
    sliceViews(node := volumeNode())
    held.embed(node)
    held.held["started"].wait(10)
    slicer_app.clear()
    held.held["go"].set()
    held.wait()
    assert closed == [1]
    assert held.state.volume is None
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    held.state.model, held.state.device, held.state.engine = str(tiny_model), "cpu", "torch"
    held.embed(volumeNode(), wait=True)


def test_closing_leaves_no_node_of_ours(session, scene, slicer_app, tiny_model):
    slicer_app.clear()
    before = {scene.GetNthNode(i).GetID() for i in range(scene.GetNumberOfNodes())}
    node = volumeNode()
    sliceViews(node)
    session.state.volume, session.state.model = node, str(tiny_model)
    session.state.device, session.state.engine = "cpu", "torch"
    session.embed(wait=True)
    session.points.addPositive((0, 0, 0))
    session.state.view = "colors"
    session.showLegend(True)
    session.wait()
    slicer_app.clear()
    after = {scene.GetNthNode(i).GetID() for i in range(scene.GetNumberOfNodes())}
    kept = after - before
    assert all("Vox2Vec" in each or "Slice" in each for each in kept), kept
    assert len([each for each in kept if "Vox2Vec" in each]) <= 3, "the state, colours, the editor: singletons"


def test_changing_the_volume_during_the_job_is_said(held):
    failed = []
    held.failed.connect(failed.append)
    node = volumeNode()
    held.embed(node)
    held.held["started"].wait(10)
    slicer.util.arrayFromVolume(node)[:] += 1
    slicer.util.arrayFromVolumeModified(node)
    held.held["go"].set()
    with pytest.raises(Vox2VecError, match="changed while it was embedded"):
        held.wait()
    assert len(failed) == 1
    assert not held.isEmbedded(node)


def test_cancel_leaves_nothing_and_says_nothing(held):
    failed = []
    held.failed.connect(failed.append)
    node = volumeNode()
    held.embed(node)
    held.held["started"].wait(10)
    held.cancel()
    held.held["go"].set()
    held.wait()
    assert failed == []
    assert not held.isEmbedded(node)
    assert held.cacheBytes() == 0


def faulty(error, times=1):
    """An embedding function that fails so many times, then answers."""
    from Vox2VecCore.embedding import embed as real

    calls = []

    def embed(volume, model, **options):
        calls.append(options)
        if len(calls) <= times:
            raise error
        return real(volume, model, **(options | {"device": "cpu", "engine": "torch"}))

    embed.calls = calls
    return embed


def test_a_full_gpu_falls_back_to_the_cpu_with_a_word(session, monkeypatch):
    warned = []
    session.warned.connect(warned.append)
    embed = faulty(DeviceMemoryError("Out of memory on cuda for a tile."))
    monkeypatch.setattr("Vox2VecCore.embedding.embed", embed)
    session.state.device = "auto"
    node = volumeNode()
    session.embed(node, wait=True)
    assert session.isEmbedded(node)
    assert embed.calls[1]["device"] == "cpu"
    assert len(warned) == 1 and "on the CPU instead" in warned[0]


def test_a_full_disk_only_costs_the_cache(session, monkeypatch):
    warned = []
    session.warned.connect(warned.append)
    embed = faulty(CacheError("The embedding cache cannot be written (no space left)."))
    monkeypatch.setattr("Vox2VecCore.embedding.embed", embed)
    node = volumeNode()
    session.embed(node, wait=True)
    assert session.isEmbedded(node)
    assert embed.calls[1]["cache"] is False
    assert "not kept" in warned[0]


def test_a_defect_is_shown_once_and_the_session_stays_usable(session, monkeypatch, caplog):
    failed = []
    session.failed.connect(failed.append)
    monkeypatch.setattr("Vox2VecCore.embedding.embed", faulty(ZeroDivisionError("oops")))
    node = volumeNode()
    with pytest.raises(Vox2VecError, match="ZeroDivisionError"):
        session.embed(node, wait=True)
    assert len(failed) == 1
    session.embed(node, wait=True)
    assert session.isEmbedded(node)


def test_a_missing_model_is_said_before_anything_is_done(session):
    session.state.model = "nowhere"
    assert "Unknown model" in session.checkModel("nowhere")
    with pytest.raises(Vox2VecError, match="Unknown model"):
        session.embed(volumeNode())
    assert not session.busy


def test_a_missing_pytorch_is_said_with_what_to_do(session, monkeypatch):
    monkeypatch.setattr(Libraries, "sys", SimpleNamespace(modules={}))
    monkeypatch.setattr(Libraries.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Vox2VecError, match="press Install"):
        session.embed(volumeNode(), wait=True)


def test_memory_is_released(session):
    node = volumeNode()
    sliceViews(node)
    session.embed(node, wait=True)
    session.points.addPositive((0, 0, 0))
    session.wait()
    pyramid = weakref.ref(session.embeddings.scan(node).pyramid)
    overlay = session.overlayNode
    session.releaseMemory()
    import gc

    gc.collect()
    assert pyramid() is None
    assert overlay.GetScene() is None
    assert not session.isEmbedded(node)
    session.embed(node, wait=True)
    session.wait()
    assert session.similarityAt((0, 0, 0)) > 99, "the points are still there, and the map comes back"


def test_a_second_session_after_a_reload_takes_over(session, scene, tiny_model):
    session.points.addPositive((1, 2, 3))
    session.state.balance = 0.25
    nodes = scene.GetNumberOfNodes()
    assert session.shutdown()
    again = Session(headTool=NearestClass())
    assert again.state.balance == 0.25
    np.testing.assert_allclose(again.points.positive, [(1, 2, 3)])
    assert scene.GetNumberOfNodes() == nodes
    assert again.shutdown()


@pytest.mark.parametrize("geometry", ["oblique", "left-handed oblique"])
@pytest.mark.parametrize("parent", ["none", "linear", "grid"])
def test_a_saved_scene_brings_everything_back(session, scene, slicer_app, tmp_path, geometry, parent, tiny_model):
    node = volumeNode(GEOMETRIES[geometry], name="Chest")
    put(node, parent)
    sliceViews(node)
    session.state.volume = node
    session.embed(wait=True)
    scan = session.embeddings.scan(node)
    centre = tuple(scan.toWorld(scan.pyramid.grid.to_ras([np.array(scan.pyramid.grid.shape) / 2]))[0])
    session.points.addPositive(centre)
    session.state.balance, session.state.threshold, session.state.headMethod = 0.3, 90.0, "ridge"
    strokes = session.strokesNode()
    background, structure = (strokes.GetSegmentation().GetNthSegmentID(i) for i in range(2))
    strokes.GetSegmentation().GetSegment(structure).SetName("Liver")
    paint(session, structure, [(20, 17, k) for k in range(8, 18)])
    paint(session, background, [(2, 2, k) for k in range(8, 18)])
    session.wait()
    session.apply(wait=True)
    session.wait()
    labels = session.strokes.labels(scan).array.copy()
    percentile = session.similarityAt(centre)
    result = session.state.result
    found = result.GetSegmentation().GetSegmentIdBySegmentName("Liver")
    applied = len(segmentVoxels(result, found, node))
    assert applied > 0
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer_app.clear()
    assert session.state.volume is None and not session.hasHead
    assert scene.ReadFromMRB(str(path), False)
    session.wait()
    assert session.state.volume.GetName() == "Chest"
    assert session.state.model == str(tiny_model)
    assert (session.state.balance, session.state.threshold, session.state.headMethod) == (0.3, 90.0, "ridge")
    assert session.isEmbedded(session.state.volume), "found in the cache"
    np.testing.assert_allclose(session.points.positive, [centre], atol=1e-3)
    assert session.similarityAt(centre) == pytest.approx(percentile, abs=0.5)
    scan = session.embeddings.scan(session.state.volume)
    np.testing.assert_array_equal(session.strokes.labels(scan).array, labels)
    assert session.hasHead and session.fewShot.head.structures[0].name == "Liver"
    result = session.state.result
    found = result.GetSegmentation().GetSegmentIdBySegmentName("Liver")
    assert len(segmentVoxels(result, found, session.state.volume)) == applied
    names = [n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]
    assert sorted(names) == ["Chest segmentation", "Chest strokes"]


def test_a_reopened_scene_finds_the_embedding_of_its_region(session, scene, slicer_app, tmp_path):
    node = volumeNode(GEOMETRIES["oblique"], name="Chest")
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetXYZ(30, -80, 200)
    roi.SetRadiusXYZ(40, 35, 30)
    session.state.volume, session.state.roi = node, roi
    session.embed(wait=True)
    shape = session.embeddings.scan(node).pyramid.grid.source_shape
    assert shape != node.GetImageData().GetDimensions()
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer_app.clear()
    assert scene.ReadFromMRB(str(path), False)
    session.wait()
    again = session.embeddings.scan(session.state.volume)
    assert again is not None, "found in the cache"
    assert again.pyramid.grid.source_shape == shape


def test_embedded_elsewhere_is_not_delivered_to_a_node_of_the_same_name(scene):
    worker = Worker()
    embeddings = Embeddings(worker, lambda *_: Embedded(None))
    node = volumeNode()
    embeddings.request(node, "vox2vec-small")
    scene.RemoveNode(node)
    while worker.poll(0.02):
        pass
    assert embeddings.scan(volumeNode()) is None
    assert worker.shutdown()
