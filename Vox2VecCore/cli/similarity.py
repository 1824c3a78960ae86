"""``vox2vec similarity``: where in a CT does it look like here?"""

from pathlib import Path
from typing import Annotated

import typer

from Vox2VecCore.cli.console import facts, progress, report
from Vox2VecCore.cli.options import (
    DEFAULT_MODEL,
    POINT_METAVAR,
    CacheOption,
    DeviceOption,
    EngineOption,
    FrameOption,
    JsonOption,
    ModelOption,
    PointCommand,
    PointsOption,
    ScanArgument,
    SeriesOption,
    SpaceOption,
    check_output,
    check_picture,
    need_points,
    to_ras,
)
from Vox2VecCore.cli.scans import embed_scan, prepare, read_scan
from Vox2VecCore.errors import Vox2VecError


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("similarity", cls=PointCommand)(similarity)


def similarity(
    ct: ScanArgument,
    point: PointsOption = [],  # noqa: B006  typer reads the default, nobody changes it
    negative: Annotated[
        list[float], typer.Option("--negative", "-n", metavar=POINT_METAVAR, help="A point to look away from.")
    ] = [],  # noqa: B006
    space: SpaceOption = "ras",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The map, on the CT's own grid.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="The map over the CT in three planes.")
    ] = None,
    balance: Annotated[
        float, typer.Option("--balance", min=0, max=1, help="0 looks at the spot itself, 1 at its surroundings.")
    ] = 0.5,
    spread: Annotated[
        bool, typer.Option("--spread", help="Also find what looks like the places found, and so on: a whole spine.")
    ] = False,
    cosine: Annotated[
        bool, typer.Option("--cosine", help="Bare cosine, -1 to 1, instead of percentiles of the body's voxels.")
    ] = False,
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    frame: FrameOption = None,
    series: SeriesOption = None,
    cache: CacheOption = True,
    as_json: JsonOption = False,
) -> None:
    """Map how much every voxel of a CT looks like the given points.

    The map holds percentiles: 99 means that 99 % of the body looks less like the points.
    """
    need_points(point)
    if out is None and picture is None:
        raise Vox2VecError("Nothing would be written: name the map (--out FILE), a picture (--picture FILE), or both.")
    if out is not None:
        from Vox2VecCore.volume_io import WRITABLE

        check_output(out, WRITABLE, ct)
    if picture is not None:
        check_picture(picture, ct)
    setup = prepare(model, device, engine)
    volume = read_scan(ct, frame, series)
    wanted, unwanted = to_ras(point, space, volume), to_ras(negative, space, volume)
    embedded = embed_scan(volume, setup, cache=cache)

    from Vox2VecCore.similarity import similarity_map

    with progress() as bar:
        heat = similarity_map(
            embedded.pyramid,
            wanted,
            unwanted,
            balance=balance,
            spreading=spread,
            calibrated=not cosine,
            progress=bar,
        )
    if out is not None:
        from Vox2VecCore.volume_io import write_volume

        write_volume(heat, out)
    if picture is not None:
        from Vox2VecCore.figures import save, similarity_figure

        save(similarity_figure(volume, heat, wanted, unwanted, percentiles=not cosine), picture)
    report(
        {
            **setup.as_dict(),
            "cached": embedded.cached,
            "seconds": embedded.seconds,
            "positive_ras": wanted,
            "negative_ras": unwanted,
            "balance": balance,
            "spread": spread,
            "unit": "cosine" if cosine else "percentile",
            "map": None if out is None else str(out),
            "picture": None if picture is None else str(picture),
        },
        as_json,
        lambda: facts({name: path for name, path in (("Map", out), ("Picture", picture)) if path is not None}),
    )
