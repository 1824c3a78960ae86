"""Put deliberate faults into a copy of the controllers and see that the tests of each layer notice: a test that
cannot fail proves nothing.

    python -m Testing.tools.faults
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "Vox2VecSlicer" / "Vox2VecSlicerLib"
NO_TESTS_FAILED, TESTS_FAILED = 0, 1


@dataclass(frozen=True)
class Fault:
    """A line that is made wrong.

    :param tests: what has to go red, as pytest takes it.
    """

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


MRML, PIXELS = "Testing/mrml", "Testing/pixels/test_overlay_pixels.py"
CONTROL = (f"{MRML}/test_overlay.py", f"{PIXELS}::test_colours_threshold_and_opacity")
FAULTS = (
    Fault(
        "a sign of RAS is flipped",
        "Scan.py",
        "return np.linalg.inv(self.source.fromLocal) @ self.pyramid.grid.affine",
        "return np.diag([-1.0, 1, 1, 1]) @ np.linalg.inv(self.source.fromLocal) @ self.pyramid.grid.affine",
        (f"{MRML}/test_overlay.py", f"{PIXELS}::test_the_overlay_is_drawn_where_its_voxels_are"),
    ),
    Fault(
        "two axes are swapped",
        "Scan.py",
        "return np.linalg.inv(self.source.fromLocal) @ self.pyramid.grid.affine",
        "return np.linalg.inv(self.source.fromLocal) @ self.pyramid.grid.affine[:, [1, 0, 2, 3]]",
        (f"{MRML}/test_overlay.py", f"{PIXELS}::test_the_overlay_is_drawn_where_its_voxels_are"),
    ),
    Fault(
        "the parent transform of points is dropped",
        "Geometry.py",
        "    return _transformed(None, node.GetParentTransformNode(), points)",
        "    return np.atleast_2d(np.asarray(points, np.float64))",
        (f"{MRML}/test_volumes.py", f"{PIXELS}::test_points_and_segments_are_drawn_in_place"),
    ),
    Fault(
        "the parent transform of the overlay is dropped",
        "Overlay.py",
        "self.node.SetAndObserveTransformNodeID(self._scan.volumeNode.GetTransformNodeID())",
        "self.node.SetAndObserveTransformNodeID(None)",
        (f"{MRML}/test_overlay.py", f"{PIXELS}::test_the_overlay_is_drawn_where_its_voxels_are"),
    ),
    Fault(
        "hover computes the plane beside the displayed one",
        "Planes.py",
        "    near = sorted({int(np.floor(height + 1e-3)), int(np.ceil(height - 1e-3))})",
        "    near = sorted({int(np.floor(height + 1)), int(np.ceil(height + 1))})",
        (f"{MRML}/test_hover.py",),
    ),
    Fault(
        "oblique slices are cut one voxel off",
        "Planes.py",
        "    height = plane[3] - plane[a] * u - plane[b] * v",
        "    height = plane[3] - plane[a] * u - plane[b] * v + 4",
        (f"{MRML}/test_hover.py", f"{PIXELS}::test_a_hovered_slice_looks_like_the_whole_map"),
    ),
    Fault(
        "strokes are not brought under the volume's transform",
        "Segments.py",
        "    if own is wanted:",
        "    if True:",
        (f"{MRML}/test_segments.py",),
    ),
    Fault(
        "segments are written one voxel off",
        "Segments.py",
        "        return orientedImage(labels, (i, j, k), volumeNode)",
        "        return orientedImage(labels, (i + 1, j, k), volumeNode)",
        (f"{MRML}/test_segments.py",),
    ),
    Fault(
        "strokes are read one voxel off",
        "StoredLabels.py",
        "np.full_like(i, k)], axis=1) + self.first",
        "np.full_like(i, k + 1)], axis=1) + self.first",
        (f"{MRML}/test_strokes.py", f"{MRML}/test_segments.py"),
    ),
    Fault(
        "the preview is shown one voxel off",
        "FewShot.py",
        "orientedImage(box.labels, box.first, preview.scan.volumeNode)",
        "orientedImage(box.labels, (box.first[0] + 4, *box.first[1:]), preview.scan.volumeNode)",
        (f"{MRML}/test_strokes.py", f"{PIXELS}::test_strokes_and_their_preview_are_drawn_in_place"),
    ),
    Fault(
        "left-handed volumes are not turned over",
        "Volumes.py",
        "        return array[:, :, ::-1] if self.flipped else array",
        "        return array",
        (f"{MRML}/test_volumes.py",),
    ),
    Fault(
        "the threshold is not applied",
        "Overlay.py",
        "        display.ApplyThresholdOn()",
        "        display.ApplyThresholdOff()",
        (f"{MRML}/test_overlay.py", f"{PIXELS}::test_colours_threshold_and_opacity"),
    ),
    Fault(
        "the user's masking is not heeded",
        "Segments.py",
        "        node.SetMaskMode(settings.GetMaskMode())",
        "        node.SetMaskMode(0)",
        (f"{MRML}/test_segments.py",),
    ),
    Fault(
        "a cancelled job is delivered",
        "Worker.py",
        "            if job.isCancelled:\n                continue\n",
        "",
        (f"{MRML}/test_worker.py",),
    ),
)


def main() -> int:
    """Exit code: 0 when every fault was noticed by every test that has to, and none where there is none."""
    tried = [(None, tests) for tests in CONTROL] + [(fault, tests) for fault in FAULTS for tests in fault.tests]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return int(not all(list(pool.map(lambda one: _as_expected(*one), tried))))


def _as_expected(fault: Fault | None, tests: str) -> bool:
    """Whether tests go red with a fault, and stay green without one."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / LIBRARY.name
        shutil.copytree(LIBRARY, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if fault is not None:
            path = copy / fault.file
            text = path.read_text(encoding="utf-8")
            if text.count(fault.right) != 1:
                print(f"MISSED   {fault.name}: its line is no longer in {fault.file}", flush=True)
                return False
            path.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
        code = _run(tests, Path(folder))
    if fault is None:
        fine, name = code == NO_TESTS_FAILED, "no fault"
    else:
        fine, name = code == TESTS_FAILED, fault.name
    print(f"{'noticed' if fine else f'MISSED ({code})'}  {name}: {tests}", flush=True)
    return fine


def _run(tests: str, library: Path) -> int:
    # Nobody reads why a test failed, and to tell how large sets differ takes pytest minutes.
    options = ["-x", "-q", "--no-header", "--tb=no", "--assert=plain", "-p", "no:cacheprovider"]
    options += ["-o", f"pythonpath=. {library}"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tests],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "VOX2VEC_PICTURES": str(library / "pictures")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
