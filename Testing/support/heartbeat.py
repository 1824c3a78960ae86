"""Whether the thread of the panel is held up: a timer that beats in it."""

import time
from pathlib import Path

from PySide6 import QtCore

MAX_GAP_MS = 50.0
BEAT_MS = 5
WAITING = Path("/proc/thread-self/schedstat")
"""On Linux: for how many ns this thread has run, and for how many it had to wait for a processor."""


class Heartbeat:
    """Longest time between beats of a timer in the UI thread in which this process computed something.

    Other programs hold a busy machine up, too: what counts is not more than the processor time of all our threads, and
    without the time for which the system let the UI thread wait for a processor. So a worker that keeps Python's lock
    is noticed as well as work on the UI thread, and a busy machine is not.
    """

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = self._times()
        self._timer = QtCore.QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT_MS)

    def _beat(self) -> None:
        now = self._times()
        self.gaps.append(1e3 * min(b - a for a, b in zip(self._last, now, strict=True)))
        self._last = now

    @staticmethod
    def _times() -> tuple[float, float]:
        waited = int(WAITING.read_text().split()[1]) / 1e9 if WAITING.exists() else 0.0
        return time.perf_counter() - waited, time.process_time()

    def stop(self) -> float:
        """The longest pause, in ms."""
        self._timer.stop()
        self._beat()
        return max(self.gaps)
