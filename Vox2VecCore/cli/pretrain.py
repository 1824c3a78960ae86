"""``vox2vec pretrain``: a network for one's own scans, in one command that can be stopped and resumed."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Group, RenderableType

from Vox2VecCore.cli.console import complain, facts, progress, report
from Vox2VecCore.cli.manifest import licence_table
from Vox2VecCore.cli.options import JsonOption
from Vox2VecCore.errors import Cancelled, Vox2VecError

if TYPE_CHECKING:
    from Vox2VecCore.pretraining.config import PretrainConfig
    from Vox2VecCore.pretraining.loop import Machine
    from Vox2VecCore.pretraining.manifest import ScanEntry
    from Vox2VecCore.pretraining.prepare import PreparedData

SHOWN_SKIPPED = 5
DEFAULT_PRESET = "small"
CURVES = "curves.png"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("pretrain")(pretrain)


def pretrain(
    data: Annotated[
        list[Path], typer.Option("--data", metavar="FILE", help="Manifest of 'vox2vec manifest'; may be repeated.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Run directory; the model is RUN/model.")],
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings, TOML or YAML; strict keys.")] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="small: recipe of the shipped model; vox2vec: as published.")
    ] = None,
    change: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, loss.temperature=0.2 say.")
    ] = [],  # noqa: B006  typer reads the default, nobody changes it
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of the whole run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run if RUN holds one.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the model; the run directory's when left out.")] = None,
    root: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder that paths in manifests count from.")] = None,
    probe: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="CT LABELS", help="A labelled scan that tests the network while it trains."),
    ] = None,
    probe_other: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="CT LABELS", help="Another patient's, to test matching between patients too."),
    ] = None,
    prepared: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where prepared scans are kept; the cache folder by default.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that prepare scans.")] = 1,
    loaders: Annotated[int, typer.Option(min=0, help="Extra processes that make batches.")] = 0,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    devices: Annotated[
        int | None, typer.Option(min=1, help="Processes a machine; left out under torchrun or SLURM.")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines; likewise.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Pretrain a network on the scans of a manifest, without labels.

    Scans of split "train" and scans without a split are learnt from; labelled scans of split "probe" test it meanwhile.
    Ctrl-C leaves a checkpoint, and --resume goes on as if nothing had happened. Log: RUN/log.csv, RUN/curves.png and
    TensorBoard.
    """
    from Vox2VecCore.drawing import need_matplotlib, save
    from Vox2VecCore.pretraining.curves import curves_figure, logs_of
    from Vox2VecCore.pretraining.run import pretrain_on_manifest
    from Vox2VecCore.processes import own_share

    need_matplotlib()
    started = time.monotonic()
    settings = _settings(out, config, preset, change, steps, resume)
    machine = _machine(device, devices, nodes, loaders)
    first = own_share().rank == 0  # it speaks for all
    last: dict[str, float] = {}
    found: list[PreparedData] = []

    def note(prepared: "PreparedData") -> None:
        found.append(prepared)
        if first:
            _complain_of_skipped(prepared)

    def remember(step: int, values: Mapping[str, float]) -> None:
        last.update(values, step=step)

    try:
        with progress() as bar:
            if not first:
                bar.on_report = None
            directory = pretrain_on_manifest(
                data,
                out,
                settings,
                root=root,
                name=name or out.absolute().name,
                resume=resume,
                machine=machine,
                probes=_probes(probe, probe_other),
                prepared=prepared,
                prepare_workers=workers,
                progress=bar,
                on_prepared=note,
                on_log=remember,
            )
    except Cancelled:
        if first and (out / "config.toml").is_file():
            complain("Stopped", f"{out} can go on: give the same command with --resume.")
        raise
    if not first:
        return
    save(curves_figure(logs_of(out)), out / CURVES)
    result = _result(out, directory, found[0], last, settings.optimisation.steps, time.monotonic() - started)
    report(result, as_json, lambda: _human(result))


