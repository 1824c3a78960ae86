"""Hover, click, sliders, keys: with a real mouse in a real browser."""

from pathlib import Path

import nibabel
import numpy as np

from Testing.browser.tab import Tab

VERTEBRA, LUNG, MUSCLE = (0.5, 0.70), (0.3, 0.5), (0.4, 0.4)
WATCH = """() => {
    const drawn = (window.drawn = {}), said = (window.said = []);
    for (const cell of document.querySelectorAll("[data-view]")) {
        const view = cell.dataset.view;
        const count = () => { drawn[view] = (drawn[view] || 0) + 1; };
        new MutationObserver(count).observe(cell, { subtree: true, attributeFilter: ["src"] });
    }
    const listen = () => { said.push(document.querySelector("#legend")?.innerText || ""); };
    const texts = { subtree: true, childList: true, characterData: true };
    new MutationObserver(listen).observe(document.querySelector("footer"), texts);
}"""
"""Frames of every view, and all that the legend says."""


def test_a_first_click_is_answered_before_spreading_is_prepared(tab: Tab, chest: Path) -> None:
    at = tab.point("Red", *VERTEBRA)
    for _ in range(9):  # each time the scan is opened anew, until the click is earlier than what it needs to spread
        tab.fresh(chest, rest=False)
        tab.page.evaluate(WATCH)
        tab.page.mouse.click(*at)
        tab.until("get('mapped') && !get('spreadsLater')")
        if any("not spread yet" in said for said in tab.page.evaluate("window.said")):
            break
    tab.rest()
    legends, drawn = tab.page.evaluate("[window.said, window.drawn]")
    later = ["not spread yet" in each for each in legends]
    assert any(later) and not later[-1], legends
    assert drawn["Red"] > 1 and drawn["Green"] > 1
    assert "ThreeD" not in drawn, "nothing is to be seen there"


def test_a_click_shows_where_it_looks_alike(tab: Tab, tmp_path: Path) -> None:
    tab.page.locator("#spreading").uncheck()
    before = tab.pixels("Red")
    ras = tab.click("Red", *VERTEBRA)
    near = tab.until_pixels("Red", before)
    [point] = tab.get("points")
    assert point["positive"]
    np.testing.assert_allclose(point["ras"], ras, atol=0.8)
    for view, axis in (("Green", 1), ("Yellow", 0)):
        letter, millimetres, _ = tab.get("slices")[view]["place"].split()
        there = float(millimetres) * (1 if letter in "RA" else -1)
        assert abs(there - ras[axis]) < 2, "the other views follow"

    heat = nibabel.load(tab.download("#save-map", tmp_path))
    values = heat.get_fdata()
    highest = nibabel.affines.apply_affine(heat.affine, np.argwhere(values == values.max()))
    nearest = np.linalg.norm(highest - point["ras"], axis=1).min()
    assert nearest < 3, "the map is highest where the click was, within a voxel of the embedding"
    assert np.linalg.norm(highest - point["ras"], axis=1).max() < 15, "and nowhere else"
    tab.move("Red", *MUSCLE)
    tab.move("Red", *VERTEBRA)
    tab.until("get('readout').similarity > 99.5")
    assert tab.page.locator("#legend").is_visible()
    tab.page.locator("#spreading").check()
    tab.until_pixels("Red", near)
    tab.until("get('readout').similarity > 99.5")
    tab.shot("click")


def test_the_mouse_alone_shows_it_too(tab: Tab) -> None:
    tab.move("Red", *LUNG)
    plain = tab.pixels("Red")
    tab.page.keyboard.press("h")
    tab.until("get('hover')")
    tab.move("Red", *VERTEBRA)
    hovered = tab.until_pixels("Red", plain)
    tab.move("Red", *MUSCLE)
    tab.until_pixels("Red", hovered)
    tab.shot("hover")
    assert tab.get("points") == []
    tab.page.locator("#hover").uncheck()
    tab.move("Red", *LUNG)
    tab.until("!get('mapped') && get('readout').similarity === null")


