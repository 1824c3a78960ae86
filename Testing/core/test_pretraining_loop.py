"""The loop end to end on small made-up scans: exact resume, damaged checkpoints, refusals, export."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from Vox2VecCore.errors import Cancelled
from Vox2VecCore.model import load_model
from Vox2VecCore.pretraining import checkpoint as checkpoint_module
from Vox2VecCore.pretraining.batches import Batches
from Vox2VecCore.pretraining.checkpoint import load_newest_checkpoint, save_checkpoint
from Vox2VecCore.pretraining.config import Optimisation, PretrainConfig, load_config
from Vox2VecCore.pretraining.curves import curves_figure, logs_of
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.loop import WeightAverage, learning_rate, pretrain
from Vox2VecCore.pretraining.manifest import ScanEntry
from Vox2VecCore.pretraining.objective import Objective
from Vox2VecCore.pretraining.prepare import PreparedScan, prepare_scans
from Vox2VecCore.processes import Share
from Vox2VecCore.progress import Progress

TINY = [
    "architecture.base_channels=2",
    "architecture.num_scales=3",
    "architecture.projection_channels=4",
    "sampling.smallest_view=[12, 12, 12]",
    "sampling.largest_view=[16, 16, 16]",
    "sampling.points=32",
    "optimisation.steps=6",
    "optimisation.warmup_steps=2",
    "tile_shape=[32, 32, 32]",
    "tile_overlap=[8, 8, 8]",
    "spacing_mm=[6, 6, 6]",
    "precision=fp32",
    "checkpoint_every=2",
    "log_every=1",
]


KILLED = """
import os, pathlib, signal, sys
from Testing.core.test_pretraining_loop import restored, tiny
from Vox2VecCore.pretraining.loop import pretrain
kill = lambda step, values: os.kill(os.getpid(), signal.SIGKILL) if step == 5 else None
pretrain(restored({scans!r}), tiny(), pathlib.Path(sys.argv[1]), on_log=kill)
"""


def described(scans: list[PreparedScan]) -> list[tuple[Any, ...]]:
    return [(s.id, s.subject, s.shape, s.licence, str(s.folder)) for s in scans]


def restored(described: list[tuple[Any, ...]]) -> list[PreparedScan]:
    return [PreparedScan(*rest, folder=Path(folder)) for *rest, folder in described]


def make_scan(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    hu = np.full((40, 36, 32), -1000, np.int16)
    tissue = ndimage.gaussian_filter(rng.normal(0, 900, (30, 26, 32)), 2)
    hu[5:35, 5:31] = np.clip(40 + tissue, -400, 900)
    nib.save(nib.Nifti1Image(hu, np.diag([5.0, 5, 5, 1])), path)
    return path


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[PreparedScan]:
    folder = tmp_path_factory.mktemp("scans")
    entries = [ScanEntry(f"s{n}", f"p{n}", str(make_scan(folder / f"s{n}.nii.gz", n)), licence="CC0") for n in range(4)]
    return prepare_scans(entries, folder / "prepared", (6.0, 6.0, 6.0)).scans


def tiny(*more: str) -> PretrainConfig:
    return load_config(overrides=[*TINY, *more])


def weights(run: Path) -> dict[str, torch.Tensor]:
    state = load_newest_checkpoint(run / "checkpoints")
    assert state is not None
    return {**state["objective"], **{f"average {k}": v for k, v in state["average"].items()}}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def straight(scans: list[PreparedScan], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("straight") / "run"
    pretrain(scans, tiny(), run)
    return run


def test_a_run_ends_with_a_model_that_loads(straight: Path) -> None:
    model = load_model(straight / "model")
    assert model.network().projection is not None
    assert model.config.level_statistics is not None
    assert [len(set(level.std)) for level in model.config.level_statistics] == [1, 1, 1]
    assert len({level.std[0] for level in model.config.level_statistics} - {1.0}) == 3, "measured, not made up"
    assert model.config.training["steps"] == 6 and model.config.training["licences"] == {"CC0": 4}
    with (straight / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(float(row["loss"])) and float(row["voxels_per_second"]) > 0 for row in rows)
    assert load_config(straight / "config.toml") == tiny()
    assert json.loads((straight / "environment.json").read_text())["torch"]


def test_stop_and_resume_is_exact(scans: list[PreparedScan], straight: Path, tmp_path: Path) -> None:
    asked = []
    with pytest.raises(Cancelled):
        pretrain(
            scans, tiny(), tmp_path / "run", progress=Progress(is_cancelled=lambda: asked.append(0) or len(asked) > 3)
        )
    pretrain(scans, tiny(), tmp_path / "run", resume=True)
    assert_equal(weights(tmp_path / "run"), weights(straight))
    with (tmp_path / "run" / "log.csv").open() as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == [1, 2, 3, 4, 5, 6]


def test_stopped_while_the_model_is_made(scans: list[PreparedScan], straight: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    progress = Progress(lambda now: stages.append(now.stage), lambda: stages[-1:] == ["Measuring levels"])
    shutil.copytree(straight, tmp_path / "run", ignore=shutil.ignore_patterns("model"))
    with pytest.raises(Cancelled):
        pretrain(scans, tiny(), tmp_path / "run", resume=True, progress=progress)
    assert not list((tmp_path / "run").glob("*model*"))
    pretrain(scans, tiny(), tmp_path / "run", resume=True)
    assert load_model(tmp_path / "run" / "model").hash == load_model(straight / "model").hash


def test_resume_after_kill_is_exact(scans: list[PreparedScan], straight: Path, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    process = subprocess.run(
        [sys.executable, "-c", KILLED.format(scans=described(scans)), str(tmp_path / "run")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    pretrain(scans, tiny(), tmp_path / "run", resume=True)
    assert_equal(weights(tmp_path / "run"), weights(straight))


def test_reduced_precision_is_close(scans: list[PreparedScan], straight: Path, tmp_path: Path) -> None:
    pretrain(scans, tiny("precision=bf16"), tmp_path / "run")
    first, reduced = ((run / "log.csv").read_text().splitlines()[1].split(",") for run in (straight, tmp_path / "run"))
    assert float(reduced[1]) == pytest.approx(float(first[1]), rel=0.05)
    assert reduced[1] != first[1]
    # Positions are not rounded.
    assert float(reduced[4]) == pytest.approx(float(first[4]), rel=0.01)


def test_accumulated_batches_are_averaged(scans: list[PreparedScan], tmp_path: Path) -> None:
    """One step on two batches against the same step by hand; and what that means for a batch twice as large."""
    one_shape = (
        "architecture.norm=group",
        "architecture.projection_channels=none",
        "sampling.largest_view=[12, 12, 12]",
    )
    config = tiny("optimisation.accumulate=2", "optimisation.steps=1", *one_shape)
    pretrain(scans, config, tmp_path / "run")
    torch.manual_seed(config.seed)
    objective = Objective(config)
    objective.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    settings = config.optimisation
    optimizer = torch.optim.AdamW(
        objective.parameters(), learning_rate(settings, 0), eps=settings.epsilon, weight_decay=settings.weight_decay
    )
    batches = Batches(scans, config, 2, Share())
    for n in range(2):
        (objective(batches[n]).total / 2).backward()
    summed = [parameter.grad.clone() for parameter in objective.parameters() if parameter.grad is not None]
    torch.nn.utils.clip_grad_norm_(objective.parameters(), settings.clip_norm)
    optimizer.step()
    run = weights(tmp_path / "run")
    for name, value in objective.state_dict().items():
        torch.testing.assert_close(run[name], value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")

    # Without batch norm and with own negatives nothing passes between patients: a large batch is the same ...
    pairs = [*batches[0], *(pair._replace(patient=pair.patient + 2) for pair in batches[1])]
    assert {pair.voxels.shape[1] for pair in pairs} == {32}

    def gradients(config: PretrainConfig) -> list[torch.Tensor]:
        torch.manual_seed(0)
        whole = Objective(config)
        whole(pairs).total.backward()
        return [parameter.grad for parameter in whole.parameters() if parameter.grad is not None]

    torch.testing.assert_close(gradients(config), summed, rtol=1e-3, atol=1e-4)
    # ... and others where something does.
    shared_negatives = gradients(tiny("loss.negatives=all", *one_shape))
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(shared_negatives, summed, strict=True))


def test_learning_rate_warms_up_and_falls_on_a_cosine() -> None:
    settings = Optimisation(steps=100, learning_rate=2.0, warmup_steps=9, final_fraction=0.1)
    rates = [learning_rate(settings, step) for step in range(101)]
    np.testing.assert_allclose(rates[:3], [0.2, 0.4, 0.6], rtol=0.01)
    assert rates[50] == pytest.approx(2 * (0.1 + 0.9 / 2)) and rates[100] == pytest.approx(0.2)
    assert (np.diff(rates[10:]) < 0).all()
    constant = Optimisation(steps=100, learning_rate=2.0, warmup_steps=0, final_fraction=1.0)
    assert {learning_rate(constant, step) for step in range(100)} == {2.0}


def test_average_of_the_weights() -> None:
    layer = torch.nn.BatchNorm1d(1)
    average = WeightAverage(layer, 0.9)
    expected = layer.weight[0].item()
    for step in range(200):
        value = float(step % 7)
        torch.nn.init.constant_(layer.weight, value)
        decay = min(0.9, (1 + step) / (10 + step))  # early on over the steps so far
        expected = decay * expected + (1 - decay) * value
        average.update(layer)
    assert float(average.values["weight"][0]) == pytest.approx(expected, rel=1e-4)
    newest = WeightAverage(layer, 0.0)
    torch.nn.init.constant_(layer.weight, 5.0)
    newest.update(layer)
    assert float(newest.values["weight"][0]) == 5.0


def test_tensorboard_shows_what_the_csv_says(straight: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = events.EventAccumulator(str(straight / "tensorboard")).Reload()
    with (straight / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for name in set(rows[0]) - {"step"}:
        shown = [(event.step, event.value) for event in found.Scalars(name)]
        assert shown == [(int(row["step"]), pytest.approx(float(row[name]), rel=1e-4)) for row in rows], name


def test_curves_join_the_stages(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("step,loss,match,probe_hit_rate\n10,5,0,\n20,4,0,0.1\n")
    (tmp_path / "two.csv").write_text("step,loss,match,probe_hit_rate\n10,3,0,0.2\n")
    loss, share = curves_figure([tmp_path / "one.csv", tmp_path / "two.csv"]).axes
    assert [line.get_xydata().tolist() for line in loss.lines[:-1]] == [[[10, 5], [20, 4], [30, 3]]]
    np.testing.assert_allclose(share.lines[0].get_xydata(), [[20, 0.1], [30, 0.2]])
    assert [line.get_xdata()[0] for line in (loss.lines[-1], share.lines[-1])] == [20, 20], "where a stage ends"


def test_torn_checkpoint_is_not_chosen(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint({"step": step}, tmp_path, step)
    newest = tmp_path / "step-00000003.pt"
    newest.write_bytes(newest.read_bytes()[:-10])
    state = load_newest_checkpoint(tmp_path)
    assert state is not None and state["step"] == 2
    assert len(list(tmp_path.glob("*.pt"))) == 2
    (tmp_path / ".0123.tmp.step-00000004.pt").write_bytes(b"killed while it was written")
    save_checkpoint({"step": 5}, tmp_path, 5)
    assert not list(tmp_path.glob(".*"))
    newest = tmp_path / "step-00000005.pt"
    for torn in (b"", newest.read_bytes()[:100]):
        newest.write_bytes(torn)
        assert load_newest_checkpoint(tmp_path) is None
    assert load_newest_checkpoint(tmp_path / "absent") is None


def test_full_disk_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint({"step": 1}, tmp_path, 1)

    def full(state: object, stream: object) -> None:
        stream.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module.torch, "save", full)
    with pytest.raises(PretrainingError, match="No space left"):
        save_checkpoint({"step": 2}, tmp_path, 2)
    state = load_newest_checkpoint(tmp_path)
    assert state is not None and state["step"] == 1
    assert not list(tmp_path.glob(".*"))


def test_refusals(scans: list[PreparedScan], straight: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainingError, match="--resume"):
        pretrain(scans, tiny(), straight)
    with pytest.raises(PretrainingError, match=r"loss\.temperature, seed"):
        pretrain(scans, tiny("seed=3", "loss.temperature=0.5"), straight, resume=True)
    with pytest.raises(PretrainingError, match="other scans"):
        pretrain(scans[:3], tiny(), straight, resume=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").touch()
    with pytest.raises(PretrainingError, match="not empty"):
        pretrain(scans, tiny(), tmp_path / "run")


def test_a_run_begins_with_the_average_of_an_earlier_one(
    scans: list[PreparedScan], straight: Path, tmp_path: Path
) -> None:
    still = tiny(f"start_from='{straight}'", "seed=3", "optimisation.steps=2", "optimisation.learning_rate=0.0")
    pretrain(scans, still, tmp_path / "run")
    before, after = weights(straight), weights(tmp_path / "run")
    learnt = [name for name in before if name.startswith("average ") and "running" not in name]
    learnt = [name for name in learnt if not name.endswith(("num_batches_tracked", "updates"))]
    assert_equal(*({name: values[name] for name in learnt} for values in (before, after)))
    assert any(not torch.equal(before[name], before[name.removeprefix("average ")]) for name in learnt)
    assert logs_of(tmp_path / "run") == [straight / "log.csv", tmp_path / "run" / "log.csv"]
    stages = load_model(tmp_path / "run" / "model").config.training["stages_before"]
    assert [(stage["steps"], stage["seed"], len(stage["scans"])) for stage in stages] == [(6, 0, 4)]
    with pytest.raises(PretrainingError, match="another one"):
        pretrain(scans, tiny(f"start_from='{straight}'", "architecture.base_channels=4"), tmp_path / "other")
    with pytest.raises(PretrainingError, match="no run with a usable checkpoint"):
        pretrain(scans, tiny(f"start_from='{tmp_path}'"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_loss_that_is_not_finite_names_the_scan(scans: list[PreparedScan], tmp_path: Path) -> None:
    with pytest.raises(PretrainingError, match=r"s\d"):
        pretrain(scans, tiny("optimisation.learning_rate=1e30", "optimisation.warmup_steps=0"), tmp_path / "run")


@pytest.mark.parametrize(
    "more", [["loss.negatives=all", "loss.chunk=16"], ["loss.kind=vicreg", "loss.position_weight=0"]]
)
def test_other_objectives_train(scans: list[PreparedScan], tmp_path: Path, more: list[str]) -> None:
    run = tmp_path / "run"
    pretrain(scans, tiny(*more, "optimisation.accumulate=2"), run)
    with (run / "log.csv").open() as stream:
        assert all(np.isfinite(float(row["loss"])) for row in csv.DictReader(stream))
