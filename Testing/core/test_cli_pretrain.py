"""``vox2vec pretrain``: from a manifest to a model that embeds, stopped and resumed, and what it refuses."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from Testing.core.test_pretraining_loop import TINY, assert_equal, make_scan, weights
from Testing.core.test_pretraining_run import labelled
from Testing.support.commands import Run, answer, runner
from Vox2VecCore.cli import console
from Vox2VecCore.cli.pretrain import _machine
from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.model import load_model

REPOSITORY = Path(__file__).parents[2]
SETTINGS = [part for text in TINY for part in ("--set", text)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four scans, a broken one among them, and two labelled ones beside."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "scans").mkdir()
    for n in range(4):
        make_scan(folder / "scans" / f"s{n}.nii.gz", n)
    (folder / "scans" / "s1b.nii.gz").write_bytes((folder / "scans" / "s1.nii.gz").read_bytes()[:2000])
    labelled(folder, "a", 7)
    labelled(folder, "b", 8)
    return folder


@pytest.fixture
def run(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "LOG_EVERY_S", float("inf"))
    run = runner(capsys)
    exclude = ("--exclude", "s1b*")
    answer(run, "manifest", source / "scans", "--layout", "flat", "--licence", "CC0", "-o", "data.jsonl", *exclude)
    return run


def test_a_model_that_embeds(run: Run, source: Path, tmp_path: Path) -> None:
    answer(run, "manifest", source / "scans", "--layout", "flat", "--licence", "CC0", "-o", "all.jsonl")
    probe = ("--probe", source / "a.nii.gz", source / "a_labels.nii.gz", "--set", "probe_every=3")
    code, out, err = run("pretrain", "--data", "all.jsonl", "--out", "mine", *SETTINGS, *probe, "--json")
    assert code == 0, err
    assert re.fullmatch(r"Skipped: s1b: .*s1b\.nii\.gz.*\n", err)
    result = json.loads(out)
    assert (result["model"], result["steps"], result["scans"]) == ("mine/model", 6, 4)
    assert result["licences"] == {"CC0": 4}
    assert [skipped["id"] for skipped in result["skipped"]] == ["s1b"]
    assert json.loads((tmp_path / "mine" / "data.json").read_text())["skipped"][0]["id"] == "s1b"
    assert result["last"]["step"] == 6
    assert {key for key in result["last"] if key.startswith("probe_")} == {
        "probe_same_median_mm", "probe_same_within_10mm", "probe_dice_source",
    }  # fmt: skip
    with (tmp_path / "mine" / "log.csv").open() as stream:
        assert [bool(row["probe_dice_source"]) for row in csv.DictReader(stream)] == [False, False, True] * 2
    assert (tmp_path / "mine" / "curves.png").stat().st_size > 10_000
    assert load_model("mine/model").name == "mine"
    assert answer(run, "embed", source / "a.nii.gz", "--model", "mine/model")["channels"] == 3 * 4
    assert "CC0: 4 scans" in (tmp_path / "mine" / "model" / "README.md").read_text()


def test_two_patients_probe_what_lies_between_them(run: Run, source: Path, tmp_path: Path) -> None:
    probes = [part for n in "ab" for part in (source / f"{n}.nii.gz", source / f"{n}_labels.nii.gz")]
    flags = ("--probe", *probes[:2], "--probe-other", *probes[2:], "--name", "other", "--steps", 2)
    result = answer(run, "pretrain", "--data", "data.jsonl", "--out", "run", *SETTINGS, *flags)
    assert {"probe_hit_rate", "probe_dice_target"} <= set(result["last"])
    assert load_model("run/model").name == "other"


def test_settings_from_a_file_and_the_model_for_people(run: Run, tmp_path: Path) -> None:
    lines = [re.sub(r"^\w+\.", "", text) for text in TINY if text.startswith("sampling")]
    (tmp_path / "own.yaml").write_text("seed: 5\nsampling:\n" + "".join(f"  {t.replace('=', ': ')}\n" for t in lines))
    rest = [part for text in TINY if not text.startswith("sampling") for part in ("--set", text)]
    code, out, err = run("pretrain", "--data", "data.jsonl", "--out", "run", "--config", "own.yaml", *rest)
    assert (code, err) == (0, "")
    assert "vox2vec embed CT --model run/model" in out
    assert "6 steps on 4 scans, 0 skipped" in out
    resolved = (tmp_path / "run" / "config.toml").read_text()
    assert "seed = 5" in resolved and "largest_view = [16, 16, 16]" in resolved
    code, out, err = run("pretrain", "--data", "data.jsonl", "--out", "run", "--resume", "--json")
    assert (code, err) == (0, ""), "a finished run gives its model, with the settings that it was started with"
    assert json.loads(out)["model"] == "run/model"


def test_stopped_and_resumed(run: Run, tmp_path: Path, private_cache: Path) -> None:
    answer(run, "pretrain", "--data", "data.jsonl", "--out", "straight", *SETTINGS, "--steps", 40)
    command = [sys.executable, "-m", "Vox2VecCore.cli", "pretrain", "--data", tmp_path / "data.jsonl"]
    process = subprocess.Popen(
        [*map(str, command), "--out", str(tmp_path / "run"), *SETTINGS, "--steps", "40"],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "run" / "log.csv"
    end = time.monotonic() + 120
    while not (log.is_file() and log.read_text().count("\n") > 3):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert re.search(r"^Stopped: .*run can go on: give the same command with --resume\.$", err, re.MULTILINE)
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "model").exists()
    result = answer(run, "pretrain", "--data", "data.jsonl", "--out", "run", "--resume")
    assert result["steps"] == 40
    with log.open() as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == list(range(1, 41))
    if os.environ.get("OMP_NUM_THREADS") == "1":  # the straight run used as many threads
        assert_equal(weights(tmp_path / "run"), weights(tmp_path / "straight"))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 1)),
        ({"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}, (2, 3)),
        ({"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}, (4, 2)),
        ({"SLURM_NTASKS": "1"}, (1, 1)),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive"}, (1, 1)),
        ({"SLURM_NTASKS": "2", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, (4, 2)),  # torchrun inside of SLURM
    ],
)
def test_processes_are_those_that_were_started(
    environment: dict[str, str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    machine = _machine("cpu", None, None, 0)
    assert (machine.devices, machine.nodes) == expected
    if expected != (1, 1):
        with pytest.raises(Vox2VecError, match=f"started {expected[0]} processes on each of {expected[1]} machines"):
            _machine("cpu", 3, None, 0)


def test_slurm_needs_tasks_per_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(Vox2VecError, match="add it to sbatch or srun"):
        _machine("cpu", None, None, 0)


PRETRAIN = ("pretrain", "--data", "data.jsonl", "--out", "new", *SETTINGS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pretrain", "--out", "new"], "Missing option '--data'"),
        (["pretrain", "--data", "none.jsonl", "--out", "new"], r"none\.jsonl: cannot be read"),
        (["pretrain", "--data", "empty.jsonl", "--out", "new"], "lists no scan"),
        (["pretrain", "--data", "torn.jsonl", "--out", "new"], "line 1: not valid JSON"),
        ([*PRETRAIN, "--preset", "large"], "Unknown preset 'large'"),
        ([*PRETRAIN, "--set", "loss.temprature=1"], r"Unknown setting 'loss\.temprature'"),
        ([*PRETRAIN, "--set", "seed=one"], "seed cannot be 'one'"),
        ([*PRETRAIN, "--config", "none.toml"], r"none\.toml: cannot be read"),
        ([*PRETRAIN, "--config", "bad.toml"], r"Unknown setting 'optimisation\.stepps'"),
        ([*PRETRAIN, "--steps", "0"], "not in the range"),
        ([*PRETRAIN, "--probe", "none.nii.gz", "none.nii.gz"], "no such file"),
        ([*PRETRAIN, "--probe-other", "none.nii.gz", "none.nii.gz"], "--probe-other needs --probe"),
        ([*PRETRAIN, "--device", "cuda"], "cuda"),
        (["pretrain", "--data", "data.jsonl", "--out", "taken"], "not empty and no run"),
        (["pretrain", "--data", "absent.jsonl", "--out", "new"], "None of the 1 scans can be used"),
    ],
)
def test_one_sentence_and_nothing_left(run: Run, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "torn.jsonl").write_text('{"id": "a", "sub')
    (tmp_path / "absent.jsonl").write_text('{"id": "a", "subject": "a", "image": "a.nii.gz"}')
    (tmp_path / "bad.toml").write_text("[optimisation]\nstepps = 3\n")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert re.search(sentence, err)
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_is_neither_overwritten_nor_changed(run: Run, tmp_path: Path) -> None:
    answer(run, *PRETRAIN, "--steps", 2)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert "add --resume" in run(*PRETRAIN, "--steps", 2)[2]
    code, _, err = run(*PRETRAIN, "--steps", 2, "--resume", "--set", "seed=3", "--set", "loss.temperature=0.5")
    assert code == 2
    assert "other settings of loss.temperature, seed" in err
    code, _, err = run("pretrain", "--data", "data.jsonl", "--out", "new", "--resume", "--steps", 9)
    assert code == 2
    assert "other settings of optimisation.steps" in err
    assert {path: path.stat().st_mtime_ns for path in before} == before
