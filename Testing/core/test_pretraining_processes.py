"""Two processes with half of the patients each do what one process with all of them does."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from Testing.core.test_pretraining_loop import TINY, described, make_scan, tiny, weights
from Vox2VecCore.model import load_model
from Vox2VecCore.pretraining.checkpoint import load_newest_checkpoint
from Vox2VecCore.pretraining.correspondence import Matches, save_matches
from Vox2VecCore.pretraining.loop import pretrain
from Vox2VecCore.pretraining.manifest import ScanEntry, write_manifest
from Vox2VecCore.pretraining.prepare import prepare_scans
from Vox2VecCore.pretraining.run_directory import claim

SCRIPT = """
import pathlib, sys
from Testing.core.test_pretraining_loop import restored, tiny
from Vox2VecCore.pretraining.loop import Machine, pretrain
pretrain(restored({scans!r}), tiny("sampling.patients=2", *{more!r}), pathlib.Path(sys.argv[1]),
         resume={matched}, machine=Machine(accelerator="cpu", devices=2))
"""


GENTLE = (
    *("spatial.rotation_degrees=10.0", "spatial.scale=0.15", "spatial.stretch=0.08", "spatial.elastic_voxels=1.2"),
    *("intensity.tissue_chance=0.5", "intensity.tissue_hu=15.0", "optimisation.weight_decay=0.01"),
)
"""Views on which no max-pool hangs in the balance between two voxels: rounding would decide, see below."""


def plant_matches(path: Path) -> None:
    voxels = np.random.default_rng(0).uniform(6, 20, (200, 3)).astype(np.float32)
    save_matches([Matches(ids, np.stack([voxels, voxels + 1])) for ids in (("s0", "s1"), ("s2", "s3"))], path)


@pytest.mark.parametrize(("negatives", "matched"), [("patient", False), ("all", False), ("patient", True)])
def test_two_processes_equal_one(tmp_path: Path, negatives: str, matched: bool) -> None:
    entries = [ScanEntry(f"s{n}", f"p{n}", str(make_scan(tmp_path / f"s{n}.nii.gz", n))) for n in range(4)]
    scans = prepare_scans(entries, tmp_path / "prepared", (6.0, 6.0, 6.0)).scans
    # Biases in front of a batch norm have no gradient but rounding, which Adam would turn into whole steps.
    more = [f"loss.negatives={negatives}", "optimisation.steps=3", "optimisation.epsilon=1e-3", *GENTLE]
    if matched:
        more += ["matching.every=1", "matching.fraction=1"]
        for run in ("one", "two"):
            claim(tmp_path / run, tiny(f"sampling.patients={4 if run == 'one' else 2}", *more), scans, resume=False)
            for step in (1, 2):
                plant_matches(tmp_path / run / "matches" / f"step-{step:08d}.npz")
    threads = torch.get_num_threads()
    # In one thread PyTorch's batch norm adds up channels-last voxels in float32 and is off in the sixth digit, which
    # is enough to change the largest of eight voxels somewhere in a max-pool, and with it where gradients go.
    torch.set_num_threads(2)
    try:
        pretrain(scans, tiny("sampling.patients=4", *more), tmp_path / "one", resume=matched)
    finally:
        torch.set_num_threads(threads)

    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(scans=described(scans), more=more, matched=matched))
    root = Path(__file__).resolve().parents[2]
    process = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"),
            *(str(script), str(tmp_path / "two")),
        ],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]

    one, two = ((tmp_path / run / "log.csv").read_text().splitlines()[1:] for run in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        assert float(b.split(",")[1]) == pytest.approx(float(a.split(",")[1]), rel=1e-4)
        assert (float(b.split(",")[3]) > 0) == (matched and int(a.split(",")[0]) > 1)
    expected, got = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert expected.keys() == got.keys()
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}")


def torchrun(*arguments: object) -> "subprocess.Popen[str]":
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    return subprocess.Popen(
        [*command, "-m", "Vox2VecCore.cli", *map(str, arguments)],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def workers(agent: int) -> list[int]:
    """Process ids of torchrun's two processes, rank 0 first."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    ranks = {}
    for child in children:
        environment = Path(f"/proc/{child}/environ").read_text().split("\0")
        ranks.update({line: int(child) for line in environment if line.startswith("RANK=")})
    return [ranks[name] for name in sorted(ranks)]


def test_two_processes_stop_together_and_resume(tmp_path: Path) -> None:
    """When only one of them is asked to; the command line speaks once."""
    (tmp_path / "scans").mkdir()
    for n in range(4):
        make_scan(tmp_path / "scans" / f"s{n}.nii.gz", n)
    entries = [ScanEntry(f"s{n}", f"p{n}", str(tmp_path / "scans" / f"s{n}.nii.gz")) for n in range(4)]
    write_manifest(entries, tmp_path / "data.jsonl")
    settings = [part for text in (*TINY, "optimisation.steps=150") for part in ("--set", text)]
    run = tmp_path / "run"
    arguments = ("pretrain", "--data", tmp_path / "data.jsonl", "--out", run, "--device", "cpu", "--json")
    process = torchrun(*arguments, *settings)
    end = time.monotonic() + 120
    while not ((run / "log.csv").is_file() and (run / "log.csv").read_text().count("\n") > 3):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)
    os.kill(workers(process.pid)[1], signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert process.returncode != 0 and out == ""
    assert err.count("can go on: give the same command with --resume") == 1, err
    stopped = load_newest_checkpoint(run / "checkpoints")
    assert stopped is not None and 3 <= stopped["step"] < 150

    process = torchrun(*arguments, "--resume")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert json.loads(out)["steps"] == 150
    with (run / "log.csv").open() as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == list(range(1, 151))
    load_model(run / "model").network()
