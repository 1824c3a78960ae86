"""The curves of a run: what it minimised, and whether the representation got better meanwhile."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.drawing import BLUE, FAINT, GREEN, ORANGE, PINK, TEXT, chart, finish_chart
from Vox2VecCore.pretraining.config import load_config
from Vox2VecCore.pretraining.log import LOG
from Vox2VecCore.pretraining.run_directory import CONFIG

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = "share"
PANELS: dict[str, dict[str, tuple[str, str]]] = {
    "loss": {
        "loss": ("all", TEXT),
        "contrast": ("same patient", BLUE),
        "match": ("matched patients", ORANGE),
    },
    "matching error, same patient (mm)": {"probe_same_median_mm": ("median", BLUE)},
    SHARES: {
        "probe_same_within_10mm": ("within 10 mm", BLUE),
        "probe_hit_rate": ("organ hit rate", ORANGE),
        "probe_dice_source": ("Dice, same scan", GREEN),
        "probe_dice_target": ("Dice, other patient", PINK),
    },
}
"""Title of every panel, and its columns of the log with names and colours."""


def logs_of(run: Path) -> list[Path]:
    """The logs of a run and of the stages that it began with, as far as they are still there; first stage first."""
    earlier = load_config(run / CONFIG).start_from
    before = logs_of(Path(earlier)) if earlier and (Path(earlier) / CONFIG).is_file() else []
    return [*before, run / LOG]


def curves_figure(logs: Sequence[Path]) -> "Figure":
    """Loss, matching error and few-shot Dice over the steps of a run.

    :param logs: ``log.csv`` of one run, or of its stages one after the other.
    """
    columns, ends = _joined(logs)
    known = {name: np.isfinite(values) for name, values in columns.items()}
    known["match"] = known["match"] & (columns["match"] != 0)  # steps without matched patients
    panels = {title: names for title, names in PANELS.items() if any(known[name].any() for name in names)}
    figure, axes = chart(4.0 * len(panels), 3.6, len(panels))
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for name, (label, colour) in names.items():
            if (shown := known[name]).any():
                marker = "o" if name.startswith("probe_") else ""
                steps, values = columns["step"][shown], columns[name][shown]
                axis.plot(steps, values, color=colour, marker=marker, markersize=4, linewidth=1.2, label=label)
        for end in ends[:-1]:
            axis.axvline(end, color=FAINT, linewidth=0.8, linestyle=":")
        axis.set(xlabel="step", ylabel=title, xlim=(0, 1.02 * ends[-1]))
        axis.set_ylim(0, 1 if title == SHARES else None)
        finish_chart(axis, columns=2)
    return figure


def _joined(logs: Sequence[Path]) -> tuple[dict[str, NDArray[np.float64]], list[float]]:
    """Columns of logs one after the other with steps that go on, NaN where there is no value; last step of each log."""
    rows: list[dict[str, str]] = []
    ends: list[float] = []
    for log in logs:
        with log.open(newline="", encoding="utf-8") as stream:
            own = list(csv.DictReader(stream))
        begin = ends[-1] if ends else 0.0
        rows += [{**row, "step": str(begin + float(row["step"]))} for row in own]
        ends.append(float(rows[-1]["step"]) if own else begin)
    names = ["step", *(name for panel in PANELS.values() for name in panel)]
    return {name: np.array([float(row.get(name) or "nan") for row in rows]) for name in names}, ends
