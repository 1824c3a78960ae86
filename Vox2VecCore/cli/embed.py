"""``vox2vec embed``: compute the embedding of a CT and keep it in the cache."""

from collections.abc import Sequence

import typer
from rich.console import RenderableType

from Vox2VecCore.cli.console import facts, report, size
from Vox2VecCore.cli.options import (
    DEFAULT_MODEL,
    DeviceOption,
    EngineOption,
    FrameOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    ScanArgument,
    SeriesOption,
)
from Vox2VecCore.cli.scans import embed_scan, prepare, read_scan


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("embed")(embed)


def embed(
    ct: ScanArgument,
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    frame: FrameOption = None,
    series: SeriesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Embed a CT: compute a vector for every voxel, once; later commands on this scan answer from the cache."""
    from Vox2VecCore.cache import folder_bytes

    setup = prepare(model, device, engine, precision)
    done = embed_scan(read_scan(ct, frame, series), setup)
    pyramid = done.pyramid
    folder = pyramid.path
    assert folder is not None
    stored = folder_bytes(folder)
    shape = list(pyramid.grid.shape)
    spacing = [round(float(s), 6) for s in pyramid.grid.spacing_mm]
    result = {
        **setup.as_dict(),
        "cached": done.cached,
        "seconds": done.seconds,
        "shape": shape,
        "spacing_mm": spacing,
        "channels": pyramid.channels,
        "bytes": stored,
        "path": str(folder),
    }

    def human() -> RenderableType:
        how = "found in the cache" if done.cached else f"on {setup.device} with {setup.engine}"
        return facts(
            {
                "Scan": ct,
                "Model": setup.model.name,
                "Embedded": f"{how}, {done.seconds:.1f} s",
                "Grid": f"{_times(shape)} voxels of {_times(spacing)} mm",
                "Channels": pyramid.channels,
                "Cache entry": f"{folder} ({size(stored)})",
            }
        )

    report(result, as_json, human)


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
