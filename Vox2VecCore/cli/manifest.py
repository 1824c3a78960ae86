"""``vox2vec manifest``: a data set's scans, found by how it lies on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from Vox2VecCore.cli.console import complain, facts, report
from Vox2VecCore.cli.options import JsonOption, check_output
from Vox2VecCore.errors import Vox2VecError

# Repeated from pretraining.layouts, so that --help waits for nothing; a test holds them together.
Layout = Literal["flat", "msd", "nnunet", "btcv", "amos", "flare", "totalseg", "kits", "dicom"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("manifest")(manifest)


def manifest(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the data set.", show_default=False)],
    layout: Annotated[Layout, typer.Option("--layout", help="How the data set lies on disk; dicom for DICOM trees.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The manifest, data.jsonl for instance.")],
    licence: Annotated[str | None, typer.Option(metavar="TEXT", help="Licence of the images, for model cards.")] = None,
    split: Annotated[
        list[str],
        typer.Option(metavar="NAME[=SHARE]", help="One split for all, or several with shares, grouped by patient."),
    ] = [],  # noqa: B006  typer reads the default, nobody changes it
    subject: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Its first group is the patient in a scan's id.")
    ] = None,
    include: Annotated[list[str], typer.Option(metavar="PATTERN", help="Only images like this, below ROOT.")] = [],  # noqa: B006
    exclude: Annotated[list[str], typer.Option(metavar="PATTERN", help="No images like this.")] = [],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Of splits with shares.")] = 0,
    relative: Annotated[
        bool, typer.Option("--relative", help="Paths count from the manifest, to move both together.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the scans of a data set with patients, labels, splits and licence, for pretrain and evaluate.

    No image is opened. A licence report tells what models trained on the data have to respect.
    """
    from Vox2VecCore.pretraining.layouts import build_manifest
    from Vox2VecCore.pretraining.manifest import restrictions, with_paths_from, write_manifest

    check_output(out, (".jsonl",))
    entries = build_manifest(
        root.absolute(), layout, licence=licence, subject=subject, include=include or ["*"], exclude=exclude
    )
    entries = _split(entries, split, seed)
    write_manifest(with_paths_from(entries, out.absolute().parent) if relative else entries, out)

    result = {"manifest": str(out), "layout": layout, **summary(entries)}
    for name in result["licences"]:
        if limits := restrictions(name):
            complain("Warning", f"{name}: {', '.join(limits)}; models trained on these scans inherit the question.")

    def human() -> RenderableType:
        head = facts(
            {
                "Manifest": out,
                "Scans": f"{result['scans']} of {result['subjects']} patients, {result['labelled']} with labels",
                "Splits": ", ".join(f"{name} {count}" for name, count in result["splits"].items()),
            }
        )
        return Group(head, "", licence_table(result["licences"]))

    report(result, as_json, human)


def summary(entries: Sequence) -> dict:
    """What a manifest holds, in numbers."""
    from collections import Counter

    from Vox2VecCore.pretraining.manifest import licence_report

    return {
        "scans": len(entries),
        "subjects": len({entry.subject for entry in entries}),
        "labelled": sum(entry.labels is not None for entry in entries),
        "splits": dict(sorted(Counter(entry.split or "none" for entry in entries).items())),
        "licences": licence_report(entries),
    }


def licence_table(licences: dict[str, int]) -> Table:
    """Scans per licence, and what it is known to restrict."""
    from Vox2VecCore.pretraining.manifest import restrictions

    table = Table(box=None, header_style="cyan")
    for heading in ("Licence", "Scans", "Restricts"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "Scans" else "left")
    for name, count in licences.items():
        table.add_row(name, str(count), ", ".join(restrictions(name)) or "-")
    return table


def _split(entries: list, wanted: Sequence[str], seed: int) -> list:
    from dataclasses import replace

    from Vox2VecCore.pretraining.manifest import split_by_subject

    shares = dict(text.partition("=")[::2] for text in wanted)
    if len(shares) < len(wanted) or not all(name.strip() for name in shares):
        raise Vox2VecError("Every --split needs a name of its own, such as --split train=0.8 --split test=0.2.")
    if not shares:
        return entries
    if len(shares) == 1 and not next(iter(shares.values())):
        return [replace(entry, split=next(iter(shares))) for entry in entries]
    try:
        fractions = {name: float(share) for name, share in shares.items()}
    except ValueError:
        raise Vox2VecError(
            "Several splits need a share each: --split train=0.8 --split test=0.2; one for all needs none."
        ) from None
    return split_by_subject(entries, fractions, seed)
