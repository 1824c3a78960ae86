"""``vox2vec match``: the same places in another scan."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from Vox2VecCore.cli.console import progress, report
from Vox2VecCore.cli.options import (
    DEFAULT_MODEL,
    SCAN_HELP,
    CacheOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    ModelOption,
    PointCommand,
    PointsOption,
    Space,
    SpaceOption,
    check_picture,
    from_ras,
    need_points,
    to_ras,
)
from Vox2VecCore.cli.scans import embed_scan, prepare, read_scan


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("match", cls=PointCommand)(match)


def match(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help=SCAN_HELP, show_default=False)],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The CT to find the points in.", show_default=False)],
    point: PointsOption = [],  # noqa: B006  typer reads the default, nobody changes it
    space: SpaceOption = "ras",
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Source and target side by side.")
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    source_frame: Annotated[int | None, typer.Option(metavar="N", help="Frame of a 4D source, from 0.")] = None,
    target_frame: Annotated[int | None, typer.Option(metavar="N", help="Frame of a 4D target, from 0.")] = None,
    source_series: Annotated[str | None, typer.Option(metavar="UID", help="Series of a DICOM folder.")] = None,
    target_series: Annotated[str | None, typer.Option(metavar="UID", help="Series of a DICOM folder.")] = None,
    cache: CacheOption = True,
    as_json: JsonOption = False,
) -> None:
    """Find points of SOURCE in TARGET, a scan of the same or another patient, and say which ones to trust."""
    need_points(point)
    if picture is not None:
        check_picture(picture, source, target)
    setup = prepare(model, device, engine)
    here = read_scan(source, source_frame, source_series)
    points = to_ras(point, space, here)
    there = read_scan(target, target_frame, target_series)
    a = embed_scan(here, setup, cache=cache, label="Source").pyramid
    b = embed_scan(there, setup, cache=cache, label="Target").pyramid

    from Vox2VecCore.matching import match_points

    with progress() as bar:
        matches = match_points(a, b, points, progress=bar)
    if picture is not None:
        from Vox2VecCore.figures import match_figure, save

        save(match_figure(here, there, matches), picture)

    def human() -> Table:
        unit = "voxel" if space == "ijk" else f"mm {space.upper()}"
        table = Table(box=None, header_style="cyan")
        for heading in (f"Source ({unit})", f"Target ({unit})", "Similarity", "There and back", "Reliable"):
            table.add_column(heading, justify="right", no_wrap=True)
        for found in matches:
            table.add_row(
                _text(from_ras(found.source_ras, space, here), space),
                _text(from_ras(found.target_ras, space, there), space),
                f"{found.similarity:.3f}",
                f"{found.cycle_error_mm:.1f} mm",
                "yes" if found.reliable else "no",
            )
        return table

    report([found.as_dict() for found in matches], as_json, human)


def _text(point: tuple[float, float, float], space: Space) -> str:
    return "  ".join(f"{value:.1f}" for value in point)
