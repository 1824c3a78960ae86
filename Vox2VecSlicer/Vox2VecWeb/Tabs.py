"""One tab at a time: two would fight over the size and the slices of the same windows."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from Vox2VecWeb.Page import Page


class Tabs:
    """Which tab works with the scene. Another one is told so, and may take over.

    :param onFirst: called when the first one is there; what takes long would hold up its loading.
    """

    def __init__(self, page: Page, onFirst: Callable[[], None]) -> None:
        self._page = page
        self._onFirst: Callable[[], None] | None = onFirst
        page.show(owner=None)
        page.command("arrive", self.arrive)
        page.command("takeOver", self.takeOver)

    def arrive(self, tab: str) -> None:
        """A tab has been opened or reloaded."""
        self._page.resend()
        if self._page.state.owner is None:
            self.takeOver(tab)

    def takeOver(self, tab: str) -> None:
        """A tab wants to be the one."""
        self._page.show(owner=tab)
        first, self._onFirst = self._onFirst, None
        if first is not None:
            first()

    def leave(self, tab: str) -> None:
        """A tab has been closed or reloaded."""
        if self._page.state.owner == tab:
            self._page.show(owner=None)

    def routes(self) -> list[web.RouteDef]:
        """Where a tab says goodbye: its WebSocket may be closed already."""

        async def leave(request: web.Request) -> web.Response:
            with self._page.state:
                self.leave(request.match_info["tab"])
            return web.Response(text="ok")

        return [web.post("/leave/{tab}", leave)]

    @staticmethod
    def connections(webServer: Any) -> int:
        """Number of tabs that are connected."""
        return sum(len(handler.connections) for handler in webServer._ws_handlers)
