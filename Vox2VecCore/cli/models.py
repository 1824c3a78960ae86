"""``vox2vec models``: what models are here, and getting more."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table

from Vox2VecCore.cli.console import facts, progress, report, size
from Vox2VecCore.cli.options import JsonOption

if TYPE_CHECKING:
    from Vox2VecCore.model import Model

NameArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Name or directory.", show_default=False)]

group = typer.Typer(help="Models on this computer: list, inspect, import, fetch.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(group, name="models")


@group.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the models that can be named."""
    from Vox2VecCore.model import list_models

    found = [summary(model) for model in list_models()]

    def human() -> RenderableType:
        if not found:
            return "No models here. Get the official one: vox2vec models fetch vox2vec"
        table = Table(box=None, header_style="cyan")
        for heading in ("Name", "Spacing (mm)", "Channels", "Licence", "Folder"):
            table.add_column(heading, overflow="fold")
        for row in found:
            table.add_row(
                row["name"], _times(row["spacing_mm"]), str(row["channels"]), row["licence"], row["directory"]
            )
        return table

    report(found, as_json, human)


@group.command("info")
def info(model: NameArgument, as_json: JsonOption = False) -> None:
    """Say everything about a model, and check that its weights are whole."""
    from dataclasses import asdict

    from Vox2VecCore.model import load_model

    found = load_model(model)
    parameters = sum(parameter.numel() for parameter in found.network().parameters())
    config = found.config
    result = {
        **summary(found),
        "parameters": parameters,
        "window_hu": config.window_hu,
        "patch_shape": config.patch_shape,
        "tile_shape": config.tile_shape,
        "tile_overlap": config.tile_overlap,
        "weights_sha256": config.weights_sha256,
        "architecture": asdict(config.architecture),
        "training": config.training,
    }

    def human() -> RenderableType:
        shape = config.architecture
        return facts(
            {
                "Name": config.name,
                "Folder": found.directory,
                "Licence": config.licence,
                "Grid": f"{_times(config.spacing_mm)} mm, window {config.window_hu[0]:g} to {config.window_hu[1]:g} HU",
                "Network": f"{parameters / 1e6:.2f} M parameters, {shape.num_scales} levels, {shape.norm} norm",
                "Channels": f"{result['channels']} ({' + '.join(map(str, shape.level_channels))})",
                "Tiles": f"{_times(config.tile_shape)} voxels, overlap {_times(config.tile_overlap)}",
                "Statistics": "yes" if result["calibrated"] else "no: 'vox2vec models calibrate' adds them",
                "Weights": f"whole, sha256 {config.weights_sha256}",
                **{f"Training: {key}": value for key, value in config.training.items()},
            }
        )

    report(result, as_json, human)


@group.command("import")
def import_(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Official .pt file of the backbone.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Model directory to make.")],
    name: Annotated[str | None, typer.Option("--name", help="Its name; the directory's when left out.")] = None,
    licence: Annotated[str, typer.Option("--licence", help="Licence of the weights, for the model card.")] = "unknown",
    as_json: JsonOption = False,
) -> None:
    """Turn an official vox2vec checkpoint into a model directory. No code in the file is run."""
    from Vox2VecCore.model_import import import_official

    model = import_official(checkpoint, out, name=name, licence=licence)
    report(summary(model), as_json, lambda: _made("Imported", model))


@group.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="vox2vec or vox2vec-vicreg.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Download official weights from the Hugging Face Hub, check and import them."""
    from Vox2VecCore.model_fetch import fetch_model

    with progress() as bar:
        model = fetch_model(name, progress=bar)
    report(summary(model), as_json, lambda: _made("Ready", model))


@group.command("calibrate")
def calibrate(
    model: NameArgument,
    scans: Annotated[list[Path], typer.Argument(metavar="CT...", help="CTs like those of later use.")],
    as_json: JsonOption = False,
) -> None:
    """Store the statistics of some CTs in a model, so that all its levels count alike in a similarity.

    Official weights come without; embeddings that are in the cache are computed anew afterwards.
    """
    from Vox2VecCore.calibration import calibrate as store_statistics
    from Vox2VecCore.cli.scans import read_scan
    from Vox2VecCore.model import load_model

    found = load_model(model)
    volumes = (read_scan(path) for path in scans)
    with progress() as bar:
        found = store_statistics(found, volumes, progress=bar)
    report(summary(found), as_json, lambda: _made("Calibrated", found))


def summary(model: "Model") -> dict[str, Any]:
    """What a program wants to know about a model."""
    config = model.config
    return {
        "name": model.directory.name,
        "directory": str(model.directory),
        "hash": model.hash,
        "licence": config.licence,
        "spacing_mm": config.spacing_mm,
        "channels": sum(config.architecture.level_channels),
        "calibrated": config.level_statistics is not None,
    }


def _made(what: str, model: "Model") -> RenderableType:
    from Vox2VecCore.cache import folder_bytes

    return facts({what: f"{model.name}, {size(folder_bytes(model.directory))}", "Folder": model.directory})


def _times(values: Any) -> str:
    return " x ".join(f"{value:g}" for value in values)
