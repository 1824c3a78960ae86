"""Ctrl-C, requests to terminate, closed terminals: a running job stops where it next asks, anything else at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(BaseException):
    """Raised where the program is when it must stop at once; not an ``Exception``, so that nothing swallows it."""


class Stop:
    """Whether somebody asked this process to stop.

    While a job polls :meth:`requested` the first signal only leaves a note for it, so that it ends where it can;
    the second signal, or one at any other time, unwinds the program where it is. While it unwinds and removes
    what is half done, further signals change nothing.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._polled = False
        self._unwinding = False

    @property
    def exit_code(self) -> int:
        """What shells expect of a process that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self._signal or signal.SIGINT)

    def requested(self) -> bool:
        """Whether to stop; for :class:`~Vox2VecCore.progress.Progress`."""
        self._unwinding = self._signal is not None
        return self._unwinding

    @contextmanager
    def polled(self) -> Iterator[None]:
        """For as long as a job runs that asks :meth:`requested`."""
        self._polled = True
        try:
            yield
        finally:
            self._polled = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over, and give them back afterwards.

        Signals that are ignored stay so (``nohup``, background jobs), and threads other than the main one get none.
        """
        self._signal, self._unwinding = None, False
        before = {number: signal.getsignal(number) for number in SIGNALS}
        if threading.current_thread() is not threading.main_thread():
            before = {}
        taken = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
        for number in taken:
            signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number, handler in taken.items():
                signal.signal(number, handler)

    @staticmethod
    def ignore_from_now() -> None:
        """For a process that is ending: a further signal would take away its exit code."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._unwinding:
            return
        first, self._signal = self._signal is None, number
        if not (first and self._polled):
            self._unwinding = True
            raise Interrupted


STOP = Stop()
