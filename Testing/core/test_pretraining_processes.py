"""Two processes with half of the patients each do what one process with all of them does."""

import csv
import json
import os
import signal
import socket
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
import json, pathlib, sys
from Testing.core.test_pretraining_loop import restored, tiny
from Vox2VecCore.pretraining.loop import Machine, pretrain
scans, folder = restored({scans!r}), pathlib.Path(sys.argv[1])
for name, more in json.loads(sys.argv[2]).items():
    pretrain(scans, tiny("sampling.patients=2", *more), folder / name, resume=True, machine=Machine("cpu", devices=2))
"""

COMMON = (
    # Views on which no max-pool hangs in the balance between two voxels: rounding would decide, see below.
    *("spatial.rotation_degrees=10.0", "spatial.scale=0.15", "spatial.stretch=0.08", "spatial.elastic_voxels=1.2"),
    *("intensity.tissue_chance=0.5", "intensity.tissue_hu=15.0", "optimisation.weight_decay=0.01"),
    # Biases in front of a batch norm have no gradient but rounding, which Adam would turn into whole steps.
    *("optimisation.steps=3", "optimisation.epsilon=1e-3"),
)
VARIANTS = {
    "patient": ["loss.negatives=patient"],
    "all": ["loss.negatives=all", "loss.chunk=16", "optimisation.accumulate=2"],
    "vicreg": ["loss.kind=vicreg"],
    "matched": ["matching.every=1", "matching.fraction=1"],
}


ROOT = Path(__file__).resolve().parents[2]
CLI = ("-m", "Vox2VecCore.cli")


def python(*arguments: object, **environment: object) -> "subprocess.Popen[str]":
    more = {name: str(value) for name, value in environment.items()}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def torchrun(*arguments: object) -> "subprocess.Popen[str]":
    return python("-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", *arguments)


def srun(*arguments: object) -> "list[subprocess.Popen[str]]":
    """Two processes that see what SLURM's ``srun --ntasks-per-node=2`` tells them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = {
        "SLURM_NTASKS": 2,
        "SLURM_NTASKS_PER_NODE": 2,
        "SLURM_NNODES": 1,
        "SLURM_NODEID": 0,
        "SLURM_JOB_NAME": "train",
    }
    job |= {"SLURM_JOB_ID": 4711, "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": port}
    return [python(*arguments, **job, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in range(2)]


def plant_matches(path: Path) -> None:
    voxels = np.random.default_rng(0).uniform(6, 20, (200, 3)).astype(np.float32)
    save_matches([Matches(ids, np.stack([voxels, voxels + 1])) for ids in (("s0", "s1"), ("s2", "s3"))], path)


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Runs of every variant: by one process, and by two with half of the patients each."""
    entries = [ScanEntry(f"s{n}", f"p{n}", str(make_scan(tmp_path / f"s{n}.nii.gz", n))) for n in range(4)]
    scans = prepare_scans(entries, tmp_path / "prepared", (6.0, 6.0, 6.0)).scans
    one, two = tmp_path / "one", tmp_path / "two"
    variants = {name: [*COMMON, *more] for name, more in VARIANTS.items()}
    for runs, patients in ((one, 4), (two, 2)):
        for name, more in variants.items():
            claim(runs / name, tiny(f"sampling.patients={patients}", *more), scans, resume=False)
        for step in (1, 2):
            plant_matches(runs / "matched" / "matches" / f"step-{step:08d}.npz")
    # PyTorch's own batch norm adds up channels-last voxels in float32 and is off in the sixth digit, which is enough to
    # change the largest of eight voxels somewhere in a max-pool, and with it where gradients go.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "channels_last_3d", torch.contiguous_format)
        for name, more in variants.items():
            pretrain(scans, tiny("sampling.patients=4", *more), one / name, resume=True)
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(scans=described(scans)))
    for process in srun(script, two, json.dumps(variants)):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err[-3000:]
    for name in VARIANTS:
        assert_same_run(name, one / name, two / name)


def assert_same_run(name: str, *runs: Path) -> None:
    one, two = (list(csv.DictReader((run / "log.csv").read_text().splitlines())) for run in runs)
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert float(b["loss"]) == pytest.approx(float(a["loss"]), rel=1e-4)
        assert (float(b["match"]) > 0) == (name == "matched" and int(a["step"]) > 1)
    expected, got = (weights(run) for run in runs)
    assert expected.keys() == got.keys()
    for key in expected:
        torch.testing.assert_close(
            got[key], expected[key], rtol=1e-3, atol=2e-4, msg=lambda m, n=key: f"{name} {n}: {m}"
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
    """When only one of them is asked to; the command line speaks once. SLURM goes on with what torchrun began."""
    (tmp_path / "scans").mkdir()
    for n in range(4):
        make_scan(tmp_path / "scans" / f"s{n}.nii.gz", n)
    entries = [ScanEntry(f"s{n}", f"p{n}", str(tmp_path / "scans" / f"s{n}.nii.gz")) for n in range(4)]
    write_manifest(entries, tmp_path / "data.jsonl")
    settings = [part for text in (*TINY, "optimisation.steps=50") for part in ("--set", text)]
    run = tmp_path / "run"
    arguments = (*CLI, "pretrain", "--data", tmp_path / "data.jsonl", "--out", run, "--device", "cpu", "--json")
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
    assert stopped is not None and 3 <= stopped["step"] < 50

    first, second = srun(*arguments, "--resume")
    out, err = first.communicate(timeout=200)
    assert first.returncode == second.wait(60) == 0, err + second.communicate()[1]
    assert json.loads(out)["steps"] == 50 and second.communicate()[0] == ""
    with (run / "log.csv").open() as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == list(range(1, 51))
    load_model(run / "model").network()
