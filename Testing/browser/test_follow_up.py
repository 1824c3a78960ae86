"""Points found again in a second scan, or said not to be."""

from pathlib import Path

import numpy as np

from Testing.browser.tab import Tab
from Testing.browser.test_exploring import VERTEBRA

SHIFT = (12, -7, 30)


def test_points_are_found_in_the_follow_up_or_it_is_said(tab: Tab, shifted: Path) -> None:
    ras = tab.click("Red", *VERTEBRA)
    tab.page.locator("#open-follow-up").set_input_files(shifted)
    tab.until("get('layout') === 'rows' && get('followUpEmbedded') && get('matches').length === 1")
    tab.page.locator("#tab-match").click()
    [match] = tab.get("matches")
    assert match["reliable"]
    assert match["cycleErrorMm"] < 5
    np.testing.assert_allclose(match["ras"], np.add(ras, SHIFT), atol=6)
    assert "mm" in tab.page.locator("#matches").inner_text()
    tab.page.wait_for_function("document.querySelectorAll('.cell').length === 6")
    tab.until_pixels("Vox2VecRed", np.zeros_like(tab.pixels("Vox2VecRed")))
    for view in ("Red", "Green", "Yellow"):
        np.testing.assert_allclose(across(tab, view), across(tab, f"Vox2Vec{view}"), rtol=0.02)
    tab.shot("follow-up")
    tab.page.keyboard.press("l")
    tab.until("get('layout') === 'four'")
    tab.page.keyboard.press("l")
    tab.until("get('layout') === 'rows'")
    tab.page.get_by_role("button", name="Close", exact=True).first.click()
    tab.until("get('followUp') === null && get('layout') === 'four'")


def across(tab: Tab, view: str) -> float:
    """Millimetres in a fifth of a view's width: the same scans are shown at the same size."""
    return float(np.linalg.norm(np.subtract(tab.move(view, 0.4, 0.5), tab.move(view, 0.6, 0.5))))


def test_no_reliable_match_is_said(tab: Tab, elsewhere: Path) -> None:
    """In a part of the same body that does not hold the place, nothing is claimed."""
    tab.click("Red", *VERTEBRA)
    tab.page.locator("#open-follow-up").set_input_files(elsewhere)
    tab.until("get('followUpEmbedded') && get('matches').length === 1")
    tab.page.locator("#tab-match").click()
    assert not tab.get("matches")[0]["reliable"]
    assert "no reliable match" in tab.page.locator("#matches").inner_text().lower()
    tab.shot("no-match")
