"""One thread for everything that takes long, and the way of its results back to the main thread.

The thread is started once and kept: graphics libraries keep their plans per thread. It never touches MRML or a
window. Results wait until :meth:`Worker.poll` is called on the main thread, by a timer, an event loop or a test.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from Vox2VecCore.errors import Cancelled, Vox2VecError
from Vox2VecCore.progress import Progress, ProgressReport
from Vox2VecSlicerLib.Texts import tr as _

logger = logging.getLogger("Vox2Vec")
LATER, SOON, NOW = 0, 1, 2
"""How urgent a job is: more urgent ones are done between two steps of one that is under way. What takes seconds and is
soon waited for is not as urgent as the answer to a click."""


class UnexpectedError(Vox2VecError):
    """A defect of ours, met in the worker; its traceback is in the log."""


@dataclass(frozen=True)
class JobProgress:
    """How far the running job is.

    :param title: what the user asked for.
    :param stage: what it is doing now.
    :param fraction: share of the stage that is done, 0 to 1.
    :param secondsLeft: estimate for the stage; ``None`` before its first step is done.
    """

    title: str
    stage: str
    fraction: float
    secondsLeft: float | None


@dataclass(eq=False)
class Job:
    """Work that was handed to the worker.

    :param topic: a newer job of the same topic replaces this one.
    :param title: what the progress is called; without one none is shown.
    :param urgency: :data:`LATER`, :data:`SOON` or :data:`NOW`.
    """

    topic: str
    title: str
    work: Callable[[Progress], Any] | None
    onDone: Callable[[Any], None] | None
    onFailed: Callable[[Vox2VecError], None] | None
    urgency: int
    result: Any = None
    error: Vox2VecError | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Ask the job to stop at its next step; its result is not delivered any more."""
        self._cancelled.set()

    @property
    def isCancelled(self) -> bool:
        """Whether it was asked to stop."""
        return self._cancelled.is_set()


class Worker:
    """The thread and its jobs. All methods are for the main thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._waiting: deque[Job] = deque()
        self._finished: deque[Job] = deque()
        self._unfinished: list[Job] = []  # submitted and not yet delivered; main thread only
        self._wake = threading.Condition()
        self._arrived = threading.Event()
        self._stopping = False
        self._progress: JobProgress | None = None

    def submit(
        self,
        topic: str,
        title: str,
        work: Callable[[Progress], Any],
        onDone: Callable[[Any], None] | None = None,
        onFailed: Callable[[Vox2VecError], None] | None = None,
        *,
        urgency: int = LATER,
    ) -> Job:
        """Do ``work(progress)`` in the thread; the callbacks come from :meth:`poll`. A job of the same topic that is
        waiting or running is cancelled."""
        self.cancel(topic)
        job = Job(topic, title, work, onDone, onFailed, urgency)
        self._unfinished.append(job)
        with self._wake:
            self._waiting.append(job)
            self._wake.notify()
        if self._thread is None or not self._thread.is_alive():
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="vox2vec-worker", daemon=True)
            self._thread.start()
        return job

    def cancel(self, topic: str | None = None) -> None:
        """Cancel the jobs of a topic, or all of them. Returns at once."""
        for job in self._unfinished:
            if topic is None or job.topic == topic:
                job.cancel()

    def poll(self, waitSeconds: float = 0.0) -> bool:
        """Deliver what is finished; returns whether anything is still under way.

        :param waitSeconds: wait so long for the thread when nothing is finished: a moment in which it gets on, where
            the caller's event loop would keep Python's lock.
        """
        if waitSeconds > 0 and not self._finished and self._unfinished:
            self._arrived.wait(waitSeconds)
        self._arrived.clear()
        while self._finished:
            job = self._finished.popleft()
            self._unfinished.remove(job)
            if job.isCancelled:
                continue
            if job.error is not None:
                if job.onFailed is not None:
                    job.onFailed(job.error)
            elif job.onDone is not None:
                job.onDone(job.result)
        return self.busy

    def isBusyWith(self, topic: str) -> bool:
        """Whether a job of a topic is waiting, running or not yet delivered, and not cancelled."""
        return any(job.topic == topic and not job.isCancelled for job in self._unfinished)

    @property
    def busy(self) -> bool:
        """Whether a job is waiting, running or not yet delivered."""
        return bool(self._unfinished)

    @property
    def progress(self) -> JobProgress | None:
        """How far the running job is; ``None`` when there is none or it is cancelled."""
        return self._progress if any(not job.isCancelled for job in self._unfinished) else None

    def shutdown(self, timeoutSeconds: float = 5.0) -> bool:
        """Cancel everything and wait, not longer than asked, for the thread to end; returns whether it has."""
        self.cancel()
        with self._wake:
            self._stopping = True
            self._wake.notify()
        ended = True
        if self._thread is not None:
            self._thread.join(timeoutSeconds)
            ended = not self._thread.is_alive()
        deadline = time.monotonic() + 0.1
        while self.poll() and ended and time.monotonic() < deadline:
            pass
        return ended

    # What follows runs in the thread.

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._stopping:
                    self._wake.wait()
                if self._stopping:
                    self._finished.extend(self._waiting)
                    self._waiting.clear()
                    return
                job = self._mostUrgent()
                self._waiting.remove(job)
            self._do(job)
            del job  # while the thread waits for the next one, it holds on to nothing

    def _do(self, job: Job) -> None:
        before = self._progress
        try:
            if not job.isCancelled and job.work is not None:
                if job.title:
                    self._progress = JobProgress(job.title, job.title, 0.0, None)
                job.result = job.work(Progress(lambda report: self._report(job, report), lambda: self._between(job)))
        except Cancelled:
            job.cancel()
        except Vox2VecError as error:
            job.error = error
        except MemoryError:
            job.error = Vox2VecError(
                _("{job}: this computer's memory is full; close other data or choose a region of interest.").format(
                    job=job.title
                )
            )
        except Exception as error:
            logger.exception("%s failed", job.title)
            job.error = UnexpectedError(
                _(
                    "{job}: something unexpected went wrong ({kind}: {error}); details are in the log. "
                    "Please report it."
                ).format(job=job.title, kind=type(error).__name__, error=error)
            )
        finally:
            job.work = None  # it may hold on to whole scans
            self._progress = before
            self._finished.append(job)
            self._arrived.set()

    def _report(self, job: Job, report: ProgressReport) -> None:
        if job.title:
            self._progress = JobProgress(job.title, report.stage, report.fraction, report.seconds_left)

    def _between(self, job: Job) -> bool:
        """Between two steps of a job: do what is more urgent, then say whether the job is cancelled."""
        while True:
            with self._wake:
                if self._stopping or not self._waiting:
                    break
                other = self._mostUrgent()
                if other.urgency <= job.urgency:
                    break
                self._waiting.remove(other)
            self._do(other)
        return job.isCancelled or self._stopping

    def _mostUrgent(self) -> Job:
        """The first one of those that wait."""
        return max(self._waiting, key=lambda job: job.urgency)
