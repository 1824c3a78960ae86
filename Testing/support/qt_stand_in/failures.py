"""Exceptions in slots and observers: Qt and VTK print and swallow them, tests must not."""

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


def install() -> None:
    """Record what no one caught: in the main thread, in finalizers and in observers of VTK."""

    def on_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        record(error)
        sys.__excepthook__(kind, error, trace)

    def on_unraisable(event: Any) -> None:
        record(event.exc_value or RuntimeError(str(event.err_msg)))
        sys.__unraisablehook__(event)

    sys.excepthook = on_error
    sys.unraisablehook = on_unraisable
