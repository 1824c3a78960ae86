"""VTK observers that are sure to be removed."""

from collections.abc import Callable
from typing import Any


class Observers:
    """The observers of one controller, by the object that they watch."""

    def __init__(self) -> None:
        self._tags: list[tuple[Any, int]] = []

    def add(self, subject: Any, events: Any, callback: Callable[..., None]) -> None:
        """Call ``callback(caller, event)`` on one event or on each of several."""
        for event in events if isinstance(events, list | tuple) else (events,):
            self._tags.append((subject, subject.AddObserver(event, callback)))

    def remove(self, subject: Any = None) -> None:
        """Remove the observers of an object, or all of them."""
        kept = []
        for watched, tag in self._tags:
            if subject is None or watched is subject:
                watched.RemoveObserver(tag)
            else:
                kept.append((watched, tag))
        self._tags = kept

    def __len__(self) -> int:
        return len(self._tags)
