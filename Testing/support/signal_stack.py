"""The stack on which the operating system runs this thread's signal handlers (Linux)."""

import ctypes
from pathlib import Path


class _Stack(ctypes.Structure):
    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack_is_sound() -> bool:
    """Whether this thread has no signal stack of its own, or one whose memory has not been freed."""
    stack = _Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    if stack.pointer is None:
        return True
    ranges = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return any(int(start, 16) <= stack.pointer < int(stop, 16) for start, stop in ranges)
