"""Scan files that cannot be read or written: one sentence each, and nothing half-written."""

import gzip
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Testing.support.volume_files import FORMATS, HU, OBLIQUE, disk_of, orthogonal, refused, write_nifti
from Vox2VecCore.errors import VolumeError
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_volume, write_volume


def test_missing_and_empty_files(tmp_path: Path) -> None:
    for suffix in (*FORMATS, ".dcm"):
        path = tmp_path / f"scan{suffix}"
        with refused(str(path), "no such file or folder"):
            read_volume(path)
        path.touch()
        with refused(str(path), "0 bytes"):
            read_volume(path)
    with refused("cannot be read"):
        read_volume(tmp_path / ("x" * 300 + ".nii"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_cut_off(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    write_volume(Volume(HU, orthogonal()), path)
    whole = path.read_bytes()
    for keep in (len(whole) - 1, len(whole) - 9, len(whole) // 2, 200, 20):
        path.write_bytes(whole[:keep])
        with refused(str(path)):
            read_volume(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_flipped_byte_in_compressed_data_is_found(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    write_volume(Volume(np.random.default_rng(0).integers(-1000, 1000, (30, 30, 30)).astype("i2"), orthogonal()), path)
    whole = path.read_bytes()
    for at in np.linspace(len(whole) // 2, len(whole) - 30, 50).astype(int):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with refused(str(path), "damaged"):
            read_volume(path)


def test_names_that_lie(tmp_path: Path) -> None:
    for suffix in FORMATS:
        write_volume(Volume(HU, orthogonal()), tmp_path / f"scan{suffix}")
    content = {suffix: (tmp_path / f"scan{suffix}").read_bytes() for suffix in FORMATS}
    cases = {
        "a.nrrd": (content[".nii"], "name says .nrrd but the content is NIfTI"),
        "b.nii": (content[".nii.gz"], "name says .nii but the content is gzip"),
        "c.nii.gz": (content[".nii"], "name says .nii.gz but the content is NIfTI"),
        "d.nii.gz": (b"Dear reader, this is text. " * 30, "content is something else"),
        "e.mha": (content[".nrrd"], "name says .mha but the content is NRRD"),
        "f.nii": (content[".mha"], "name says .nii but the content is MetaImage"),
        "g.nii.gz": (gzip.compress(b"text " * 200), "is not a NIfTI file"),
        "h.dcm": (b"text " * 200, "not a DICOM image"),
        "i.jpg": (b"\xff\xd8\xff" * 99, "unknown file type"),
        "j": (b"text " * 200, "unknown file type"),
    }
    for name, (data, words) in cases.items():
        (tmp_path / name).write_bytes(data)
        with refused(str(tmp_path / name), words):
            read_volume(tmp_path / name)


@settings(max_examples=150)
@given(st.data())
def test_damaged_nifti_headers_never_crash(data: st.DataObject) -> None:
    """Any bytes in the header: a volume or a VolumeError, nothing else."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "scan.nii")
        write_nifti(path, HU)
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, 343) | st.sampled_from([40, 70, 76, 108, 112, 252]))
        new = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(new)] = new
        path.write_bytes(content)
        try:
            read_volume(path)
        except VolumeError as error:
            assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("suffix", FORMATS)
def test_endings_in_capitals_are_read(tmp_path: Path, suffix: str) -> None:
    write_volume(Volume(HU, orthogonal()), tmp_path / f"scan{suffix}")
    (tmp_path / f"scan{suffix}").rename(tmp_path / f"SCAN{suffix.upper()}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"SCAN{suffix.upper()}").array, HU)


def test_a_series_uid_is_for_dicom(tmp_path: Path) -> None:
    write_nifti(tmp_path / "scan.nii", HU)
    with refused("series UID", "NIfTI file"):
        read_volume(tmp_path / "scan.nii", series_uid="1.2")


@pytest.fixture
def without_rights() -> Iterator[Path]:
    """A folder whose files may not be read by whoever runs the test, root included."""
    folder = Path(tempfile.mkdtemp())
    write_nifti(folder / "scan.nii", HU)
    (folder / "scan.nii").chmod(0)
    (folder / "locked").mkdir(mode=0)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)
        (folder / "locked").rmdir()
        (folder / "scan.nii").unlink()
        folder.rmdir()


def test_files_and_folders_without_permission(without_rights: Path) -> None:
    for name in ("scan.nii", "locked", "locked/scan.nii"):
        path = without_rights / name
        with refused(str(path), "Permission denied"):
            read_volume(path)
    with refused(str(without_rights), "Permission denied"):
        read_volume(without_rights)
    for target in (without_rights / "new.nii.gz", without_rights / "locked" / "new.nii.gz"):
        with refused(str(target), "Permission denied"):
            write_volume(Volume(HU, OBLIQUE), target)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("shape", [(4, 3, 2), (40, 40, 40)])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, suffix: str, share: float, shape: tuple[int, int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    """The system says why, except where SimpleITK writes, and no library adds a line of its own."""
    reason = "the disk is full" if suffix == ".nrrd" else "File too large"
    path = tmp_path / f"scan{suffix}"
    volume = Volume(np.random.default_rng(0).integers(-1000, 1000, shape).astype("i2"), orthogonal())
    write_volume(volume, path)
    before = path.read_bytes()
    with disk_of(int(share * len(before))), refused(str(path), f"cannot be written to the folder {tmp_path} ({reason}"):
        write_volume(volume, path)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == before
    assert capfd.readouterr() == ("", "")


def test_impossible_targets(tmp_path: Path) -> None:
    volume = Volume(HU, OBLIQUE)
    (tmp_path / "folder.nii").mkdir()
    with refused("scan.jpg", ".nii.gz, .nii, .nrrd, .mha"):
        write_volume(volume, tmp_path / "scan.jpg")
    with refused("scan.MHA", ".nii.gz, .nii, .nrrd, .mha"):
        write_volume(volume, tmp_path / "scan.MHA")
    with refused("scan.mhd", ".nii.gz, .nii, .nrrd, .mha"):
        write_volume(volume, tmp_path / "scan.mhd")
    with refused("no folder", "absent"):
        write_volume(volume, tmp_path / "absent" / "scan.nii")
    with refused("is a folder"):
        write_volume(volume, tmp_path / "folder.nii")
    big = Volume(np.full((2, 2, 2), 2**40), OBLIQUE)
    with refused("beyond 32 bits"):
        write_volume(big, tmp_path / "scan.nii")
    with refused("complex"):
        write_volume(Volume(HU.astype(complex), OBLIQUE), tmp_path / "scan.nii")
    with refused("no voxels"):
        write_volume(Volume(HU[:0], OBLIQUE), tmp_path / "scan.nii")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.nii"]
