"""A tab of a real Chromium at a viewer, as tests and benchmarks drive it."""

import io
import runpy
import time
from pathlib import Path
from typing import Any

import numpy as np

from Testing.conftest import REPOSITORY

SCREENSHOTS = REPOSITORY / ".screenshots"
CHECK = REPOSITORY / "Resources" / "Build" / "check_system.py"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WINDOW = {"width": 1280, "height": 720}
STATE = "name => { const v = window.trame.state.get(name); return v === undefined ? null : v; }"
PATIENCE_MS = 120_000
SETTINGS = ("hover", "view", "threshold", "opacity", "balance", "brush", "crosshair", "autoUpdate", "tab", "surface")
FRESH = """async ([scan, settings]) => {
    const { state, trigger } = window.trame;
    document.activeElement.blur();
    await trigger("setTool", ["explore"]);
    await trigger("closeFollowUp");
    await trigger("forgetHead");
    await trigger("setWindow", ["Soft tissue"]);
    await trigger("dismiss");
    for (const [name, value] of Object.entries(settings)) state.set(name, value);
    await trigger("openPath", [scan, false]);
}"""
AT_REST = """async ([patience, names]) => {
    const { state, trigger } = window.trame;
    const end = performance.now() + patience;
    let pending = ["unasked"];
    for (let calm = 0; calm < 2 && performance.now() < end; calm = pending.length ? 0 : calm + 1) {
        await new Promise(requestAnimationFrame);
        await state.flush();
        const settings = Object.fromEntries(names.map((name) => [name, state.get(name)]));
        pending = await trigger("pending", [settings]);
    }
    return pending;
}"""
NOTE_MESSAGES = """(() => {
    let noted = null;
    const note = (message, warning) => {
        const now = [message && message.text, warning];
        if (String(now) === noted) return;
        noted = String(now);
        now.filter(Boolean).forEach(window.noteMessage);
    };
    const begin = setInterval(() => {
        if (!window.trame || !window.trame.state) return;
        clearInterval(begin);
        window.trame.state.watch(["message", "warning"], note);
    }, 5);
})();"""
"""What the viewer says on the page is noted there and then: the next thing that it says would replace it."""
TOLD = (
    *("owner", "scan", "embedded", "progress", "busy", "tool"),
    *("active", "strokesStatus", "points", "message", "layout"),
)
"""What a test that waited in vain says."""


