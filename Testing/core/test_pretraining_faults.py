"""What goes wrong in the middle of a run ends in one sentence, and the run can go on."""

import multiprocessing
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from Testing.core.test_pretraining_loop import assert_equal, make_scan, tiny, weights
from Vox2VecCore.errors import Cancelled
from Vox2VecCore.pretraining import checkpoint
from Vox2VecCore.pretraining.batches import Batches
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.loader import ErrorsAsValues
from Vox2VecCore.pretraining.loop import Machine, pretrain
from Vox2VecCore.pretraining.manifest import ScanEntry
from Vox2VecCore.pretraining.prepare import PreparedScan, prepare_scans
from Vox2VecCore.pretraining.run_directory import CONFIG
from Vox2VecCore.processes import Share
from Vox2VecCore.progress import Progress, ProgressReport


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[PreparedScan]:
    folder = tmp_path_factory.mktemp("scans")
    entries = [ScanEntry(f"s{n}", f"p{n}", str(make_scan(folder / f"s{n}.nii.gz", n))) for n in range(4)]
    return prepare_scans(entries, folder / "prepared", (6.0, 6.0, 6.0)).scans


@pytest.fixture(scope="module")
def straight(scans: list[PreparedScan], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("straight") / "run"
    pretrain(scans, tiny(), run)
    return run


def at_step(number: int, do: Callable[[], object]) -> Callable[[int, Mapping[str, float]], None]:
    return lambda step, _: do() if step == number else None  # type: ignore[func-returns-value,return-value]


def test_a_loader_that_is_killed(scans: list[PreparedScan], tmp_path: Path) -> None:
    """Until then it changed nothing, and the run goes on without it."""

    def kill() -> None:
        (loader,) = multiprocessing.active_children()
        assert loader.pid is not None
        os.kill(loader.pid, signal.SIGKILL)
        loader.join()

    # So many steps that the loader cannot have made all batches by then; a constant rate, whatever their number.
    config = tiny("optimisation.steps=400", "optimisation.final_fraction=1")
    run = tmp_path / "run"
    with pytest.raises(PretrainingError, match=r"^A loader process died.* resume with fewer loaders") as error:
        pretrain(scans, config, run, machine=Machine(loaders=1), on_log=at_step(4, kill))
    assert "\n" not in str(error.value)
    assert not multiprocessing.active_children()
    pretrain(scans, tiny("optimisation.steps=4", "optimisation.final_fraction=1"), tmp_path / "alone")
    assert_equal(weights(run), weights(tmp_path / "alone"))
    asked: list[int] = []
    stop = Progress(is_cancelled=lambda: asked.append(0) or len(asked) > 3)  # type: ignore[func-returns-value]
    with pytest.raises(Cancelled):
        pretrain(scans, config, run, resume=True, progress=stop)
    assert (run / "checkpoints" / "step-00000007.pt").is_file()


def test_a_prepared_scan_that_vanishes(scans: list[PreparedScan], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(scans[0].folder, tmp_path / scans[0].folder.name))
    moved = replace(scans[0], folder=folder)
    (folder / "hu.npy").unlink()
    with pytest.raises(PretrainingError, match=r"hu\.npy: the prepared scan cannot be read .* resume") as error:
        pretrain([moved, moved], tiny(), tmp_path / "run")
    assert "\n" not in str(error.value)
    # What a loader process hands over in its place: PyTorch would add the traceback of that process to the message.
    handed = ErrorsAsValues(Batches([moved, moved], tiny(), 6, Share()))[0]
    assert str(pickle.loads(pickle.dumps(handed))) == str(error.value)  # noqa: S301


def test_a_disk_that_fills_up(
    scans: list[PreparedScan], straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, save = tmp_path / "run", torch.save

    def full_from_step_4(state: dict[str, object], stream: object) -> None:
        if state["step"] == 4:
            stream.write(b"half a checkpoint")  # type: ignore[attr-defined]
            raise OSError(28, "No space left on device")
        save(state, stream)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint.torch, "save", full_from_step_4)
    with pytest.raises(PretrainingError, match=r"No space left on device.*resume from the one before"):
        pretrain(scans, tiny(), run)
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step-00000002.json", "step-00000002.pt"]
    monkeypatch.undo()
    pretrain(scans, tiny(), run, resume=True)
    assert_equal(weights(run), weights(straight))


def test_a_loss_that_is_not_finite(scans: list[PreparedScan], tmp_path: Path) -> None:
    """It is named with its step, and the checkpoint before stays good."""
    run = tmp_path / "run"
    config = tiny("optimisation.steps=40", "checkpoint_every=1", "optimisation.learning_rate=1e30")
    with pytest.raises(PretrainingError, match=r"^Step \d+: .*(s\d is not finite|not finite on scans s\d)"):
        pretrain(scans, config, run)
    assert all(value.isfinite().all() for value in weights(run).values() if value.dtype.is_floating_point)


def test_scans_smaller_than_the_view(tmp_path: Path) -> None:
    """They lie in air; nothing is lost of them and nothing breaks."""
    entries = []
    for n in range(3):
        hu = np.random.default_rng(n).integers(-100, 200, (11, 10, 12 - 2 * n)).astype(np.int16)
        nib.save(nib.Nifti1Image(hu, np.diag([6.0, 6, 6, 1])), tmp_path / f"s{n}.nii.gz")
        entries.append(ScanEntry(f"s{n}", f"p{n}", str(tmp_path / f"s{n}.nii.gz")))
    small = prepare_scans(entries, tmp_path / "prepared", (6.0, 6.0, 6.0)).scans
    assert all(size < 16 for scan in small for size in scan.shape)
    logged: list[float] = []
    pretrain(small, tiny(), tmp_path / "run", on_log=lambda _, values: logged.append(values["loss"]))
    assert len(logged) == 6 and np.isfinite(logged).all()


def test_views_that_share_no_body(scans: list[PreparedScan], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(scans[0].folder, tmp_path / scans[0].folder.name))
    body = np.zeros_like(np.load(folder / "body.npy"))
    body[0, 0, 0] = 0b10000000
    np.save(folder / "body.npy", body)
    lonely = replace(scans[0], folder=folder)
    with pytest.raises(PretrainingError, match="Views of scan s0 share no body; leave it out"):
        pretrain([lonely, lonely], tiny(), tmp_path / "run")


def test_a_run_that_was_stopped_while_it_was_claimed(scans: list[PreparedScan], straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight, tmp_path / "run")
    for path in (tmp_path / "run").iterdir():
        if path.name not in ("data.json", "environment.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    pretrain(scans, tiny(), tmp_path / "run")
    assert (tmp_path / "run" / CONFIG).is_file()


def test_time_left_counts_from_where_a_resumed_job_began(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 102.0, 104.0])
    monkeypatch.setattr("Vox2VecCore.progress.time.monotonic", lambda: next(now))
    seen: list[ProgressReport] = []
    progress = Progress(seen.append).within("probe")
    progress.step("Pretraining", 900, 1000)
    progress.step("Pretraining", 901, 1000, "loss 1")
    progress.step("Pretraining", 902, 1000)
    assert [moment.seconds_left for moment in seen] == [None, 2 * 99, 2 * 98]
    assert seen[1].note == "loss 1" and seen[1].stage == "probe: Pretraining"


def test_a_gradient_that_is_not_finite(
    scans: list[PreparedScan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would turn all weights, and with them the next checkpoint, into NaN."""
    run = tmp_path / "run"

    def poison() -> None:
        original = torch.Tensor.backward

        def backward(loss: torch.Tensor, *args: object, **kwargs: object) -> None:
            original(loss * float("nan"), *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, "backward", backward)

    with pytest.raises(PretrainingError, match=r"^Step 4: the gradient is not finite on scans s\d, s\d"):
        pretrain(scans, tiny(), run, on_log=at_step(3, poison))
    assert all(value.isfinite().all() for value in weights(run).values() if value.dtype.is_floating_point)
