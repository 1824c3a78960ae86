"""Fast resampling between regular grids.

Along one axis, smoothing and linear interpolation together are one banded matrix. Three small matrices therefore
resample a whole volume, and as products of blocks they run at the speed of the processor's matrix multiplication,
several times faster than interpolating voxel by voxel. Grids that are sheared against each other, which is rare,
are interpolated voxel by voxel.

Indices are those of voxel centres; voxel ``i`` of an axis covers ``i - 0.5`` to ``i + 0.5``. Between the centre of
an outermost voxel and its edge, values are those of the voxel; beyond the edge they are ``fill``.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

ALIGNED_TOLERANCE = 0.01
"""Voxels by which rounding in a file's geometry may bend a grid that still counts as aligned."""
EDGE_TOLERANCE = 1e-4
SINGLE_THREAD_PRODUCT = 2**18
"""Multiplications up to which BLAS uses one thread. Larger products would each wait for BLAS's own threads, which on
a busy computer takes longer than the work; blocks are handed to threads here instead."""
BLOCK_SIZES = (32, 16, 8, 4, 2, 1)
MOST_THREADS = 8  # each holds some planes as float32, and memory is the limit before that


class Block(NamedTuple):
    """Rows of a banded matrix and the columns that they use."""

    rows: slice
    columns: slice
    matrix: NDArray[np.float32]


def resample_linear(
    values: NDArray,
    to_values: NDArray[np.float64],
    out: NDArray[np.float32],
    *,
    fill: float,
    sigma: Sequence[float] = (0.0, 0.0, 0.0),
    floor: float | None = None,
) -> None:
    """Write ``values``, smoothed and interpolated, to ``out``.

    :param values: (A, B, C) numbers of any type; taken as float32.
    :param to_values: 4x4 matrix from voxel indices of ``out`` to those of ``values``.
    :param fill: value outside ``values``.
    :param sigma: standard deviation of a Gaussian low-pass along each axis, in voxels of ``values``.
    :param floor: lower values are raised to this before anything else.
    """
    if _is_aligned(to_values, out.shape):
        inside, positions = _aligned_positions(to_values, values.shape, out.shape)
        target = out[inside]
        if target.shape != out.shape:
            out[...] = fill
        if target.size == 0:
            return
        matrices = [linear_weights(x, n, s) for x, n, s in zip(positions, values.shape, sigma, strict=True)]
        multiply_axes(values, matrices, target, floor)
        return
    # The smoothed copy holds only what the output can see.
    seen = np.array(list(np.ndindex(2, 2, 2))) * (np.array(out.shape) - 1) @ to_values[:3, :3].T + to_values[:3, 3]
    limit = np.array(values.shape) - 1
    first = np.clip(np.floor(seen.min(axis=0)) - 1, 0, limit).astype(int)
    last = np.clip(np.ceil(seen.max(axis=0)) + 1, 0, limit).astype(int)
    smooth = np.empty(last - first + 1, np.float32)
    weights = [
        linear_weights(np.arange(a, b + 1), n, s) for a, b, n, s in zip(first, last, values.shape, sigma, strict=True)
    ]
    multiply_axes(values, weights, smooth, floor)
    to_smooth = to_values.copy()
    to_smooth[:3, 3] -= first
    _resample_sheared(smooth, to_smooth, out, fill, order=1)


def resample_nearest(values: NDArray, to_values: NDArray[np.float64], out: NDArray, *, fill: float) -> None:
    """Write the nearest of ``values`` to ``out``; arguments as in :func:`resample_linear`."""
    if not _is_aligned(to_values, out.shape):
        _resample_sheared(values, to_values, out, fill, order=0)
        return
    inside, positions = _aligned_positions(to_values, values.shape, out.shape)
    out[...] = fill
    x, y, z = (
        np.clip(np.floor(p + 0.5).astype(np.int64), 0, n - 1) for p, n in zip(positions, values.shape, strict=True)
    )
    target = out[inside]
    for k, plane in enumerate(z):
        target[:, :, k] = values[:, :, plane][np.ix_(x, y)]


def linear_weights(positions: NDArray, size: int, sigma: float = 0.0) -> NDArray[np.float32]:
    """Matrix (n, size) that smooths an axis with a Gaussian and reads it at ``positions`` (n,) by linear interpolation.

    Smoothing continues the axis by its outermost values. Rows sum to one.
    """
    radius = int(np.ceil(4 * sigma))
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma > 0 else np.ones(1)
    kernel /= kernel.sum()
    positions = np.clip(positions, 0, size - 1)
    lower = np.floor(positions).astype(np.int64)
    fraction = (positions - lower)[:, None]
    columns = lower[:, None] + offsets
    rows = np.broadcast_to(np.arange(len(positions))[:, None], columns.shape)
    weights = np.zeros((len(positions), size))
    np.add.at(weights, (rows, np.clip(columns, 0, size - 1)), (1 - fraction) * kernel)
    np.add.at(weights, (rows, np.clip(columns + 1, 0, size - 1)), fraction * kernel)
    return weights.astype(np.float32)


def block_mean_weights(size: int, factor: int) -> NDArray[np.float32]:
    """Matrix (ceil(size / factor), size) that takes the mean of every ``factor`` neighbours."""
    block = np.arange(size) // factor
    weights = np.zeros((block[-1] + 1, size), np.float32)
    weights[block, np.arange(size)] = 1
    return weights / weights.sum(1, keepdims=True)


