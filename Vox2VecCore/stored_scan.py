"""A scan as a file stores it, on its way to the types that Vox2Vec computes with."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from Vox2VecCore.errors import VolumeError

SLAB_VOXELS = 1 << 22
"""Voxels that are converted at a time, so that float64 exists only for a few slices."""

WHOLE_NUMBER_TOLERANCE = 1e-3
"""Labels stored as scaled integers come back this far from whole numbers."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class GeometryWarning(UserWarning):
    """The file does not say how the scan lies in the patient; left and right are a guess."""


@dataclass(frozen=True)
class StoredScan:
    """Voxel values and geometry, before a type is chosen for them.

    :param slabs: real-world values (slope and intercept applied) as arrays (i, j, n), consecutive along k.
    :param shape: voxels along (i, j, k) of all slabs together.
    :param affine: 4x4 matrix from voxel indices to RAS millimetres.
    """

    slabs: Iterable[NDArray]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]


def swap_lps_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """A voxel-to-LPS matrix (DICOM, ITK) as voxel-to-RAS matrix, and the other way round."""
    return LPS_TO_RAS @ affine


def pick_frame(name: str, frames: int, frame: int | None) -> int:
    """The frame to read from a file that holds ``frames`` volumes.

    :raises VolumeError: if there are several and none is chosen, or the chosen one does not exist.
    """
    if frame is None and frames > 1:
        raise VolumeError(f"{name}: is 4D with {frames} frames; choose one, frame 0 to {frames - 1}.")
    if frame is not None and not 0 <= frame < frames:
        raise VolumeError(f"{name}: has no frame {frame}; it has {frames}, counted from 0.")
    return frame or 0


def real_values(stored: NDArray, slope: float = 1.0, intercept: float = 0.0) -> Iterator[NDArray]:
    """Slabs of ``slope * stored + intercept`` of an array (i, j, k).

    Values that may stay as they are (int16, float32, unscaled) come in one piece, uncopied.
    """
    scaled = slope != 1.0 or intercept != 0.0
    if stored.dtype in (np.int16, np.float32) and not scaled:
        yield stored
        return
    for slab in _split(stored):
        yield slab.astype(np.float64) * slope + intercept if scaled else slab


def as_intensities(scan: StoredScan, name: str) -> NDArray:
    """Values of a scan: int16 if all are whole and fit, else float32.

    :raises VolumeError: if a value is NaN, infinite, or beyond float32.
    """
    return _stack(scan.slabs, scan.shape, np.float32, float(np.finfo(np.float32).max), name)


def as_labels(scan: StoredScan, name: str) -> NDArray:
    """Values of a label map: int16 if they fit, else int32.

    :raises VolumeError: if a value is not a whole number (within 0.001) or beyond int32.
    """
    return _stack(_whole_numbers(scan.slabs, name), scan.shape, np.int32, float(np.iinfo(np.int32).max), name)


def _stack(slabs: Iterable[NDArray], shape: tuple[int, int, int], wide: DTypeLike, limit: float, name: str) -> NDArray:
    """Slabs as one int16 array, or one of the type ``wide`` (up to ``limit``) when that cannot hold them."""
    stacked: NDArray | None = None
    done = 0
    for slab in slabs:
        low, high = slab.min(), slab.max()
        if not (-limit <= low and high <= limit):  # NaN compares false.
            raise VolumeError(_bad_value(slab, done, limit, name))
        fits = _fits_int16(slab, low, high)
        if slab.shape == shape and slab.dtype == (np.int16 if fits else wide):
            return slab
        if stacked is None:
            stacked = np.empty(shape, np.int16, order="F")
        if stacked.dtype == np.int16 and not fits:
            widened = np.empty(shape, wide, order="F")
            widened[:, :, :done] = stacked[:, :, :done]
            stacked = widened
        stacked[:, :, done : done + slab.shape[2]] = slab
        done += slab.shape[2]
    if stacked is None:
        raise VolumeError(f"{name}: holds no voxels.")
    return stacked


def _fits_int16(slab: NDArray, low: np.number, high: np.number) -> bool:
    limits = np.iinfo(np.int16)
    if not (limits.min <= low and high <= limits.max):
        return False
    return slab.dtype.kind != "f" or all(np.array_equal(part, np.rint(part)) for part in _split(slab))


def _whole_numbers(slabs: Iterable[NDArray], name: str) -> Iterator[NDArray]:
    for slab in slabs:
        if slab.dtype.kind != "f":
            yield slab
            continue
        for part in _split(slab):
            rounded = np.rint(part)
            off = np.abs(part - rounded) > WHOLE_NUMBER_TOLERANCE
            if off.any():
                raise VolumeError(f"{name}: is not a label map, it holds the value {part[off][0]:g}.")
            yield rounded


def _split(array: NDArray) -> Iterator[NDArray]:
    """An array (i, j, k) in slabs along k."""
    rows, columns, slices = array.shape
    step = max(1, SLAB_VOXELS // (rows * columns))
    for start in range(0, slices, step):
        yield array[:, :, start : start + step]


def _bad_value(slab: NDArray, done: int, limit: float, name: str) -> str:
    i, j, k = (int(index) for index in np.argwhere(~(np.abs(slab) <= limit))[0])
    value = float(slab[i, j, k])
    return f"{name}: the value at voxel ({i}, {j}, {k + done}) is {value:g}; replace such values before using the scan."
