"""The browser viewer in a real Chromium, on a scan whose pyramid has the official size and is cached.

    python -m Testing.benchmarks.viewer_speed CT

A frame counts when it has arrived in the page. Frames and clicks are timed by one clock, the page's own.
"""

import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from Testing.benchmarks.embed_speed import SPACING_MM, official_model, stretched
from Testing.browser.tab import Tab, launch
from Testing.browser.viewer_process import ViewerProcess
from Vox2VecCore.shapes import Triple
from Vox2VecCore.volume_io import write_volume

GRID: Triple = (350, 350, 200)
MOVES, CLICKS, STROKES = 40, 5, 5
WINDOW = {"width": 1280, "height": 720}
OTHER_VIEWS = ("Green", "Yellow")
"""They change only by what is computed: no cursor is drawn in them."""
QUIET_MS = 500
EMBEDDED_MS = 600_000

# Frames by view, and when the mouse last did something: times of the page's clock in ms.
CLOCK = """
(() => {
    const clock = (window.clock = { frames: [], mouse: 0, previews: 0, slicesAt: 0, wholeAt: 0 });
    const Real = window.WebSocket;
    window.WebSocket = class extends Real {
        constructor(...all) {
            super(...all);
            this.addEventListener("message", async (event) => {
                const now = performance.now();
                const size = event.data.byteLength ?? event.data.size ?? 0;
                if (size < 2000) return;
                const bytes = event.data.arrayBuffer ? await event.data.arrayBuffer() : event.data;
                const text = new TextDecoder("latin1").decode(bytes.slice(0, 400)) +
                    new TextDecoder("latin1").decode(bytes.slice(-400));
                const view = ["Red", "Green", "Yellow", "ThreeD"].find((name) => text.includes(name));
                if (view) clock.frames.push([view, now]);
            });
        }
    };
    const note = () => { clock.mouse = performance.now(); };
    for (const kind of ["mousemove", "mousedown", "mouseup"]) addEventListener(kind, note, true);
    const look = () => {
        const previews = window.trame && window.trame.state && window.trame.state.get("previews");
        if (previews && previews !== clock.previews) {
            clock.previews = previews;
            clock[window.trame.state.get("whole") ? "wholeAt" : "slicesAt"] = performance.now();
        }
        requestAnimationFrame(look);
    };
    look();
})();
"""
FIRST_FRAMES = """views => {
    const { frames, mouse } = window.clock;
    const times = views.map((view) => frames.find(([name, at]) => name === view && at > mouse));
    return times.every(Boolean) ? Math.max(...times.map(([, at]) => at)) - window.clock.mouse : false;
}"""
SETTLED = """quiet => {
    const last = Math.max(window.clock.mouse, ...window.clock.frames.map(([, at]) => at));
    const rests = !window.trame.state.get("busy") && window.trame.state.get("mapped");
    return rests && performance.now() - last > quiet ? Math.max(last - window.clock.mouse, 0.001) : false;
}"""
PREVIEWED = """what => {
    const { frames, mouse } = window.clock, said = window.clock[what];
    if (said < mouse) return false;
    const frame = frames.find(([name, at]) => name === "Green" && at >= said - 30);
    if (frame) return Math.max(frame[1], said) - mouse;
    return performance.now() - said > 1000 ? said - mouse : false;  // its frame came before the page was told
}"""


