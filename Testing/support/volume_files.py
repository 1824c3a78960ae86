"""Small scan files, what is refused, and a full disk, for the tests of reading and writing them."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from Vox2VecCore.errors import VolumeError

FORMATS = (".nii", ".nii.gz", ".nrrd", ".mha")
OBLIQUE = np.array([[0.9, -0.3, 0.2, -120], [0.3, 0.9, 0.1, 80], [-0.2, -0.05, 2.4, -700], [0, 0, 0, 1]])
HU = np.random.default_rng(5).integers(-1024, 2000, (6, 5, 4)).astype(np.int16)


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> nib.Nifti1Image:
    image = nib.Nifti1Image(array, affine)
    image.to_filename(path)
    return image


def orthogonal(seed: int = 1) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0] * [0.7, 0.8, 2.5]
    affine[:3, 3] = [-100.5, 33.25, -812]
    return affine


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