def test_negative_points_take_away(tab: Tab) -> None:
    tab.click("Red", *VERTEBRA)
    tab.move("Red", *LUNG)
    before = tab.get("readout")["similarity"]
    tab.click("Red", *LUNG, shift=True)
    assert [p["positive"] for p in tab.get("points")] == [True, False]
    tab.move("Red", *MUSCLE)
    tab.move("Red", *LUNG)
    tab.until(f"get('readout').similarity < {before} - 1")
    tab.page.locator("#points li:nth-child(2) [aria-label=Remove]").click()
    tab.until("get('points').length === 1")
    there = tab.move("Red", *MUSCLE)
    tab.drag("Red", VERTEBRA, MUSCLE)
    tab.until(f"Math.hypot(...{there}.slice(0, 2).map((v, n) => v - get('points')[0].ras[n])) < 2")
    assert len(tab.get("points")) == 1, "the point has moved, and its likes with it"
    tab.until("get('readout').similarity > 99")
    tab.page.keyboard.press("Backspace")
    tab.until("get('points').length === 0 && !get('mapped')")


def test_sliders_change_the_picture(tab: Tab) -> None:
    plain = tab.pixels("Red")
    tab.click("Red", *VERTEBRA)
    narrow = tab.until_pixels("Red", plain)
    tab.page.locator("#threshold").fill("70")
    wide = tab.until_pixels("Red", narrow)
    tab.page.locator("#opacity").fill("0.9")
    strong = tab.until_pixels("Red", wide)
    tab.page.locator("#balance").fill("1")
    context = tab.until_pixels("Red", strong)
    tab.page.locator("#view-colors").click()
    tab.rest()
    tab.until_pixels("Red", context)
    coloured = tab.until_pixels("Red", plain)
    tab.shot("colours")
    tab.page.keyboard.press("o")
    tab.until("get('view') === 'none'")
    tab.until_pixels("Red", coloured)


def test_windows_layouts_scrolling_and_help(tab: Tab) -> None:
    soft = tab.pixels("Red")
    tab.move("Red", 0.5, 0.5)
    presets = [preset["name"] for preset in tab.get("windows")]
    assert len(presets) == 7, "as the help sheet says"
    for number in (2, 3, 4, 5, 6, 7, 1):
        tab.page.keyboard.press(str(number))
        tab.until(f"get('window_') === '{presets[number - 1]}'")
        if number == 2:
            tab.until_pixels("Red", soft)
    start = tab.get("slices")["Red"]["offset"]
    tab.page.keyboard.press("ArrowUp")
    tab.until(f"get('slices').Red.offset > {start}")
    tab.page.mouse.wheel(0, 100)
    tab.until(f"Math.abs(get('slices').Red.offset - {start}) < 1")
    tab.page.keyboard.press("ArrowDown")
    tab.until(f"get('slices').Red.offset < {start}")
    tab.page.keyboard.press("ArrowUp")
    tab.until(f"Math.abs(get('slices').Red.offset - {start}) < 1")
    tab.page.keyboard.press("PageDown")
    tab.until(f"Math.abs(get('slices').Red.offset - {start} + 12.5) < 1")
    tab.page.keyboard.press("PageUp")
    tab.until(f"Math.abs(get('slices').Red.offset - {start}) < 1")
    lines = tab.pixels("Green")
    tab.page.keyboard.press("x")
    tab.until_pixels("Green", lines, count=200)
    tab.page.keyboard.press("x")
    tab.until("get('crosshair')")
    tab.page.keyboard.press("Space")
    tab.until("get('layout') === 'Red'")
    tab.page.wait_for_function("document.querySelectorAll('.cell').length === 1")
    tab.page.keyboard.press("Space")
    tab.until("get('layout') === 'four'")
    tab.page.mouse.click(*tab.point("Red", 0.03, 0.5))  # beside the scan
    for layout in ("Green", "four"):
        tab.page.mouse.dblclick(*tab.point("Green", 0.5, 0.5), delay=100)  # as slow as a hand
        tab.until(f"get('layout') === '{layout}' && !get('points').length")
    tab.drag("Red", (0.5, 0.5), (0.6, 0.5))
    tab.until("get('window_') === ''")
    assert tab.get("points") == [], "neither drags nor double clicks are clicks, and beside the scan is nothing"
    tab.page.keyboard.press("1")
    tab.page.keyboard.press("?")
    tab.page.wait_for_selector("#help")
    tab.shot("help")
    tab.page.keyboard.press("Escape")
    tab.page.wait_for_selector("#help", state="detached")
    letters = {name: [s["left"], s["right"], s["top"], s["bottom"]] for name, s in tab.get("slices").items()}
    assert letters["Red"] == ["R", "L", "A", "P"]
    assert letters["Green"] == ["R", "L", "S", "I"]
    assert letters["Yellow"] == ["A", "P", "S", "I"]


