"""A click before the graph is there that spreading needs: answered at once without it, spread when it is there."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from Testing.support.pyramids import percentiles
from Testing.support.slicer_nodes import volumeNode
from Vox2VecSlicerLib import Similarity
from Vox2VecSlicerLib.Segments import segmentVoxels

HERE, THERE = (0.0, 0.0, 0.0), (8.0, 4.0, 0.0)


@pytest.fixture
def early(session, monkeypatch):
    """A session whose scan is embedded, and whose graph is made when the test lets it."""
    go, shown = threading.Event(), []
    prepare = Similarity.prepare

    def held(pyramid, balance, progress):
        while not go.wait(0.002):
            progress.check()
        prepare(pyramid, balance, progress)

    monkeypatch.setattr(Similarity, "prepare", held)
    node = volumeNode()
    session.embed(node)
    session.similarityUpdated.connect(lambda: shown.append(session.similarity.mapOf(node)))

    def until(condition):
        for _ in range(2000):
            if condition():
                return
            session.poll(0.01)
        raise AssertionError("not in time")

    until(lambda: session.isEmbedded(node))
    shown.clear()
    yield SimpleNamespace(session=session, node=node, go=go, shown=shown, until=until)
    go.set()


def expected(early, points, spreading):
    pyramid = early.session.embeddings.scan(early.node).pyramid
    return percentiles(pyramid, points, spreading=spreading)


def test_a_click_shows_the_plain_map_at_once_and_the_spread_one_later(early):
    session = early.session
    session.points.addPositive(HERE)
    early.until(lambda: early.shown)
    np.testing.assert_array_equal(early.shown[-1].values, expected(early, [HERE], False))
    assert early.shown[-1].spread is not None, "it will be replaced"
    assert session._worker.progress.title == "Preparing to spread similarity"
    session.points.addPositive(THERE)
    early.until(lambda: len(early.shown) == 2)
    np.testing.assert_array_equal(early.shown[-1].values, expected(early, [HERE, THERE], False))
    early.go.set()
    session.wait()
    both = expected(early, [HERE, THERE], True)
    assert len(early.shown) == 3, "nothing is shown in between"
    np.testing.assert_array_equal(early.shown[-1].values, both)
    assert early.shown[-1].spread is None
    assert np.abs(both - early.shown[1].values).max() > 5, "else nothing was tested"
    session.points.clear()
    session.points.addPositive(HERE)
    session.wait()
    assert [each and each.spread for each in early.shown[3:]] == [None, None], "with a graph there is one map"
    np.testing.assert_array_equal(early.shown[-1].values, expected(early, [HERE], True))


def test_a_segment_asked_for_in_between_is_of_the_spread_map(early):
    session = early.session
    session.state.threshold = 80.0
    session.points.addPositive(HERE)
    early.until(lambda: early.shown)
    found, asked = [], session.makeSegment()
    session.updateSimilarity()
    early.until(lambda: len(early.shown) == 2)  # clicks are answered meanwhile
    early.go.set()
    session.wait()
    found.append(segmentVoxels(session.state.result, asked, early.node))
    asked = session.makeSegment()
    session.wait()
    found.append(segmentVoxels(session.state.result, asked, early.node))
    assert len(found[0]) > 10
    np.testing.assert_array_equal(*found)


def test_cancelling_the_graph_keeps_the_plain_map_until_it_is_asked_for_again(early):
    session = early.session
    session.points.addPositive(HERE)
    early.until(lambda: early.shown)
    session.cancel()
    session.wait()
    early.go.set()
    assert early.shown[-1].spread is not None
    session.points.addPositive(THERE)
    session.wait()
    np.testing.assert_array_equal(early.shown[-1].values, expected(early, [HERE, THERE], True))


def test_not_to_spread_any_more_and_a_scan_that_is_gone(early, scene):
    session, failed = early.session, []
    session.failed.connect(failed.append)
    session.points.addPositive(HERE)
    early.until(lambda: early.shown)
    session.state.spreading = False
    early.until(lambda: len(early.shown) == 2)
    assert early.shown[-1].spread is None, "it is what shall be shown"
    session.state.spreading = True
    early.until(lambda: len(early.shown) == 3)
    scene.RemoveNode(early.node)
    early.go.set()
    session.wait()
    assert failed == []
    assert session.similarity.mapOf(early.node) is None
