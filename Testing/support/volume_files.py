"""Small scan files, what is refused, and a full disk, for the tests of reading and writing them."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from Vox2VecCore.errors import VolumeError
from Vox2VecCore.volume import Volume

FORMATS = (".nii", ".nii.gz", ".nrrd", ".mha")
OBLIQUE = np.array([[0.9, -0.3, 0.2, -120], [0.3, 0.9, 0.1, 80], [-0.2, -0.05, 2.4, -700], [0, 0, 0, 1]])
HU = np.random.default_rng(5).integers(-1024, 2000, (6, 5, 4)).astype(np.int16)


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> nib.Nifti1Image:
    image = nib.Nifti1Image(array, affine)
    image.to_filename(path)
    return image


def nrrd(path: Path, fields: str, array: np.ndarray = HU) -> None:
    """A NRRD file by hand; values int16, i fastest."""
    sizes = " ".join(map(str, array.shape))
    head = (
        f"NRRD0004\ntype: short\ndimension: {array.ndim}\nsizes: {sizes}\nendian: little\nencoding: raw\n{fields}\n\n"
    )
    path.write_bytes(head.encode() + array.astype("<i2").tobytes(order="F"))


def orthogonal(seed: int = 1) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0] * [0.7, 0.8, 2.5]
    affine[:3, 3] = [-100.5, 33.25, -812]
    return affine


def assert_same_place(volume: Volume, array: np.ndarray, affine: np.ndarray) -> None:
    """Every voxel of (array, affine) has its value in the volume at the same point of the patient."""
    ijk = np.argwhere(np.ones(array.shape, bool))
    ras = ijk @ affine[:3, :3].T + affine[:3, 3]
    found = np.rint(volume.to_ijk(ras)).astype(int)
    assert np.abs(volume.to_ras(found) - ras).max() < 1e-3
    np.testing.assert_array_equal(volume.array[tuple(found.T)], array[tuple(ijk.T)])


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """What is done inside is refused in one line that holds the words."""
    with pytest.raises(VolumeError) as error:
        yield
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, as on a full disk; not for longer, or pytest's own log is cut."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
