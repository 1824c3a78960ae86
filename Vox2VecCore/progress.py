"""The one way long work talks to whoever started it: progress out, cancellation in."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from Vox2VecCore.errors import Cancelled


@dataclass(frozen=True)
class ProgressReport:
    """A moment of a running job."""

    stage: str
    done: int
    total: int
    seconds_left: float | None
    """Estimated from the pace so far; ``None`` before the first step is done."""

    note: str = ""
    """What else is worth knowing at this moment, such as the speed."""

    @property
    def fraction(self) -> float:
        """Share of the stage that is done, 0 to 1."""
        return self.done / self.total if self.total else 1.0


@dataclass
class Progress:
    """Reports progress of a job and stops it when asked.

    :param on_report: called with a :class:`ProgressReport` in the thread that does the work.
    :param is_cancelled: asked between steps; when it answers true the job raises
        :class:`~Vox2VecCore.errors.Cancelled`.
    """

    on_report: Callable[[ProgressReport], None] | None = None
    is_cancelled: Callable[[], bool] | None = None
    _stage: str | None = field(default=None, init=False, repr=False)
    _started: float = field(default=0.0, init=False, repr=False)
    _first: int = field(default=0, init=False, repr=False)

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Say that ``done`` of ``total`` steps of ``stage`` are finished; a stage may begin with some done before.

        :raises Cancelled: if the user asked for it.
        """
        self.check()
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._started, self._first = stage, now, done
        if self.on_report is not None:
            own = done - self._first
            left = (now - self._started) / own * (total - done) if own else None
            self.on_report(ProgressReport(stage, done, total, left, note))

    def within(self, label: str) -> "Progress":
        """For a part of the job: its stages are reported with a label in front."""
        tell = self.on_report
        if tell is None:
            return Progress(None, self.is_cancelled)
        return Progress(lambda moment: tell(replace(moment, stage=f"{label}: {moment.stage}")), self.is_cancelled)

    def check(self) -> None:
        """Raise :class:`~Vox2VecCore.errors.Cancelled` if the user asked for it."""
        if self.is_cancelled is not None and self.is_cancelled():
            raise Cancelled
