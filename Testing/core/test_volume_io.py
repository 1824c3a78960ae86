"""Scan files: every voxel at its place in the patient, there and back; real scans, and memory."""

import tempfile
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from Testing.support.volume_files import (
    FORMATS,
    HU,
    OBLIQUE,
    assert_same_place,
    nrrd,
    orthogonal,
    refused,
    write_nifti,
)
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import GeometryWarning, check_ct, read_labels, read_volume, write_volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@st.composite
def affines(draw: st.DrawFn, sheared: bool = False) -> np.ndarray:
    """Any direction, either hand, permuted axes, negative spacing; 0.3 to 10 mm; up to 30 degrees of tilt."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    axes = np.eye(3)[draw(st.permutations(range(3)))] * draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    if draw(st.booleans()):
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ axes
    if sheared:
        axes[:, 2] += np.tan(np.radians(draw(st.floats(-30, 30)))) * axes[:, 1]
    affine = np.eye(4)
    affine[:3, :3] = axes * draw(st.tuples(*[st.floats(0.3, 10)] * 3))
    affine[:3, 3] = rng.uniform(-1000, 1000, 3)
    return affine


shapes = st.tuples(*[st.integers(1, 6)] * 3)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=40)
@given(affine=affines(), shape=shapes, seed=st.integers(0, 999), dtype=st.sampled_from(["i2", "f4"]))
def test_there_and_back(suffix: str, affine: np.ndarray, shape: tuple[int, int, int], seed: int, dtype: str) -> None:
    array = np.random.default_rng(seed).normal(0, 500, shape).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"scan{suffix}")
        write_volume(Volume(array, affine), path)
        volume = read_volume(path)
        again = Path(folder, f"again{suffix}")
        write_volume(volume.with_array(np.ones(volume.shape, np.float32)), again)  # a map on the scan's own grid
        assert sorted(p.name for p in Path(folder).iterdir()) == sorted([path.name, again.name])
        heat = read_volume(again)
        assert heat.shape == volume.shape
        np.testing.assert_allclose(heat.affine, volume.affine, rtol=0 if "nii" in suffix else 1e-14)
    assert volume.array.dtype == (dtype if (array != np.rint(array)).any() else "i2")
    assert volume.shape == shape
    assert_same_place(volume, array, affine)


@settings(max_examples=30)
@given(affines(sheared=True), st.sampled_from([".nii", ".nii.gz"]))
def test_a_sheared_grid_survives_in_nifti(affine: np.ndarray, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"scan{suffix}")
        write_volume(Volume(HU, affine), path)
        assert_same_place(read_volume(path), HU, affine)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_sheared_grid_is_refused_by_other_formats(tmp_path: Path, suffix: str) -> None:
    affine = OBLIQUE.copy()
    affine[:3, 2] += affine[:3, 1]
    path = tmp_path / f"scan{suffix}"
    with refused("sheared", "write .nii.gz instead", str(path)):
        write_volume(Volume(HU, affine), path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("hand", [-1, 1])
def test_other_programs_see_the_same_place(tmp_path: Path, suffix: str, hand: int) -> None:
    """SimpleITK reads what is written here, with its own idea of the geometry."""
    affine = orthogonal()
    affine[:3, 0] *= hand
    write_volume(Volume(HU, affine), tmp_path / f"scan{suffix}")
    image = sitk.ReadImage(str(tmp_path / f"scan{suffix}"))
    for ijk in [(0, 0, 0), (5, 4, 3), (2, 0, 3)]:
        point = LPS_TO_RAS[:3, :3] @ image.TransformIndexToPhysicalPoint(ijk)
        np.testing.assert_allclose(point, affine[:3] @ [*ijk, 1], atol=1e-3)
        assert image[ijk] == HU[ijk]


def test_nifti_header_says_what_it_should(tmp_path: Path) -> None:
    write_volume(Volume(HU, orthogonal()), tmp_path / "scan.nii.gz")
    header = nib.Nifti1Image.from_filename(tmp_path / "scan.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)
    affine = orthogonal()
    affine[:3, 2] += affine[:3, 1]
    write_volume(Volume(HU, affine), tmp_path / "sheared.nii.gz")
    header = nib.Nifti1Image.from_filename(tmp_path / "sheared.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)


def test_sform_wins_over_qform_unless_its_code_is_0(tmp_path: Path) -> None:
    image = nib.Nifti1Image(HU, OBLIQUE)
    image.set_sform(OBLIQUE, 2)
    image.set_qform(orthogonal(), 1)
    image.to_filename(tmp_path / "scan.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "scan.nii").affine, OBLIQUE, atol=1e-4)
    image.set_sform(OBLIQUE, 0)
    image.to_filename(tmp_path / "scan.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "scan.nii").affine, orthogonal(), atol=1e-4)


def test_geometry_that_is_only_spacing_is_warned_of(tmp_path: Path) -> None:
    image = nib.Nifti1Image(HU, None)
    image.header.set_zooms((0.7, 0.8, 2.5))
    image.to_filename(tmp_path / "scan.nii.gz")
    with pytest.warns(GeometryWarning, match=r"scan\.nii\.gz: the file gives the voxel spacing but not"):
        volume = read_volume(tmp_path / "scan.nii.gz")
    np.testing.assert_allclose(volume.spacing_mm, [0.7, 0.8, 2.5], atol=1e-6)
    nrrd(tmp_path / "scan.nrrd", "spacings: 0.7 0.8 2.5")
    with pytest.warns(GeometryWarning, match=r"scan\.nrrd: the file names no anatomical space"):
        volume = read_volume(tmp_path / "scan.nrrd")
    np.testing.assert_allclose(volume.spacing_mm, [0.7, 0.8, 2.5], atol=1e-6)


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000.0), ("mm", 1.0), ("micron", 0.001), ("unknown", 1.0)])
def test_units_of_nifti(tmp_path: Path, unit: str, mm: float) -> None:
    image = nib.Nifti1Image(HU, OBLIQUE)
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "scan.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "scan.nii").affine[:3], mm * OBLIQUE[:3], rtol=1e-6)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("right-anterior-superior", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
        ("left-posterior-superior", (-1, -1, 1)),
    ],
)
def test_spaces_of_nrrd_even_sheared(tmp_path: Path, space: str, signs: tuple[int, int, int]) -> None:
    nrrd(
        tmp_path / "scan.nrrd",
        f"space: {space}\nspace directions: (0.7,0,0) (0,0.8,0.3) (0,0,-2.5)\nspace origin: (5,6,7)",
    )
    affine = np.array([[0.7, 0, 0, 5], [0, 0.8, 0, 6], [0, 0.3, -2.5, 7], [0, 0, 0, 1]])
    volume = read_volume(tmp_path / "scan.nrrd")
    np.testing.assert_allclose(volume.affine, np.diag([*signs, 1]) @ affine, atol=1e-12)
    np.testing.assert_array_equal(volume.array, HU)


def test_detached_headers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    image = sitk.GetImageFromArray(HU.T)
    for suffix in (".nhdr", ".mhd"):
        sitk.WriteImage(image, str(tmp_path / f"scan{suffix}"))
        np.testing.assert_array_equal(read_volume(tmp_path / f"scan{suffix}").array, HU)
    for data in (*tmp_path.glob("*.raw*"), *tmp_path.glob("*.zraw")):
        data.unlink()
    sitk.WriteImage(image, str(tmp_path / "cut.mha"))
    (tmp_path / "cut.mha").write_bytes((tmp_path / "cut.mha").read_bytes()[:-1])
    (tmp_path / "header.mha").write_bytes((tmp_path / "cut.mha").read_bytes()[:60])
    for name in ("scan.nhdr", "scan.mhd", "cut.mha", "header.mha"):
        with refused("lacks its data file"):
            read_volume(tmp_path / name)
    assert capfd.readouterr().err == "", "nothing but our sentence"


# Real scans, and memory


def test_the_demo_ct(demo_ct: Path) -> None:
    volume, image = read_volume(demo_ct), nib.Nifti1Image.from_filename(demo_ct)
    assert volume.array.dtype == np.int16 and check_ct(volume) is None
    np.testing.assert_array_equal(volume.affine, image.affine)
    assert np.array_equal(volume.array, np.asarray(image.dataobj))


def test_the_demo_ct_goes_through_every_format(demo_ct: Path, tmp_path: Path) -> None:
    """It is left-handed (i runs to the patient's left); a crop of it must not change sides."""
    whole = read_volume(demo_ct)
    assert np.linalg.det(whole.affine) < 0
    corner = np.array([100, 150, 40])
    affine = whole.affine.copy()
    affine[:3, 3] = whole.to_ras(corner)[0]
    crop = Volume(np.ascontiguousarray(whole.array[100:260, 150:200, 40:60]), affine)
    for suffix in FORMATS:
        write_volume(crop, tmp_path / f"crop{suffix}")
        read = read_volume(tmp_path / f"crop{suffix}")
        np.testing.assert_array_equal(read.array, crop.array)
        np.testing.assert_allclose(read.affine, affine, atol=1e-4)


def test_all_shared_scans(shared_ct: Path) -> None:
    for path in sorted(shared_ct.rglob("*.nii.gz")):
        volume = (read_labels if path.name.endswith("_labels.nii.gz") else read_volume)(path)
        assert volume.array.dtype == np.int16
        np.testing.assert_array_equal(volume.affine, nib.Nifti1Image.from_filename(path).affine)
        if not path.name.endswith("_labels.nii.gz"):
            assert check_ct(volume) is None


@pytest.mark.parametrize(("dtype", "most"), [("i2", 1.2), ("u2", 2.4), ("f4", 1.2), ("f8", 1.4)])
def test_reading_makes_no_needless_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, most: float
) -> None:
    monkeypatch.setattr("Vox2VecCore.stored_scan.SLAB_VOXELS", 1 << 17)
    array = np.random.default_rng(0).integers(0, 2000, (160, 160, 160)).astype(dtype)
    if dtype == "f4":
        array += 0.5
    write_nifti(tmp_path / "scan.nii.gz", array)
    tracemalloc.start()
    volume = read_volume(tmp_path / "scan.nii.gz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert volume.array.dtype == (np.float32 if dtype == "f4" else np.int16)
    assert peak < most * array.nbytes
