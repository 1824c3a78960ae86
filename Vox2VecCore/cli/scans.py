"""Reading and embedding a scan, the same way in every command."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from Vox2VecCore.cli.console import progress
from Vox2VecCore.cli.options import Device, Engine, Precision
from Vox2VecCore.progress import Progress, ProgressReport

if TYPE_CHECKING:
    from Vox2VecCore.model import Model
    from Vox2VecCore.pyramid import FeaturePyramid
    from Vox2VecCore.volume import Volume


@dataclass(frozen=True)
class Setup:
    """The model and what it runs on."""

    model: "Model"
    device: Device
    engine: Engine
    precision: Precision = "auto"

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"model": self.model.name, "device": self.device, "engine": self.engine}


@dataclass(frozen=True)
class Embedded:
    """A scan's embedding and how it came about."""

    pyramid: "FeaturePyramid"
    cached: bool
    seconds: float


def prepare(model: str, device: Device, engine: Engine, precision: Precision = "auto") -> Setup:
    """Find the model and settle what ``auto`` means, before any scan is read.

    :raises ModelError: if the model cannot be used.
    :raises EngineError: if device and engine are not there or do not go together.
    """
    from Vox2VecCore.engines import choose
    from Vox2VecCore.model import load_model

    return Setup(load_model(model), *choose(device, engine), precision)


def read_scan(path: Path, frame: int | None = None, series: str | None = None) -> "Volume":
    """Read a CT.

    :raises VolumeError: if it cannot be read.
    """
    from Vox2VecCore.volume_io import read_volume

    return read_volume(path, frame=frame, series_uid=series)


def embed_scan(volume: "Volume", setup: Setup, *, cache: bool = True, label: str | None = None) -> Embedded:
    """Embed a scan under a progress bar.

    :param label: names the scan in the bar when there are several.
    """
    from Vox2VecCore.embedding import embed

    stages: set[str] = set()
    with progress(label) as bar:

        def note(moment: ProgressReport) -> None:
            stages.add(moment.stage)
            if bar.on_report is not None:
                bar.on_report(moment)

        start = time.perf_counter()
        pyramid = embed(
            volume,
            setup.model,
            cache=None if cache else False,
            device=setup.device,
            engine=setup.engine,
            precision=setup.precision,
            progress=Progress(note, bar.is_cancelled),
        )
        seconds = time.perf_counter() - start
    # An answer from the cache has no stages.
    return Embedded(pyramid, not stages, round(seconds, 3))
