"""Scan files: every value at its place in the patient, there and back, and one sentence for what cannot be read."""

import gzip
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from Testing.support.volume_files import FORMATS, HU, OBLIQUE, orthogonal, refused, write_nifti
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import GeometryWarning, check_ct, read_labels, read_volume, write_volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


# Geometry


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


def assert_same_place(volume: Volume, array: np.ndarray, affine: np.ndarray) -> None:
    """Every voxel of (array, affine) has its value in the volume at the same point of the patient."""
    ijk = np.argwhere(np.ones(array.shape, bool))
    ras = ijk @ affine[:3, :3].T + affine[:3, 3]
    found = np.rint(volume.to_ijk(ras)).astype(int)
    assert np.abs(volume.to_ras(found) - ras).max() < 1e-3
    np.testing.assert_array_equal(volume.array[tuple(found.T)], array[tuple(ijk.T)])


shapes = st.tuples(*[st.integers(1, 6)] * 3)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=40, deadline=None)
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


@settings(max_examples=30, deadline=None)
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


def nrrd(path: Path, fields: str, array: np.ndarray = HU) -> None:
    """A NRRD file by hand; values int16, i fastest."""
    sizes = " ".join(map(str, array.shape))
    head = (
        f"NRRD0004\ntype: short\ndimension: {array.ndim}\nsizes: {sizes}\nendian: little\nencoding: raw\n{fields}\n\n"
    )
    path.write_bytes(head.encode() + array.astype("<i2").tobytes(order="F"))


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


# Values


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "u4", "f4", "f8"])
def test_whole_numbers_become_int16_where_they_fit(tmp_path: Path, suffix: str, dtype: str) -> None:
    path = tmp_path / f"scan{suffix}"
    array = np.arange(120).reshape(6, 5, 4).astype(dtype)
    large = np.where(array == 7, 40_000, array).astype(dtype)
    for values, expected in ((array, np.int16), (large, np.float32 if large.max() > 32767 else np.int16)):
        if suffix.startswith(".nii"):
            write_nifti(path, values)
        else:
            sitk.WriteImage(sitk.GetImageFromArray(values.T), str(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GeometryWarning)
            volume = read_volume(path)
        assert volume.array.dtype == expected
        np.testing.assert_array_equal(volume.array, values)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, -1024, np.int16), (2, -3, np.int16), (0.5, 0, np.float32), (1, 0.25, np.float32), (100, 0, np.float32)],
)
def test_slope_and_intercept_of_nifti(tmp_path: Path, slope: float, intercept: float, dtype: type) -> None:
    stored = np.random.default_rng(0).integers(0, 3000, (6, 5, 4)).astype("u2")
    image = nib.Nifti1Image(stored, OBLIQUE)
    image.header.set_slope_inter(slope, intercept)
    nib.save(image, tmp_path / "scan.nii.gz")
    with_scale = bytearray(gzip.decompress((tmp_path / "scan.nii.gz").read_bytes()))
    with_scale[112:120] = np.array([slope, intercept], "<f4").tobytes()
    (tmp_path / "scan.nii").write_bytes(with_scale)
    volume = read_volume(tmp_path / "scan.nii")
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, (stored * float(slope) + intercept).astype(np.float32))


def test_a_slope_of_zero_means_none(tmp_path: Path) -> None:
    write_nifti(tmp_path / "scan.nii", HU)
    data = bytearray((tmp_path / "scan.nii").read_bytes())
    data[112:120] = np.array([0, 55], "<f4").tobytes()
    (tmp_path / "scan.nii").write_bytes(data)
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii").array, HU)


def test_many_slabs_change_type_halfway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("Vox2VecCore.stored_scan.SLAB_VOXELS", 31)
    array = HU.astype("f4")
    array[2, 3, 2] = 0.5
    write_nifti(tmp_path / "scan.nii", array)
    volume = read_volume(tmp_path / "scan.nii")
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, array)


def test_big_endian_nifti_and_nifti_2(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype("i2")
    nib.Nifti1Image(HU.astype(">i2"), OBLIQUE, header).to_filename(tmp_path / "big.nii")
    nib.Nifti2Image(HU, OBLIQUE).to_filename(tmp_path / "two.nii.gz")
    for name in ("big.nii", "two.nii.gz"):
        volume = read_volume(tmp_path / name)
        assert volume.array.dtype == np.dtype("=i2")
        assert_same_place(volume, HU, volume.affine)
        np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-4)


def test_gzip_in_several_streams(tmp_path: Path) -> None:
    write_nifti(tmp_path / "scan.nii", HU)
    data = (tmp_path / "scan.nii").read_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(data[:400]) + gzip.compress(data[400:]) + b"\0" * 70_000)
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii.gz").array, HU)


def test_frames_of_4d_files(tmp_path: Path) -> None:
    frames = np.stack([HU, HU + 1, HU + 2], axis=-1)
    write_nifti(tmp_path / "scan.nii.gz", frames)
    nrrd(
        tmp_path / "scan.nrrd",
        "space: right-anterior-superior-time\nspace directions: (1,0,0,0) (0,2,0,0) (0,0,3,0) (0,0,0,1)\n"
        "kinds: domain domain domain time",
        frames,
    )
    for name in ("scan.nii.gz", "scan.nrrd"):
        path = tmp_path / name
        with refused(name, "4D with 3 frames", "frame 0 to 2"):
            read_volume(path)
        with refused("no frame 3"):
            read_volume(path, frame=3)
        with refused("no frame -1"):
            read_volume(path, frame=-1)
        for frame in range(3):
            volume = read_volume(path, frame=frame)
            np.testing.assert_array_equal(volume.array, HU + frame)
    np.testing.assert_allclose(volume.affine, np.diag([1, 2, 3, 1]))
    write_nifti(tmp_path / "one.nii", frames[..., :1])
    assert read_volume(tmp_path / "one.nii").shape == HU.shape
    with refused("no frame 1"):
        read_volume(tmp_path / "one.nii", frame=1)


