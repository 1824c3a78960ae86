"""``vox2vec head``: learn a segmentation from strokes, and apply it to many scans."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from Vox2VecCore.cli.console import complain, facts, progress, report, tell
from Vox2VecCore.cli.options import (
    DEFAULT_MODEL,
    CacheOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    PrecisionOption,
    check_output,
)
from Vox2VecCore.cli.scans import Setup, embed_scan, prepare, read_scan
from Vox2VecCore.errors import Cancelled, HeadError, ModelError, Vox2VecError

if TYPE_CHECKING:
    from Vox2VecCore.fewshot.head import Head
    from Vox2VecCore.fewshot.postprocessing import PostProcessing
    from Vox2VecCore.fewshot.results import Results, VolumeTable
    from Vox2VecCore.fewshot.scan_list import Scan
    from Vox2VecCore.volume import Volume

# Repeated from fewshot, so that --help waits for nothing; a test holds them together.
Method = Literal["auto", "prototype", "ridge", "logistic", "mlp"]
Keep = Literal["touching", "largest", "all"]
Format = Literal["nii.gz", "seg.nrrd", "seg.dcm"]
FAILED = 2

OwnModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="Name or directory of a model; left out: the head's own."),
]

group = typer.Typer(help="Segmentation from a few strokes: train a head, apply it to scans.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(group, name="head")


@group.command("train")
def train(
    pairs: Annotated[
        list[Path],
        typer.Argument(metavar="CT STROKES [CT STROKES ...]", help="Scans, each followed by its strokes: a label map."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="HEAD", help="The head, a .safetensors file.")],
    method: Annotated[Method, typer.Option("--method", help="auto picks by the number of labelled voxels.")] = "auto",
    background: Annotated[
        int, typer.Option("--background", min=1, help='Value of strokes that say "not a structure".')
    ] = 1,
    names: Annotated[
        Path | None,
        typer.Option(
            "--names",
            metavar="FILE",
            help='Names of the values, JSON: {"2": "liver"}; or {"2": {"name": "liver", "colour": [0.9, 0.3, 0.3]}}.',
        ),
    ] = None,
    base: Annotated[
        Path | None, typer.Option("--base", metavar="HEAD", help="A head whose strokes count, too.")
    ] = None,
    intensity: Annotated[
        bool, typer.Option("--intensity/--no-intensity", help="Learn from HU as well as from the embedding.")
    ] = True,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Name or directory of a model; left out: the base's own.",
            show_default=DEFAULT_MODEL,
        ),
    ] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    cache: CacheOption = True,
    as_json: JsonOption = False,
) -> None:
    """Learn a segmentation from strokes in one or several scans.

    Strokes: 0 is unlabelled, the background value says "not a structure", every other value is a structure. A few
    lines in each structure and around it are enough.
    """
    import numpy as np

    from Vox2VecCore.fewshot.examples import check_teachable
    from Vox2VecCore.fewshot.head import SUFFIX, Head
    from Vox2VecCore.fewshot.stroke_files import read_names, read_strokes
    from Vox2VecCore.fewshot.training import train_head

    if len(pairs) % 2:
        raise HeadError(f"{pairs[-1]}: has no strokes; give every CT followed by its strokes: CT STROKES CT STROKES.")
    check_output(out, (SUFFIX,), *pairs)
    start = time.perf_counter()
    called = {} if names is None else read_names(names)
    before = None if base is None else Head.load(base)
    strokes = [read_strokes(path, background) for path in pairs[1::2]]
    if before is None:  # said before the long work
        check_teachable(np.concatenate([each.array[each.array != 0] for each, _ in strokes]), background)
    setup = _prepare_for(before, model, device, engine, precision)
    examples, volumes = [], []
    for path, (painted, _) in zip(pairs[::2], strokes, strict=True):
        ct = read_scan(path)
        painted = _brought_to(ct, painted)
        examples.append((embed_scan(ct, setup, cache=cache, label=path.name).pyramid, painted))
        volumes.append(ct)
    described = {each.value: each for _, classes in strokes for each in classes}
    with progress() as bar:
        head = train_head(
            examples,
            method,
            volumes=volumes,
            intensity=intensity if before is None else before.needs_ct,
            classes=[*described.values()],
            background=background,
            names=called,
            base=before,
            progress=bar,
        )
    head.save(out)
    voxels = head.voxels
    result = {
        "head": str(out),
        "method": head.method,
        "note": head.note,
        "model": head.model_name,
        "scans": list(head.scans),
        "classes": [
            {
                "value": each.value,
                "name": each.name,
                "background": each.background,
                "voxels": voxels.get(each.value, 0),
            }
            for each in head.classes
        ],
        "seconds": round(time.perf_counter() - start, 3),
    }

    def human() -> RenderableType:
        table = Table(box=None, header_style="cyan")
        for heading in ("Value", "Class", "Voxels"):
            table.add_column(heading, justify="left" if heading == "Class" else "right")
        for each in head.classes:
            name = f"{each.name} (not a structure)" if each.background else each.name
            table.add_row(str(each.value), name, str(voxels.get(each.value, 0)))
        said = {"Head": out, "Method": f"{head.method} ({head.note})" if head.note else head.method}
        return Group(facts({**said, "Model": head.model_name, "Scans": len(head.scans)}), "", table)

    report(result, as_json, human)


@group.command("apply")
def apply(
    cts: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CT [CT ...]", help="CT files, DICOM folders, or folders of scans.", show_default=False),
    ] = None,
    head_file: Annotated[
        Path, typer.Option("--head", metavar="HEAD", help="The head, from head train or Slicer.", show_default=False)
    ] = ...,  # type: ignore[assignment]
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE_OR_DIR", help="The label map of one scan, or a folder.", show_default=False
        ),
    ] = ...,  # type: ignore[assignment]
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="More scans, from vox2vec manifest.")
    ] = None,
    strokes: Annotated[
        Path | None,
        typer.Option(
            "--strokes", metavar="FILE", help="Strokes in the one scan: they hold, and speak for what is around them."
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of every structure, too.")
    ] = False,
    file_format: Annotated[
        Format,
        typer.Option(
            "--format", help="In a folder; seg.nrrd and seg.dcm (DICOM SEG of DICOM scans) hold names and colours."
        ),
    ] = "nii.gz",
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave scans out whose label map is there and newer than the head.")
    ] = False,
    keep: Annotated[
        Keep,
        typer.Option(
            "--keep", help="Of a structure's parts: those touching its strokes (all without), the largest, or all."
        ),
    ] = "touching",
    smallest: Annotated[
        float, typer.Option("--smallest", min=0, metavar="MM3", help="Parts smaller than this are dropped.")
    ] = 200.0,
    edges: Annotated[bool, typer.Option("--edges/--no-edges", help="Outlines follow the edges of the CT.")] = True,
    holes: Annotated[bool, typer.Option("--fill-holes/--no-fill-holes", help="Fill holes in structures.")] = True,
    model: OwnModelOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    cache: CacheOption = True,
    as_json: JsonOption = False,
) -> int:
    """Segment scans: a label map on each scan's own grid, and volumes in ml.

    One bad scan does not stop the others; it is named at the end, and the exit code is 2. Under torchrun or srun the
    processes share the scans, and the table of volumes. Most exact is a scan with strokes of its own.
    """
    from Vox2VecCore.fewshot.head import Head
    from Vox2VecCore.fewshot.postprocessing import PostProcessing
    from Vox2VecCore.fewshot.results import TABLE, Results, VolumeTable, is_file_name, make_folder
    from Vox2VecCore.fewshot.scan_list import find_scans
    from Vox2VecCore.fewshot.stroke_files import read_known_strokes
    from Vox2VecCore.processes import from_all, own_share

    one_file = is_file_name(out)
    scans = find_scans(cts or [], data, None if one_file else out)
    share = own_share()
    if one_file and len(scans) > 1:
        raise HeadError(f"{out}: is one file, but there are {len(scans)} scans; give a folder.")
    if strokes is not None and len(scans) > 1:
        raise HeadError(f"{strokes}: strokes are painted in one scan, but there are {len(scans)}; give that one alone.")
    head = Head.load(head_file)
    painted = None if strokes is None else read_known_strokes(strokes, head.classes)
    setup = _prepare_for(head, model, device, engine, precision)
    processing = PostProcessing(keep=keep, follow_edges=edges, smallest_mm3=smallest, fill_holes=holes)
    own = share.of(scans)
    made_of = [head_file] if strokes is None else [head_file, strokes]
    if one_file:
        check_output(out, (out.suffix,), *(scan.path for scan in scans), *made_of)
        table = None
    else:
        new = not out.exists()
        make_folder(out)
        _check_apart(scans, out)
        table = VolumeTable(out / TABLE, head.structures, *([scan.name for scan in some] for some in (scans, own)))
    if share.count > 1:
        tell(f"Process {share.rank + 1} of {share.count}: {len(own)} of {len(scans)} scans.")
    job = _Job(head, setup, processing, probabilities, cache, table, painted)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for n, scan in enumerate(own, start=1):
        results = Results(out if one_file else out / f"{scan.name}.{file_format}")
        try:
            found = job.take_up(scan, results) if resume and results.done_since(*made_of) else None
            done.append(found or job.segment(scan, results, _label(scan, n, len(own))))
        except Cancelled:
            raise
        except (Vox2VecError, OSError, MemoryError) as error:
            if len(scans) == 1:
                if table is not None and new:
                    with suppress(OSError):  # something may lie there by now
                        out.rmdir()
                raise
            failed.append({"scan": str(scan.path), "error": str(error) or "not enough memory"})
            complain("Error", _about(scan, failed[-1]["error"]))
            continue
        if len(own) > 1:
            tell(_progress_line(done[-1], n, len(own)))
    result = {"head": str(head_file), **setup.as_dict(), "scans": done, "failed": failed}
    report(result, as_json, lambda: _shown(done, None if table is None else table.path))
    everywhere = from_all(failed, share)
    missing = [each["scan"] for part in everywhere or [failed] for each in part]
    if missing and (everywhere is None or share.rank == 0):
        count = len(own) if everywhere is None else len(scans)
        complain("Error", f"{len(missing)} of {count} scans failed, the others are done: {', '.join(missing)}.")
    return FAILED if missing else 0


@dataclass(frozen=True, eq=False)
class _Job:
    """What is the same for all scans."""

    head: "Head"
    setup: Setup
    processing: "PostProcessing"
    probabilities: bool
    cache: bool
    table: "VolumeTable | None"
    strokes: "Volume | None"

    def segment(self, scan: "Scan", results: "Results", label: str) -> dict[str, Any]:
        """Segment a scan, write its files, and say what was found."""
        from Vox2VecCore.fewshot.segmenting import segment

        start = time.perf_counter()
        results.check(scan.path)
        volume = read_scan(scan.path)
        strokes = None if self.strokes is None else _brought_to(volume, self.strokes)
        pyramid = embed_scan(volume, self.setup, cache=self.cache, label=label).pyramid
        with progress(label) as bar:
            found = segment(
                pyramid, self.head, volume=volume, strokes=strokes, processing=self.processing, progress=bar
            )
        results.write(found, scan.path, probabilities=self.probabilities)
        return self._noted(scan, results, found.volumes_ml(), round(time.perf_counter() - start, 3))

    def take_up(self, scan: "Scan", results: "Results") -> dict[str, Any] | None:
        """What was found before; ``None`` when the files are not complete after all."""
        paths = [results.probability(each.value) for each in self.head.structures] if self.probabilities else []
        if not all(path.is_file() for path in paths):
            return None
        try:
            volumes = results.volumes_ml(self.head.structures)
        except Vox2VecError:  # damaged: it is made again
            return None
        return self._noted(scan, results, volumes, None)

    def _noted(
        self, scan: "Scan", results: "Results", volumes: dict[int, float], seconds: float | None
    ) -> dict[str, Any]:
        from Vox2VecCore.fewshot.classes import told_apart

        if self.table is not None:
            self.table.add(scan.name, volumes)
        return {
            "scan": str(scan.path),
            "labels": str(results.labels),
            "ml": {name: round(volumes[value], 3) for value, name in told_apart(self.head.structures).items()},
            "seconds": seconds,
        }


def _prepare_for(head: "Head | None", model: str | None, device: Any, engine: Any, precision: Any) -> Setup:
    """The model, which has to be a head's own if there is a head.

    :raises ModelError: if it is not.
    """
    setup = prepare(model or (DEFAULT_MODEL if head is None else head.model_name), device, engine, precision)
    if head is not None and setup.model.hash != head.model_hash:
        raise ModelError(
            f"The head was trained with model {head.model_name} (hash {head.model_hash[:8]}), and {setup.model.name} "
            f"has hash {setup.model.hash[:8]}; give the head's own model by --model, or train the head again."
        )
    return setup


def _brought_to(ct: "Volume", strokes: "Volume") -> "Volume":
    """Strokes on a scan's own grid, with a note if they were on another one."""
    from Vox2VecCore.fewshot.stroke_files import on_grid_of

    strokes, note = on_grid_of(ct, strokes)
    if note is not None:
        complain("Note", note)
    return strokes


