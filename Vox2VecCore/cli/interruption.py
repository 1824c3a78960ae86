"""Ctrl-C, requests to terminate, closed terminals: a running job stops where it next asks, anything else at once."""

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from Vox2VecCore.errors import Cancelled

IMPORTING = "<frozen importlib._bootstrap>"
LOOK_AGAIN_S = 0.02
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(BaseException):
    """Raised where the program is when it must stop at once; not an ``Exception``, so that nothing swallows it."""


class Stop:
    """Whether somebody asked this process to stop.

    The first signal only leaves a note while a job polls :meth:`requested`, so that it ends where it can; and while
    Python imports something it waits for the end of that, because what is raised in it may get lost (in
    ``importlib``'s own callbacks) or end the process with a dump (in a library's start-up code). A second signal, or
    one at any other time, unwinds the program where it is. While it unwinds and removes what is half done, further
    signals change nothing.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._listening = False
        self._polled = False
        self._unwinding = False

    def requested(self) -> bool:
        """Whether to stop; for :class:`~Vox2VecCore.progress.Progress`."""
        self._unwinding = self._signal is not None
        return self._unwinding

    def cancelled(self) -> int:
        """Say that nothing was left half done.

        :return: the exit code that shells expect of a process that a signal ended: 130 for Ctrl-C, 143 for SIGTERM.
        """
        sys.stderr.write(f"{Cancelled()}\n")
        return 128 + (self._signal or signal.SIGINT)

    @contextmanager
    def polled(self) -> Iterator[None]:
        """For as long as a job runs that asks :meth:`requested`."""
        self._polled = True
        try:
            yield
        finally:
            self._polled = False

    @contextmanager
    def listening(self, to_the_end: bool = False) -> Iterator[None]:
        """Take the signals over, and give them back afterwards; within such a block another one changes nothing.

        Signals that are ignored stay so (``nohup``, background jobs), and threads other than the main one get none.

        :param to_the_end: for a process that ends with the block: further signals would take away its exit code.
        """
        if self._listening or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._signal, self._unwinding = None, False
        ignored = (signal.SIG_IGN, None)
        taken = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) not in ignored}
        self._listening = True
        for number in taken:
            signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number, handler in taken.items():
                signal.signal(number, signal.SIG_IGN if to_the_end else handler)
            self._listening = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._unwinding:
            return
        first, self._signal = self._signal is None, number
        if first and self._polled:
            return
        if first and _imports(frame):
            _thread.start_new_thread(self._send_again, (number,))  # not threading.Thread, whose locks may be taken
            return
        self._unwinding = True
        raise Interrupted

    def _send_again(self, number: int) -> None:
        """Give the main thread its second signal when it imports no more, unless the job has ended by then."""
        main = threading.main_thread().ident or 0
        time.sleep(LOOK_AGAIN_S)
        while _imports(sys._current_frames().get(main)):
            time.sleep(LOOK_AGAIN_S)
        if self._listening and self._signal == number:
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(main, number)
            else:  # on Windows, where it does not wake a thread that sleeps
                _thread.interrupt_main(signal.Signals(number))


def _imports(frame: FrameType | None) -> bool:
    """Whether what runs in a frame is part of an import."""
    while frame is not None and frame.f_code.co_filename != IMPORTING:
        frame = frame.f_back
    return frame is not None


STOP = Stop()
