"""``vox2vec view``: the browser viewer on this computer."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from Vox2VecCore.cli.console import tell
from Vox2VecCore.cli.options import DEFAULT_MODEL, DeviceOption, EngineOption, ModelOption
from Vox2VecCore.errors import MissingExtraError, VolumeError

VIEWER = "Vox2VecWeb"
NEEDED = ("trame_slicer", "slicer", "aiohttp")
CHECKOUT = Path(__file__).resolve().parents[2] / "Vox2VecSlicer"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("view")(view)


def viewer() -> Any:
    """The server of the viewer, which is a package of its own: the core knows it by name only.

    :raises MissingExtraError: if it or what it stands on is not installed.
    """
    if CHECKOUT.is_dir() and str(CHECKOUT) not in sys.path:  # run from a checkout that is not installed
        sys.path.append(str(CHECKOUT))
    if any(importlib.util.find_spec(name) is None for name in (VIEWER, *NEEDED)):
        raise MissingExtraError("The browser viewer", "web")
    return importlib.import_module(f"{VIEWER}.Server")


def view(
    ct: Annotated[Path | None, typer.Argument(metavar="[CT]", help="A CT to open.", show_default=False)] = None,
    follow_up: Annotated[Path | None, typer.Option("--follow-up", metavar="CT", help="A second CT.")] = None,
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    port: Annotated[int | None, typer.Option("--port", min=0, max=65535, help="Port; a free one if left out.")] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; beyond this computer a token is needed, and made.")
    ] = "127.0.0.1",
    token: Annotated[bool, typer.Option("--token", help="Ask for a token on this computer, too.")] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
) -> None:
    """Explore a CT in the browser: hover, click, compare, segment. Nothing leaves this computer."""
    for path in (ct, follow_up):
        if path is not None and not path.exists():
            raise VolumeError(f"{path}: no such file or folder; check the path.")
    server = viewer()
    from Vox2VecCore.model import load_model

    load_model(model)  # say what is wrong with it before a page opens
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = server.Options(
        scan=ct,
        followUp=follow_up,
        model=model,
        device=device,
        engine=engine,
        host=host,
        port=port,
        needsToken=token,
        openBrowser=browser,
    )
    server.run(options, lambda url: tell(f"Vox2Vec viewer: {url}  (Ctrl-C ends it)"))
