"""On a scan of a whole trunk nothing that the user does holds up the panel.

What takes the worker seconds on a scan of this size (colours, matching, heads) is played here, so that the panel gets
results of their true size; ``test_responsiveness`` has the real ones, on a small scan.
"""

import gc
from pathlib import Path

import numpy as np
import pytest

from Testing.module.test_responsiveness import one_thread_in_vtk
from Testing.support.heartbeat import MAX_GAP_MS, Heartbeat
from Testing.support.large_scan import SHAPE, large_ct, put_into_cache
from Testing.support.panel_actions import ACTIONS, AS_NEW, Desk, paint_strokes
from Testing.support.slicer_heads import Means, NearestClass
from Vox2VecCore.matching import Match
from Vox2VecCore.model import load_model
from Vox2VecCore.volume import Volume

__all__ = ["one_thread_in_vtk"]


class PlayedHead(NearestClass):
    """Finds the same blocks in every scan, and doubts everything a little."""

    def learn(self, example, structures, method, base, progress):
        return Means([2], np.zeros((1, 1), np.float32), [1], list(structures), example.pyramid.model_hash)

    def atVoxels(self, head, example, voxels):  # noqa: N802
        return np.full(len(voxels), 2, np.uint8)

    def predict(self, head, example, progress):
        from Vox2VecSlicerLib.Heads import Prediction

        labels = np.zeros(SHAPE, np.uint8, order="F")
        for n, structure in enumerate(head.structures):
            labels[60 + 100 * n : 140 + 100 * n, 90:250, 40:150] = structure.label
        doubt = np.full(SHAPE, 20, np.float32)
        return Prediction(Volume(labels, example.pyramid.grid.source_affine, "labels"), doubt, (0.0, 0.0, 0.0))


@pytest.fixture
def desk(panel, tmp_path: Path, monkeypatch) -> Desk:
    volume = large_ct()
    put_into_cache(volume, load_model(panel.session.state.model))
    monkeypatch.setattr(
        "Vox2VecCore.matching.match_points",
        lambda _source, _target, points, **_: [Match(tuple(p), tuple(p + 3), 0.9, 1.0, 1.0, True) for p in points],
    )
    monkeypatch.setattr("Vox2VecCore.pca.pca_colours", lambda *_, **__: np.full((*SHAPE, 3), 90, np.uint8))
    panel.session.headTool.tool = PlayedHead()
    return Desk.of(panel, volume, tmp_path)


def test_no_action_holds_up_the_panel(desk) -> None:
    slow = {}
    for n, action in enumerate(ACTIONS):
        gaps = []
        while not gaps or (gaps[-1] > MAX_GAP_MS and len(gaps) < 4):
            if gaps and action in AS_NEW:
                AS_NEW[action](desk)
                desk.panel.finish()
            gc.collect()  # which falls into any action
            heart = Heartbeat()
            action(desk)
            desk.panel.finish()
            gaps.append(heart.stop())
        if min(gaps) > MAX_GAP_MS:
            slow[f"{n} {action.__name__}"] = gaps
        if action is Desk.open_editor:
            paint_strokes(desk)
            desk.panel.finish()
        assert not desk.panel.ui.errorLabel.visible, (action.__name__, desk.panel.ui.errorLabel.text)
    assert slow == {}
