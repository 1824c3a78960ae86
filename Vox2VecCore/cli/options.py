"""Options that several commands share, and how points and output files are checked."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperOption

from Vox2VecCore.errors import PointError, Vox2VecError

if TYPE_CHECKING:
    from Vox2VecCore.volume import Volume

# The names of devices and engines, and the default model, are repeated here because the modules that own them
# import PyTorch, for which --help should not wait. A test holds them together.
Device = Literal["auto", "cpu", "cuda", "mps"]
Engine = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "single", "half"]
Space = Literal["ras", "lps", "ijk"]
DEFAULT_MODEL = "vox2vec-small"

Point = tuple[float, float, float]

SCAN_HELP = "A CT: NIfTI, NRRD or MHA file, or DICOM folder."
POINT_METAVAR = "X Y Z"
POINT_OPTIONS = ("point", "negative")

ScanArgument = Annotated[Path, typer.Argument(metavar="CT", help=SCAN_HELP, show_default=False)]
ModelOption = Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help="Name or directory of a model.")]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where PyTorch runs.")]
EngineOption = Annotated[Engine, typer.Option("--engine", help="auto takes OpenVINO on a CPU when it is installed.")]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision", help="half is faster on hardware that computes with it; auto: half there, single elsewhere."
    ),
]
FrameOption = Annotated[int | None, typer.Option("--frame", metavar="N", help="Which frame of a 4D file, from 0.")]
SeriesOption = Annotated[str | None, typer.Option("--series", metavar="UID", help="Which series of a DICOM folder.")]
SpaceOption = Annotated[
    Space, typer.Option("--space", help="What points are given in: millimetres RAS or LPS, or voxel indices.")
]
# A list of three numbers each; see PointCommand.
PointsOption = Annotated[
    list[float], typer.Option("--point", "-p", metavar=POINT_METAVAR, help="A point; may be repeated.")
]
CacheOption = Annotated[bool, typer.Option("--cache/--no-cache", help="Keep embeddings for the next time.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the result to stdout as JSON.")]


class PointCommand(TyperCommand):
    """A command whose points take three values and may be repeated, which Typer cannot say but its parser can do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for parameter in self.params:
            if isinstance(parameter, TyperOption) and parameter.name in POINT_OPTIONS:
                parameter.nargs = 3


def to_ras(points: Sequence[Any], space: Space, volume: "Volume") -> list[Point]:
    """Points given in ``space`` in RAS millimetres.

    :raises PointError: if one lies outside the scan.
    """
    from Vox2VecCore.grid import ModelGrid

    if not points:
        return []
    if space == "ijk":
        ras = volume.to_ras(points).tolist()
    else:
        sign = -1.0 if space == "lps" else 1.0
        ras = [(sign * x, sign * y, z) for x, y, z in points]
    # The grid knows what lies outside a scan; asking it now saves waiting for the embedding first.
    ModelGrid(volume.shape, volume.affine, volume.shape, volume.affine).nearest_voxels(ras)
    return [(x, y, z) for x, y, z in ras]


def from_ras(point: Sequence[float], space: Space, volume: "Volume") -> Point:
    """A point in RAS millimetres in ``space``."""
    x, y, z = (float(value) for value in (volume.to_ijk([point])[0] if space == "ijk" else point))
    return (-x, -y, z) if space == "lps" else (x, y, z)


def need_points(points: Sequence[Any]) -> None:
    """Say so when ``--point`` was left out.

    :raises PointError: if there is none.
    """
    if not points:
        raise PointError("At least one point is needed: --point X Y Z.")


def check_picture(path: Path, *inputs: Path) -> None:
    """:func:`check_output` for a picture.

    :raises MissingExtraError: if matplotlib is not installed.
    """
    from Vox2VecCore.drawing import PICTURES, need_matplotlib

    need_matplotlib()
    check_output(path, PICTURES, *inputs)


def check_output(path: Path, suffixes: Sequence[str], *inputs: Path) -> None:
    """Refuse a file that could not be written in the end, before the long work starts.

    :param suffixes: what the name may end in.
    :param inputs: files that must not be overwritten.
    :raises Vox2VecError: if it cannot be written.
    """
    if not path.name.lower().endswith(tuple(suffixes)):
        raise Vox2VecError(f"{path}: the name must end in {', '.join(suffixes)}.")
    if path.is_dir():
        raise Vox2VecError(f"{path}: is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise Vox2VecError(f"{path.parent}: no such folder; create it first.")
    if not os.access(path.parent, os.W_OK):
        raise Vox2VecError(f"{path.parent}: no permission to write here; choose another folder.")
    if any(path.exists() and path.samefile(given) for given in inputs if given.exists()):
        raise Vox2VecError(f"{path}: is read by this command; choose another name for the result.")