class Tab:
    """A tab of the browser at the viewer.

    :ivar complaints: errors of the console, requests to anywhere else, sentences on the page that no test waited for.
    """

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        origin = "/".join(url.split("/")[:3])
        allowed = (origin, origin.replace("http", "ws"), "blob:", "data:")
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.complaints.append(str(e)))
        page.on("request", lambda r: None if r.url.startswith(allowed) else self.complaints.append(r.url))
        page.on("websocket", lambda w: None if w.url.startswith(allowed) else self.complaints.append(w.url))
        page.expose_function("noteMessage", lambda text: self.complaints.append(text))
        page.add_init_script(NOTE_MESSAGES)
        page.goto(url)
        page.wait_for_selector(".v2v", timeout=PATIENCE_MS)
        self._settings = {name: self.get(name) for name in SETTINGS}

    def get(self, name: str) -> Any:
        """A value that the page shows."""
        return self.page.evaluate(STATE, name)

    def until(self, condition: str, timeout: float = PATIENCE_MS) -> None:
        """Wait for a condition on values, written ``get('name')``."""
        from playwright.sync_api import TimeoutError as NotInTime

        try:
            self.page.wait_for_function(
                f"() => {{ const get = name => window.trame.state.get(name); return {condition}; }}", timeout=timeout
            )
        except NotInTime as error:
            raise AssertionError(f"not in time: {condition}; the page shows {self._told()}") from error

    def message(self, part: str) -> str:
        """Wait until the viewer says a sentence that a test expects, as part of it; returns the whole."""
        shown = self.page.locator("#message").filter(has_text=part)
        shown.wait_for(timeout=PATIENCE_MS)
        self.complaints[:] = [each for each in self.complaints if part not in each]
        return str(shown.locator("span").inner_text())

    def _told(self) -> dict[str, Any]:
        return {name: self.get(name) for name in (*TOLD, *SETTINGS)} | {"complaints": self.complaints}

    def rest(self) -> None:
        """Wait until the viewer has done all that the page has asked for: twice, as one job may ask for the next."""
        pending = self.page.evaluate(AT_REST, [PATIENCE_MS, list(SETTINGS)])
        assert pending == [], f"still to be done: {pending}; the page shows {self._told()}"

    def fresh(self, scan: Path, rest: bool = True) -> None:
        """As the page was when it was opened: a scan that is embedded, nothing pinned, painted or set.

        :param rest: what follows an embedding is done, too.
        """
        before = self.get("scan")
        self.page.mouse.move(1, 1)
        self.page.evaluate(FRESH, [str(scan), self._settings])
        self.until(f"get('scan') && get('scan').id !== '{before and before['id']}' && get('embedded')")
        self.until("!get('points').length && !get('mapped') && !get('head') && !get('results').length")
        if rest:
            self.rest()

    def click(self, view: str, x: float, y: float, shift: bool = False) -> list[float]:
        """Pin a point and wait for its map; returns where the mouse was, in RAS mm."""
        count = len(self.get("points"))
        ras = self.move(view, x, y)
        if shift:
            self.page.keyboard.down("Shift")
        self.page.mouse.click(*self.point(view, x, y))
        if shift:
            self.page.keyboard.up("Shift")
        self.until(f"get('points').length === {count + 1}")
        self.rest()
        return ras

    def choose(self, row: int) -> None:
        """Choose a structure to paint."""
        self.page.locator("#structures li").nth(row).click(position={"x": 200, "y": 10})
        self.until(f"get('active') === get('structures')[{row}].id")

    def download(self, button: str, folder: Path) -> Path:
        """Press a button and keep the file that comes."""
        with self.page.expect_download(timeout=PATIENCE_MS) as waiting:
            self.page.locator(button).click()
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def box(self, view: str) -> dict[str, float]:
        """Where a view is on the screen."""
        return self.page.locator(f"[data-view={view}] .picture").bounding_box()

    def point(self, view: str, x: float, y: float) -> tuple[float, float]:
        """A place in a view, in shares of its width and height, on the screen."""
        box = self.box(view)
        return box["x"] + box["width"] * x, box["y"] + box["height"] * y

    def move(self, view: str, x: float, y: float) -> list[float]:
        """Move the mouse into a view and wait until the viewer has noticed; returns where it is, in RAS mm."""
        at = self.point(view, x, y)
        near = f"Math.abs(get('readout').at[0] - {x}) < 0.006 && Math.abs(get('readout').at[1] - {y}) < 0.006"
        for attempt in range(10):  # the page drops moves that come too close to each other
            self.page.mouse.move(at[0] + 9, at[1] + 9)
            self.page.mouse.move(*at, steps=3)
            try:
                self.until(f"get('readout') && get('readout').view === '{view}' && {near}", 3000)
                break
            except Exception:
                if attempt == 9:
                    raise
        return self.get("readout")["ras"]

    def shares(self, view: str, points: Any) -> list[tuple[float, float]]:
        """Places in the axial view of points (right, anterior) in RAS mm."""
        (x0, y0), (x1, y1) = (0.3, 0.3), (0.7, 0.7)
        (r0, a0, _), (r1, a1, _) = self.move(view, x0, y0), self.move(view, x1, y1)
        return [(x0 + (x1 - x0) * (r - r0) / (r1 - r0), y0 + (y1 - y0) * (a - a0) / (a1 - a0)) for r, a in points]

    def drag(self, view: str, *points: tuple[float, float], button: str = "left") -> None:
        """Press, move along points, release."""
        places = [self.point(view, *p) for p in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down(button=button)
        for place in places[1:]:
            self.page.mouse.move(*place, steps=6)
        self.page.mouse.up(button=button)

    def pixels(self, view: str) -> np.ndarray:
        """Colours (rows, columns, 3) of a view as it is on the screen."""
        from PIL import Image

        shot = self.page.screenshot(clip=self.box(view))
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)

    def until_pixels(self, view: str, differ_from: np.ndarray, count: int = 30) -> np.ndarray:
        """Wait until a view looks different in more than so many pixels; returns how."""
        end = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < end:
            now = self.pixels(view)
            if (np.abs(now - differ_from).max(axis=2) > 40).sum() > count:
                return now
        raise AssertionError(f"{view} has not changed")

    def shot(self, name: str) -> None:
        """Keep a picture of the page."""
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=str(SCREENSHOTS / f"{name}.png"))


def launch(playwright: Any) -> Any:
    """Chromium of the system, or else playwright's own.

    :raises FileNotFoundError: if there is none; says how to get one.
    """
    check = runpy.run_path(str(CHECK))
    own = playwright.chromium.executable_path
    path = check["browser"]() or (own if Path(own).is_file() else None)
    if path is None:
        raise FileNotFoundError(check["browser_advice"]())
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
