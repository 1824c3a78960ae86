"""``vox2vec evaluate``: match and retrieval, their report in three forms, and what it refuses."""

import csv
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from Testing.core.test_pretraining_run import labelled
from Testing.support.commands import Run, answer, runner
from Testing.support.models import random_model
from Vox2VecCore.cli import console
from Vox2VecCore.embedding import embed
from Vox2VecCore.evaluation.matching import (
    DICE_SOURCE,
    DICE_TARGET,
    HEAD_SOURCE,
    HEAD_TARGET,
    HIT,
    KINDS,
    MATCHED_HIT,
    MATCHED_MEDIAN,
    MATCHED_NEAR,
    RETRIEVED,
    SAME_MEDIAN,
    SAME_NEAR,
)
from Vox2VecCore.evaluation.report import readable_json
from Vox2VecCore.model import load_model
from Vox2VecCore.pretraining.evaluation import (
    NEAR_MM,
    disturbed_copy,
    matched_places,
    same_patient_errors,
    score_alone,
)
from Vox2VecCore.pretraining.features import embedded
from Vox2VecCore.volume_io import read_labels, read_volume


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three labelled scans, and a model."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "scans").mkdir()
    for n, name in enumerate("abc"):
        labelled(folder / "scans", name, n)
    random_model(folder, spacing_mm=(6.0, 6.0, 6.0), name="rough")
    return folder


@pytest.fixture
def run(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "LOG_EVERY_S", float("inf"))
    monkeypatch.setenv("VOX2VEC_MODELS_DIR", str(source))
    for measure, count in (("MATCHED_SAME_POINTS", 2), ("MATCHED_ORGAN_POINTS", 2), ("DICE_VOXELS", 2000)):
        monkeypatch.setattr(f"Vox2VecCore.pretraining.evaluation.{measure}", count)  # enough to compare, and quick
    monkeypatch.setitem(sys.modules, "openvino", None)  # compiling takes longer than embedding these scans
    run = runner(capsys)
    answer(run, "manifest", source / "scans", "--layout", "flat", "-o", "data.jsonl")
    return run


EVALUATE = ("evaluate", "--data", "data.jsonl", "--model", "rough", "--out", "report")


def test_match_and_retrieval_are_those_of_the_library(run: Run, source: Path, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"1": "liver", "2": "spleen"}')
    both = ("--protocol", "match", "--protocol", "retrieval", "--set", "most_scans=1", "--set", "most_pairs=2")
    result = answer(run, *EVALUATE, *both, "--names", "names.json")
    scan, labels = read_volume(source / "scans" / "a.nii.gz"), read_labels(source / "scans" / "a_labels.nii.gz")
    model = load_model("rough")
    here, copy = (embedded(embed(volume, model, cache=False)) for volume in (scan, disturbed_copy(scan)))
    expected = score_alone(here, copy, labels)
    matched = same_patient_errors(here, copy, np.random.default_rng(0), matched_places)

    def values(kind: str, measure: str, source: str, target: str) -> list[float]:
        wanted = {"features": kind, "measure": measure, "source": source, "target": target}
        return [row["value"] for row in result["results"] if wanted.items() <= row.items()]

    assert values("model", SAME_MEDIAN, "a", "a") == [pytest.approx(expected.same_median_mm)]
    assert values("model", SAME_NEAR, "a", "a") == [pytest.approx(expected.same_within_10mm)]
    assert values("model", MATCHED_MEDIAN, "a", "a") == [pytest.approx(np.median(matched))]
    assert values("model", MATCHED_NEAR, "a", "a") == [pytest.approx((matched < NEAR_MM).mean())]
    for kind in KINDS:
        assert len(values(kind, SAME_MEDIAN, "a", "a")) == len(values(kind, MATCHED_NEAR, "a", "a")) == 1
        assert len(values(kind, HIT, "a", "b")) == len(values(kind, MATCHED_HIT, "a", "b")) == 2
    assert 0 < np.mean(values("chance", HIT, "a", "b")) < 0.5
    assert {row["structure"] for row in result["results"]} == {"", "liver", "spleen"}
    between = {row["features"]: row for row in result["summary"]["Between patients"]}
    for kind in KINDS:
        for measure in RETRIEVED:
            mean = np.mean([np.mean(values(kind, measure, *pair)) for pair in ("ab", "bc")])
            assert between[kind][measure] == pytest.approx(mean)
    assert result["seen_in_pretraining"] == [] and result["seed"] == 0

    files = sorted((tmp_path / "report").iterdir())
    assert [path.name for path in files] == ["report.csv", "report.json", "report.md"]
    assert json.loads(files[1].read_text()) == {k: v for k, v in result.items() if k != "report"}
    with files[0].open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(result["results"])
    assert [float(row["value"]) for row in rows] == [row["value"] for row in result["results"]]
    text = files[2].read_text()
    assert "| hand-made |" in text and "| random weights |" in text and "How to read it" in text


