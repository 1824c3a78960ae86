"""The training loop, on one processor or many, that stops and resumes without a trace."""

import importlib
import importlib.util
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from Vox2VecCore.errors import Cancelled, MissingExtraError
from Vox2VecCore.network import EmbeddingNetwork
from Vox2VecCore.pretraining.batches import Batches, ViewPair
from Vox2VecCore.pretraining.checkpoint import load_newest_checkpoint, save_checkpoint
from Vox2VecCore.pretraining.config import Optimisation, PretrainConfig
from Vox2VecCore.pretraining.correspondence import Matches, load_matches, mine_matches, save_matches
from Vox2VecCore.pretraining.distributed import share_batch_norm
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.export import export_model, model_config
from Vox2VecCore.pretraining.loader import load_batches
from Vox2VecCore.pretraining.log import TrainingLog
from Vox2VecCore.pretraining.objective import Losses, Objective
from Vox2VecCore.pretraining.prepare import PreparedScan, Skipped
from Vox2VecCore.pretraining.probe import Probe
from Vox2VecCore.pretraining.run_directory import claim
from Vox2VecCore.pretraining.stages import STAGES, begin_with, last_matches
from Vox2VecCore.processes import Share
from Vox2VecCore.progress import Progress

COLUMNS = [
    "loss",
    "contrast",
    "match",
    "position_mm",
    "gradient_norm",
    "learning_rate",
    "seconds",
    "data_seconds",
    "voxels_per_second",
]
STAGE = "Pretraining"
PATIENCE = timedelta(hours=2)
"""How long processes wait for the first one, which alone matches patients, probes and writes the model."""


