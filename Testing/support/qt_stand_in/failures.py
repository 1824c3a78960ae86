"""Exceptions in slots and observers: Qt and VTK print and swallow them, tests must not."""

import ctypes
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

recorded: list[str] = []
"""Tracebacks since the last :func:`clear`."""


def clear() -> None:
    """Forget what was recorded."""
    recorded.clear()


def record(error: BaseException) -> None:
    """Keep an exception for the end of the test."""
    recorded.append("".join(traceback.format_exception(error)))


def watched(function: Callable[..., Any], arguments: int | None) -> Callable[..., Any]:
    """The function with surplus arguments dropped and its exceptions recorded."""

    def call(*values: Any) -> Any:
        try:
            return function(*(values if arguments is None else values[:arguments]))
        except Exception as error:  # noqa: BLE001 - recorded, and the test fails
            record(error)
            return None

    return call


def keep_constants_alive() -> None:
    """PySide6 6.12 on Python below 3.12 gives back a reference to ``None``, ``True`` or ``False`` with most calls.

    After some ten thousand calls the interpreter would end with "deallocating None". From 3.12 on they cannot die;
    here they get more references than a test run can use up.
    """
    if sys.version_info < (3, 12):
        for constant in (None, True, False):
            ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 40


def install() -> None:
    """Record what no one caught: in the main thread, in finalizers and in observers of VTK."""

    def on_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        record(error)
        sys.__excepthook__(kind, error, trace)

    def on_unraisable(event: Any) -> None:
        record(event.exc_value or RuntimeError(str(event.err_msg)))
        sys.__unraisablehook__(event)

    keep_constants_alive()
    sys.excepthook = on_error
    sys.unraisablehook = on_unraisable