def _check_apart(scans: Sequence["Scan"], out: Path) -> None:
    for scan in scans:
        if scan.path.absolute().parent.resolve() == out.absolute().resolve():
            raise HeadError(f"{out}: holds the scan {scan.path.name} itself; choose another folder for the results.")


def _label(scan: "Scan", n: int, count: int) -> str:
    return scan.name if count == 1 else f"{n}/{count} {scan.name}"


def _about(scan: "Scan", message: str) -> str:
    return message if str(scan.path) in message else f"{scan.path}: {message}"


def _progress_line(found: dict[str, Any], n: int, count: int) -> str:
    how = "was done before" if found["seconds"] is None else f"{found['seconds']:.1f} s"
    return f"{n}/{count} {found['scan']}: {how}"


def _shown(done: Sequence[dict[str, Any]], table_file: Path | None) -> RenderableType:
    table = Table(box=None, header_style="cyan")
    for heading in ("Scan", "Structure", "ml", "Label map"):
        table.add_column(heading, justify="right" if heading == "ml" else "left", overflow="fold")
    for found in done:
        for n, (name, ml) in enumerate(found["ml"].items()):
            first = n == 0
            table.add_row(
                Path(found["scan"]).name if first else "", name, f"{ml:.1f}", found["labels"] if first else ""
            )
    return table if table_file is None else Group(table, "", facts({"Volumes": table_file}))