def multiply_axes(
    values: NDArray, matrices: Sequence[NDArray[np.float32]], out: NDArray[np.float32], floor: float | None = None
) -> None:
    """Write ``values`` (A, B, C), multiplied along each axis with its banded matrix, to ``out``.

    Works in blocks along the axis that is slowest in memory, so that few planes at a time exist as float32, on
    all processors (``OMP_NUM_THREADS`` limits them). ``floor`` raises lower values before the products.
    """
    used = [_used_columns(matrix) for matrix in matrices]
    matrices = [matrix[:, columns] for matrix, columns in zip(matrices, used, strict=True)]
    values = values[tuple(used)]
    larger = values if values.size > out.size else out
    order = np.argsort([-abs(stride) for stride in larger.strides], kind="stable")
    values, out = values.transpose(order), out.transpose(order)
    slow, middle, fast = (matrices[axis] for axis in order)
    slow_blocks = _blocks(slow, min(fast.shape))
    middle_blocks = _blocks(middle, fast.shape[1])
    fast_blocks = _blocks(fast, len(middle))

    def in_planes(part: NDArray[np.float32]) -> NDArray[np.float32]:
        half = np.empty((len(part), len(middle), part.shape[2]), np.float32)
        for rows, columns, matrix in middle_blocks:
            np.matmul(matrix, part[:, columns], out=half[:, rows])
        whole = np.empty((len(part), len(middle), len(fast)), np.float32)
        for rows, columns, matrix in fast_blocks:
            np.matmul(half[:, :, columns], matrix.T, out=whole[:, :, rows])
        return whole

    def run(block: Block) -> None:
        rows, columns, matrix = block
        part = np.array(values[columns], np.float32, order="C")
        if floor is not None:
            np.maximum(part, floor, out=part)
        if len(matrix) <= len(part):  # whichever order handles fewer planes
            out[rows] = in_planes(np.matmul(matrix, part.swapaxes(0, 1)).swapaxes(0, 1))
        else:
            out[rows] = np.matmul(matrix, in_planes(part).swapaxes(0, 1)).swapaxes(0, 1)

    with ThreadPoolExecutor(_thread_count()) as pool:
        list(pool.map(run, slow_blocks))


def _thread_count() -> int:
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdigit():
        return max(1, int(limit))
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, MOST_THREADS)


def _used_columns(matrix: NDArray[np.float32]) -> slice:
    columns = np.flatnonzero(matrix.any(axis=0))
    return slice(int(columns[0]), int(columns[-1]) + 1)


def _blocks(matrix: NDArray[np.float32], width: int) -> list[Block]:
    """Cut the rows so that each block's product with ``width`` columns is one that BLAS does in one thread."""
    for size in BLOCK_SIZES:
        starts = range(0, len(matrix), size)
        cuts = [(slice(a, a + size), _used_columns(matrix[a : a + size])) for a in starts]
        blocks = [Block(rows, columns, np.ascontiguousarray(matrix[rows, columns])) for rows, columns in cuts]
        if max(block.matrix.size for block in blocks) * width <= SINGLE_THREAD_PRODUCT:
            break
    return blocks


def _is_aligned(to_values: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    """Whether each axis of one grid runs along the same axis of the other, over the whole of the output."""
    off_axis = to_values[:3, :3] * (1 - np.eye(3))
    return bool((np.abs(off_axis) @ np.array(shape) < ALIGNED_TOLERANCE).all())


def _aligned_positions(
    to_values: NDArray[np.float64], values_shape: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[slice, slice, slice], list[NDArray[np.float64]]]:
    """Box of the output that lies inside ``values``, and where its voxels are read along each axis."""
    centre = (np.array(shape) - 1) / 2
    start = to_values[:3] @ np.append(centre, 1.0) - np.diag(to_values)[:3] * centre  # halves what rounding bends
    boxes, inside = [], []
    for axis in range(3):
        positions = start[axis] + to_values[axis, axis] * np.arange(shape[axis])
        hits = np.flatnonzero(_within(positions, values_shape[axis]))
        box = slice(int(hits[0]), int(hits[-1]) + 1) if len(hits) else slice(0, 0)
        boxes.append(box)
        inside.append(positions[box])
    return (boxes[0], boxes[1], boxes[2]), inside


def _within(positions: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    return (positions > -0.5 - EDGE_TOLERANCE) & (positions < size - 0.5 + EDGE_TOLERANCE)


def _resample_sheared(values: NDArray, to_values: NDArray[np.float64], out: NDArray, fill: float, order: int) -> None:
    """Voxel by voxel with SimpleITK, in voxel coordinates; it treats edges as this module does."""
    stored = values.astype(np.uint8) if values.dtype == bool else values
    image = sitk.GetImageFromArray(stored.transpose(2, 1, 0))
    transform = sitk.AffineTransform(to_values[:3, :3].ravel().tolist(), to_values[:3, 3].tolist())
    resample = sitk.ResampleImageFilter()
    resample.SetSize(list(out.shape))
    resample.SetTransform(transform)
    resample.SetInterpolator(sitk.sitkLinear if order else sitk.sitkNearestNeighbor)
    resample.SetDefaultPixelValue(float(fill))
    result = resample.Execute(image)  # keep it alive, the view does not
    out[...] = sitk.GetArrayViewFromImage(result).transpose(2, 1, 0)
