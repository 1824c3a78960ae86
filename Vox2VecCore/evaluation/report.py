"""The report of an evaluation: Markdown for people, CSV for spreadsheets, JSON for programs."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from Vox2VecCore.evaluation.errors import EvaluationError
from Vox2VecCore.paths import new_folder

MARKDOWN, CSV, JSON = "report.md", "report.csv", "report.json"


@dataclass(frozen=True)
class Table:
    """A table of the report; numbers are rounded when it is shown.

    :param rows: texts and numbers, one per heading.
    :param decimals: of numbers.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    decimals: int = 2

    def shown(self) -> list[list[str]]:
        """The rows as texts; a number that is not there is a dash."""
        return [[value if isinstance(value, str) else self._number(value) for value in row] for row in self.rows]

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [list(self.headings), ["---"] * len(self.headings), *self.shown()]
        return f"### {self.title}\n\n" + "".join("| " + " | ".join(line) + " |\n" for line in lines)

    def _number(self, value: float) -> str:
        return f"{value:.{self.decimals}f}" if math.isfinite(value) else "-"


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    :param facts: model, scans, seed, versions and settings, for JSON and the head of the text.
    :param tables: what people read first.
    :param results: every single number with what it belongs to; one CSV line each, the same keys in all.
    :param notes: how to read it; one paragraph each.
    """

    title: str
    facts: Mapping[str, Any]
    tables: Sequence[Table]
    results: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """For JSON; numbers that are not there are ``None``."""
        summary = {
            table.title: [dict(zip(table.headings, map(_finite, row), strict=True)) for row in table.rows]
            for table in self.tables
        }
        results = [{key: _finite(value) for key, value in row.items()} for row in self.results]
        return {"title": self.title, **self.facts, "summary": summary, "results": results}

    def markdown(self) -> str:
        """The report as Markdown."""
        head = [f"- {key.replace('_', ' ')}: {_text(value)}\n" for key, value in self.facts.items()]
        parts = [f"# {self.title}\n", "".join(head), *(t.markdown() for t in self.tables), *self.notes]
        return "\n".join(part if part.endswith("\n") else part + "\n" for part in parts)


def check_new(out: Path) -> None:
    """Refuse a folder that is taken, before the long work starts.

    :raises EvaluationError: if it exists.
    """
    if out.exists():
        raise EvaluationError(f"{out} exists already; choose another folder for the report, or remove it.")


def write_report(report: Report, out: Path) -> None:
    """Write the three files into a new folder, all or none of them.

    :raises EvaluationError: if the folder cannot be written.
    """
    try:
        with new_folder(out) as folder:
            write_files(report, folder)
    except OSError as error:
        raise EvaluationError(f"{out}: cannot be written ({error.strerror}); check space and rights.") from error


def write_files(report: Report, folder: Path) -> None:
    """Write the three files into a folder that is there; JSON last, for its presence says that all is done."""
    (folder / MARKDOWN).write_text(report.markdown(), encoding="utf-8")
    with (folder / CSV).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(report.results[0]) if report.results else [])
        writer.writeheader()
        writer.writerows(report.results)
    (folder / JSON).write_text(readable_json(report.as_dict()) + "\n", encoding="utf-8")


def readable_json(value: Any, indent: str = "") -> str:
    """JSON with one line for every record: for whatever holds nothing that itself holds something."""
    containers = (dict, list, tuple)
    parts = list(value.values() if isinstance(value, dict) else value) if isinstance(value, containers) else []
    if not any(isinstance(part, containers) for part in parts):
        return json.dumps(value, allow_nan=False)
    inner = f"{indent} "
    lines = [readable_json(part, inner) for part in parts]
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {line}" for key, line in zip(value, lines, strict=True)]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(lines) + f"\n{indent}{closing}"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
