"""The one thread: latest wins, cancellation, urgent work between steps, errors said once, a bounded end."""

import threading
import time

import pytest

from Vox2VecCore.errors import Vox2VecError
from Vox2VecSlicerLib.Worker import NOW, SOON, UnexpectedError, Worker


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    assert worker.shutdown()


def finish(worker):
    deadline = time.monotonic() + 20
    while worker.poll(0.02):
        assert time.monotonic() < deadline


def test_work_is_done_elsewhere_and_delivered_here(worker):
    seen = []
    worker.submit("a", "A", lambda _: threading.get_ident(), seen.append)
    finish(worker)
    assert seen and seen[0] != threading.get_ident()
    worker.submit("a", "A", lambda _: threading.get_ident(), seen.append)
    finish(worker)
    assert seen[1] == seen[0], "the thread is kept"


def test_the_latest_request_wins(worker):
    seen, started, go = [], threading.Event(), threading.Event()

    def slow(progress):
        started.set()
        go.wait(10)
        progress.check()
        return "old"

    worker.submit("a", "A", slow, seen.append)
    started.wait(10)
    for name in ("newer", "newest"):
        worker.submit("a", "A", lambda _, name=name: name, seen.append)
    go.set()
    finish(worker)
    assert seen == ["newest"]


def test_a_job_that_heeds_nothing_is_not_delivered_once_cancelled(worker):
    seen, go = [], threading.Event()
    worker.submit("a", "A", lambda _: go.wait(10), seen.append)
    worker.cancel()
    go.set()
    finish(worker)
    assert seen == []


def test_cancel_stops_at_the_next_step(worker):
    steps, started = [], threading.Event()

    def work(progress):
        for step in range(1000):
            steps.append(step)
            started.set()
            progress.step("Counting", step, 1000)
            time.sleep(0.01)

    worker.submit("a", "A", work, lambda _: pytest.fail("delivered"), lambda _: pytest.fail("failed"))
    started.wait(10)
    worker.cancel()
    finish(worker)
    assert len(steps) < 100
    assert worker.progress is None


def test_urgent_work_is_done_between_the_steps_of_less_urgent_one(worker):
    order, started, go = [], threading.Event(), threading.Event()

    def long(progress):
        started.set()
        go.wait(10)
        progress.check()
        order.append("long")

    def soon(progress):
        worker.submit("now", "Now", lambda _: order.append("now"), urgency=NOW)
        worker.submit("also", "Also", lambda _: order.append("also soon"), urgency=SOON)
        progress.check()
        order.append("soon")

    worker.submit("long", "Long", long)
    started.wait(10)
    worker.submit("later", "Later", lambda _: order.append("later"))
    worker.submit("soon", "Soon", soon, urgency=SOON)
    go.set()
    finish(worker)
    assert order == ["now", "soon", "also soon", "long", "later"]


def test_progress_tells_title_stage_and_time_left(worker):
    seen, reported, go = [], threading.Event(), threading.Event()

    def work(progress):
        progress.step("Counting", 0, 4)
        time.sleep(0.02)
        progress.step("Counting", 1, 4)
        reported.set()
        go.wait(10)

    worker.submit("a", "Embedding CT", work)
    reported.wait(10)
    seen.append(worker.progress)
    go.set()
    finish(worker)
    assert (seen[0].title, seen[0].stage, seen[0].fraction) == ("Embedding CT", "Counting", 0.25)
    assert 0 < seen[0].secondsLeft < 5
    assert worker.progress is None


def test_errors_come_once_and_the_thread_lives_on(worker, caplog):
    errors, seen = [], []

    def fail(_):
        raise Vox2VecError("The disk is full.")

    def defect(_):
        raise KeyError("oops")

    def memory(_):
        raise MemoryError

    for topic, work in (("a", fail), ("b", defect), ("c", memory)):
        worker.submit(topic, "Job", work, seen.append, errors.append)
    finish(worker)
    assert [str(errors[0])] == ["The disk is full."]
    assert isinstance(errors[1], UnexpectedError)
    assert "KeyError" in str(errors[1])
    assert "memory is full" in str(errors[2])
    assert len(errors) == 3
    assert "oops" in caplog.text
    worker.submit("a", "A", lambda _: "fine", seen.append)
    finish(worker)
    assert seen == ["fine"]


def test_the_end_is_bounded_even_when_a_job_hangs():
    worker, go = Worker(), threading.Event()
    worker.submit("a", "A", lambda _: go.wait(30))
    begin = time.monotonic()
    assert not worker.shutdown(0.2)
    assert time.monotonic() - begin < 2
    go.set()
    assert worker.shutdown()


def test_a_finished_job_holds_on_to_nothing(worker):
    import weakref

    class Big:
        pass

    big = Big()
    alive = weakref.ref(big)
    worker.submit("a", "A", lambda _, big=big: None)
    finish(worker)
    del big
    assert alive() is None
