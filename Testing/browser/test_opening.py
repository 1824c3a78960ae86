"""Scans that are opened, broken, cancelled; a page that is loaded again."""

import json
import shutil
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

from Testing.browser.tab import Tab
from Testing.browser.test_exploring import VERTEBRA
from Testing.conftest import DEMO_CT
from Testing.support.dicom_series import write_series

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
VERTEBRAE = range(31, 44)  # L1 to T1
CLICKED = (0.487, 0.65)


def shows(tab: Tab, image: nibabel.Nifti1Image, name: str) -> None:
    """Wait until a scan is open and see that its intensities are in place."""
    tab.until(f"get('scan').name === '{name}' && get('embedded')")
    tab.rest()
    values = np.asarray(image.dataobj)
    assert tab.get("scan")["grid"].startswith(" x ".join(map(str, image.shape)))
    for view, place in (("Red", (0.5, 0.5)), ("Green", (0.45, 0.6))):
        ras = tab.move(view, *place)
        tab.until("get('readout').hu")
        voxel = np.rint(nibabel.affines.apply_affine(np.linalg.inv(image.affine), ras)).astype(int)
        around = values[tuple(slice(v - 1, v + 2) for v in voxel)]  # the readout's millimetres are rounded
        assert int(tab.get("readout")["hu"].split()[0]) in around


def drop(tab: Tab, *paths: Path, purpose: str = "scan") -> None:
    """Drag files and folders from the desktop onto the page, as Chromium itself takes them, and let them go."""
    chromium = tab.page.context.new_cdp_session(tab.page)
    dragged = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}

    def drag(kind: str, x: float, y: float) -> None:
        chromium.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": dragged})

    drag("dragEnter", 200, 300)
    drag("dragOver", 200, 300)
    zone = tab.page.locator(f"#drop [data-purpose={purpose}]")
    zone.wait_for()
    box = zone.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    drag("dragOver", *middle)
    drag("drop", *middle)
    tab.page.locator("#drop.shown").wait_for(state="detached")
    chromium.detach()


def test_nrrd_dicom_files_and_a_zip_of_dicom(tab: Tab, crop: nibabel.Nifti1Image, tmp_path: Path) -> None:
    values = np.asarray(crop.dataobj).astype(np.int16)
    picture = SimpleITK.GetImageFromArray(values.T)
    spacing = np.linalg.norm(crop.affine[:3, :3], axis=0)
    affine = LPS @ crop.affine
    picture.SetSpacing(spacing.tolist())
    picture.SetOrigin(affine[:3, 3].tolist())
    picture.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    SimpleITK.WriteImage(picture, str(tmp_path / "spine.nrrd"))
    tab.page.locator("#open-scan").set_input_files(tmp_path / "spine.nrrd")
    shows(tab, crop, "spine")

    files = write_series(tmp_path / "series", (values + 1024).astype(np.uint16), affine)
    tab.page.locator("#open-scan").set_input_files(files)
    shows(tab, crop, "DICOM series")
    first = tab.get("scan")["id"]

    packed = tmp_path / "study.zip"
    study = tmp_path / "study"  # as on a disc from a scanner: in folders of folders, not all of it DICOM
    with zipfile.ZipFile(packed, "w") as archive:
        for number, path in enumerate(files):
            archive.write(path, f"patient/{number % 2}/{path.name}")
            (study / f"S{number % 2}").mkdir(parents=True, exist_ok=True)
            shutil.copy(path, study / f"S{number % 2}" / f"IM{number // 2}")
        archive.writestr("__MACOSX/patient/._IM0000.dcm", "clutter")
    (study / "README.TXT").write_text("clutter")
    (study / ".DS_Store").write_text("clutter")
    for dropped in ([packed], [study], files):
        drop(tab, *dropped)
        tab.until(f"get('scan').id !== '{first}'")
        shows(tab, crop, "DICOM series")
        first = tab.get("scan")["id"]


def test_what_cannot_be_opened_is_named_and_changes_nothing(tab: Tab, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"this is not a scan")
    tab.page.locator("#open-scan").set_input_files(broken)
    assert tab.message("broken.nii.gz").startswith("broken.nii.gz: "), "a name that the user knows, no folder of ours"
    tab.shot("broken")
    tab.page.keyboard.press("Escape")
    tab.page.wait_for_selector("#message", state="detached")
    tab.page.locator("#tab-match").click()
    tab.page.locator("[name=path]").fill("/no/such/scan.nii.gz")
    tab.page.keyboard.press("Enter")
    tab.message("/no/such/scan.nii.gz")
    empty = tmp_path / "empty.zip"
    empty.write_bytes(b"PK\x05\x06" + bytes(18))
    drop(tab, empty)
    tab.message("holds no files")
    assert tab.get("scan")["name"] == "chest"
    assert tab.get("embedded")


def test_a_whole_chest_is_cancelled_embedded_and_its_vertebrae_light_up(tab: Tab, tmp_path: Path) -> None:
    tab.page.evaluate("path => { window.trame.trigger('openPath', [path, false]); }", str(DEMO_CT))
    tab.until("get('scan').name === 'demo_ct' && get('progress') && get('progress').percent > 0")
    assert tab.get("progress")["left"].endswith("s left")
    start = tab.get("slices")["Red"]["offset"]
    tab.move("Red", 0.5, 0.5)
    tab.page.mouse.wheel(0, -100)
    tab.until(f"get('slices').Red.offset !== {start}")
    assert not tab.get("embedded"), "the page answers while the scan is embedded"
    tab.shot("embedding")
    tab.page.locator("#cancel").click()
    tab.page.locator("#embed").wait_for()
    tab.rest()
    assert not tab.get("embedded")
    tab.page.locator("#embed").click()
    tab.until("get('progress') && get('progress').percent !== null")
    tab.page.keyboard.press("Escape")
    tab.page.locator("#embed").wait_for()
    tab.rest()
    assert not tab.get("embedded")

    tab.page.locator("#embed").click()
    tab.until("get('progress') && get('progress').left.endsWith('s so far')")  # one tile: nothing to reckon by
    tab.until("get('embedded')")
    ras = tab.click("Red", *CLICKED)
    heat = nibabel.load(tab.download("#save-map", tmp_path)).get_fdata()
    image = nibabel.load(DEMO_CT.with_name("demo_ct_labels.nii.gz"))
    labels = np.asarray(image.dataobj)
    i, j, k = np.rint(nibabel.affines.apply_affine(np.linalg.inv(image.affine), ras)).astype(int)
    assert labels[i, j, k] in VERTEBRAE
    threshold = tab.get("threshold")
    lit = [float((heat[labels == each] > threshold).mean()) for each in VERTEBRAE]
    elsewhere = float((heat[(labels > 0) & (labels < 26)] > threshold).mean())
    assert min(lit) > 0.45, f"all of them light up, as measured by 0.62 and more of their voxels: {lit}"
    assert elsewhere < 0.05, "and organs do not: 0.02"
    tab.shot("viewer")


def test_the_state_survives_a_reload(tab: Tab) -> None:
    tab.click("Red", *VERTEBRA)
    before = tab.get("points")
    tab.page.reload()
    tab.page.wait_for_selector(".v2v")
    tab.until("get('owner') === window.vox2vec.tab && get('points').length === 1")
    assert json.dumps(tab.get("points")) == json.dumps(before)
    tab.until_pixels("Red", np.zeros_like(tab.pixels("Red")))