def test_colours_and_other_shapes_are_refused(tmp_path: Path) -> None:
    rgb = np.zeros((4, 3, 2), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    write_nifti(tmp_path / "rgb.nii", rgb)
    write_nifti(tmp_path / "complex.nii", np.zeros((4, 3, 2), np.complex64))
    write_nifti(tmp_path / "vectors.nii", np.zeros((4, 3, 2, 1, 3), np.float32))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 3, 2, 3), "u1"), isVector=True), str(tmp_path / "rgb.nrrd"))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 3, 2, 3), "u1"), isVector=True), str(tmp_path / "rgb.mha"))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 3), "u1")), str(tmp_path / "flat.mha"))
    for name, word in {
        "rgb.nii": "colours",
        "complex.nii": "complex",
        "vectors.nii": "4 x 3 x 2 x 1 x 3 voxels",
        "rgb.nrrd": "3 values a voxel",
        "rgb.mha": "3 values a voxel",
        "flat.mha": "expected a 3D volume, got 3 x 4",
    }.items():
        with refused(str(tmp_path / name), word):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("suffix", FORMATS)
def test_values_that_are_no_numbers_are_refused_with_their_place(tmp_path: Path, suffix: str, value: float) -> None:
    array = HU.astype(np.float64)
    array[1, 2, 3] = value
    write_volume(Volume(array, orthogonal()), tmp_path / f"scan{suffix}")
    with refused(f"scan{suffix}", "voxel (1, 2, 3)", f"{value:g}"):
        read_volume(tmp_path / f"scan{suffix}")


# Labels


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_labels_are_integers(tmp_path: Path, dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 120, (6, 5, 4)).astype(dtype)
    write_nifti(tmp_path / "labels.nii.gz", array)
    volume = read_labels(tmp_path / "labels.nii.gz")
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, array)


def test_labels_beyond_int16_and_scaled_ones(tmp_path: Path) -> None:
    array = np.zeros((6, 5, 4), np.float64)
    array[1, 1, 1] = 100_000
    write_nifti(tmp_path / "labels.nii", array)
    volume = read_labels(tmp_path / "labels.nii")
    assert volume.array.dtype == np.int32 and volume.array[1, 1, 1] == 100_000
    # nibabel stores floats as scaled integers here: they come back as 12.9999 and the like.
    image = nib.Nifti1Image((np.arange(120) % 14).reshape(6, 5, 4).astype(np.float32), OBLIQUE)
    image.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "scaled.nii")
    np.testing.assert_array_equal(read_labels(tmp_path / "scaled.nii").array.ravel(), np.arange(120) % 14)


def test_probabilities_are_no_labels(tmp_path: Path) -> None:
    array = np.zeros((6, 5, 4), np.float32)
    array[3, 1, 2] = 0.25
    write_nifti(tmp_path / "map.nii", array)
    with refused("map.nii", "not a label map", "0.25"):
        read_labels(tmp_path / "map.nii")
    array[3, 1, 2] = 1e10
    write_nifti(tmp_path / "map.nii", array)
    with refused("voxel (3, 1, 2)"):
        read_labels(tmp_path / "map.nii")
    array[3, 1, 2] = np.nan
    write_nifti(tmp_path / "map.nii", array)
    with refused("nan"):
        read_labels(tmp_path / "map.nii")


# Writing


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("?", "u1"), ("u1", "u1"), ("i2", "i2"), (">i2", "i2"), ("u2", "u2"), ("i4", "i4"), ("i8", "i4"), ("u4", "i4"),
     ("f2", "f4"), ("f4", "f4"), ("f8", "f8")],
)  # fmt: skip
def test_types_that_are_written(tmp_path: Path, suffix: str, dtype: str, stored: str) -> None:
    array = np.asfortranarray(np.random.default_rng(0).integers(0, 2, (6, 5, 4)).astype(dtype))
    path = tmp_path / f"scan{suffix}"
    write_volume(Volume(array, orthogonal()), path)
    written = (
        nib.Nifti1Image.from_filename(path).get_data_dtype()
        if "nii" in suffix
        else sitk.GetArrayFromImage(sitk.ReadImage(path)).dtype
    )
    assert written == np.dtype(stored)
    np.testing.assert_array_equal(read_volume(path).array, array)


# Does it look like CT


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([-1000, 40, 900], None),
        ([-3024, 0], None),
        ([0, 40, 900], "no value is below 0"),
        ([-400, 900], "no voxel is as dark as air"),
        ([-3.5, 2.0], "no voxel is as dark as air"),
    ],
)
def test_what_looks_like_ct(values: list[float], words: str | None) -> None:
    message = check_ct(Volume(np.resize(np.array(values, "f4"), (4, 3, 2)), OBLIQUE, "scan.nii"))
    if words is None:
        assert message is None
    else:
        assert message is not None and message.startswith("scan.nii:") and words in message


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 3, 3), "i2"), "every voxel has the value 0"),
        (np.linspace(-1024, -500, 27).reshape(3, 3, 3), "nothing but air"),
        (np.array([[[0, np.nan]]]), "NaN or infinite"),
        (np.array([[[0, -np.inf]]]), "NaN or infinite"),
        (np.zeros((0, 3, 3)), "no voxels"),
    ],
)
def test_what_cannot_be_ct_is_refused(array: np.ndarray, words: str) -> None:
    with refused("scan.nii", words):
        check_ct(Volume(array, OBLIQUE, "scan.nii"))


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
