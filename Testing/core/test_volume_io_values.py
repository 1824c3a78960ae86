"""Scan files: types, scales and frames, labels, what is written, and what cannot be CT."""

import gzip
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

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
