"""Hover, click, sliders, keys: with a real mouse in a real browser."""

import numpy as np

from Testing.browser.tab import Tab

VERTEBRA = (0.5, 0.70)
YELLOW = (230, 190, 90)


def test_a_click_shows_where_it_looks_alike(tab: Tab) -> None:
    before = tab.pixels("Red")
    ras = tab.move("Red", *VERTEBRA)
    tab.page.mouse.click(*tab.point("Red", *VERTEBRA))
    tab.until("get('mapped')")
    tab.until_pixels("Red", before)
    [point] = tab.get("points")
    assert point["positive"]
    np.testing.assert_allclose(point["ras"], ras, atol=0.8)
    tab.move("Red", 0.4, 0.4)
    tab.move("Red", *VERTEBRA)
    tab.until("get('readout').similarity > 99.5")
    for view, axis in (("Green", 1), ("Yellow", 0)):
        letter, millimetres, _ = tab.get("slices")[view]["place"].split()
        there = float(millimetres) * (1 if letter in "RA" else -1)
        assert abs(there - ras[axis]) < 2, "the other views follow"
    tab.shot("click")


def test_the_mouse_alone_shows_it_too(tab: Tab) -> None:
    tab.move("Red", 0.3, 0.5)
    plain = tab.pixels("Red")
    tab.page.locator("#hover").check()
    tab.move("Red", *VERTEBRA)
    hovered = tab.until_pixels("Red", plain)
    tab.move("Red", 0.42, 0.45)
    tab.until_pixels("Red", hovered)
    tab.shot("hover")
    tab.page.locator("#hover").uncheck()
    tab.until("!get('hover')")


def test_negative_points_take_away(tab: Tab) -> None:
    tab.move("Red", *VERTEBRA)
    tab.page.mouse.click(*tab.point("Red", *VERTEBRA))
    tab.until("get('mapped')")
    away = (0.28, 0.5)
    tab.move("Red", *away)
    before = tab.get("readout")["similarity"]
    tab.page.keyboard.down("Shift")
    tab.page.mouse.click(*tab.point("Red", *away))
    tab.page.keyboard.up("Shift")
    tab.until("get('points').length === 2")
    assert [p["positive"] for p in tab.get("points")] == [True, False]
    tab.move("Red", 0.4, 0.4)
    tab.move("Red", *away)
    tab.until(f"get('readout').similarity < {before} - 1")
    tab.page.locator("#points li:nth-child(2) [aria-label=Remove]").click()
    tab.until("get('points').length === 1")


def test_sliders_change_the_picture(tab: Tab) -> None:
    plain = tab.pixels("Red")
    tab.page.mouse.click(*tab.point("Red", *VERTEBRA))
    tab.until("get('mapped')")
    narrow = tab.until_pixels("Red", plain)
    tab.page.locator("#threshold").fill("70")
    tab.until_pixels("Red", narrow)
    wide = tab.pixels("Red")
    tab.page.locator("#opacity").fill("0.9")
    tab.until_pixels("Red", wide)
    tab.page.locator("#balance").fill("1")
    tab.until("get('balance') === 1")
    for name, value in (("threshold", "95"), ("opacity", "0.5"), ("balance", "0.5")):
        tab.page.locator(f"#{name}").fill(value)
    tab.page.locator("#view-colors").click()
    tab.until_pixels("Red", wide)
    tab.shot("colours")
    tab.page.locator("#view-similarity").click()


def test_windows_layouts_scrolling_and_help(tab: Tab) -> None:
    soft = tab.pixels("Red")
    tab.move("Red", 0.5, 0.5)
    tab.page.keyboard.press("2")
    tab.until("get('window_') === 'Lung'")
    tab.until_pixels("Red", soft)
    tab.page.keyboard.press("1")
    tab.until("get('window_') === 'Soft tissue'")
    start = tab.get("slices")["Red"]["offset"]
    tab.page.keyboard.press("ArrowUp")
    tab.until(f"get('slices').Red.offset > {start}")
    tab.page.mouse.wheel(0, 100)
    tab.until(f"Math.abs(get('slices').Red.offset - {start}) < 1")
    tab.page.keyboard.press("Space")
    tab.until("get('layout') === 'Red'")
    tab.page.wait_for_function("document.querySelectorAll('.cell').length === 1")
    tab.page.keyboard.press("Space")
    tab.until("get('layout') === 'four'")
    tab.drag("Red", (0.5, 0.5), (0.6, 0.5))
    tab.until("get('window_') === ''")
    assert tab.get("points") == [], "a drag is not a click"
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
