"""The browser and the desktop module's logic come to the same result, voxel by voxel."""

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np

from Testing.browser.scenario import Hand, Mouse, play
from Testing.browser.tab import Tab
from Testing.conftest import REPOSITORY

RIGHT_LUNG = (12, 13, 14)
"""Its lobes, as the labels number them."""
DICE = 0.85
"""Of one stroke in the right lung and one elsewhere; measured: 0.94."""


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap, 0 to 1."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_the_browser_and_the_session_agree_to_the_voxel(
    tab: Tab, chest: Path, shifted: Path, labels: np.ndarray, cache: Path, tmp_path: Path
) -> None:
    hand = Hand()
    seen = play(Mouse(tab, hand, tmp_path), chest, shifted)
    tab.shot("strokes-applied")
    assert seen.alike.sum() > 500
    assert dice(seen.structures, np.isin(labels, RIGHT_LUNG)) > DICE

    # Slicer's singletons of a session and those of other tests do not go together: a process of its own.
    handed = tmp_path / "handed.npz"
    np.savez(handed, scene=str(hand.scene), names=list(hand.points), points=list(hand.points.values()))
    command = [sys.executable, "-m", "Testing.browser.by_calls", chest, shifted, handed, tmp_path / "called.npz"]
    environment = {**os.environ, "VOX2VEC_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    environment.pop("DISPLAY", None)
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "Vox2VecSlicer")])
    done = subprocess.run(
        list(map(str, command)), env={**environment, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    called = np.load(tmp_path / "called.npz")
    assert (called["alike"] != seen.alike).sum() == 0
    assert (called["structures"] != seen.structures).sum() == 0
    np.testing.assert_allclose(called["targets"], [m[0] for m in seen.matches], atol=1e-6)
    np.testing.assert_allclose(called["cycles"], [m[1] for m in seen.matches], atol=0.006)
    assert called["reliable"].tolist() == [m[2] for m in seen.matches]

    assert str(called["scan"]) == "chest", "the scene that the browser has saved opens in Slicer, module and all"
    np.testing.assert_allclose(called["voxels"], np.asarray(nibabel.load(chest).dataobj), atol=0.01)
    np.testing.assert_allclose(called["positive"], [hand.points["vertebra"]], atol=1e-3)
    np.testing.assert_allclose(called["negative"], [hand.points["lung"]], atol=1e-3)
    assert called["segments"].tolist() == ["Alike 1", "Background", "Structure 1"]
