"""What the page says of work that takes a while: what it is, how far it is, how long it will take."""

import time
from typing import Any

from Vox2VecSlicerLib.Session import Session
from Vox2VecWeb.Page import Page

UNSEEN_SECONDS = 0.4
"""What is done by then is not mentioned: the panel would jump at every click."""
UNASKED = "Looking at this computer"
SPREADING = "Preparing to spread similarity"
"""Of this the legend tells when somebody waits for it."""


class Waiting:
    """Follows the worker.

    :ivar reading: what is being read or written outside the worker, empty when nothing is.
    """

    def __init__(self, page: Page, session: Session) -> None:
        self._page = page
        self._session = session
        self.reading = ""
        self._title, self._began = "", 0.0
        self._stage, self._stageBegan = "", 0.0
        page.show(progress=None)

    def tick(self) -> None:
        """Bring the page up to date."""
        self._page.show(progress=self._now())

    def _embeds(self) -> bool:
        """Whether a scan is being embedded, perhaps between two steps of which something else is done."""
        session = self._session
        scans = (session.state.volume, session.state.target)
        return any(each is not None and session.embeddings.isUnderWay(each) for each in scans)

    def _now(self) -> dict[str, Any] | None:
        progress = self._session._worker.progress
        if progress is None or progress.title == UNASKED:
            self._title = ""
            return {"title": self.reading, "stage": "", "percent": None, "left": ""} if self.reading else None
        if progress.title == SPREADING:
            return self._page.state.progress if self._embeds() else None
        now = time.monotonic()
        if progress.title != self._title:
            self._title, self._began = progress.title, now
        if progress.stage != self._stage:
            self._stage, self._stageBegan = progress.stage, now
        if now - self._began < UNSEEN_SECONDS:
            return None
        # A scan may be a single step, as the chest of the demo is: then nothing can be reckoned from its pace.
        left, sofar = progress.secondsLeft, now - self._stageBegan
        text = f"{left:.0f} s left" if left is not None else f"{sofar:.0f} s so far" if sofar >= 1 else ""
        return {
            "title": progress.title,
            "stage": progress.stage,
            "percent": round(100 * progress.fraction),
            "left": text,
        }
