"""``vox2vec manifest``: what it writes, what it reports, what it refuses."""

import re
from pathlib import Path
from typing import get_args

import pytest

from Testing.core.test_pretraining_manifest import plant
from Testing.support.commands import Run, answer, runner
from Vox2VecCore.cli.manifest import Layout
from Vox2VecCore.pretraining.layouts import LAYOUTS
from Vox2VecCore.pretraining.manifest import read_manifest, restrictions


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    plant(tmp_path / "data", ["p1_a.nii.gz", "p1_b.nii.gz", "p1_b_labels.nii.gz", "p2_a.nii.gz", "p3_a.nii.gz"])
    monkeypatch.chdir(tmp_path)
    return runner(capsys)


FLAT = ("manifest", "data", "--layout", "flat", "--out", "data.jsonl")


def test_layouts_are_those_of_the_core() -> None:
    assert get_args(Layout) == tuple(LAYOUTS)


def test_manifest(run: Run, tmp_path: Path) -> None:
    result = answer(run, *FLAT, "--licence", "CC BY 4.0", "--subject", "^(p[0-9])", "--split", "train")
    assert result == {
        "manifest": "data.jsonl",
        "layout": "flat",
        "scans": 4,
        "subjects": 3,
        "labelled": 1,
        "splits": {"train": 4},
        "licences": {"CC BY 4.0": 4},
    }
    entries = read_manifest(tmp_path / "data.jsonl")
    assert [entry.subject for entry in entries] == ["p1", "p1", "p2", "p3"]
    assert all(Path(entry.image).is_file() and Path(entry.image).is_absolute() for entry in entries)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "data.jsonl"]


def test_splits_keep_patients_together(run: Run, tmp_path: Path) -> None:
    answer(run, *FLAT, "--subject", "^(p[0-9])", "--split", "train=0.5", "--split", "test=0.5", "--seed", 1)
    of: dict[str, set[str | None]] = {}
    for entry in read_manifest(tmp_path / "data.jsonl"):
        of.setdefault(entry.subject, set()).add(entry.split)
    assert all(len(splits) == 1 for splits in of.values())
    assert set().union(*of.values()) == {"train", "test"}


def test_patterns(run: Run, tmp_path: Path) -> None:
    assert answer(run, *FLAT, "--include", "p1*", "--exclude", "*_b*")["scans"] == 1


def test_relative_paths_move_with_the_data(run: Run, tmp_path: Path) -> None:
    answer(run, *FLAT, "--relative")
    assert '"image": "data/p1_a.nii.gz"' in (tmp_path / "data.jsonl").read_text()
    (tmp_path / "elsewhere").mkdir()
    for name in ("data", "data.jsonl"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    entries = read_manifest(tmp_path / "elsewhere" / "data.jsonl")
    assert all(Path(entry.image).is_file() for entry in entries)


def test_licences_that_restrict_are_named(run: Run) -> None:
    code, out, err = run(*FLAT, "--licence", "CC BY-NC-SA 4.0")
    assert code == 0
    assert re.search(r"CC BY-NC-SA 4\.0 +4 +non-commercial, share-alike", out)
    assert "non-commercial, share-alike" in err
    assert "4 of 4 patients, 1 with labels" in out


@pytest.mark.parametrize(
    ("licence", "limits"),
    [
        ("CC BY 4.0", []),
        ("CC-BY-NC-ND-4.0", ["non-commercial", "no derivatives"]),
        ("Non-Commercial use only", ["non-commercial"]),
        ("Apache-2.0", []),
        ("CC BY-SA 4.0", ["share-alike"]),
    ],
)
def test_restrictions(licence: str, limits: list[str]) -> None:
    assert restrictions(licence) == limits


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["manifest", "data", "--out", "d.jsonl"], "Missing option '--layout'"),
        (["manifest", "data", "--layout", "mine", "--out", "d.jsonl"], "'mine' is not one of"),
        (["manifest", "none", "--layout", "flat", "--out", "d.jsonl"], "no such folder"),
        (["manifest", "data", "--layout", "kits", "--out", "d.jsonl"], "no scan of layout 'kits'"),
        (["manifest", "data", "--layout", "flat", "--out", "d.txt"], r"must end in \.jsonl"),
        (["manifest", "data", "--layout", "flat", "--out", "no/d.jsonl"], "no such folder"),
        ([*FLAT, "--split", "train=0.5", "--split", "test"], "need a share each"),
        ([*FLAT, "--split", "train=most", "--split", "test=few"], "need a share each"),
        ([*FLAT, "--split", "a=0.5", "--split", "a=0.5"], "a name of its own"),
        ([*FLAT, "--split", "=0.5"], "a name of its own"),
        ([*FLAT, "--split", "a=0.5", "--split", "b=0.1"], "add up to 1"),
        ([*FLAT, "--subject", "("], "not a pattern"),
    ],
)
def test_one_sentence_and_nothing_left(run: Run, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert re.search(sentence, err)
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
