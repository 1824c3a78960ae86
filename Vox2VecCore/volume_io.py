"""Reading and writing scans: the file's name says which format, the format's own module does the work."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.errors import VolumeError
from Vox2VecCore.paths import replace_file
from Vox2VecCore.stored_scan import GeometryWarning, StoredScan, as_intensities, as_labels
from Vox2VecCore.volume import TISSUE_HU, Volume

__all__ = [
    "GeometryWarning",
    "NotCTWarning",
    "check_ct",
    "check_ct_range",
    "read_labels",
    "read_volume",
    "write_volume",
]

Format = Literal["NIfTI", "NRRD", "MetaImage", "DICOM"]

FORMATS: dict[str, Format] = {
    ".nii.gz": "NIfTI",
    ".nii": "NIfTI",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".dcm": "DICOM",
    ".ima": "DICOM",
}
WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")

HEAD_BYTES = 512


class NotCTWarning(UserWarning):
    """The intensities do not look like CT in Hounsfield units."""


def read_volume(path: str | os.PathLike[str], *, frame: int | None = None, series_uid: str | None = None) -> Volume:
    """Read a scan.

    :param path: .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd; a folder with DICOM files (the folders below count
        too); or one DICOM slice, which stands for its series in the same folder.
    :param frame: which volume of a 4D file, from 0; a 4D file with one volume needs no choice.
    :param series_uid: which DICOM series; without it the CT series with most slices.
    :returns: values after slope and intercept, (i, j, k) as the file orders its axes, in memory with i fastest;
        int16 when all are whole numbers that fit, else float32; affine to RAS millimetres.
    :raises VolumeError: if the file is missing, unreadable, damaged, not what its name says, or not one 3D volume of
        finite values; or if a DICOM series is not complete and regular.
    :warns GeometryWarning: if the file does not say how the scan lies in the patient.
    :warns SeriesWarning: if a folder holds several CT series and ``series_uid`` does not choose one.
    """
    return _read(Path(path), frame, series_uid, as_intensities)


def read_labels(path: str | os.PathLike[str], *, frame: int | None = None) -> Volume:
    """Read a label map, in any of the formats of :func:`read_volume`.

    :returns: int16, or int32 when values need it, whatever integer or float type the file has.
    :raises VolumeError: as :func:`read_volume`, and if a value is not a whole number (within 0.001).
    """
    return _read(Path(path), frame, None, as_labels)


def write_volume(volume: Volume, path: str | os.PathLike[str], *, fields: Mapping[str, str] | None = None) -> None:
    """Write a scan or label map as .nii, .nii.gz, .nrrd or .mha; the file appears complete or not at all.

    Shape and type stay as they are (bool becomes uint8, wide integers int32). The affine stays exact in NRRD and
    MetaImage; NIfTI stores it as float32, so one that came from a NIfTI file stays exact too.

    :param fields: further fields of the header, which only NRRD has room for.
    :raises VolumeError: if the suffix is unknown, the folder cannot be written to or is full, the type has no place
        in such files, or the affine is sheared and the format cannot say so.
    """
    path = Path(path)
    # As they stand here, in lower case: SimpleITK does not know .MHA.
    suffix = next((suffix for suffix in WRITABLE if path.name.endswith(suffix)), None)
    if suffix is None:
        raise VolumeError(f"{path}: scans are written as {', '.join(WRITABLE)}; choose one of these endings.")
    array = _storable(volume)
    try:
        if not path.parent.is_dir():
            raise VolumeError(f"{path}: there is no folder {path.parent} to write it to; make it first.")
        if path.is_dir():
            raise VolumeError(f"{path}: is a folder; give a file name.")
        with replace_file(path) as temporary:
            if FORMATS[suffix] == "NIfTI":
                # Each library is imported where its format is met, as in reading.
                from Vox2VecCore.nifti import write_nifti

                write_nifti(array, volume.affine, temporary)
            else:
                from Vox2VecCore.itk_files import write_itk

                write_itk(array, volume.affine, temporary, fields or {})
    except ValueError as error:
        raise VolumeError(f"{path}: {error}.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise VolumeError(
            f"{path}: cannot be written to the folder {path.parent.absolute()} ({reason}); "
            "free space there or choose another folder."
        ) from error


def check_ct(volume: Volume) -> str | None:
    """Whether a volume looks like CT in Hounsfield units.

    :returns: one sentence of warning when it does not, else ``None``.
    :raises VolumeError: if it is empty, constant, nothing but air, or holds NaN or infinite values.
    """
    if volume.array.size == 0:
        raise VolumeError(f"{volume.name}: holds no voxels.")
    return check_ct_range(volume.name, float(volume.array.min()), float(volume.array.max()))


def check_ct_range(name: str, low: float, high: float) -> str | None:
    """:func:`check_ct` for whom the lowest and highest value are known; NaN for any that is not finite."""
    if not np.isfinite([low, high]).all():
        raise VolumeError(f"{name}: holds NaN or infinite values; replace them, for instance by -1024 HU.")
    if low == high:
        raise VolumeError(f"{name}: every voxel has the value {low:g}; export the scan again.")
    if high <= TISSUE_HU:
        raise VolumeError(
            f"{name}: holds nothing but air, no voxel is above {TISSUE_HU:g} HU; check that it is the right scan, in "
            "Hounsfield units."
        )
    if low >= 0:
        return (
            f"{name}: no value is below 0, so this is not CT in Hounsfield units "
            "(another modality, or the rescale intercept is lost); results will be poor."
        )
    if low > TISSUE_HU:
        return (
            f"{name}: no voxel is as dark as air (lowest value {low:g}), so this may not be CT in Hounsfield "
            "units; results may be poor."
        )
    return None


def _read(
    path: Path, frame: int | None, series_uid: str | None, convert: Callable[[StoredScan, str], NDArray]
) -> Volume:
    kind = _checked_format(path)
    if series_uid is not None and kind != "DICOM":
        raise VolumeError(f"{path}: a series UID chooses among DICOM series, and this is a {kind} file.")
    # Each library is imported where its format is met: 3D Slicer brings SimpleITK but not nibabel.
    if kind == "NIfTI":
        from Vox2VecCore.nifti import read_nifti

        scan = read_nifti(path, frame)
    elif kind == "DICOM":
        from Vox2VecCore.dicom import read_dicom
        from Vox2VecCore.stored_scan import pick_frame

        pick_frame(str(path), 1, frame)
        scan = read_dicom(path, series_uid)
    else:
        from Vox2VecCore.itk_files import META_IO, NRRD_IO, read_itk

        scan = read_itk(path, NRRD_IO if kind == "NRRD" else META_IO, frame)
    return Volume(convert(scan, str(path)), scan.affine, str(path))


def _suffix(path: Path) -> str | None:
    name = path.name.lower()
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), None)


def _checked_format(path: Path) -> Format:
    """Format of a file by its name, when its first bytes do not contradict; a folder is taken for DICOM."""
    try:
        if path.is_dir():
            return "DICOM"
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise VolumeError(f"{path}: there is no such file or folder; check the path.") from None
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read ({error.strerror}).") from error
    suffix = _suffix(path)
    if not head:
        raise VolumeError(f"{path}: is empty (0 bytes); copy or export it again.")
    content = _content(head)
    if suffix is None:
        if content == "DICOM" or path.name.upper() == "DICOMDIR":
            return "DICOM"
        raise VolumeError(f"{path}: unknown file type; give {', '.join(FORMATS)} or a DICOM folder.")
    expected = "gzip" if suffix == ".nii.gz" else FORMATS[suffix]
    if content != expected and suffix not in (".dcm", ".ima"):
        really = f"the content is {content}" if content else "the content is something else"
        raise VolumeError(f"{path}: the name says {suffix} but {really}; rename it or export it again.")
    return FORMATS[suffix]


def _content(head: bytes) -> str | None:
    """Format of a file by its first bytes."""
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if head[:4] == b"NRRD":
        return "NRRD"
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0":
        return "NIfTI"
    first_key = head.lstrip().partition(b"=")[0].strip()
    return "MetaImage" if first_key in (b"ObjectType", b"NDims", b"Comment", b"ObjectSubType") else None


def _storable(volume: Volume) -> NDArray:
    """The array in a type that all formats and their readers know."""
    array = volume.array
    kind, size = array.dtype.kind, array.dtype.itemsize
    if array.size == 0:
        raise VolumeError(f"{volume.name}: holds no voxels to write.")
    if kind == "b":
        return array.astype(np.uint8)
    if kind == "f":
        return array.astype(np.float32 if size <= 4 else np.float64, copy=False)
    if kind in "iu" and size <= 2:
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if kind in "iu":
        limits = np.iinfo(np.int32)
        if array.min() < limits.min or array.max() > limits.max:
            raise VolumeError(f"{volume.name}: holds integers beyond 32 bits, which scan files cannot keep.")
        return array.astype(np.int32, copy=False)
    raise VolumeError(f"{volume.name}: values of type {array.dtype} cannot be written to a scan file.")
