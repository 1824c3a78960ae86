"""Uploads, follow-up, segments, files, strokes."""

import base64
import io
import json
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from Testing.browser.tab import Tab

VERTEBRA = (0.5, 0.70)


def pin(tab: Tab, place: tuple[float, float] = VERTEBRA) -> list[float]:
    """Click a place and wait for its map."""
    ras = tab.move("Red", *place)
    tab.page.mouse.click(*tab.point("Red", *place))
    tab.until("get('mapped') && get('points').length > 0")
    return ras


def download(tab: Tab, button: str, folder: Path) -> Path:
    """Press a button and keep the file that comes."""
    with tab.page.expect_download(timeout=60_000) as waiting:
        tab.page.locator(button).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_a_map_becomes_a_segment_and_files(tab: Tab, chest: Path, tmp_path: Path) -> None:
    ras = pin(tab)
    tab.page.locator("#make-segment").click()
    tab.until("get('results').length === 1 && parseFloat(get('results')[0].ml) > 1")
    tab.page.locator("#tab-segment").click()
    labels = nibabel.load(download(tab, "#save-nifti", tmp_path))
    scan = nibabel.load(chest)
    assert labels.shape == scan.shape
    np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-4)
    voxels = np.asarray(labels.dataobj)
    i, j, k = np.rint(nibabel.affines.apply_affine(np.linalg.inv(labels.affine), ras)).astype(int)
    assert voxels[i - 2 : i + 3, j - 2 : j + 3, k - 1 : k + 2].any(), "the segment is where the click was"
    shown = float(tab.get("results")[0]["ml"].split()[0])
    counted = (voxels > 0).sum() * np.prod(scan.header.get_zooms()) / 1000
    assert shown == pytest.approx(counted, abs=0.6)
    assert download(tab, "#save-nrrd", tmp_path).read_bytes().startswith(b"NRRD")
    with zipfile.ZipFile(download(tab, "#save-scene", tmp_path)) as scene:
        assert any(name.endswith(".mrml") for name in scene.namelist())
        assert any(name.endswith(".nrrd") for name in scene.namelist())
    tab.page.locator("#surface").check()
    tab.until("get('surface')")
    tab.until_pixels("ThreeD", np.zeros_like(tab.pixels("ThreeD")), count=1000)
    tab.shot("surface")
    tab.page.locator("#surface").uncheck()


def test_a_point_is_found_in_the_follow_up(tab: Tab, shifted: Path) -> None:
    ras = pin(tab)
    tab.page.locator("#open-follow-up").set_input_files(shifted)
    tab.until("get('layout') === 'rows' && get('followUpEmbedded') && get('matches').length === 1")
    tab.page.locator("#tab-match").click()
    [match] = tab.get("matches")
    assert match["reliable"]
    assert match["cycleErrorMm"] < 5
    np.testing.assert_allclose(match["ras"], np.add(ras, (12, -7, 30)), atol=6)
    tab.page.wait_for_function("document.querySelectorAll('.cell').length === 6")
    dark = np.zeros_like(tab.pixels("Vox2VecRed"))
    tab.until_pixels("Vox2VecRed", dark)
    tab.shot("follow-up")
    tab.page.get_by_role("button", name="Close", exact=True).first.click()
    tab.until("get('followUp') === null && get('layout') === 'four'")


def test_strokes_are_painted_and_undone(tab: Tab) -> None:
    tab.page.locator("#tab-segment").click()
    tab.page.locator("#tool-paint").click()
    tab.until("get('tool') === 'paint' && get('structures').length === 2")
    plain = tab.pixels("Red")
    tab.drag("Red", (0.45, 0.4), (0.5, 0.42), (0.55, 0.4))
    tab.until("get('canUndo')")
    painted = tab.until_pixels("Red", plain)
    assert tab.get("points") == [], "painting does not pin points"
    tab.shot("strokes")
    tab.page.locator("#undo").click()
    tab.until("get('canRedo')")
    undone = tab.until_pixels("Red", painted)
    tab.page.keyboard.press("Control+y")
    tab.until("!get('canRedo')")
    tab.until_pixels("Red", undone)
    tab.page.keyboard.press("Control+z")
    tab.until("!get('canUndo')")
    tab.page.locator("#tool-explore").click()
    tab.until("get('tool') === 'explore'")


def test_a_broken_file_is_named_and_changes_nothing(tab: Tab, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"this is not a scan")
    tab.page.locator("#open-scan").set_input_files(broken)
    tab.page.wait_for_selector("#message")
    assert "broken.nii.gz" in tab.page.locator("#message").inner_text()
    assert tab.get("scan")["name"] == "chest"
    tab.page.locator("#message button").click()
    tab.page.wait_for_selector("#message", state="detached")


def test_a_zip_opens_by_drag_and_drop(tab: Tab, shifted: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(shifted, "folder/later.nii.gz")
    tab.page.evaluate(
        """text => {
            const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([packed], "later.zip"));
            dispatchEvent(new DragEvent("dragover", { dataTransfer: transfer, cancelable: true }));
            const zone = document.querySelector("#drop [data-purpose=scan]");
            zone.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        base64.b64encode(packed.getvalue()).decode("ascii"),
    )
    tab.until("get('scan').name === 'later' && get('embedded')")


def test_embedding_can_be_cancelled_and_started_again(tab: Tab, chest: Path) -> None:
    image = nibabel.load(chest)
    other = chest.with_name("other.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), other)
    tab.page.locator("#open-scan").set_input_files(other)
    tab.page.locator("#cancel").click(timeout=60_000)
    tab.page.locator("#embed").wait_for(timeout=60_000)
    assert not tab.get("embedded")
    tab.page.locator("#embed").click()
    tab.until("get('embedded')")


def test_the_state_survives_a_reload(tab: Tab) -> None:
    pin(tab)
    before = tab.get("points")
    tab.page.reload()
    tab.page.wait_for_selector(".v2v")
    tab.until("get('owner') === window.vox2vec.tab && get('points').length === 1")
    assert json.dumps(tab.get("points")) == json.dumps(before)
    tab.until_pixels("Red", np.zeros_like(tab.pixels("Red")))
