"""Strokes, what is learnt from them, and what is taken away."""

import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from Testing.browser.scenario import OTHER_LUNG_STROKE, Mouse
from Testing.browser.tab import Tab
from Testing.browser.test_both_ways import dice
from Testing.browser.test_exploring import VERTEBRA

LUNGS = range(10, 15)
PAINTED, WITH_THE_HEAD = 0.85, 0.65
"""Dice of both lungs with one stroke in each and one elsewhere, and with their head alone; measured: 0.94 and 0.77."""
YELLOW, BLUE = "#f0e000", "#2060ff"


def test_a_map_becomes_a_segment_and_files(tab: Tab, chest: Path, tmp_path: Path) -> None:
    ras = tab.click("Red", *VERTEBRA)
    tab.page.locator("#make-segment").click()
    tab.until("get('results').length === 1 && parseFloat(get('results')[0].ml) > 1")
    tab.page.locator("#tab-segment").click()
    labels = nibabel.load(tab.download("#save-nifti", tmp_path))
    scan = nibabel.load(chest)
    assert labels.shape == scan.shape
    np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-4)
    voxels = np.asarray(labels.dataobj)
    i, j, k = np.rint(nibabel.affines.apply_affine(np.linalg.inv(labels.affine), ras)).astype(int)
    assert voxels[i - 2 : i + 3, j - 2 : j + 3, k - 1 : k + 2].any(), "the segment is where the click was"
    shown = float(tab.get("results")[0]["ml"].split()[0])
    counted = (voxels > 0).sum() * np.prod(scan.header.get_zooms()) / 1000
    assert shown == pytest.approx(counted, abs=0.6)
    tab.page.keyboard.press("Control+z")
    tab.until("!get('results').length || parseFloat(get('results')[0].ml) === 0")


def test_strokes_of_several_classes_are_painted_erased_and_undone(tab: Tab) -> None:
    tab.page.locator("#tab-segment").click()
    tab.page.keyboard.press("b")
    tab.until("get('tool') === 'paint' && get('structures').length === 2 && get('view') === 'none'")
    tab.page.keyboard.press("]")
    tab.until("get('brush') === 9")
    tab.page.keyboard.press("[")
    tab.until("get('brush') === 8")
    tab.page.get_by_role("button", name="Add structure").click()
    tab.until("get('structures').length === 3 && get('active') === get('structures')[2].id")
    for row, name, color in ((1, "Heart", YELLOW), (2, "Aorta", BLUE)):
        line = tab.page.locator("#structures li").nth(row)
        line.locator("[type=text]").fill(name)
        line.locator("[type=text]").press("Enter")
        line.locator("[type=color]").fill(color)
        tab.until(f"get('structures')[{row}].name === '{name}' && get('structures')[{row}].color === '{color}'")
    tab.choose(1)
    plain = tab.pixels("Red")
    tab.drag("Red", (0.45, 0.4), (0.5, 0.42), (0.55, 0.4))
    tab.until("get('structures')[1].painted && get('canUndo')")
    yellow = tab.until_pixels("Red", plain)
    tab.choose(2)
    tab.drag("Red", (0.5, 0.6), (0.55, 0.6))
    tab.until("get('structures')[2].painted")
    both = tab.until_pixels("Red", yellow)
    assert tab.get("points") == [], "painting does not pin points"
    tab.shot("strokes")

    tab.page.keyboard.press("d")
    tab.until("get('tool') === 'erase'")
    tab.page.locator("#brush").fill("30")
    tab.drag("Red", (0.48, 0.6), (0.57, 0.6))
    tab.until("!get('structures')[2].painted")
    erased = tab.until_pixels("Red", both)
    assert tab.get("structures")[1]["painted"], "only the chosen structure is erased"
    tab.page.locator("#undo").click()
    tab.until("get('canRedo') && get('structures')[2].painted")
    tab.until_pixels("Red", erased)
    tab.page.keyboard.press("Control+y")
    tab.until("!get('canRedo') && !get('structures')[2].painted")
    for _ in range(3):
        tab.page.keyboard.press("Control+z")
    tab.until("!get('canUndo') && !get('structures')[1].painted")
    tab.page.keyboard.press("e")
    tab.until("get('tool') === 'explore' && get('view') === 'similarity'")


def test_what_is_learnt_is_shown_saved_and_used_again(
    tab: Tab, chest: Path, shifted: Path, labels: np.ndarray, tmp_path: Path
) -> None:
    Mouse.stroke(tab)
    assert parseMl(tab.get("structures")[1]["ml"]) > 100
    before = tab.get("previews")
    tab.drag("Red", *tab.shares("Red", OTHER_LUNG_STROKE))
    tab.until(f"get('previews') > {before}")
    tab.rest()

    plain = tab.pixels("Red")
    tab.page.keyboard.press("u")
    tab.until_pixels("Red", plain)
    tab.shot("uncertainty")
    tab.page.keyboard.press("u")
    places = tab.get("slices")
    tab.page.keyboard.press("n")
    tab.until(f"['Red', 'Green', 'Yellow'].some(v => get('slices')[v].place !== {placesOf(places)}[v])")
    tab.page.keyboard.press("s")
    tab.until_pixels("ThreeD", np.zeros_like(tab.pixels("ThreeD")), count=1000)
    tab.shot("surface")

    head = tab.download("#save-head", tmp_path)
    tab.page.locator("#apply").click()
    tab.until("get('results').length === 1 && !get('preview')")
    segmentation = tab.download("#save-nrrd", tmp_path).read_bytes()
    assert segmentation.startswith(b"NRRD")
    assert b"Segment0_Name:=Structure 1" in segmentation
    lungs = np.isin(labels, LUNGS)
    found = nibabel.load(tab.download("#save-nifti", tmp_path))
    assert dice(np.asarray(found.dataobj) == 1, lungs) > PAINTED
    with zipfile.ZipFile(tab.download("#save-scene", tmp_path)) as scene:
        assert {".mrml", ".nrrd"} <= {Path(name).suffix for name in scene.namelist()}

    tab.fresh(shifted)
    tab.page.locator("#tab-segment").click()
    tab.page.locator("#open-head").set_input_files(head)
    tab.until("get('results').length === 1 && get('results')[0].name === 'Structure 1'")
    found = nibabel.load(tab.download("#save-nifti", tmp_path))
    np.testing.assert_allclose(found.affine, nibabel.load(shifted).affine, atol=1e-4)
    assert dice(np.asarray(found.dataobj) == 1, lungs) > WITH_THE_HEAD, "the same patient, elsewhere in the scanner"
    tab.shot("head-applied")
    tab.page.locator("#apply-head").click()
    tab.rest()
    tab.until("get('results').length === 1")

    tab.page.locator("#open-head").set_input_files(chest)
    assert tab.message("head").startswith("chest.nii.gz: ")
    tab.page.get_by_role("button", name="Forget the head").click()
    tab.until("!get('head')")


def parseMl(text: str) -> float:
    """Millilitres as the page writes them."""
    return float(text.split()[0])


def placesOf(slices: dict) -> str:
    """Where the views are, as JavaScript."""
    return str({name: each["place"] for name, each in slices.items()})
