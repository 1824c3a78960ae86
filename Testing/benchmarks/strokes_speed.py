"""Strokes to a segmentation on a pyramid of the official size: what someone who paints waits for.

``python -m Testing.benchmarks.strokes_speed`` measures in a process of its own, which peak memory needs.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from Testing.benchmarks.embed_speed import official_model
from Testing.benchmarks.machine import best_seconds, peak_memory_gb, seconds
from Testing.benchmarks.query_speed import random_pyramid
from Vox2VecCore.fewshot.examples import stroke_voxels
from Vox2VecCore.fewshot.session import HeadSession
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume

CLASSES = 8
LABELLED = 5000
LENGTH, WIDTH = 25, 5


def strokes_on(pyramid: FeaturePyramid) -> Volume:
    """Straight strokes of one background and seven structures, about :data:`LABELLED` voxels, on the CT's own grid."""
    shape = np.array(pyramid.grid.source_shape)
    rng = np.random.default_rng(0)
    array = np.zeros(shape, np.int16)
    for n in range(LABELLED // (LENGTH * WIDTH)):
        i, j, k = rng.integers(10, shape - LENGTH - 10)
        array[i : i + LENGTH, j : j + WIDTH, k] = n % CLASSES + 1
    return Volume(array, pyramid.grid.source_affine, "strokes")


def ct_like(pyramid: FeaturePyramid) -> Volume:
    """Noise on the CT's own grid; speed does not depend on what a scan shows."""
    hu: NDArray[np.int16] = np.random.default_rng(0).integers(-200, 300, pyramid.grid.source_shape, np.int16)
    return Volume(np.asfortranarray(hu), pyramid.grid.source_affine, "noise")


def measure() -> dict[str, Any]:
    """Seconds and gigabytes of this process."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pyramid = random_pyramid(official_model(folder / "models"), folder / "pyramid")
        strokes = strokes_on(pyramid)
        session = HeadSession(pyramid, ct_like(pyramid))
        middle = [n // 2 for n in pyramid.grid.shape]

        def slices() -> None:
            for axis, index in enumerate(middle):
                session.on_slice(axis, index)

        def whole() -> None:
            session.train(strokes)
            session.predict()

        session.train(strokes)
        before = peak_memory_gb()
        figures: dict[str, Any] = {
            "grid": list(pyramid.grid.shape),
            "labelled_voxels": len(stroke_voxels(pyramid, strokes)[0]),
            "classes": CLASSES,
            "method": session.head.method if session.head else "",
            "train_s": best_seconds(lambda: session.train(strokes)),
            "three_slices_s": best_seconds(slices, 5),
        }
        figures["train_and_whole_scan_s"] = best_seconds(whole, 2)
        figures["whole_scan_s"] = figures["train_and_whole_scan_s"] - figures["train_s"]
        figures["extra_memory_gb"] = peak_memory_gb() - before
        figures["outlined_on_ct_s"] = seconds(session.segment)
        figures["extra_memory_with_outlines_gb"] = peak_memory_gb() - before
        return figures


def measured_apart() -> dict[str, Any]:
    """:func:`measure` in a fresh process."""
    command = [sys.executable, "-m", "Testing.benchmarks.strokes_speed"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


if __name__ == "__main__":
    print(json.dumps(measure()))
