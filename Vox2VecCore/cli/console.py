"""What the command line shows: results on stdout, progress, warnings and errors on stderr."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from Vox2VecCore.cli.interruption import STOP
from Vox2VecCore.progress import Progress, ProgressReport

PIPED_WIDTH = 200
LOG_EVERY_S = 10.0


def report(data: Any, as_json: bool, human: Callable[[], RenderableType]) -> None:
    """Write a result to stdout, for a program or for a person."""
    if as_json:
        sys.stdout.write(json.dumps(_finite(data), indent=1, allow_nan=False) + "\n")
    else:
        show(human())


def show(result: RenderableType) -> None:
    """Write something to stdout for a person; tables are as wide as they need where there is no terminal."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(result)


def complain(kind: str, message: str) -> None:
    """One line on stderr, whatever line breaks and brackets are in the message."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    style = "bold red" if kind == "Error" else "yellow"
    console.print(f"{kind}: ", style=style, end="")
    console.print(" ".join(message.split()))


@contextmanager
def progress(label: str | None = None) -> Iterator[Progress]:
    """A job's progress: a bar with the time left on a terminal; elsewhere a line now and then, none in short jobs.

    Ctrl-C within it stops the job at its next step.

    :param label: put before the stage, to tell several scans apart.
    """
    console = Console(stderr=True)
    prefix = f"{label}: " if label else ""
    with STOP.polled():
        if console.is_terminal:
            with _bar(console) as bar:
                yield Progress(_on_bar(bar, prefix), STOP.requested)
        else:
            yield Progress(_on_lines(console, prefix), STOP.requested)
    if STOP.requested():  # it came after the last step: what follows must not start
        from Vox2VecCore.errors import Cancelled

        raise Cancelled


def _bar(console: Console) -> Bar:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(complete_style="cyan", finished_style="cyan"),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}", style="dim"),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    return Bar(*columns, console=console, transient=True)


def _on_bar(bar: Bar, prefix: str) -> Callable[[ProgressReport], None]:
    task = bar.add_task(prefix + "Starting", total=None, left="", note="")

    def show(moment: ProgressReport) -> None:
        left, description = _time_left(moment.seconds_left), prefix + moment.stage
        bar.update(
            task, description=description, total=moment.total, completed=moment.done, left=left, note=moment.note
        )

    return show


def _on_lines(console: Console, prefix: str) -> Callable[[ProgressReport], None]:
    last = time.monotonic()

    def show(moment: ProgressReport) -> None:
        nonlocal last
        if moment.done < moment.total and time.monotonic() - last >= LOG_EVERY_S:
            last = time.monotonic()
            share = f"{int(100 * moment.fraction)}%"
            line = " ".join(filter(None, [prefix + moment.stage, share, _time_left(moment.seconds_left), moment.note]))
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return show


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{math.ceil(seconds)} s left"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min left" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min left"


def facts(rows: dict[str, object]) -> Table:
    """A tidy two-column table of names and values, without lines."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table


def size(count: float) -> str:
    """Bytes for people: ``"1.5 GB"``."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:.3g} GB" if count < 1000 else f"{count:.0f} GB"


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become ``null``."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def tell(message: str) -> None:
    """One line on stderr for a person, as it is."""
    Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True).print(message)