def test_panning_and_zooming(tab: Tab) -> None:
    first = tab.pixels("Red")
    tab.drag("Red", (0.5, 0.5), (0.6, 0.6), button="middle")
    panned = tab.until_pixels("Red", first, count=2000)
    tab.drag("Red", (0.5, 0.5), (0.5, 0.7), button="right")
    zoomed = tab.until_pixels("Red", panned, count=2000)
    offset = tab.get("slices")["Red"]["offset"]
    tab.page.keyboard.down("Control")
    tab.page.mouse.wheel(0, -300)
    tab.page.keyboard.up("Control")
    zoomed = tab.until_pixels("Red", zoomed, count=2000)
    assert tab.get("slices")["Red"]["offset"] == offset
    tab.page.keyboard.press("f")
    tab.until_pixels("Red", zoomed, count=2000)
    assert tab.get("points") == []


def test_the_page_fits_small_and_large_screens(tab: Tab) -> None:
    from Testing.browser.tab import WINDOW

    tab.click("Red", *VERTEBRA)
    for name, window in (("small", WINDOW), ("large", {"width": 3840, "height": 2160})):
        tab.page.set_viewport_size(window)
        tab.page.wait_for_function(
            """() => [...document.querySelectorAll(".cell .picture img, .cell .picture canvas")].length >= 4"""
        )
        tab.until_pixels("Red", np.zeros_like(tab.pixels("Red")), count=window["width"])
        for part in ("explore", "match", "segment"):
            tab.page.locator(f"#tab-{part}").click()
            found = tab.page.evaluate(FITS)
            assert found["outside"] == [], f"{part} on a {name} screen"
            assert found["smallest"] >= 10.5, "legible"
            assert found["boxes"] > 0.9, "boxes to tick are as large as their texts"
            tab.shot(f"{part}-{name}")
    tab.page.set_viewport_size(WINDOW)


FITS = """() => {
    const shown = [...document.querySelectorAll(".v2v button, .v2v label, .v2v .mark, .v2v select, .v2v span, .v2v h1")]
        .filter((e) => e.offsetParent && e.innerText.trim() && !e.closest(".sheet"));
    const outside = shown.filter((e) => { const b = e.getBoundingClientRect();
        return b.left < -1 || b.top < -1 || b.right > innerWidth + 1 || b.bottom > innerHeight + 1; });
    const boxes = [...document.querySelectorAll(".v2v input[type=checkbox]")].map((e) =>
        e.getBoundingClientRect().height / parseFloat(getComputedStyle(e).fontSize));
    return { boxes: Math.min(2, ...boxes), outside: outside.map((e) => e.innerText), smallest:
        Math.min(...shown.map((e) => parseFloat(getComputedStyle(e).fontSize))) };
}"""
