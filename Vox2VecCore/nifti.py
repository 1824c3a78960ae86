"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz), header and geometry through nibabel.

The data are gunzipped here and not by nibabel: straight into the array, in half the time, and with the
check sum at the end of the file, which nibabel never reaches.
"""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from Vox2VecCore.byte_streams import decompress_blocks, read_blocks
from Vox2VecCore.errors import VolumeError
from Vox2VecCore.stored_scan import GeometryWarning, StoredScan, pick_frame, real_values

MM_PER_UNIT = {1: 1000.0, 3: 0.001}
"""Codes of NIfTI for metre and micrometre; everything else is taken as millimetre."""
SHEAR_TOLERANCE = 1e-4


def read_nifti(path: Path, frame: int | None = None) -> StoredScan:
    """Read one volume; the sform gives the geometry when its code is set, else the qform.

    :param frame: which volume of a 4D file.
    :raises VolumeError: if the file is damaged, 4D without ``frame``, or holds colours.
    :warns GeometryWarning: if both codes are 0, which leaves only the spacing.
    """
    stream = decompress_blocks(path) if path.name.lower().endswith(".gz") else read_blocks(path)
    start = b""
    for chunk in stream:
        start += chunk
        if len(start) >= nib.Nifti2Header.sizeof_hdr:
            break
    header = _header(start, path)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise VolumeError(
            f"{path}: holds colours or complex numbers, not the single values of a CT; export it in Hounsfield units."
        )
    shape, frames = _shape(header, path)
    chosen = pick_frame(str(path), frames, frame)
    try:
        values = np.empty(shape, dtype, order="F")
    except (MemoryError, ValueError) as error:
        raise VolumeError(f"{path}: a volume of {shape} voxels does not fit into memory.") from error
    _fill(values, header.get_data_offset() + chosen * values.nbytes, start, stream, path)
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise VolumeError(f"{path}: slope or intercept in the NIfTI header is damaged ({error}).") from error
    scaled = real_values(values, 1.0 if slope is None else slope, 0.0 if intercept is None else intercept)
    return StoredScan(scaled, shape, _affine(header, path))


def write_nifti(array: NDArray, affine: NDArray[np.float64], path: Path) -> None:
    """Write NIfTI-1 with sform, qform (where the matrix has no shear, which it cannot say) and millimetres.

    :raises ValueError: if NIfTI-1 cannot hold so many voxels along an axis.
    """
    if max(array.shape) > np.iinfo(np.int16).max:
        raise ValueError("NIfTI-1 holds at most 32767 voxels along an axis; write .nrrd instead")
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    sheared = not np.allclose(directions.T @ directions, np.eye(3), atol=SHEAR_TOLERANCE)
    image.set_qform(affine, code="unknown" if sheared else "scanner")
    image.to_filename(path)


def _header(start: bytes, path: Path) -> nib.Nifti1Header:
    if start[344:348] == b"n+1\0":
        kind = nib.Nifti1Header
    elif start[4:8] == b"n+2\0":
        kind = nib.Nifti2Header
    else:
        raise VolumeError(f"{path}: is not a NIfTI file, or is cut off within its header; copy or export it again.")
    # nibabel reports repairs to a logger that writes to the terminal.
    quiet = logging.Logger("quiet", level=logging.CRITICAL + 1)
    try:
        header = kind(start[: kind.sizeof_hdr], check=False)
        header.check_fix(logger=quiet)
        header.get_data_dtype()
        header.get_data_offset()
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise VolumeError(f"{path}: damaged NIfTI header ({error}); copy or export the file again.") from error
    return header


def _shape(header: nib.Nifti1Header, path: Path) -> tuple[tuple[int, int, int], int]:
    """Voxels along (i, j, k) and number of frames."""
    sizes = [int(size) for size in header.get_data_shape()]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    text = " x ".join(map(str, sizes))
    if not 2 <= len(sizes) <= 4 or min(sizes) < 1:
        raise VolumeError(f"{path}: expected a 3D volume, got {text or 'no'} voxels.")
    i, j, k, frames = [*sizes, 1, 1][:4]
    return (i, j, k), frames


def _affine(header: nib.Nifti1Header, path: Path) -> NDArray[np.float64]:
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        warnings.warn(
            f"{path}: the file gives the voxel spacing but not how the scan lies in the patient; "
            "left and right are a guess.",
            GeometryWarning,
            stacklevel=2,
        )
    try:
        affine = np.array(header.get_best_affine(), dtype=np.float64)
    except HeaderDataError as error:
        raise VolumeError(f"{path}: the NIfTI geometry is damaged ({error}).") from error
    affine[:3] *= MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    return affine


def _fill(values: NDArray, begin: int, start: bytes, stream: Iterator[bytes], path: Path) -> None:
    """Bytes from ``begin`` of a file into an array; the file is read to its end for the check sum there."""
    target = values.reshape(-1, order="F").view(np.uint8).data
    chunk, position = start, 0
    while chunk:
        first, last = max(position, begin), min(position + len(chunk), begin + len(target))
        if first < last:
            target[first - begin : last - begin] = chunk[first - position : last - position]
        position += len(chunk)
        chunk = next(stream, b"")
    if position < begin + len(target):
        raise VolumeError(
            f"{path}: is cut off, {position} of {begin + len(target)} bytes are there; copy or export it again."
        )
