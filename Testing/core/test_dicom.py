"""DICOM folders: the right geometry, the right series, and a refusal for what is not one regular volume."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from Testing.support.dicom_series import (
    DESCRIPTION,
    DIRECTORY,
    ORIENTATION,
    PIXEL_SPACING,
    POSITION,
    THICKNESS,
    write_series,
    write_slice,
    write_structures,
)
from Vox2VecCore.dicom import SeriesWarning, list_dicom_series
from Vox2VecCore.errors import VolumeError
from Vox2VecCore.volume_io import read_volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
AXIAL = np.array([[0.8, 0, 0, -100.0], [0, 0.7, 0, -90.0], [0, 0, 2.5, -300.0], [0, 0, 0, 1]])
SHAPE = (5, 4, 6)
STORED = np.random.default_rng(7).integers(0, 4000, SHAPE).astype("u2")
HU = STORED.astype(int) - 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound axial series of six slices."""
    write_series(tmp_path / "scan", STORED, AXIAL)
    return tmp_path / "scan"


def refused(path: Path, *words: str, **options: object) -> str:
    """Message of the refusal: one line that names the place and holds the words."""
    with pytest.raises(VolumeError) as error:
        read_volume(path, **options)  # type: ignore[arg-type]
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    for word in words:
        assert word in message
    return message


def test_slices_are_ordered_by_position_and_rescaled(folder: Path) -> None:
    volume = read_volume(folder)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, HU)
    np.testing.assert_allclose(volume.affine, LPS_TO_RAS @ AXIAL, atol=1e-6)


