"""The first half of a preview: the displayed slices are segmented at once, the whole scan follows."""

import time

import numpy as np
import pytest

from Testing.mrml.test_heads import BODY, LUNG
from Testing.mrml.test_hover import cornersOfDisplayed
from Testing.mrml.test_session import paint
from Testing.support.slicer_heads import HeldBack
from Testing.support.slicer_nodes import GEOMETRIES, put, sliceViews, volumeNode
from Vox2VecCore.errors import Vox2VecError
from Vox2VecSlicerLib import Geometry, SlicePreview
from Vox2VecSlicerLib.Segments import segmentIDs, storedLabels


@pytest.fixture(params=[("plain", "none"), ("left-handed oblique", "linear"), ("oblique", "grid")])
def waiting(request, session):
    """A session that has learnt from two strokes and is held back from segmenting the whole scan."""
    name, parent = request.param
    node = volumeNode(GEOMETRIES[name])
    put(node, parent)
    session.views_ = sliceViews(node)
    session.headTool.tool = HeldBack()
    session.state.volume = node
    session.embed(wait=True)
    for view in session.views_:
        view.JumpSliceByCentering(*Geometry.toWorld(node, [Geometry.ijkToLocal(node)[:3] @ (20, 17, 13, 1)])[0])
    session.ids_ = segmentIDs(session.strokesNode())
    paint(session, session.ids_[0], BODY)
    paint(session, session.ids_[1], LUNG)
    untilPartial(session)
    return session


def untilPartial(session, head=None):
    """Poll until slices of a head that is not this one are shown."""
    until(session, lambda: session.fewShot.isPartial and session.fewShot.head is not head)


def untilScrolled(session):
    """Poll until the slices follow the views."""
    for _ in range(2):
        session.poll()
        until(session, lambda: not session._worker.isBusyWith(SlicePreview.TOPIC))


def until(session, condition):
    """Poll until something is so."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "not in time"
        session.poll(0.01)


def drawn(session):
    """Labels (i, j, k) of the preview's image, and their voxels to the volume's own space."""
    node = session.fewShot.previewNode
    stored = storedLabels(node, segmentIDs(node)[0])
    assert stored.first == (0, 0, 0)
    return stored.values.T, stored.toLocal


def areRight(session, view):
    """Whether what a view shows is what the head says, in its place."""
    scan, tool, head = session.embeddings.scan(session.state.volume), session.headTool, session.fewShot.head
    labels, toLocal = drawn(session)
    step = round(np.linalg.norm(toLocal[:3, 0]) / np.linalg.norm(scan.gridToLocal[:3, 0]))
    ijk = np.unique((cornersOfDisplayed(scan, view) - step // 2) // step, axis=0)
    ijk = ijk[((ijk >= 0) & (ijk < labels.shape)).all(axis=1)]
    inGrid = (np.linalg.inv(scan.gridToLocal) @ toLocal @ np.column_stack([ijk, np.ones(len(ijk))]).T).T[:, :3]
    np.testing.assert_allclose(inGrid, ijk * step + step // 2, atol=0.02)
    expected = tool.atVoxels(head, type("Example", (), {"pyramid": scan.pyramid}), np.rint(inGrid).astype(int))
    assert len(ijk) > 30 and 0.02 < (expected == 2).mean() < 0.98
    return np.array_equal(labels[tuple(ijk.T)], expected)


def test_displayed_slices_come_first_and_follow_the_views(waiting):
    assert waiting.fewShot.preview is None
    assert all(areRight(waiting, view) for view in waiting.views_)
    with pytest.raises(Vox2VecError, match="when the whole scan is"):
        waiting.apply()
    if Geometry.isLinear(waiting.state.volume):
        before = (drawn(waiting)[0] > 0).sum()
        view = waiting.views_[0]
        view.SetSliceOffset(view.GetSliceOffset() + 11)
        assert not areRight(waiting, view)
        untilScrolled(waiting)
        assert areRight(waiting, view)
        assert (drawn(waiting)[0] > 0).sum() > before, "what was shown before stays"
    waiting.headTool.gate.set()
    waiting.wait()
    assert not waiting.fewShot.isPartial and waiting.fewShot.preview is not None
    waiting.apply(wait=True)


@pytest.mark.parametrize("waiting", [("left-handed oblique", "linear")], indirect=True)
def test_oblique_slices_of_a_large_scan_are_coarser(waiting, monkeypatch):
    monkeypatch.setattr(SlicePreview, "OBLIQUE_VOXELS", 4000)
    fine = drawn(waiting)[0].shape
    untilScrolled(waiting)
    assert np.prod(drawn(waiting)[0].shape) < np.prod(fine) / 4
    assert all(areRight(waiting, view) for view in waiting.views_)


@pytest.mark.parametrize("waiting", [("plain", "none")], indirect=True)
def test_a_new_stroke_stops_the_whole_scan_of_the_last_one(waiting):
    first, tool = waiting.fewShot.head, waiting.headTool
    paint(waiting, waiting.ids_[1], LUNG[:5])
    assert not waiting._worker.isBusyWith("head whole scan"), "it is out of date, so it is stopped at once"
    untilPartial(waiting, first)
    tool.gate.set()
    waiting.wait()
    assert tool.learnt == 2 and waiting.fewShot.head.counts == [len(BODY), 5]
    assert waiting.fewShot.preview is not None and waiting.state.head is not None, "the scene keeps the head"
    waiting.cancel()


@pytest.mark.parametrize("waiting", [("plain", "none")], indirect=True)
def test_slices_alone_are_not_applied_after_cancelling(waiting):
    waiting.cancel()
    with pytest.raises(Vox2VecError, match="update the preview"):
        waiting.apply()
    waiting.headTool.gate.set()
    waiting.updatePreview(wait=True)
    waiting.apply(wait=True)
