"""Starting the viewer: one process, one scene, one page."""

import asyncio
import contextlib
import os
import signal
import socket
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Vox2VecCore.errors import Vox2VecError
from Vox2VecWeb.Access import HEADERS, Access

DEFAULT_PORT = 8765
PORTS_TO_TRY = 20


@dataclass(frozen=True)
class Options:
    """What the viewer starts with.

    :param scan: a CT to open.
    :param followUp: a second CT to compare with.
    :param host: address to listen on; one that others can reach needs a token, which is then made.
    :param port: to listen on; ``None`` takes a free one.
    """

    scan: Path | None = None
    followUp: Path | None = None
    model: str = "vox2vec-small"
    device: str = "auto"
    engine: str = "auto"
    host: str = "127.0.0.1"
    port: int | None = None
    needsToken: bool = False
    openBrowser: bool = True


def freePort(host: str, port: int | None) -> int:
    """The port to listen on.

    :raises Vox2VecError: if the one asked for, or all that were tried, are taken.
    """
    candidates = [port] if port is not None else [*range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TO_TRY), 0]
    reason = ""
    for candidate in candidates:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if os.name == "posix":  # elsewhere this would allow two servers on one port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), candidate))
            except OSError as error:
                reason = error.strerror or str(error)
                continue
            return int(probe.getsockname()[1])
    where, option = (host, "--host") if port is None else (f"{host}, port {port}", "--port")
    raise Vox2VecError(f"Cannot listen on {where}: {reason}. Choose another with {option}.")


def run(options: Options, announce: Callable[[str], Any]) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    :param announce: called with the page's address when it can be opened.
    :raises Vox2VecError: if the port is taken.
    """
    access = Access(options.host, options.needsToken)
    port = freePort(options.host, options.port)
    # trame would read the command line and the environment of whoever started us.
    os.environ["TRAME_ARGS"] = f"--host {options.host} --port {port} --server --timeout 0 --no-ws-compress"
    os.environ["WSLINK_READY_MSG"] = ""
    from trame.app import get_server

    from Vox2VecWeb.Viewer import Viewer

    server = get_server("vox2vec", client_type="vue3")
    for name, value in HEADERS.items():
        server.http_headers.set_header(name, value)
    viewer: list[Viewer] = []

    def bind(webServer: Any) -> None:
        webServer.app.middlewares.append(access.middleware)
        webServer.app._client_max_size = 64 << 30  # uploads are streamed to disk
        webServer.app.add_routes(viewer[0].routes())
        viewer[0].webServer = webServer

    def ready(**_: Any) -> None:
        url = access.url(server.port)
        announce(url)
        if options.openBrowser:
            webbrowser.open(url)

    server.controller.on_server_bind.add(bind)
    server.controller.on_server_ready.add(ready)

    async def serve() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises there, wherever we are
                loop.add_signal_handler(number, task.cancel)
        viewer.append(Viewer(server, options))
        await server.start(
            exec_mode="coroutine",
            host=options.host,
            port=port,
            timeout=0,
            open_browser=False,
            show_connection_info=False,
            disable_logging=True,
        )

    try:
        asyncio.run(serve())
    except (KeyboardInterrupt, SystemExit, asyncio.CancelledError):  # aiohttp ends with any of them
        pass
    finally:
        if viewer:
            viewer[0].close()
