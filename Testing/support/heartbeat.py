"""Whether the thread of the panel is held up: a timer that beats in it."""

import time

from PySide6 import QtCore

MAX_GAP_MS = 50.0
BEAT_MS = 5


class Heartbeat:
    """Longest time between beats of a timer in the UI thread in which this process computed something.

    Other programs hold a busy machine up, too: what counts is not more than the processor time of all our threads. So
    a worker that keeps Python's lock is noticed as well as work on the UI thread.
    """

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = time.perf_counter(), time.process_time()
        self._timer = QtCore.QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT_MS)

    def _beat(self) -> None:
        now = time.perf_counter(), time.process_time()
        self.gaps.append(1e3 * min(b - a for a, b in zip(self._last, now, strict=True)))
        self._last = now

    def stop(self) -> float:
        """The longest pause, in ms."""
        self._timer.stop()
        return max(self.gaps)