def test_json_has_a_line_for_every_record() -> None:
    value = {"title": "a", "facts": {"patch": (4, 4), "x": []}, "results": [{"Dice": 0.5, "n": None}, {"Dice": 1}]}
    text = readable_json(value)
    assert json.loads(text) == {**value, "facts": {"patch": [4, 4], "x": []}}
    assert {'  {"Dice": 0.5, "n": null},', '  {"Dice": 1}', '  "patch": [4, 4],'} < set(text.splitlines())


def test_a_folder_of_masks_is_a_label_map(run: Run, source: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "masks" / name / "segmentations").mkdir(parents=True)
        volume, labels = (nib.load(source / "scans" / f"{name}{end}.nii.gz") for end in ("", "_labels"))
        nib.save(volume, tmp_path / "masks" / name / "ct.nii.gz")
        for value, organ in ((1, "liver"), (2, "spleen")):
            mask = nib.Nifti1Image((np.asarray(labels.dataobj) == value).astype(np.uint8), labels.affine)
            nib.save(mask, tmp_path / "masks" / name / "segmentations" / f"{organ}.nii.gz")
    answer(run, "manifest", "masks", "--layout", "totalseg", "-o", "masks.jsonl")
    flags = ("--protocol", "retrieval", "--model", "rough", "--set", "most_pairs=1")
    masks = answer(run, "evaluate", "--data", "masks.jsonl", "--out", "m", *flags)
    maps = answer(run, "evaluate", "--data", "data.jsonl", "--out", "d", *flags)
    assert {row["structure"] for row in masks["results"]} == {"liver", "spleen"}
    assert [row["value"] for row in masks["results"]] == [row["value"] for row in maps["results"]]


def test_for_people_and_scans_seen_in_training(run: Run, source: Path, tmp_path: Path) -> None:
    config = json.loads((source / "rough" / "config.json").read_text())
    (tmp_path / "seen").mkdir()
    config["training"] = {"scans": ["b", "z"]}
    for path in (source / "rough").iterdir():
        (tmp_path / "seen" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "seen" / "config.json").write_text(json.dumps(config))
    flags = ("--protocol", "match", "--set", "most_scans=2", "--seed", 3)
    code, out, err = run("evaluate", "--data", "data.jsonl", "--model", "seen", "--out", "report", *flags)
    assert code == 0
    assert err == "Warning: random was trained on b; figures on such scans flatter it.\n" or "trained on b;" in err
    assert re.search(r"features +median error \(mm\) +within 10 mm", out)
    assert "By scan: within 10 mm" in out
    assert "seen in pretraining: b" in (tmp_path / "report" / "report.md").read_text()


