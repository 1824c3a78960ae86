"""From a mouse event to the overlay in three slice views, through MRML, on a pyramid of the official size.

    python -m Testing.benchmarks.hover_speed

Our own work only: drawing is Slicer's. The pyramid is random, so nothing is skipped as air.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import vtk

from Testing.benchmarks.query_speed import GRID, random_pyramid
from Testing.support.models import random_model
from Testing.support.slicer_app import App

EVENTS = 60


def measure(folder: Path, angles: Sequence[float] = (0, 0, 0), *, curved: bool = False) -> dict[str, float]:
    """Milliseconds of a hover event, seconds until it is refined at rest, and until a pinned point has its map.

    The first point waits for the graph of similarity's spreading, which otherwise is made once a scan is embedded.

    :param angles: the slice views are turned by so many degrees; 0 are the planes of the scan.
    :param curved: the scan lies under a grid transform.
    """
    import slicer
    from scipy.spatial.transform import Rotation

    from Testing.support.slicer_nodes import put, sliceViews, volumeNode
    from Vox2VecSlicerLib import Volumes
    from Vox2VecSlicerLib.Overlay import blank
    from Vox2VecSlicerLib.Scan import Scan
    from Vox2VecSlicerLib.Session import Session

    slicer.app.clear()
    model = random_model(folder / str(angles), base_channels=16, num_scales=6, tile_shape=(32, 32, 32))
    pyramid = random_pyramid(model, folder / f"pyramid {angles}")
    node = volumeNode(pyramid.grid.affine, np.zeros(GRID, np.int16))
    if curved:
        put(node, "grid")
    views = sliceViews(node)
    session = Session()
    session.state.volume = node
    session.embeddings._scans[node.GetID()] = Scan(node, pyramid, Volumes.source(node), blank(GRID))
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    for view in views:
        matrix = view.GetSliceToRAS()
        turned = turn @ np.array([[matrix.GetElement(i, j) for j in range(3)] for i in range(3)])
        for i, j in np.ndindex(3, 3):
            matrix.SetElement(i, j, turned[i, j])
        view.UpdateMatrices()
    session.state.hover = True
    rng, times = np.random.default_rng(0), []
    for event in range(EVENTS + 5):
        point = pyramid.grid.to_ras([rng.uniform(0.2, 0.8, 3) * np.array(GRID)])[0]
        crosshair.SetCursorPositionRAS(point.tolist())
        for view in views:
            view.JumpSliceByOffsetting(*point)
        begin = time.perf_counter()
        session.hover.tick()
        if event >= 5:
            times.append(1000 * (time.perf_counter() - begin))
    polls: list[float] = []

    def settle() -> float:
        begin = time.perf_counter()
        busy = True
        while busy:
            start = time.perf_counter()
            busy = session.poll()
            polls.append(1000 * (time.perf_counter() - start))
            time.sleep(0.005)
        return time.perf_counter() - begin

    refined = settle()
    session.state.hover = False
    session.hover.end()
    session.points.addPositive(point)
    first = settle()
    session.points.addPositive(point)
    pinned = settle()
    session.shutdown()
    return {
        "hover_median_ms": float(np.median(times)),
        "hover_p95_ms": float(np.percentile(times, 95)),
        "refined_at_rest_s": refined,
        "first_click_to_map_s": first,
        "click_to_map_s": pinned,
        "longest_delivery_ms": max(polls),
    }


def measured_apart() -> dict:
    """The figures of :func:`main`, from a process of its own: Slicer's libraries keep to themselves."""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow"}
    run = subprocess.run(
        [sys.executable, "-m", __spec__.name], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(run.stdout[run.stdout.index("{") :]))


def main() -> None:
    """Measure and print."""
    App()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "planes of the scan": measure(Path(folder)),
            "turned by (10, 20, 30) degrees": measure(Path(folder), (10, 20, 30)),
            "under a curved transform": measure(Path(folder), (0, 0, 1), curved=True),
        }
    found |= {"threads": torch.get_num_threads(), "vtk": vtk.vtkVersion().GetVTKVersion()}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