@dataclass(frozen=True)
class Machine:
    """Where a run takes place; no part of what defines it.

    :param accelerator: ``cpu``, ``cuda``, or ``auto``.
    :param devices: processes on each machine; with ``torchrun`` or SLURM, what they started.
    :param nodes: machines.
    :param loaders: extra processes that make batches, 0 for none.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    loaders: int = 0


def pretrain(
    scans: Sequence[PreparedScan],
    config: PretrainConfig,
    run: Path,
    *,
    name: str = "vox2vec-own",
    resume: bool = False,
    machine: Machine | None = None,
    probe: Probe | None = None,
    skipped: Sequence[Skipped] = (),
    progress: Progress | None = None,
    on_log: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Path:
    """Train a network and write its model directory ``run/model``.

    Started again with ``resume`` after any stop, it ends with the weights of an uninterrupted run.

    :param run: run directory: settings, data, versions, ``log.csv``, checkpoints.
    :param name: of the model.
    :param probe: labelled scans that the network is tested on every ``probe_every`` steps and at the end.
    :param skipped: scans that could not be prepared, for the run's record.
    :param on_log: called with the step and the values of every line of the log; returned values are not used.
    :return: the model directory.
    :raises PretrainingError: when the directory is taken, settings or scans changed, a checkpoint cannot be
        written, a loader process died, or the loss is not finite.
    :raises MissingExtraError: without Lightning Fabric.
    :raises Cancelled: when ``progress`` says so; a checkpoint is written first.
    """
    machine, progress = machine or Machine(), progress or Progress()
    fabric = _fabric(machine, config)
    fabric.launch()
    torch.manual_seed(config.seed)
    objective = Objective(config)
    fresh = load_newest_checkpoint(run / "checkpoints") is None
    stages = begin_with(objective, Path(config.start_from)) if config.start_from and fresh else []
    if fabric.is_global_zero:
        claim(run, config, scans, resume, skipped)
        if stages:
            (run / STAGES).write_text(json.dumps(stages, indent=1), encoding="utf-8")
    fabric.barrier()

    # Twice as fast on a CPU, and the layout in which GPUs have no known wrong results in reduced precision.
    objective.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if fabric.world_size > 1:
        share_batch_norm(objective)
    settings = config.optimisation
    optimizer = torch.optim.AdamW(
        objective.parameters(), settings.learning_rate, eps=settings.epsilon, weight_decay=settings.weight_decay
    )
    average = WeightAverage(objective, settings.average_decay)
    start = 0
    state = load_newest_checkpoint(run / "checkpoints")
    if state is not None:
        start = state["step"]
        objective.load_state_dict(state["objective"])
        optimizer.load_state_dict(state["optimizer"])
        average.values = state["average"]
        fabric.strategy.precision.load_state_dict(state["precision"])
    module, fabric_optimizer = fabric.setup(objective, optimizer)

    def checkpoint(step: int) -> None:
        if fabric.is_global_zero:
            state = {
                "step": step,
                "objective": objective.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.values,
                "precision": fabric.strategy.precision.state_dict(),
            }
            save_checkpoint(state, run / "checkpoints", step)
        fabric.barrier()

    log = TrainingLog(run, COLUMNS + (probe.columns if probe else []), start) if fabric.is_global_zero else None
    share = Share(fabric.global_rank, fabric.world_size)
    total = settings.steps * settings.accumulate
    # One process of several must not stop alone: the others would wait for it.
    bar = progress if fabric.world_size == 1 else Progress(progress.on_report)
    try:
        step = saved = start
        loader, note = None, ""
        while step < settings.steps:
            try:
                _stop_together(fabric, progress)
                bar.step(STAGE, step, settings.steps, note)
                if loader is None or (config.matching.every and step % config.matching.every == 0):
                    matches = _matches(fabric, run, config, scans, average, step, bar)
                    batches = Batches(scans, config, total, share, matches)
                    loader = load_batches(batches, step * settings.accumulate, machine.loaders)
            except BaseException:
                if step > saved:
                    checkpoint(step)
                raise
            for group in fabric_optimizer.param_groups:
                group["lr"] = learning_rate(settings, step)
            values = _step(fabric, module, fabric_optimizer, loader, settings, step)
            note = f"loss {values['loss']:.3f}, {values['voxels_per_second'] / 1e6:.2f} M voxels/s"
            average.update(objective)
            step += 1
            tested = probe is not None and config.probe_every and step % config.probe_every == 0
            if log is not None and (tested or step % config.log_every == 0 or step == settings.steps):
                if probe is not None and (tested or step == settings.steps):
                    values |= probe(average.network(config), model_config(config, "probe", {}))
                values["learning_rate"] = learning_rate(settings, step - 1)
                log.write(step, values)
                if on_log is not None:
                    on_log(step, values)
            if step % config.checkpoint_every == 0 or step == settings.steps:
                checkpoint(step)
                saved = step
        bar.step(STAGE, settings.steps, settings.steps)
    except RuntimeError as error:
        # PyTorch says so by a signal, so it may come at any place above.
        if "DataLoader worker" not in str(error):
            raise
        raise PretrainingError(
            "A loader process died, most likely for want of memory; resume with fewer loaders or smaller views."
        ) from error
    finally:
        if log is not None:
            log.close()
    if fabric.is_global_zero and not (run / "model").exists():
        export_model(run, run / "model", name, scans, progress=bar)
    fabric.barrier()
    return run / "model"


def learning_rate(settings: Optimisation, step: int) -> float:
    """Linear warm-up, then half a cosine down to ``final_fraction``."""
    warm = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    through = min(1.0, step / max(1, settings.steps))
    decay = settings.final_fraction + (1 - settings.final_fraction) * 0.5 * (1 + math.cos(math.pi * through))
    return settings.learning_rate * warm * decay


def _matches(
    fabric: Any,
    run: Path,
    config: PretrainConfig,
    scans: Sequence[PreparedScan],
    average: "WeightAverage",
    step: int,
    progress: Progress,
) -> list[Matches]:
    """Matches between patients that hold at a step, searched for by the first process when they are due.

    They depend on the averaged weights and the step alone, so a run that is resumed just before finds the same.
    """
    if not config.matching.every or (step < config.matching.every and not config.start_from):
        return []
    due = step // config.matching.every * config.matching.every
    path = run / "matches" / f"step-{due:08d}.npz"
    if fabric.is_global_zero and not path.is_file():
        matches = last_matches(Path(config.start_from), {scan.id for scan in scans}) if due == 0 else []
        if not matches:
            rng = np.random.default_rng([config.seed, due])
            described = model_config(config, "matching", {})
            network = average.network(config)
            matches = mine_matches(network, described, scans, rng, config.matching.most_pairs, progress)
        save_matches(matches, path)
    fabric.barrier()
    return load_matches(path)


class WeightAverage:
    """Exponential average of parameters and buffers; early on over the steps so far.

    :param decay: 0 keeps the newest values.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = {k: v.detach().clone() for k, v in module.state_dict().items()}
        self.values["updates"] = torch.zeros((), dtype=torch.int64)

    def network(self, config: PretrainConfig) -> EmbeddingNetwork:
        """The embedding network with the averaged weights, in evaluation mode."""
        network = EmbeddingNetwork(config.architecture)
        prefix = "embedding."
        network.load_state_dict({k.removeprefix(prefix): v for k, v in self.values.items() if k.startswith(prefix)})
        return network.eval()

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's values in."""
        updates = self.values["updates"]
        weight = 1 - min(self.decay, (1 + int(updates)) / (10 + int(updates))) if self.decay else 1.0
        updates += 1
        for name, value in module.state_dict().items():
            if value.dtype.is_floating_point:
                self.values[name].lerp_(value.to(self.values[name].device), weight)
            else:
                self.values[name].copy_(value)


