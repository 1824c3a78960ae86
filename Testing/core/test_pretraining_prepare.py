"""Preparation: grids on disk that are read in parts, broken scans listed, nothing done twice."""

import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Testing.core.test_pretraining_loop import make_scan
from Vox2VecCore.grid import grid_scan
from Vox2VecCore.pretraining import prepare as prepare_module
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.manifest import ScanEntry
from Vox2VecCore.pretraining.prepare import PreparedScan, prepare_scans
from Vox2VecCore.volume_io import read_volume

SPACING = (6.0, 6.0, 6.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for n in range(3):
        make_scan(folder / f"s{n}.nii.gz", n)
    (folder / "broken.nii.gz").write_bytes((folder / "s0.nii.gz").read_bytes()[:1000])
    return folder


def entries(folder: Path, *ids: str) -> list[ScanEntry]:
    return [ScanEntry(id, id, str(folder / f"{id}.nii.gz")) for id in ids]


@pytest.mark.parametrize("workers", [1, 2])
def test_broken_scans_are_listed_and_the_rest_is_done(folder: Path, tmp_path: Path, workers: int) -> None:
    data = prepare_scans(entries(folder, "s0", "broken", "absent", "s1"), tmp_path, SPACING, workers=workers)
    assert [scan.id for scan in data.scans] == ["s0", "s1"]
    assert [skipped.id for skipped in data.skipped] == ["broken", "absent"]
    assert all(skipped.id in skipped.reason for skipped in data.skipped)
    assert not list(tmp_path.glob(".*"))


def test_prepared_scan_is_the_grid(folder: Path, tmp_path: Path) -> None:
    (scan,) = prepare_scans(entries(folder, "s0"), tmp_path, SPACING).scans
    expected = grid_scan(read_volume(folder / "s0.nii.gz"), SPACING)
    assert scan.shape == expected.hu.shape and scan.hu.dtype == np.int16
    np.testing.assert_allclose(scan.hu, expected.hu, atol=0.51)
    assert isinstance(scan.hu, np.memmap) and isinstance(scan.packed_body, np.memmap)
    np.testing.assert_array_equal(scan.body((slice(None),) * 3), expected.body)
    assert pickle.loads(pickle.dumps(scan)) == scan  # noqa: S301


@settings(max_examples=30)
@given(data=st.data())
def test_part_of_the_body_mask(prepared: PreparedScan, data: st.DataObject) -> None:
    box = []
    for size in prepared.shape:
        start = data.draw(st.integers(0, size - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, size))))
    whole = prepared.body((slice(None),) * 3)
    np.testing.assert_array_equal(prepared.body(tuple(box)), whole[tuple(box)])


@pytest.fixture(scope="module")
def prepared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedScan:
    return prepare_scans(entries(folder, "s1"), tmp_path_factory.mktemp("one"), SPACING).scans[0]


def test_random_voxels_are_drawn_evenly_from_the_body(prepared: PreparedScan) -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([prepared.random_body_voxel(rng) for _ in range(600)])
    body = np.argwhere(prepared.body((slice(None),) * 3))
    assert prepared.body((slice(None),) * 3)[tuple(drawn.T)].all()
    error = body.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - body.mean(axis=0)) < 4 * error).all()


def test_nothing_is_done_twice_but_a_changed_file_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = entries(folder, "s0", "s1")
    first = prepare_scans(wanted, tmp_path, SPACING)
    read = []
    original = prepare_module.read_volume

    def counted(path: str) -> object:
        read.append(path)
        return original(path)

    monkeypatch.setattr(prepare_module, "read_volume", counted)
    again = prepare_scans(wanted, tmp_path, SPACING)
    assert not read and again.scans == first.scans
    os.utime(folder / "s1.nii.gz")
    prepare_scans(wanted, tmp_path, SPACING)
    assert read == [str(folder / "s1.nii.gz")]


def test_a_scan_too_large_is_listed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = prepare_module.read_volume

    def read(path: str) -> object:
        if path.endswith("s0.nii.gz"):
            raise MemoryError
        return original(path)

    monkeypatch.setattr(prepare_module, "read_volume", read)
    data = prepare_scans(entries(folder, "s0", "s1"), tmp_path, SPACING)
    assert [s.id for s in data.scans] == ["s1"] and "s0.nii.gz: does not fit into memory" in data.skipped[0].reason


def test_spacing_of_a_damaged_header_is_listed(folder: Path, tmp_path: Path) -> None:
    """Three kilometres of patient would be as many voxels as no machine holds."""
    image = nib.load(folder / "s0.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([5.0, 1e9, 5.0, 1.0])), tmp_path / "far.nii.gz")
    data = prepare_scans(entries(tmp_path, "far") + entries(folder, "s1"), tmp_path / "prepared", SPACING)
    assert "far.nii.gz: would be" in data.skipped[0].reason and "spacing is damaged" in data.skipped[0].reason


def test_processes_that_begin_elsewhere_share_the_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = prepare_module.prepare_scan
    monkeypatch.setattr(
        prepare_module, "prepare_scan", lambda entry, *rest: seen.append(entry.id) or original(entry, *rest)
    )
    data = prepare_scans(entries(folder, "s0", "s1", "s2"), tmp_path, SPACING, begin=2)
    assert seen == ["s2", "s0", "s1"] and [scan.id for scan in data.scans] == ["s0", "s1", "s2"]


def test_no_usable_scan_at_all(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainingError, match="None of the 1 scans"):
        prepare_scans(entries(folder, "broken"), tmp_path, SPACING)


def killed_once(entry: ScanEntry, folder: Path, spacing_mm: tuple[float, float, float]) -> object:
    mark = folder / "killed"
    if entry.id == "s1" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return prepare_module.prepare_scan_here(entry, folder, spacing_mm)  # type: ignore[attr-defined]


def test_a_killed_worker_costs_no_scan(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., object] = prepare_module.prepare_scan
    monkeypatch.setattr(prepare_module, "prepare_scan_here", original, raising=False)
    monkeypatch.setattr(prepare_module, "prepare_scan", killed_once)
    monkeypatch.setattr(
        prepare_module.multiprocessing, "get_context", lambda kind: __import__("multiprocessing").context.ForkContext()
    )
    data = prepare_scans(entries(folder, "s0", "s1", "s2"), tmp_path, SPACING, workers=2)
    assert [scan.id for scan in data.scans] == ["s0", "s1", "s2"] and not data.skipped
