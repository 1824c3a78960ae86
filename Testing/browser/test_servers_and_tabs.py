"""Two tabs, a server that goes and comes back, and who may not talk to it."""

import contextlib
import http.client
import random
import socket
from pathlib import Path
from typing import Any

import pytest

from Testing.browser.tab import PATIENCE_MS, WINDOW, Tab
from Testing.browser.viewer_process import ViewerProcess
from Testing.support.models import random_model

NOTE_PROGRESS = """(() => {
    const told = (window.told = []), note = (progress) => { if (progress) told.push(progress.title); };
    const begin = setInterval(() => {
        if (!window.trame || !window.trame.state) return;
        clearInterval(begin);
        note(window.trame.state.get("progress"));
        window.trame.state.watch(["progress"], note);
    }, 5);
})();"""


def status(viewer: ViewerProcess, path: str = "/index.html", address: str = "127.0.0.1", **headers: str) -> int:
    """Answer to a request with certain headers."""
    connection = http.client.HTTPConnection(address, viewer.port, timeout=10)
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status


def test_other_sites_and_other_names_are_refused(viewer: ViewerProcess) -> None:
    assert status(viewer) == 200
    assert status(viewer, Host="evil.example") == 403
    assert status(viewer, Origin="http://evil.example") == 403
    assert status(viewer, "/ws", Origin="http://evil.example", Upgrade="websocket", Connection="Upgrade") == 403


def test_a_second_tab_is_told(chromium: Any, viewer: ViewerProcess, tab: Tab) -> None:
    context = chromium.new_context(viewport=WINDOW)
    second = Tab(context.new_page(), viewer.url)
    second.page.wait_for_selector("#other-tab")
    assert tab.page.locator("#other-tab").count() == 0
    second.page.get_by_role("button", name="Use it here").click()
    second.page.wait_for_selector("#other-tab", state="detached")
    tab.page.wait_for_selector("#other-tab")
    second.page.wait_for_selector("[data-view=Red]")
    assert second.complaints == []
    context.close()
    tab.page.get_by_role("button", name="Use it here").click()
    tab.page.wait_for_selector("#other-tab", state="detached")


def test_a_server_that_dies_comes_back(chromium: Any, cache: Path, chest: Path, shifted: Path, tmp_path: Path) -> None:
    """The first one listens to others, too, and opens a scan by path; the second is started with both scans."""
    model = random_model(tmp_path, statistics=True).directory
    options = ("--host", "0.0.0.0", "--port", quietPort(), "--no-browser", "--model", model)
    viewer = ViewerProcess(cache, tmp_path / "first.log", *options)
    context = chromium.new_context(viewport=WINDOW)
    reached_from_elsewhere(context, viewer)
    found = Tab(context.new_page(), viewer.url)
    found.page.wait_for_selector(".welcome")
    found.shot("welcome")
    assert not viewer.opened.exists(), "--no-browser"
    found.page.locator("[name=path]").fill(str(chest))
    found.page.keyboard.press("Enter")
    found.until("get('scan') && get('scan').name === 'chest' && get('embedded')")
    assert found.page.locator("#model").input_value() == str(model)
    assert found.complaints == []
    viewer.kill()
    found.page.wait_for_selector("#gone.shown")
    found.shot("gone")

    found.page.add_init_script(NOTE_PROGRESS)
    again = ViewerProcess(cache, tmp_path / "second.log", chest, "--follow-up", shifted, "--port", viewer.port)
    found.page.wait_for_selector("#gone.shown", state="detached", timeout=PATIENCE_MS)
    found.page.wait_for_selector(".v2v", timeout=PATIENCE_MS)
    found.until("get('layout') === 'rows' && get('embedded') && get('followUpEmbedded')")
    assert found.page.evaluate("window.told[0]") == "Reading chest", "the page is there before the scan"
    context.close()
    assert again.opened.read_text().split() == [again.url], "without --no-browser the page opens by itself"
    assert again.stop() == 0
    assert again.errors() == ""


def reached_from_elsewhere(context: Any, viewer: ViewerProcess) -> None:
    """By another address of this computer, as from another one: without the token nothing, with it the page."""
    address = own_address()
    token = viewer.url.split("?token=")[1]
    assert status(viewer) == status(viewer, address=address) == 403
    elsewhere = f"http://{address}:{viewer.port}/"
    page = context.new_page()
    for wrong in ("", "?token=wrong", f"?token={token[:-1]}"):
        assert page.goto(elsewhere + wrong).status == 403
        assert "holds the token" in page.content()
        assert status(viewer, "/ws" + wrong, address, Upgrade="websocket", Connection="Upgrade") == 403
    page.close()
    reached = Tab(context.new_page(), f"{elsewhere}?token={token}")
    reached.page.wait_for_selector(".welcome")
    assert token not in reached.page.url
    assert reached.complaints == []
    reached.page.close()


def own_address() -> str:
    """An address of this computer that others know; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.2"  # no network at all


def quietPort() -> int:
    """A port that nobody is given by chance while the viewer is away from it: below those that systems hand out."""
    for port in random.Random().sample(range(20_000, 32_000), 50):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@pytest.mark.parametrize(
    ("host", "token"), [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True), ("10.0.0.7", True)]
)
def test_only_this_computer_goes_without_a_token(host: str, token: bool) -> None:
    from Vox2VecWeb.Access import Access

    access = Access(host)
    assert (access.token is not None) == token
    if token:
        assert access.refusal(f"{host}:8765", None, []) is not None
        assert access.refusal(f"{host}:8765", None, [access.token or ""]) is None
        assert access.refusal(f"{host}:8765", "http://elsewhere", [access.token or ""]) is not None
