"""``vox2vec evaluate``: what an embedding is good for, in figures beside their references."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from Vox2VecCore.cli.console import complain, facts, progress, report
from Vox2VecCore.cli.options import DEFAULT_MODEL, DeviceOption, EngineOption, JsonOption, ModelOption


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    data: Annotated[
        list[Path],
        typer.Option("--data", metavar="FILE", help="Manifest, or folder of --task's data set; may be repeated."),
    ],
    protocol: Annotated[
        list[str],
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="match, retrieval; linear, nonlinear, finetune, scratch; repeat it for several.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="REPORT", help="Folder for the report and its figures.")],
    model: ModelOption = DEFAULT_MODEL,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Scans of this split; all but 'train' when left out.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(metavar="FILE", help='Names of label values, JSON: {"1": "spleen", ...}.')
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Structures to segment: btcv, msd_task03_liver, ..., or a file like these."),
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings, TOML or YAML; strict keys.")] = None,
    change: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, most_pairs=5 say.")
    ] = [],  # noqa: B006  typer reads the default, nobody changes it
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted evaluation.")] = False,
    root: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder that paths in manifests count from.")] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Evaluate a model on labelled scans and write a report.

    match: places found again in a disturbed copy of the same scan. retrieval: organs found in other patients, and
    segmentation from 100 voxels an organ. Each beside hand-made features, the untrained network, and chance.

    linear, nonlinear: a head on the frozen backbone, both trained side by side. finetune: a linear head, the backbone
    joins after a warm-up. scratch: the same network and head without pretraining. All as published unless --set or
    --config say otherwise (patch, batch, steps, epochs, learning_rate, folds, labelled=[1,2,5,0], seeds, ...). Dice,
    surface Dice at 2 mm and 95 % surface distance on every scan's own grid; an interrupted run goes on with --resume.
    """
    from Vox2VecCore.evaluation.protocols import evaluate as run
    from Vox2VecCore.evaluation.request import EvaluationRequest, select_scans
    from Vox2VecCore.evaluation.tasks import load_task
    from Vox2VecCore.fewshot.stroke_files import read_names
    from Vox2VecCore.model import load_model

    request = EvaluationRequest(
        model=load_model(model),
        entries=select_scans(data, split, root, None if task is None else load_task(task).layout),
        protocols=list(dict.fromkeys(protocol)),
        out=out,
        names={} if names is None else {value: each.name for value, each in read_names(names).items()},
        config=config,
        overrides=change,
        seed=seed,
        device=device,
        engine=engine,
        resume=resume,
        task=task,
    )
    if request.seen_in_pretraining:
        seen = ", ".join(request.seen_in_pretraining[:3])
        complain("Warning", f"{request.model.name} was trained on {seen}; figures on such scans flatter it.")
    with progress() as bar:
        found = run(request, bar)

    def human() -> RenderableType:
        parts: list[RenderableType] = []
        for one in found.tables:
            table = Table(title=one.title, title_justify="left", title_style="bold", box=None, header_style="cyan")
            for heading in one.headings:
                table.add_column(heading)
            for row in one.shown():
                table.add_row(*row)
            parts += [table, ""]
        return Group(*parts, facts({"Report": out}))

    report({"report": str(out), **found.as_dict()}, as_json, human)
