"""What a run writes while it trains: a CSV file always, TensorBoard events if that is installed."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from Vox2VecCore.paths import replace_file

LOG = "log.csv"


class TrainingLog:
    """``log.csv`` in a run directory, one line per report; lines from ``resume_step`` on are dropped first.

    :param run: run directory.
    :param columns: names of the values.
    :param resume_step: step that training goes on from.
    """

    def __init__(self, run: Path, columns: list[str], resume_step: int) -> None:
        self.columns = ["step", *columns]
        self._writer = _event_writer(run / "tensorboard", resume_step)
        path = run / LOG
        kept = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as stream:
                # A killed run may leave a torn last line.
                kept = [
                    row for row in csv.DictReader(stream) if (row["step"] or "").isdigit() and None not in row.values()
                ]
        with replace_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row for row in kept if int(row["step"]) <= resume_step)
        self._stream = path.open("a", newline="", encoding="utf-8")
        self._csv = csv.DictWriter(self._stream, self.columns)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line; columns without a value stay empty."""
        self._csv.writerow({"step": step, **{k: f"{v:.6g}" for k, v in values.items()}})
        self._stream.flush()
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the files."""
        self._stream.close()
        if self._writer is not None:
            self._writer.close()


def _event_writer(folder: Path, resume_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=resume_step + 1 if resume_step else None)
