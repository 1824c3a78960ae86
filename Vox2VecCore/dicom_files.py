"""DICOM files in a folder: which are slices of which series, and which are damaged."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from Vox2VecCore.errors import VolumeError

PREAMBLE = b"DICM"
PREAMBLE_AT = 128
HEAD_BYTES = 4096
SUFFIXES = (".dcm", ".ima")
STORAGE_CLASS = re.compile(rb"\x02\x00\x02\x00UI..([0-9.]+)", re.DOTALL)
"""Tag (0002,0002), which says what kind of object a file is; its header group is always little endian."""
IMAGE_CLASS = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(?:2|4|128)(?![0-9])")
"""Storage classes of CT, MR and PET images."""


@dataclass(frozen=True)
class DicomSeries:
    """A series of single-frame images in a folder.

    :param uid: SeriesInstanceUID.
    :param files: one a slice, in order of name.
    """

    uid: str
    description: str
    modality: str
    files: tuple[Path, ...]

    @property
    def slice_count(self) -> int:
        """Number of slices."""
        return len(self.files)


@dataclass(frozen=True)
class SliceHeader:
    """What the header of one file says; geometry in LPS millimetres, as DICOM has it."""

    path: Path
    uid: str
    description: str
    modality: str
    size: tuple[int, ...]
    """Columns, rows, frames."""
    values_a_voxel: int
    position: NDArray[np.float64]
    """Of the first voxel's centre; empty when the file does not say."""
    orientation: NDArray[np.float64]
    """Direction along a row (i), then down a column (j)."""
    pixel_spacing: NDArray[np.float64]
    """Between rows (j), then between columns (i): DICOM's order."""
    thickness: float | None


@dataclass(frozen=True)
class DicomFolder:
    """What was found in a folder."""

    slices: dict[str, list[SliceHeader]]
    """By series UID."""
    damaged: list[Path]
    """Files that should be images of a series, but cannot be read."""

    def series(self) -> list[DicomSeries]:
        """Largest first."""
        found = [
            DicomSeries(uid, slices[0].description, slices[0].modality, tuple(s.path for s in slices))
            for uid, slices in self.slices.items()
        ]
        return sorted(found, key=lambda series: (-series.slice_count, series.uid))


def scan_folder(folder: Path, recursive: bool = True) -> DicomFolder:
    """Read the headers of all DICOM images in a folder, and in those below unless ``recursive`` is false.

    :raises VolumeError: if there is no such folder, or something in it cannot be read.
    """
    slices: dict[str, list[SliceHeader]] = defaultdict(list)
    damaged: list[Path] = []
    for path in files_in(folder, recursive):
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError as error:
            raise VolumeError(f"{path}: cannot be read ({error.strerror}).") from error
        if not is_dicom(head) and path.suffix.lower() not in SUFFIXES:
            continue
        try:
            found = _read_header(path)
        except (RuntimeError, ValueError):
            kind = STORAGE_CLASS.search(head)
            if kind is None or IMAGE_CLASS.match(kind[1]):
                damaged.append(path)
            continue
        slices[found.uid].append(found)
    return DicomFolder(dict(slices), damaged)


def files_in(folder: Path, recursive: bool) -> Iterator[Path]:
    """Files in order of name; those whose names start with a dot are other programs' notes."""

    def refuse(error: OSError) -> None:
        raise VolumeError(f"{error.filename}: cannot be read ({error.strerror}).") from error

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []
        yield from (Path(root, name) for name in sorted(names) if name[0] != "." and name.upper() != "DICOMDIR")


def is_dicom(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a DICOM file."""
    return head[PREAMBLE_AT : PREAMBLE_AT + len(PREAMBLE)] == PREAMBLE


def slice_reader(path: Path) -> sitk.ImageFileReader:
    """A reader of one file: ``ReadImageInformation`` reads its header, ``Execute`` gives its rescaled pixels."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    return reader


def _read_header(path: Path) -> SliceHeader:
    reader = slice_reader(path)
    reader.ReadImageInformation()

    def text(tag: str) -> str:
        return _decode(reader.GetMetaData(tag)) if reader.HasMetaDataKey(tag) else ""

    def numbers(tag: str) -> NDArray[np.float64]:
        return np.array([float(part) for part in text(tag).split("\\") if part.strip()])

    # Spacing between slices is rather a distance than the thickness, but only some scanners give it.
    thicknesses = [*numbers("0018|0088"), *numbers("0018|0050")]
    return SliceHeader(
        path=path,
        uid=text("0020|000e"),
        description=text("0008|103e"),
        modality=text("0008|0060"),
        size=tuple(reader.GetSize()),
        values_a_voxel=reader.GetNumberOfComponents(),
        position=numbers("0020|0032"),
        orientation=numbers("0020|0037"),
        pixel_spacing=numbers("0028|0030"),
        thickness=next((abs(mm) for mm in thicknesses if mm), None),
    )


def _decode(value: str) -> str:
    """Text of a tag; SimpleITK passes bytes that are not UTF-8 as surrogates, and most of those are Latin-1."""
    data = value.encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8").strip(" \0")
    except UnicodeDecodeError:
        return data.decode("latin-1").strip(" \0")