def measure(ct: Path, model: Path, folder: Path, cache: Path) -> dict[str, Any]:
    """Milliseconds and gigabytes.

    :param model: directory of a model of the official size.
    :param folder: for the scan.
    :param cache: for embeddings; empty, so that the first of two servers embeds, and the second one is measured.
    """
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scan.nii.gz"
    write_volume(stretched(ct, GRID, SPACING_MM), path)
    os.environ["VOX2VEC_CACHE_DIR"] = str(cache)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        try:
            opened: list[dict[str, Any]] = []
            for paints in (False, True):  # a left-handed scan is cached as Slicer stores it, so by the viewer itself
                context = browser.new_context(viewport=WINDOW)
                context.add_init_script(CLOCK)
                begin = time.monotonic()
                server = ViewerProcess(cache, folder / "viewer.log", path, "--model", model, "--port", 0)
                try:
                    tab = Tab(context.new_page(), server.url)
                    tab.until("get('owner') === window.vox2vec.tab")
                    ready = time.monotonic() - begin
                    tab.until("get('embedded')", EMBEDDED_MS)
                    found = {"page_ready_s": ready, "scan_ready_s": time.monotonic() - begin}
                    tab.rest()
                    if paints:
                        found |= _exploring(tab) | _painting(tab)
                    opened.append(found | _memory(server.process.pid))
                finally:
                    server.stop()
        finally:
            browser.close()
    first, cached = opened
    return {**cached, "embedding_s": first["scan_ready_s"], "embedding_peak_memory_gb": first["peak_memory_gb"]}


def _exploring(tab: Tab) -> dict[str, float]:
    rng = np.random.default_rng(0)
    tab.page.locator("#hover").check()
    moves = []
    for number in range(MOVES + 3):
        x, y = rng.uniform(0.4, 0.6, 2)
        tab.page.mouse.move(*tab.point("Red", x, y))
        took = tab.page.wait_for_function(FIRST_FRAMES, arg=list(OTHER_VIEWS), polling=10).json_value()
        tab.rest()
        if number >= 3:
            moves.append(took)
    tab.page.locator("#hover").uncheck()
    tab.rest()
    clicks = []
    for _ in range(CLICKS):
        x, y = rng.uniform(0.4, 0.6, 2)
        tab.move("Red", x, y)
        tab.rest()
        tab.page.mouse.click(*tab.point("Red", x, y))
        clicks.append(tab.page.wait_for_function(SETTLED, arg=QUIET_MS, polling=20, timeout=EMBEDDED_MS).json_value())
        tab.page.evaluate("window.trame.trigger('clearPoints')")
        tab.until("get('points').length === 0 && !get('mapped')")
    return {
        "hover_median_ms": float(np.median(moves)),
        "hover_p95_ms": float(np.percentile(moves, 95)),
        "click_median_ms": float(np.median(clicks)),
        "click_largest_ms": float(np.max(clicks)),
    }


def _painting(tab: Tab) -> dict[str, float]:
    tab.page.locator("#tab-segment").click()
    tab.page.locator("#tool-paint").click()
    tab.until("get('structures').length === 2")
    slices, whole = [], []
    for number in range(STROKES + 1):
        row = number % 2
        tab.page.locator("#structures li").nth(row).click(position={"x": 100, "y": 8})
        tab.until(f"get('active') === get('structures')[{row}].id")
        y = 0.4 + 0.04 * number
        tab.drag("Red", (0.42 + 0.1 * row, y), (0.48 + 0.1 * row, y))
        tab.until(f"get('structures')[{row}].painted")
        if number:
            slices.append(
                tab.page.wait_for_function(PREVIEWED, arg="slicesAt", polling=20, timeout=EMBEDDED_MS).json_value()
            )
            whole.append(
                tab.page.wait_for_function(PREVIEWED, arg="wholeAt", polling=20, timeout=EMBEDDED_MS).json_value()
            )
        tab.rest()
    return {
        "stroke_median_ms": float(np.median(slices)),
        "stroke_largest_ms": float(np.max(slices)),
        "whole_median_ms": float(np.median(whole)),
        "whole_largest_ms": float(np.max(whole)),
    }


def _memory(pid: int) -> dict[str, float]:
    """Peak of the server, the mapped pages of its files included, and what it holds beside them."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return {}
    text = status.read_text()
    kilobytes = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return {"peak_memory_gb": kilobytes["VmHWM"] / 1e6, "own_memory_gb": kilobytes["RssAnon"] / 1e6}


def main(ct: Path) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = official_model(folder / "models")
        print(json.dumps(measure(ct, model.directory, folder / "viewer", folder / "cache"), indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
