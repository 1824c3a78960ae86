"""Exploring: points that are pinned, what is shown of them, and where they are found again."""

import time
from typing import Any

from Vox2VecSlicerLib.Colors import DOUBT, LIKENESS, ramp
from Vox2VecSlicerLib.Layout import SOURCE_VIEWS, TARGET_VIEWS
from Vox2VecSlicerLib.Session import Session
from Vox2VecWeb.Page import Page
from Vox2VecWeb.Readout import placeText
from Vox2VecWeb.Scans import intensityAt
from Vox2VecWeb.Viewports import Click, Viewports

SHARED = ("balance", "spreading", "threshold", "opacity", "hover", "view")
LEGEND_STOPS = 9
NAME_ON_DARK = 0.6
"""Darkness behind the name of a point."""
BEFORE_SECONDS, AFTER_SECONDS = 2.0, 0.7
"""How long before and after the page says that a double click has come its halves may come, as single clicks: the map
of the first one is begun in between."""


def gradient(table: str) -> str:
    """A colour table as a CSS gradient, lowest left."""
    colors = ramp(table)
    places = [round(n * (len(colors) - 1) / (LEGEND_STOPS - 1)) for n in range(LEGEND_STOPS)]
    return f"linear-gradient(to right, {', '.join(_css(colors[place]) for place in places)})"


def _css(color: Any) -> str:
    return "rgb({},{},{})".format(*(round(255 * float(c)) for c in color))


class Explore:
    """The section of the page where a voxel is looked for elsewhere."""

    def __init__(self, page: Page, session: Session, viewports: Viewports) -> None:
        self._page = page
        self._session = session
        self._viewports = viewports
        self._pinned: tuple[str, float, Any, str] | None = None
        self._doubleClicked = ("", 0.0)
        state = session.state
        page.show(
            points=[],
            matches=[],
            mapped=False,
            spreadsLater=False,
            legends={"similarity": gradient(LIKENESS), "uncertainty": gradient(DOUBT)},
            **{name: getattr(state, name) for name in SHARED},
        )
        for name in SHARED:
            page.follow(name, lambda value, name=name: setattr(state, name, _like(getattr(state, name), value)))
        page.command("removePoint", self._removePoint)
        page.command("clearPoints", session.points.clear)
        page.command("showPoint", self._showPoint)
        page.command("makeSegment", lambda: session.makeSegment())
        state.changed.connect(self._onState)
        session.pointsChanged.connect(self._onPoints)
        session.similarityUpdated.connect(self._onSimilarity)
        session.matchesUpdated.connect(self._onMatches)

    def click(self, click: Click) -> None:
        """A click in a view: pin a point, and let the other views show its place."""
        session, page = self._session, self._page
        if page.state.tool != "explore" or session.state.volume is None:
            return
        view, when = self._doubleClicked
        if click.view == view and time.monotonic() - when < AFTER_SECONDS:
            return
        scan = session.state.target if click.view in TARGET_VIEWS else session.state.volume
        if scan is None or intensityAt(scan, click.world) is None:
            return  # beside the scan there is nothing to point at
        if click.view in TARGET_VIEWS:
            self._viewports.jump(click.world, TARGET_VIEWS, besides=click.view)
            return
        self._viewports.crosshair.SetCrosshairRAS(*click.world)
        self._viewports.jump(click.world, SOURCE_VIEWS, besides=click.view)
        if not session.isEmbedded(session.state.volume):
            page.say("The scan is not embedded yet; points can be pinned when it is.", "info")
            return
        session.state.view = "similarity"
        node = session.points.negativeNode if click.shift else session.points.positiveNode
        index = (session.points.addNegative if click.shift else session.points.addPositive)(click.world)
        self._pinned = (click.view, time.monotonic(), node, node.GetNthControlPointID(index))

    def takeBack(self, view: str) -> None:
        """The clicks in a view were halves of a double click: the point that the first has pinned is not meant.

        It was pinned without waiting for a second click, which would hold up every map.
        """
        self._doubleClicked = (view, time.monotonic())
        if self._pinned is not None:
            (pinnedIn, when, node, point), self._pinned = self._pinned, None
            index = node.GetNthControlPointIndexByID(point)
            if pinnedIn == view and time.monotonic() - when < BEFORE_SECONDS and index >= 0:
                node.RemoveNthControlPoint(index)

    def forget(self) -> None:
        """Another scan is shown: its points are no longer meant."""
        self._session.points.clear()

    def _lists(self) -> list[tuple[bool, Any]]:
        state = self._session.state
        return [
            (positive, node) for positive, node in ((True, state.positivePoints), (False, state.negativePoints)) if node
        ]

    def _onState(self, name: str) -> None:
        if name in SHARED:
            self._page.show(**{name: getattr(self._session.state, name)})

    def _onPoints(self) -> None:
        rows = []
        for positive, node in self._lists():
            _makeLegible(node)
            for index in range(node.GetNumberOfControlPoints()):
                world = [0.0, 0.0, 0.0]
                node.GetNthControlPointPositionWorld(index, world)
                label = node.GetNthControlPointLabel(index)
                rows.append(
                    {
                        "positive": positive,
                        "index": index,
                        "label": label,
                        "place": placeText(world),
                        "ras": list(world),
                    }
                )
        self._page.show(points=rows)

    def _onSimilarity(self) -> None:
        shown = self._session.similarity.mapOf(self._session.state.volume)
        self._page.show(mapped=shown is not None, spreadsLater=shown is not None and shown.spread is not None)

    def _onMatches(self, *_: Any) -> None:
        node = self._session.targetPointsNode
        if node is not None:
            _makeLegible(node)
        rows = [
            {
                "label": row.label,
                "text": row.text,
                "reliable": row.reliable,
                "place": placeText(row.targetWorld),
                "cycleErrorMm": round(row.cycleErrorMm, 2),
                "ras": [float(v) for v in row.targetWorld],
            }
            for row in self._session.matches
        ]
        if rows and rows != self._page.state.matches and rows[-1]["reliable"]:
            self._viewports.jump(rows[-1]["ras"], TARGET_VIEWS)
        self._page.show(matches=rows)

    def _removePoint(self, positive: bool, index: int) -> None:
        for kind, node in self._lists():
            if kind == positive and 0 <= index < node.GetNumberOfControlPoints():
                node.RemoveNthControlPoint(index)

    def _showPoint(self, world: list[float], target: bool = False) -> None:
        self._viewports.jump(world, TARGET_VIEWS if target else SOURCE_VIEWS)


def _like(example: Any, value: Any) -> Any:
    """A value of the page in the type of another: sliders send text, whole numbers, or numbers."""
    return type(example)(value) if not isinstance(example, bool) else value in (True, "true", "True", 1)


def _makeLegible(node: Any) -> None:
    """Names of points lie on bone and on the colours of the map."""
    display = node.GetDisplayNode()
    if display is not None:
        display.GetTextProperty().SetBackgroundOpacity(NAME_ON_DARK)