def test_training_scans_are_left_out(run: Run, tmp_path: Path) -> None:
    lines = (tmp_path / "data.jsonl").read_text().splitlines()
    marked = [
        json.dumps({**json.loads(line), "split": split})
        for line, split in zip(lines, ["train", "test", "val"], strict=True)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(marked))
    flags = ("--protocol", "match")
    assert answer(run, *EVALUATE, *flags)["scans"] == ["b", "c"]
    assert answer(run, *EVALUATE[:-1], "two", *flags, "--split", "val")["scans"] == ["c"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*EVALUATE], "Missing option '--protocol'"),
        ([*EVALUATE, "--protocol", "guess"], "Unknown protocol 'guess'; there are match, retrieval"),
        ([*EVALUATE, "--protocol", "match", "--split", "val"], "no scan of split 'val'"),
        ([*EVALUATE, "--protocol", "match", "--set", "most_scan=2"], "Unknown setting 'most_scan'"),
        ([*EVALUATE, "--protocol", "match", "--names", "none.json"], r"none\.json: cannot be read"),
        ([*EVALUATE, "--protocol", "match", "--names", "list.json"], "holds no names of values"),
        ([*EVALUATE[:-1], "taken", "--protocol", "match"], "taken exists already"),
        ([*EVALUATE, "--protocol", "match", "--model", "nobody"], "Unknown model"),
        (["evaluate", "--data", "one.jsonl", "-m", "rough", "-o", "r", "--protocol", "retrieval"], "of two patients"),
        (["evaluate", "--data", "plain.jsonl", "-m", "rough", "-o", "r", "--protocol", "retrieval"], "of two patients"),
        (["evaluate", "--data", "gone.jsonl", "-m", "rough", "-o", "r", "--protocol", "match"], "no such file"),
        (["evaluate", "--data", "other.jsonl", "-m", "rough", "-o", "r", "--protocol", "retrieval"], "share no organ"),
    ],
)
def test_one_sentence_and_nothing_left(run: Run, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    first, second = (json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()[:2])
    labels = nib.load(second["labels"])
    nib.save(nib.Nifti1Image(np.asarray(labels.dataobj) * 3, labels.affine), tmp_path / "tripled.nii.gz")
    manifests = {
        "one": [first],
        "plain": [{k: v for k, v in one.items() if k != "labels"} for one in (first, second)],
        "gone": [{**first, "image": "gone.nii.gz"}],
        "other": [first, {**second, "labels": "tripled.nii.gz"}],
    }
    for name, entries in manifests.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, entries)))
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "taken").mkdir()
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert re.search(sentence, err)
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_segmentation_of_a_task_file(run: Run, source: Path, tmp_path: Path) -> None:
    """A task of one's own, settings from a file, the data set's own folder; the report's that is taken afterwards."""
    (tmp_path / "mine.toml").write_text('title = "Mine"\nlayout = "flat"\n[classes]\nboth = [1, 2]\nspleen = 2\n')
    settings = "patch = [16, 16, 16]\nbatch = 2\nsteps = 1\nepochs = 1\nfolds = 3\nvalidation = 0\n"
    (tmp_path / "settings.toml").write_text(settings)
    evaluate = ("evaluate", "--data", source / "scans", "--model", "rough", "--out", "report", "--protocol", "linear")
    flags = ("--task", "mine.toml", "--config", "settings.toml")
    result = answer(run, *evaluate, *flags)
    assert result["title"] == "rough: Mine" and result["classes"] == ["both", "spleen"]
    assert result["settings"]["folds"] == 3 and len(result["results"]) == 6
    assert (tmp_path / "report" / "structures.png").is_file()
    code, _, err = run(*evaluate, *flags, "--resume")
    assert code == 2 and "exists already" in err
    code, _, err = run(*evaluate)
    assert code == 2 and "is a folder; list its scans by vox2vec manifest" in err


def test_the_miniature_as_it_was_measured() -> None:
    """The table comes from the code, and the README has it."""
    root = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location("paper", root / "Resources" / "paper.py")
    assert spec is not None and spec.loader is not None
    paper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(paper)
    measured = root / "Testing" / "benchmarks" / "paper"
    found = json.loads(measured.with_suffix(".json").read_text(encoding="utf-8"))
    text = paper.table({split: found[split] for split in ("subjects", "halves")}, found["training_minutes"])
    assert text == measured.with_suffix(".md").read_text(encoding="utf-8")
    assert "the non-linear head trains 968,029 numbers, 49 times fewer" in text
    readme = (root / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "±" in line]
    assert len(rows) == 4 and all(row.partition(" | ")[2] in readme for row in rows)


def test_the_miniature_needs_its_scans(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "Resources" / "paper.py"
    command = [sys.executable, str(script), "--ct", str(tmp_path), "--out", str(tmp_path / "paper")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "name their folder in VOX2VEC_SHARED_CT" in done.stderr and not (tmp_path / "paper").exists()


def test_the_shipped_model_beats_its_references(shared_ct: Path, run: Run, tmp_path: Path) -> None:
    """On the evaluation pair of its card; whoever changes the model changes these figures there, too."""
    entries = [
        {"id": path.stem, "subject": path.stem, "image": f"{path}.nii.gz", "labels": f"{path}_labels.nii.gz"}
        for path in (shared_ct / "lidc" / "lidc_0001", shared_ct / "totalsegmentator" / "ts_abdomen_pelvis")
    ]
    (tmp_path / "pair.jsonl").write_text("\n".join(map(json.dumps, entries)))
    flags = ("--protocol", "retrieval", "--set", "most_pairs=1")
    result = answer(run, "evaluate", "--data", "pair.jsonl", "--model", "vox2vec-small", "--out", "r", *flags)
    rows = {row["features"]: row for row in result["summary"]["Between patients"]}
    for measure in (HIT, MATCHED_HIT, DICE_SOURCE, DICE_TARGET, HEAD_TARGET):
        others = [rows[kind][measure] for kind in KINDS if kind != "model"]
        assert rows["model"][measure] > 2 * max(others)
    # In the same scan a head makes nearly as much of an untrained network's many features.
    assert rows["model"][HEAD_SOURCE] > 2 * rows["hand-made"][HEAD_SOURCE]
