"""Threads of our own: one processor each, and short work does not wait for long work."""

import threading

import pytest
import torch

from Vox2VecCore.separable import in_one_thread, in_threads

SECONDS = 10


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def within_seconds(work):
    """What ``work`` returns, from a thread that may hang."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert found, "it hangs"
    return found[0]


@pytest.mark.parametrize("urgent", [False, True])
def test_each_works_on_one_processor_and_leaves_the_callers_number_alone(two_threads, urgent):
    assert in_threads(lambda _: (torch.ones(9).sum(), torch.get_num_threads())[1], range(4), urgent=urgent) == [1] * 4
    assert torch.get_num_threads() == 2


def test_short_work_within_short_work_is_done_in_place(two_threads):
    assert within_seconds(lambda: in_threads(lambda n: in_one_thread(int, n), range(4), urgent=True)) == [0, 1, 2, 3]


def test_short_work_does_not_queue_behind_a_whole_scan(two_threads):
    gate = threading.Event()
    scan = threading.Thread(target=lambda: in_threads(lambda _: gate.wait(2 * SECONDS), range(4)), daemon=True)
    scan.start()
    try:
        assert within_seconds(lambda: in_one_thread(int, "7")) == 7
        assert scan.is_alive()
    finally:
        gate.set()
        scan.join()
