"""The panel stays usable while a job runs: a heartbeat in the UI thread is never held up by our code."""

import time

import pytest
from PySide6 import QtCore

MAX_GAP_MS = 50.0
BEAT_MS = 5


class Heartbeat:
    """Longest pause between beats of a timer in the UI thread."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QtCore.QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT_MS)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(1e3 * (now - self._last))
        self._last = now

    def stop(self) -> float:
        """The longest pause, in ms."""
        self._timer.stop()
        return max(self.gaps)


def longest_gap(panel, start) -> float:
    """Longest pause while a job runs, the shorter of three runs: other programs hold the machine up too."""
    longest = []
    for _ in range(3):
        start()
        heart = Heartbeat()
        panel.finish()
        panel.breathe(0.1)
        longest.append(heart.stop())
        if longest[-1] < MAX_GAP_MS:
            break
    return min(longest)


def test_heartbeat_notices_a_held_up_thread(panel) -> None:
    heart = Heartbeat()
    panel.breathe(0.05)
    time.sleep(0.12)
    panel.breathe(0.05)
    assert heart.stop() > 100


def test_embedding_leaves_the_panel_free(panel, add_ct, slow_tiles) -> None:
    panel.ui.volumeSelector.setCurrentNode(add_ct())

    def start() -> None:
        panel.session.clearCache()
        panel.session.releaseMemory()
        panel.session.embed()

    start()
    panel.finish()  # the first run imports the engine
    assert longest_gap(panel, start) < MAX_GAP_MS


@pytest.mark.parametrize("parameter", ["balance", "threshold"])
def test_sliders_leave_the_panel_free(panel, embedded, parameter) -> None:
    panel.session.points.addPositive((-28.0, 6.0, 8.0))
    panel.finish()

    def start() -> None:
        for step in range(20):
            setattr(panel.session.state, parameter, step / 20)

    assert longest_gap(panel, start) < MAX_GAP_MS
