"""Folders of scans: which scans lie behind paths, and one table of volumes that many processes write."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from Testing.support.tables import rows
from Vox2VecCore import paths
from Vox2VecCore.fewshot.classes import HeadClass
from Vox2VecCore.fewshot.results import VolumeTable
from Vox2VecCore.fewshot.scan_list import find_scans


def test_scans_behind_paths(tmp_path: Path) -> None:
    for name in (
        "x/s.nii.gz",
        "x/s_labels.nii.gz",
        "x/s.seg.nrrd",
        "x/out/s.nii.gz",
        "y/s.nii.gz",
        "dicom/p1/1.dcm",
        "dicom/p2/1.dcm",
        "x/.hidden.nii.gz",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = find_scans(
        [tmp_path / "x", tmp_path / "y" / "s.nii.gz", tmp_path / "y", tmp_path / "dicom"],
        without=tmp_path / "x" / "out",
    )
    assert [(scan.name, scan.path.relative_to(tmp_path).as_posix()) for scan in found] == [
        ("p1", "dicom/p1"), ("p2", "dicom/p2"), ("x_s", "x/s.nii.gz"), ("y_s", "y/s.nii.gz"),
    ]  # fmt: skip
    assert [scan.path for scan in find_scans([tmp_path / "dicom" / "p1"])] == [tmp_path / "dicom" / "p1"]


def test_one_table_of_many_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's rows get lost, and a lock that a killed process left holds nobody up for long."""
    monkeypatch.setattr(paths, "PATIENCE_S", 0.5)
    (tmp_path / ".volumes.csv.lock").touch()
    names = [f"s{n:02d}" for n in range(40)]
    liver = HeadClass(2, "liver", (1, 0, 0))

    def write(rank: int) -> None:
        own = names[rank::4]
        table = VolumeTable(tmp_path / "volumes.csv", [liver], names, own)
        for name in own:
            table.add(name, {2: 1.0})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert rows(tmp_path / "volumes.csv")[1:] == [[name, "liver", "1.000"] for name in names]
    assert [path.name for path in tmp_path.iterdir()] == ["volumes.csv"]


def test_who_waits_for_many_breaks_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PATIENCE_S", 0.5)
    busy: list[int] = []
    together: list[int] = []

    def take(number: int) -> None:
        with paths.alone(tmp_path / "table.csv"):
            busy.append(number)
            time.sleep(0.1)
            together.append(len(busy))
            busy.remove(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(take, range(8)))
    assert together == [1] * 8
