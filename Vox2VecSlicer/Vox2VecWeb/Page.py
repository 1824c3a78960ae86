"""The page in the browser: its files, its state, and commands that come from it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from Vox2VecCore.errors import Vox2VecError

logger = logging.getLogger("Vox2Vec")
FOLDER = Path(__file__).parent / "Page"
TITLE = "Vox2Vec"


class Page:
    """State that the page shows, and the commands that it may give.

    :param server: the trame server.
    """

    def __init__(self, server: Any) -> None:
        self.server = server
        self.state = server.state
        files = {
            "serve": {"vox2vec": str(FOLDER)},
            "scripts": ["vox2vec/page.js"],
            "vue_use": ["vox2vec"],
            "styles": ["vox2vec/page.css"],
        }
        server.enable_module(files)
        self.state.trame__title = TITLE
        self.state.trame__favicon = "vox2vec/icon.svg"
        self.state.message = None
        self._known: dict[str, Any] = {}
        self._messages = 0

    def build(self) -> None:
        """Give the page its content; every name that it uses has to be in the state by now."""
        self.state["trame__template_main"] = (FOLDER / "page.html").read_text(encoding="utf-8")

    def routes(self) -> list[web.RouteDef]:
        """What stands in for the client's own shell while it loads: our title, no motion."""
        from trame_client.module import vue3

        index = (Path(vue3.www) / "index.html").read_text(encoding="utf-8")
        index = index.replace("trame is built by Kitware", TITLE).replace("logo.png", "vox2vec/icon.svg")
        index = index.replace("<html ", '<html data-session-manager-url="session" ')
        loading = (FOLDER / "loading.html").read_text(encoding="utf-8")

        def answer(text: str) -> Callable[[web.Request], Any]:
            async def handler(_request: web.Request) -> web.Response:
                return web.Response(text=text, content_type="text/html")

            return handler

        async def session(request: web.Request) -> web.Response:
            """Where the client finds its WebSocket; it would look for a launcher elsewhere and complain."""
            scheme = "wss" if request.scheme == "https" else "ws"
            return web.json_response({"sessionURL": f"{scheme}://{request.host}/ws", "secret": "wslink-secret"})

        return [
            web.get("/index.html", answer(index)),
            web.get("/loading.tpl", answer(loading)),
            web.get("/alive", answer("yes")),
            web.post("/session", session),
        ]

    def show(self, **values: Any) -> None:
        """Change what the page shows; what is shown already is not sent again."""
        for name, value in values.items():
            if name not in self._known or self._known[name] != value:
                self._known[name] = value
                self.state[name] = value

    def resend(self) -> None:
        """Send everything again: what changes while a tab is still connecting does not reach it."""
        self.state.dirty(*self._known)

    def say(self, text: str, kind: str = "error") -> None:
        """Show a sentence until it is closed or replaced.

        :param kind: ``error``, ``warning`` or ``info``.
        """
        self._messages += 1
        self.show(message={"text": text, "kind": kind, "number": self._messages})

    def command(self, name: str, function: Callable[..., Any]) -> None:
        """Let the page call a function; what goes wrong is shown as a sentence."""

        def run(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except (Vox2VecError, ValueError) as error:
                self.say(str(error))
            except Exception as error:
                logger.exception("%s failed", name)
                self.say(f"Something unexpected went wrong ({type(error).__name__}: {error}); details are in the log.")
            return None

        self.server.trigger(name)(run)

    def follow(self, name: str, function: Callable[[Any], Any]) -> None:
        """Call a function when the page changes a value that both sides may change."""

        def run(**values: Any) -> None:
            value = values[name]
            if self._known.get(name) == value:
                return
            self._known[name] = value
            try:
                function(value)
            except (Vox2VecError, ValueError) as error:
                self.say(str(error))

        self.server.state.change(name)(run)
