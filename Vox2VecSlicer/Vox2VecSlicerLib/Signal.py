"""A plain Python signal: whoever draws the user interface connects to it."""

from collections.abc import Callable
from typing import Any


class Signal:
    """Calls everything that is connected, in order; an exception in a callback reaches whoever emitted."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[..., Any]] = []

    def connect(self, callback: Callable[..., Any]) -> None:
        """Call ``callback`` with the arguments of every :meth:`emit` from now on."""
        self._callbacks.append(callback)

    def disconnect(self, callback: Callable[..., Any]) -> None:
        """Undo :meth:`connect`; a callback that is not connected is no error."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def emit(self, *arguments: Any) -> None:
        """Call the callbacks."""
        for callback in list(self._callbacks):
            callback(*arguments)