def _stop_together(fabric: Any, progress: Progress) -> None:
    """Stop all processes before the same step, whichever of them was asked to; else they would wait for each other."""
    if fabric.world_size > 1:
        wanted = progress.is_cancelled is not None and progress.is_cancelled()
        if fabric.all_reduce(torch.tensor(float(wanted)), reduce_op="sum") > 0:
            raise Cancelled


def _step(
    fabric: Any, module: Any, optimizer: Any, loader: Iterator[list[ViewPair]], settings: Optimisation, step: int
) -> dict[str, float]:
    began, waited, voxels = time.monotonic(), 0.0, 0
    sums = torch.zeros(4)
    optimizer.zero_grad()
    for part in range(settings.accumulate):
        asked = time.monotonic()
        pairs: list[ViewPair] = fabric.to_device(next(loader))
        waited += time.monotonic() - asked
        voxels += sum(pair.images.numel() for pair in pairs)
        with fabric.no_backward_sync(module, enabled=part < settings.accumulate - 1):
            try:
                losses: Losses = module(pairs)
            except PretrainingError as error:
                raise PretrainingError(f"Step {step + 1}: {error}") from error
            fabric.backward(losses.total / settings.accumulate)
        sums += torch.stack([losses.total.detach(), losses.contrast, losses.match, losses.position_mm]).cpu()
        _need_finite("loss", sums, pairs, step)
    norm = fabric.clip_gradients(module, optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
    if getattr(fabric.strategy.precision, "scaler", None) is None:  # a scaler leaves out such steps by itself
        _need_finite("gradient", norm, pairs, step)
    optimizer.step()
    seconds = time.monotonic() - began
    means = fabric.all_reduce(sums / settings.accumulate, reduce_op="mean").tolist()
    return {
        **dict(zip(("loss", "contrast", "match", "position_mm"), means, strict=True)),
        "gradient_norm": float(norm),
        "seconds": seconds,
        "data_seconds": waited,
        # Of all processes; they see the same shapes.
        "voxels_per_second": fabric.world_size * voxels / seconds,
    }


def _need_finite(what: str, values: Tensor, pairs: Sequence[ViewPair], step: int) -> None:
    if not torch.isfinite(values).all():
        scans = ", ".join(sorted({pair.scan for pair in pairs}))
        raise PretrainingError(
            f"Step {step + 1}: the {what} is not finite on scans {scans}; look at them, or lower the learning rate."
        )


def _fabric(machine: Machine, config: PretrainConfig) -> Any:
    package = "lightning.fabric" if _has("lightning") else "lightning_fabric"
    try:
        fabric = importlib.import_module(package)
        amp = importlib.import_module(f"{package}.plugins.precision.amp")
        ddp = importlib.import_module(f"{package}.strategies.ddp")
    except ImportError as error:
        raise MissingExtraError("Pretraining", "train") from error
    accelerator = machine.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cuda" and torch.cuda.device_count() < machine.devices:
        found = torch.cuda.device_count()
        raise PretrainingError(f"{machine.devices} cuda devices are asked for and {found} found; use cpu or fewer.")

    class MixedPrecision(amp.MixedPrecision):  # type: ignore[name-defined]
        """Leaves inputs alone: in bf16 a position of 300 mm is rounded to 2 mm."""

        def convert_input(self, data: Any) -> Any:
            return data

    precision = _precision(config.precision, accelerator)
    return fabric.Fabric(
        accelerator=accelerator,
        devices=machine.devices,
        num_nodes=machine.nodes,
        strategy=ddp.DDPStrategy(timeout=PATIENCE) if machine.devices * machine.nodes > 1 else "auto",
        plugins=None if precision is None else [MixedPrecision(precision, accelerator)],
    )


def _precision(wanted: str, accelerator: str) -> str | None:
    """Fabric's name of a precision; ``None`` for plain fp32."""
    if wanted == "auto":
        if accelerator == "cuda":
            wanted = "fp16"
        else:
            # Emulated bf16 is many times slower than fp32.
            wanted = "bf16" if getattr(torch.cpu, "_is_avx512_bf16_supported", bool)() else "fp32"
    return {"fp32": None, "bf16": "bf16-mixed", "fp16": "16-mixed"}[wanted]


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
