"""DICOM series through SimpleITK: which series a folder holds, and a series as one volume.

SimpleITK's own series reader stacks whatever it is given (measured with 2.5): a missing slice stretches the
spacing, a doubled one shrinks it, a tilted gantry is straightened, and slices whose slope differs from the first one's
are cut to its type. So slices are read one by one here, and the geometry comes from their positions.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from Vox2VecCore.dicom_files import DicomFolder, DicomSeries, SliceHeader, scan_folder, slice_reader
from Vox2VecCore.errors import VolumeError
from Vox2VecCore.stored_scan import StoredScan, swap_lps_ras
from Vox2VecCore.volume import Volume

ORIENTATION_TOLERANCE = 1e-3
PIXEL_SPACING_TOLERANCE = 1e-3
POSITION_TOLERANCE_MM = 0.101
"""How far a slice may lie off its place: positions rounded to 0.1 mm, on either end, make 0.1 mm."""
POSITION_TOLERANCE = 0.05
"""The same as a share of the slice spacing, whichever is larger."""
SAME_PLACE_MM = 1e-3
SAME_GRID_TOLERANCE = 1e-4
"""Of matrices, which are computed from the same headers in the same way."""
GAP = 1.5
"""Neighbours this many times further apart than most are taken as a missing slice."""


class SeriesWarning(UserWarning):
    """A folder holds several CT series, and nobody said which one is meant."""


def list_dicom_series(folder: str | os.PathLike[str]) -> list[DicomSeries]:
    """All image series in a folder and the folders below, largest first; empty when there are none.

    Files that are not DICOM, and DICOM objects that are not images (plans, contours, reports), are passed over.

    :raises VolumeError: if the folder or something in it cannot be read.
    """
    return scan_folder(Path(folder)).series()


def read_dicom(path: Path, series_uid: str | None = None) -> StoredScan:
    """Read a series.

    :param path: a folder (with the folders below), a DICOMDIR (the same as its folder), or one slice, which
        stands for those slices of its series that lie in its folder.
    :param series_uid: which series; without it the CT series with most slices.
    :raises VolumeError: if there is no such series, or its slices do not make one regular volume: one is missing,
        damaged, or there twice, they are unevenly spaced, or differ in size, spacing or orientation.
    :warns SeriesWarning: if there are several CT series and none was chosen.
    """
    slices, affine = _series_slices(path, series_uid)
    columns, rows, _ = slices[0].size
    return StoredScan(_pixels(slices), (columns, rows, len(slices)), affine)


def files_of(volume: Volume, path: Path) -> list[Path]:
    """Files of the slices that a volume was read from, in order of k.

    The grid tells which series it was; of several on the same one it is as in reading, CT, then the first UID.

    :param path: what was read, see :func:`read_dicom`.
    :raises VolumeError: if not every slice is there any more.
    """
    folder, own_uid = _scanned(path)
    for series in sorted(folder.series(), key=lambda series: series.modality != "CT"):
        if own_uid not in (None, series.uid):
            continue
        try:
            slices, affine = _regular(folder.slices[series.uid], str(path))
        except VolumeError:
            continue
        columns, rows, _ = slices[0].size
        same_shape = (columns, rows, len(slices)) == volume.shape
        if same_shape and np.allclose(affine, volume.affine, rtol=0, atol=SAME_GRID_TOLERANCE):
            return [s.path for s in slices]
    raise VolumeError(f"{path}: is not the scan that was read; its slices have changed.")


def _scanned(path: Path) -> tuple[DicomFolder, str | None]:
    """What there is where a path points, and the series of a path that is a slice."""
    if path.is_dir() or path.name.upper() == "DICOMDIR":
        return scan_folder(path if path.is_dir() else path.parent), None
    folder = scan_folder(path.parent, recursive=False)
    for uid, slices in folder.slices.items():
        if any(s.path == path for s in slices):
            return folder, uid
    raise VolumeError(f"{path}: is damaged, cut off, or not a DICOM image; copy or export it again.")


def _series_slices(path: Path, series_uid: str | None) -> tuple[list[SliceHeader], NDArray[np.float64]]:
    """Slices of a series in order of k, and the voxel-to-RAS matrix."""
    folder, own_uid = _scanned(path)
    uid = _choose_series(folder, path, series_uid or own_uid)
    slices = folder.slices[uid]
    where = f"{path}, series {uid}"
    neighbours = {s.path.parent for s in slices}
    for damaged in folder.damaged:
        if damaged.parent in neighbours:
            raise VolumeError(f"{where}: the file {damaged} beside its slices is damaged or cut off; copy it again.")
    return _regular(slices, where)


def _choose_series(folder: DicomFolder, path: Path, series_uid: str | None) -> str:
    found = folder.series()
    if not found:
        damaged = f" (damaged: {len(folder.damaged)})" if folder.damaged else ""
        raise VolumeError(
            f"{path}: no DICOM images in this folder or below{damaged}; give the scan file or its folder."
        )
    known = "; ".join(f"{s.uid} ({s.modality}, {s.slice_count} slices, {s.description or 'unnamed'})" for s in found)
    if series_uid is not None:
        if series_uid not in folder.slices:
            raise VolumeError(f"{path}: no series {series_uid} here; there are: {known}.")
        return series_uid
    ct = [series for series in found if series.modality == "CT"]
    if not ct:
        raise VolumeError(f"{path}: no CT series; choose one by its UID: {known}.")
    if len(ct) > 1:
        message = f"{path}: the largest CT series, {ct[0].uid}, is taken; choose another by its UID: {known}."
        warnings.warn(message, SeriesWarning, stacklevel=2)
    return ct[0].uid


def _check_alike(slices: Sequence[SliceHeader], where: str) -> None:
    first = slices[0]
    for s in slices:
        if s.values_a_voxel != 1:
            raise VolumeError(f"{where}: {s.path.name} is a colour image, not a CT slice.")
        if s.size[2:] != (1,):
            raise VolumeError(
                f"{where}: {s.path.name} holds {s.size[2]} frames, and multi-frame DICOM is not supported; "
                "convert it to NIfTI."
            )
        if s.position.size != 3 or s.orientation.size != 6 or s.pixel_spacing.size != 2:
            raise VolumeError(f"{where}: {s.path.name} does not say where its slice lies or how large its pixels are.")
        if s.size != first.size:
            raise VolumeError(
                f"{where}: slices differ in size, {first.size[0]} x {first.size[1]} in {first.path.name} and "
                f"{s.size[0]} x {s.size[1]} in {s.path.name}."
            )
        if not np.allclose(s.orientation, first.orientation, rtol=0, atol=ORIENTATION_TOLERANCE):
            raise VolumeError(
                f"{where}: slices differ in orientation, {first.path.name} and {s.path.name} are not parallel; "
                "move localizer images elsewhere."
            )
        if not np.allclose(s.pixel_spacing, first.pixel_spacing, rtol=PIXEL_SPACING_TOLERANCE, atol=0):
            raise VolumeError(f"{where}: pixels of {first.path.name} and {s.path.name} differ in size.")


def _regular(slices: Sequence[SliceHeader], where: str) -> tuple[list[SliceHeader], NDArray[np.float64]]:
    """Slices in order along their normal, and the voxel-to-RAS matrix, sheared where the gantry was tilted."""
    _check_alike(slices, where)
    first = slices[0]
    along_i, along_j = first.orientation[:3], first.orientation[3:]
    normal = np.cross(along_i, along_j)
    if abs(np.linalg.norm(normal) - 1) > ORIENTATION_TOLERANCE or (first.pixel_spacing <= 0).any():
        raise VolumeError(f"{where}: the geometry in {first.path.name} is damaged.")
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.array([s.position for s in slices])
    if len(slices) > 1:
        step: NDArray = _regular_step(slices, positions, positions @ normal, where)
    elif first.thickness:
        step = normal * first.thickness
    else:
        raise VolumeError(f"{where}: a single slice that does not say how thick it is.")
    lps = np.eye(4)
    lps[:3, 0] = along_i * first.pixel_spacing[1]
    lps[:3, 1] = along_j * first.pixel_spacing[0]
    lps[:3, 2] = step
    lps[:3, 3] = positions[0]
    return slices, swap_lps_ras(lps)


def _regular_step(
    slices: Sequence[SliceHeader], positions: NDArray[np.float64], heights: NDArray[np.float64], where: str
) -> NDArray[np.float64]:
    """Millimetres from a slice to the next; refuses slices that are missing, doubled or unevenly spaced."""
    steps = np.diff(heights)
    if steps.min() < SAME_PLACE_MM:
        k = int(steps.argmin())
        raise VolumeError(
            f"{where}: two slices at {heights[k]:.2f} mm, {slices[k].path} and {slices[k + 1].path}; "
            "keep one copy, one time point, one reconstruction."
        )
    # The lower quartile: gaps only lengthen steps, and there may be many of them.
    usual = float(np.sort(steps)[(len(steps) - 1) // 4])
    gaps = np.flatnonzero(steps > GAP * usual)
    if gaps.size:
        k = int(gaps[0])
        others = f" (and at {gaps.size - 1} more places)" if gaps.size > 1 else ""
        raise VolumeError(
            f"{where}: missing slices between {heights[k]:.2f} and {heights[k + 1]:.2f} mm along the slice normal, "
            f"after {slices[k].path.name}, where others are {usual:g} mm apart{others}; copy the whole series again."
        )
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    off = np.linalg.norm(positions - (positions[0] + np.arange(len(slices))[:, None] * step), axis=1)
    if off.max() > max(POSITION_TOLERANCE_MM, POSITION_TOLERANCE * usual):
        k = int(off.argmax())
        raise VolumeError(
            f"{where}: slices are unevenly spaced, {slices[k].path.name} at {heights[k]:.2f} mm lies {off[k]:.2f} mm "
            "off its place; resample the scan to even spacing."
        )
    return step


def _pixels(slices: Sequence[SliceHeader]) -> Iterator[NDArray]:
    """Slices (i, j, 1), rescaled as each file says."""
    for s in slices:
        try:
            yield sitk.GetArrayFromImage(slice_reader(s.path).Execute()).T
        except RuntimeError as error:
            raise VolumeError(f"{s.path}: the slice's pixels are damaged; copy it again.") from error
