"""From manifests to a model: splits are respected, and a probe reports while the network trains."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from Testing.core.test_pretraining_loop import make_scan, tiny
from Vox2VecCore.embedding import embed
from Vox2VecCore.model import load_model
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.manifest import ScanEntry, write_manifest
from Vox2VecCore.pretraining.probe import ALONE, BETWEEN
from Vox2VecCore.pretraining.run import pretrain_on_manifest
from Vox2VecCore.volume_io import read_volume


def labelled(folder: Path, name: str, seed: int) -> ScanEntry:
    image = make_scan(folder / f"{name}.nii.gz", seed)
    labels = np.zeros((40, 36, 32), np.uint8)
    labels[8:20, 8:18, 4:16], labels[20:32, 16:28, 12:28] = 1, 2
    path = folder / f"{name}_labels.nii.gz"
    nib.save(nib.Nifti1Image(labels, np.diag([5.0, 5, 5, 1])), path)
    return ScanEntry(name, name, image.name, path.name, "probe", "CC0")


def test_manifest_to_model(tmp_path: Path) -> None:
    train = [ScanEntry(f"s{n}", f"p{n}", make_scan(tmp_path / f"s{n}.nii.gz", n).name) for n in range(3)]
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    others = [
        ScanEntry("bad", "bad", "bad.nii.gz"),
        ScanEntry("held", "held", "absent.nii.gz", split="test"),
        labelled(tmp_path, "a", 7),
        labelled(tmp_path, "b", 8),
    ]
    write_manifest(train, tmp_path / "one.jsonl")
    write_manifest(others, tmp_path / "two.jsonl")
    told = []
    config = tiny("probe_every=3", "optimisation.steps=4", "matching.every=2")
    directory = pretrain_on_manifest(
        [tmp_path / "one.jsonl", tmp_path / "two.jsonl"],
        tmp_path / "run",
        config,
        name="mine",
        prepared=tmp_path / "prepared",
        on_prepared=told.append,
    )
    assert [scan.id for scan in told[0].scans] == ["s0", "s1", "s2"] and [s.id for s in told[0].skipped] == ["bad"]
    with (tmp_path / "run" / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [bool(row["probe_hit_rate"]) for row in rows] == [False, False, True, True]
    assert all(float(rows[2][f"probe_{name}"]) >= 0 for name in ALONE + BETWEEN)
    assert (tmp_path / "run" / "matches" / "step-00000002.npz").is_file()

    model = load_model(directory)
    assert model.name == "mine"
    pyramid = embed(read_volume(tmp_path / "a.nii.gz"), model, cache=False, engine="torch")
    assert pyramid.model_name == "mine" and np.isfinite(pyramid.vectors([(0, 0, 0)])).all()


def test_ids_must_differ_between_manifests(tmp_path: Path) -> None:
    write_manifest([ScanEntry("a", "a", "a.nii.gz")], tmp_path / "one.jsonl")
    write_manifest([ScanEntry("a", "a", "a.nii.gz", split="test")], tmp_path / "two.jsonl")
    with pytest.raises(PretrainingError, match="more than one manifest"):
        pretrain_on_manifest([tmp_path / "one.jsonl"] * 2, tmp_path / "run", tiny())
    with pytest.raises(PretrainingError, match="nothing to train on"):
        pretrain_on_manifest(tmp_path / "two.jsonl", tmp_path / "run", tiny())