@st.composite
def geometries(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and an LPS matrix: any direction, either hand, spacing 0.3 to 10 mm, tilted up to 30 degrees."""
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    spacing = [draw(st.floats(0.3, 10)) for _ in range(3)]
    tilt = np.tan(np.radians(draw(st.sampled_from([0.0, 0.0, 15.0, -30.0]))))
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 2] += rotation[:, 1] * spacing[2] * tilt
    affine[:3, 3] = rng.uniform(-1000, 1000, 3)
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(2, 6)))
    return rng.integers(-2000, 4000, shape).astype("i2"), affine


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(geometries())
def test_any_geometry_has_its_values_in_the_right_place(
    tmp_path_factory: pytest.TempPathFactory, geometry: tuple[np.ndarray, np.ndarray]
) -> None:
    stored, affine_lps = geometry
    folder = tmp_path_factory.mktemp("series")
    write_series(folder, stored, affine_lps, rescale=("1", "0"))
    volume = read_volume(folder)
    ijk = np.argwhere(np.ones(stored.shape, bool))
    ras = ijk @ (LPS_TO_RAS @ affine_lps)[:3, :3].T + (LPS_TO_RAS @ affine_lps)[:3, 3]
    found = volume.to_ijk(ras)
    assert np.abs(volume.to_ras(np.rint(found)) - ras).max() < 1e-3
    np.testing.assert_array_equal(volume.array[tuple(np.rint(found).astype(int).T)], stored[tuple(ijk.T)])
    shutil.rmtree(folder)


def test_every_slice_has_its_own_slope_and_intercept(tmp_path: Path) -> None:
    paths = write_series(tmp_path, STORED, AXIAL, rescale=("2", "-1000"))
    affine = AXIAL.copy()
    affine[:3, 3] += 3 * AXIAL[:3, 2]
    write_slice(paths[3], np.ascontiguousarray(STORED[:, :, 3].T), affine, rescale=("0.5", "-1000.25"))
    volume = read_volume(tmp_path)
    expected = 2.0 * STORED - 1000
    expected[:, :, 3] = 0.5 * STORED[:, :, 3] - 1000.25
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, expected.astype(np.float32))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
def test_pixel_types(tmp_path: Path, dtype: str) -> None:
    limits = np.iinfo(dtype)
    stored = np.random.default_rng(0).integers(limits.min, limits.max, SHAPE, dtype=dtype, endpoint=True)
    write_series(tmp_path, stored, AXIAL, rescale=None)
    np.testing.assert_array_equal(read_volume(tmp_path).array, stored)


def test_a_single_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", STORED[:, :, 0].T.copy(), AXIAL, tags={THICKNESS: ("DS", "7.5")})
    volume = read_volume(tmp_path)
    assert volume.shape == (5, 4, 1)
    np.testing.assert_allclose(volume.spacing_mm, [0.8, 0.7, 7.5])


def test_a_single_slice_without_thickness_is_refused(tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", STORED[:, :, 0].T.copy(), AXIAL)
    refused(tmp_path, "how thick")


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_regular(tmp_path: Path) -> None:
    for k in range(40):
        affine = AXIAL.copy()
        affine[2, 3] = round(-300 + 0.625 * k, 1)
        write_slice(tmp_path / f"{k}.dcm", STORED[:, :, 0].T.copy(), affine)
    np.testing.assert_allclose(read_volume(tmp_path).spacing_mm[2], 0.625, atol=0.003)


def test_series_are_listed_and_chosen(folder: Path) -> None:
    write_series(folder / "below", STORED[:, :, :3] + 1, AXIAL, uid="1.2.30", tags={DESCRIPTION: ("LO", "Thin")})
    write_series(folder / "mr", np.tile(STORED, (1, 1, 2)), AXIAL, uid="1.2.40", modality="MR")
    write_structures(folder / "contours.dcm")
    (folder / "readme.txt").write_text("not DICOM")
    (folder / "._IM0001.dcm").write_bytes(b"notes of a Mac")
    listed = list_dicom_series(folder)
    assert [(s.uid, s.description, s.modality, s.slice_count) for s in listed] == [
        ("1.2.40", "Chest", "MR", 12),
        ("1.2.3", "Chest", "CT", 6),
        ("1.2.30", "Thin", "CT", 3),
    ]
    with pytest.warns(SeriesWarning, match=r"largest CT series, 1\.2\.3, .*1\.2\.30 \(CT, 3 slices, Thin\)"):
        np.testing.assert_array_equal(read_volume(folder).array, HU)
    np.testing.assert_array_equal(read_volume(folder, series_uid="1.2.30").array, HU[:, :, :3] + 1)
    refused(folder, "no series 9.9", "1.2.40 (MR, 12 slices, Chest)", series_uid="9.9")


def test_without_a_ct_series_one_must_be_chosen(tmp_path: Path) -> None:
    write_series(tmp_path, STORED, AXIAL, modality="MR")
    refused(tmp_path, "no CT series", "1.2.3 (MR, 6 slices")
    assert read_volume(tmp_path, series_uid="1.2.3").shape == SHAPE


def test_a_slice_stands_for_its_series_in_its_folder(folder: Path) -> None:
    write_series(folder / "below", STORED, AXIAL)
    write_slice(folder / "other.dcm", STORED[:, :, 0].T.copy(), AXIAL, uid="1.2.30")
    np.testing.assert_array_equal(read_volume(folder / "IM0003.dcm").array, HU)
    (folder / "IM0003.dcm").rename(folder / "IM0003")
    np.testing.assert_array_equal(read_volume(folder / "IM0003").array, HU)


def test_a_dicomdir_stands_for_its_folder(folder: Path) -> None:
    write_slice(folder.parent / "DICOMDIR", STORED[:, :, 0].T.copy(), AXIAL, storage_class=DIRECTORY)
    np.testing.assert_array_equal(read_volume(folder.parent / "DICOMDIR").array, HU)
    np.testing.assert_array_equal(read_volume(folder.parent).array, HU)


@pytest.mark.parametrize("text", ["Schädel", "Schädel".encode("latin-1")])
def test_descriptions_with_accents(tmp_path: Path, text: str | bytes) -> None:
    write_series(tmp_path, STORED, AXIAL, tags={DESCRIPTION: ("LO", text)})
    assert list_dicom_series(tmp_path)[0].description == "Schädel"


@pytest.mark.parametrize("missing", [1, 2, 4])
def test_a_missing_slice_is_refused_with_its_place(folder: Path, missing: int) -> None:
    order = np.random.default_rng(0).permutation(6)
    (folder / f"IM{order[missing]:04d}.dcm").unlink()
    below, above = -300 + 2.5 * (missing - 1), -300 + 2.5 * (missing + 1)
    refused(folder, f"missing slices between {below:.2f} and {above:.2f} mm", f"IM{order[missing - 1]:04d}", "2.5 mm")


def test_a_gap_in_three_slices_and_in_oblique_ones(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "three", STORED[:, :, :4], AXIAL)
    paths[1].unlink()
    refused(tmp_path / "three", "between -300.00 and -295.00 mm")
    turn = np.eye(4)
    turn[:3, :3], _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    paths = write_series(tmp_path / "oblique", STORED, turn @ AXIAL)
    paths[3].unlink()
    refused(tmp_path / "oblique", "missing slices", "2.5 mm apart")


def test_several_gaps_are_counted(folder: Path) -> None:
    order = np.random.default_rng(0).permutation(6)
    for k in (1, 4):
        (folder / f"IM{order[k]:04d}.dcm").unlink()
    refused(folder, "missing slices between -300.00 and -295.00", "1 more")


def test_two_slices_at_one_place_are_refused(folder: Path) -> None:
    shutil.copy(folder / "IM0002.dcm", folder / "copy.dcm")
    refused(folder, "two slices at", "IM0002.dcm", "copy.dcm")


def test_uneven_spacing_is_refused(tmp_path: Path) -> None:
    for k, height in enumerate([0, 2.5, 5, 8.3, 10.8, 13.3]):
        affine = AXIAL.copy()
        affine[2, 3] = height
        write_slice(tmp_path / f"{k}.dcm", STORED[:, :, k].T.copy(), affine)
    refused(tmp_path, "unevenly spaced", "mm off its place")


def test_slices_shifted_sideways_are_refused(tmp_path: Path) -> None:
    for k in range(6):
        affine = AXIAL.copy()
        affine[:3, 3] += k * AXIAL[:3, 2] + [0, 3.0 * (k == 3), 0]
        write_slice(tmp_path / f"{k}.dcm", STORED[:, :, k].T.copy(), affine)
    refused(tmp_path, "3.dcm", "3.00 mm off its place")


def unlike(folder: Path, pixels: np.ndarray = STORED[:, :, 0].T, **options: object) -> None:
    """One more slice in the series, on top, that differs somehow."""
    affine = AXIAL.copy()
    affine[2, 3] = -300 + 6 * 2.5
    write_slice(folder / "unlike.dcm", pixels.copy(), affine, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pixels": np.zeros((8, 9), "u2")}, ["differ in size", "5 x 4", "9 x 8 in unlike.dcm"]),
        ({"tags": {ORIENTATION: ("DS", "1\\0\\0\\0\\0\\-1")}}, ["orientation", "unlike.dcm", "not parallel"]),
        ({"tags": {PIXEL_SPACING: ("DS", "0.7\\0.9")}}, ["unlike.dcm differ in size"]),
        ({"pixels": np.zeros((4, 5, 3), "u1")}, ["unlike.dcm is a colour image"]),
        ({"pixels": np.zeros((8, 5), "u2"), "frames": 2}, ["unlike.dcm holds 2 frames", "convert it to NIfTI"]),
        ({"without": [POSITION]}, ["unlike.dcm does not say where"]),
        ({"without": [ORIENTATION]}, ["unlike.dcm does not say where"]),
        ({"without": [PIXEL_SPACING]}, ["unlike.dcm does not say where"]),
    ],
)
def test_a_slice_unlike_the_others_is_refused(folder: Path, options: dict, words: list[str]) -> None:
    unlike(folder, **options)
    refused(folder, "series 1.2.3", *words)


@pytest.mark.parametrize("keep", [0, 100, 400, -1, -9])
def test_a_slice_cut_off_is_refused_even_at_the_end(folder: Path, keep: int) -> None:
    last = folder / f"IM{np.random.default_rng(0).permutation(6)[5]:04d}.dcm"
    last.write_bytes(last.read_bytes()[:keep])
    refused(folder, last.name, "damaged or cut off")


def test_a_damaged_slice_elsewhere_is_no_hindrance(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "cut.dcm").write_bytes((folder / "IM0000.dcm").read_bytes()[:-9])
    assert read_volume(folder).shape == SHAPE
    refused(folder / "elsewhere" / "cut.dcm", "damaged")


def test_folders_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").write_bytes(b"something")
    refused(tmp_path, "no DICOM images")
    assert list_dicom_series(tmp_path) == []
    with pytest.raises(VolumeError, match="absent: cannot be read"):
        list_dicom_series(tmp_path / "absent")


def test_dicom_has_one_frame(folder: Path) -> None:
    assert read_volume(folder, frame=0).shape == SHAPE
    refused(folder, "no frame 1", frame=1)