def _settings(
    run: Path, config: Path | None, preset: str | None, change: Sequence[str], steps: int | None, resume: bool
) -> "PretrainConfig":
    from Vox2VecCore.pretraining.config import load_config
    from Vox2VecCore.pretraining.run import with_steps
    from Vox2VecCore.pretraining.run_directory import CONFIG

    if resume and config is None and preset is None and (run / CONFIG).is_file():
        config = run / CONFIG  # what the run was started with, so that nothing need be said again
    settings = load_config(config, preset or DEFAULT_PRESET, change)
    return settings if steps is None else with_steps(settings, steps)


def _machine(device: str, devices: int | None, nodes: int | None, loaders: int) -> "Machine":
    from Vox2VecCore.pretraining.loop import Machine

    started = _started_processes()
    if started is None:
        return Machine(device, devices or 1, nodes or 1, loaders)
    who, own = started
    if (devices or own[0], nodes or own[1]) != own:
        raise Vox2VecError(
            f"{who} started {own[0]} processes on each of {own[1]} machines; leave --devices and --nodes out."
        )
    return Machine(device, *own, loaders)


def _started_processes() -> tuple[str, tuple[int, int]] | None:
    """Who started the processes of this run, and how many on each of how many machines; ``None`` without such."""
    environment = os.environ
    if "LOCAL_WORLD_SIZE" in environment:
        here = int(environment["LOCAL_WORLD_SIZE"])
        return "torchrun", (here, max(1, int(environment.get("WORLD_SIZE", here)) // here))
    if "SLURM_NTASKS" not in environment or environment.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    tasks, machines = int(environment["SLURM_NTASKS"]), int(environment.get("SLURM_NNODES", 1))
    if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in environment:
        raise Vox2VecError(f"SLURM started {tasks} tasks without --ntasks-per-node; add it to sbatch or srun.")
    return "SLURM", (int(environment.get("SLURM_NTASKS_PER_NODE", tasks)), machines)


def _probes(first: tuple[Path, Path] | None, second: tuple[Path, Path] | None) -> "list[ScanEntry]":
    from Vox2VecCore.pretraining.manifest import ScanEntry
    from Vox2VecCore.pretraining.probe import PROBE_SPLIT

    if second is not None and first is None:
        raise Vox2VecError("--probe-other needs --probe, the scan that it is compared with.")
    given = [pair for pair in (first, second) if pair is not None]
    for path in (path for pair in given for path in pair):
        if not path.exists():
            raise Vox2VecError(f"{path}: there is no such file or folder; --probe takes a CT and its label map.")
    return [
        ScanEntry(f"probe {n}", f"probe {n}", str(ct), str(labels), PROBE_SPLIT) for n, (ct, labels) in enumerate(given)
    ]


def _complain_of_skipped(prepared: "PreparedData") -> None:
    for skipped in prepared.skipped[:SHOWN_SKIPPED]:
        complain("Skipped", f"{skipped.id}: {skipped.reason}")
    if len(prepared.skipped) > SHOWN_SKIPPED:
        complain("Skipped", f"{len(prepared.skipped) - SHOWN_SKIPPED} more; RUN/data.json lists all with reasons.")


def _result(
    run: Path, model: Path, prepared: "PreparedData", last: Mapping[str, float], steps: int, seconds: float
) -> dict[str, Any]:
    from Vox2VecCore.pretraining.manifest import licence_report

    return {
        "run": str(run),
        "model": str(model),
        "steps": steps,
        "scans": len(prepared.scans),
        "skipped": [{"id": s.id, "reason": s.reason} for s in prepared.skipped],
        "licences": licence_report(prepared.scans),
        "seconds": round(seconds, 1),
        "last": dict(last),
    }


def _human(result: dict[str, Any]) -> RenderableType:
    last = result["last"]
    measured = {key: f"{value:.3g}" for key, value in last.items() if key.startswith("probe_")}
    head = facts(
        {
            "Model": result["model"],
            "Trained": f"{result['steps']} steps on {result['scans']} scans, {len(result['skipped'])} skipped",
            **({"Loss": f"{last['loss']:.4g}"} if "loss" in last else {}),
            **{key.replace("_", " ").capitalize(): value for key, value in measured.items()},
            "Curves": str(Path(result["run"]) / CURVES),
            "Next": f"vox2vec embed CT --model {result['model']}",
        }
    )
    return Group(head, "", licence_table(result["licences"]))
