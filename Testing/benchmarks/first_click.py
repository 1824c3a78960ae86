"""A newcomer's first minute: from the command over a scan that was never embedded to a click and what looks like it.

python -m Testing.benchmarks.first_click CT
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from Testing.browser.tab import WINDOW, Tab, launch
from Testing.browser.test_opening import CLICKED
from Testing.browser.viewer_process import ViewerProcess


def measure(ct: Path, folder: Path) -> dict[str, float]:
    """Seconds after the command: page, scan in the views, scan embedded, map of the whole scan drawn."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_context(viewport=WINDOW).new_page()
        begin = time.monotonic()
        server = ViewerProcess(folder / "cache", folder / "viewer.log", ct, "--port", 0)
        found = {}
        try:
            tab = Tab(page, server.url)
            for name, condition in (
                ("page_s", "get('owner') === window.vox2vec.tab"),
                ("scan_s", "get('scan')"),
                ("embedded_s", "get('embedded')"),
            ):
                tab.until(condition)
                found[name] = round(time.monotonic() - begin, 1)
            tab.page.keyboard.press("x")  # its lines are coloured, too
            tab.click("Red", *CLICKED)
            while not lit(tab):
                pass
            found["map_s"] = round(time.monotonic() - begin, 1)
            tab.shot("first-click")
        finally:
            server.stop()
            browser.close()
    return found


def lit(tab: Tab) -> bool:
    """Whether colours lie on the grey of the coronal view, more of them than a point and its name have."""
    pixels = tab.pixels("Green")
    return bool((np.ptp(pixels, axis=2) > 80).sum() > 1000)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))  # tests run the viewer on one
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(measure(Path(sys.argv[1]), Path(temporary)), indent=1))
