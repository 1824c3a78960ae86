"""What is under the mouse: place, HU, similarity."""

from typing import Any

from Vox2VecSlicerLib.Layout import TARGET_VIEWS
from Vox2VecSlicerLib.Session import Session
from Vox2VecWeb import Scans
from Vox2VecWeb.Page import Page
from Vox2VecWeb.Viewports import LETTERS, Viewports


def placeText(world: Any) -> str:
    """A point as radiologists write it: R 12.0 A 34.5 S 56.0."""
    return "  ".join(f"{LETTERS[axis][int(v > 0)]} {abs(v):.1f}" for axis, v in enumerate(world))


class Readout:
    """Follows the crosshair node, which follows the mouse."""

    def __init__(self, page: Page, session: Session, viewports: Viewports) -> None:
        self._page = page
        self._session = session
        self._viewports = viewports
        page.show(readout=None)

    def tick(self) -> None:
        """Bring the page up to date."""
        self._page.show(readout=self._now())

    def _now(self) -> dict[str, Any] | None:
        cursor = self._viewports.cursor()
        if cursor is None:
            return None
        view, world = cursor
        state = self._session.state
        node = state.target if view in TARGET_VIEWS else state.volume
        if node is None:
            return None
        intensity = Scans.intensityAt(node, world)
        if intensity is None:
            return None
        pinned = node is state.volume and not self._session.hover.isShown  # else the picture shows something else
        shown = self._session.similarityAt(world) if pinned else None
        return {
            "view": view,
            "at": self._viewports.cursorShare(),
            "place": placeText(world),
            "ras": [round(v, 2) for v in world],
            "hu": f"{intensity:.0f} HU",
            "similarity": None if shown is None else round(shown, 1),
        }
