"""Linear maps of voxel embeddings on boxes of the grid, computed level by level.

A linear map of the concatenated vector of a voxel is a sum of one linear map per level. Every level is therefore
multiplied at its own resolution, coarsest first; the sum so far is repeated to the cells of the next finer level
and added. This is exact, and reads the pyramid once instead of building the concatenation (49 GB for a scan of
350 x 350 x 200 voxels). Similarity and PCA colours stand on it.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid

SLAB_PLANES = 16
SLAB_ELEMENTS = 1 << 22
"""Results of a slab: 16 MB. More would be fresh memory every time, which costs more than the products."""
FEW_VOXELS = 10_000
SPARSE = 30
"""Where a level has so many times more cells than voxels are asked for, few voxels share one."""
BLOCK_ELEMENTS = 1 << 20
"""Stored components converted to float32 at a time: 4 MB, which stay in the cache for the product."""

A = TypeVar("A")
T = TypeVar("T")

_tensors: WeakKeyDictionary[FeaturePyramid, list[Tensor]] = WeakKeyDictionary()
_scratch = threading.local()


def level_tensors(pyramid: FeaturePyramid) -> list[Tensor]:
    """Stored unit vectors of every level as tensors that share the arrays' memory. Never write to them."""
    if pyramid not in _tensors:
        with warnings.catch_warnings():
            # PyTorch knows no read-only tensors and warns about arrays that are memory-mapped for reading.
            warnings.simplefilter("ignore", UserWarning)
            _tensors[pyramid] = [torch.from_numpy(np.asarray(level.unit)) for level in pyramid.levels]
    return _tensors[pyramid]


def map_box(pyramid: FeaturePyramid, matrices: Sequence[Tensor], start: Sequence[int], stop: Sequence[int]) -> Tensor:
    """Sum over levels of (unit vector times matrix) on a box of the grid.

    :param matrices: (C_i, K) float32, finest level first.
    :param start: first voxel of the box along x, y, z.
    :param stop: one past its last voxel.
    :return: (K, stop - start) float32, that is four axes. Results come first, because products, maxima and
        exponentials over a few of them are several times faster along rows of voxels.
    """
    coarser: Tensor | None = None
    for i in reversed(range(len(matrices))):
        level = pyramid.levels[i]
        cells = [slice(a // s, -(-b // s)) for a, b, s in zip(start, stop, level.stride, strict=True)]
        if coarser is not None:
            above = pyramid.levels[i + 1].stride
            index = [
                torch.arange(c.start, c.stop) * s // t - a // t
                for c, s, t, a in zip(cells, level.stride, above, start, strict=True)
            ]
            planes, coarser = index[0], coarser.index_select(3, index[2]).index_select(2, index[1])
        stored = level_tensors(pyramid)[i][cells[0], cells[1], cells[2]]
        values = torch.empty(matrices[i].shape[1], *stored.shape[:3])
        for x, product in _products(stored, matrices[i] * level.unit_scale, values):
            if coarser is not None:
                product.add_(coarser.index_select(1, planes[x]))
        coarser = values
    assert coarser is not None
    return coarser


def _products(stored: Tensor, matrix: Tensor, out: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Multiply whole x planes of a level with a matrix: each slice along x and its part (K, x, Y, Z) of ``out``."""
    per_plane = int(np.prod(stored.shape[1:]))
    step = max(1, BLOCK_ELEMENTS // max(per_plane, 1))
    for x in range(0, stored.shape[0], step):
        part, product = stored[x : x + step], out[:, x : x + step]
        block = _buffer(part.numel()).view(part.shape).copy_(part)
        torch.mm(matrix.T, block.view(-1, stored.shape[3]).T, out=product.view(len(out), -1))
        yield slice(x, x + step), product


def _buffer(elements: int) -> Tensor:
    """Float32 memory of this thread, kept between calls: fresh pages cost more than the product."""
    if getattr(_scratch, "buffer", None) is None or _scratch.buffer.numel() < elements:
        _scratch.buffer = torch.empty(max(elements, BLOCK_ELEMENTS))
    return _scratch.buffer[:elements]


def map_smooth(pyramid: FeaturePyramid, matrices: Sequence[Tensor]) -> Tensor:
    """:func:`map_box` of the whole grid for the eye: coarse levels are interpolated (trilinear) instead of repeated.

    No longer the map of the voxels' own vectors, but without the blocks of the coarse levels.

    :return: (K, X, Y, Z) float32.
    """
    x, y, z = pyramid.grid.shape
    total = torch.zeros(matrices[0].shape[1], x, y, z)
    for level, stored, matrix in zip(pyramid.levels, level_tensors(pyramid), matrices, strict=True):
        values = torch.empty(len(total), *stored.shape[:3])
        for _ in _products(stored, matrix * level.unit_scale, values):
            pass
        scale = [float(s) for s in level.stride]
        total += functional.interpolate(values[None], scale_factor=scale, mode="trilinear")[0, :, :x, :y, :z]
    return total


def map_voxels(pyramid: FeaturePyramid, matrices: Sequence[Tensor], voxels: NDArray[np.int64]) -> Tensor:
    """The same as :func:`map_box` at single voxels: (n, 3) -> (n, K)."""
    total = torch.zeros(len(voxels), matrices[0].shape[1])
    for level, stored, matrix in zip(pyramid.levels, level_tensors(pyramid), matrices, strict=True):
        rows, inverse = distinct_cells(voxels, level.stride, stored.shape[:3])
        vectors = stored.view(-1, stored.shape[3]).index_select(0, rows).float()
        total += (vectors @ (matrix * level.unit_scale)).index_select(0, inverse)
    return total


def distinct_cells(voxels: NDArray[np.int64], stride: Sequence[int], shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Flat indices of the level cells that voxels (n, 3) lie in, and for every voxel which of them.

    Each once, but for levels in which voxels hardly ever share a cell: there looking for repetitions costs more than
    computing them.
    """
    i, j, k = (voxels[:, axis] // stride[axis] for axis in range(3))
    flat = (i * shape[1] + j) * shape[2] + k
    cells = int(np.prod(shape))
    if max(stride) == 1 or cells > SPARSE * len(flat):
        return torch.from_numpy(flat), torch.arange(len(flat))
    if len(flat) < FEW_VOXELS:
        rows, inverse = np.unique(flat, return_inverse=True)
        return torch.from_numpy(rows), torch.from_numpy(inverse.reshape(-1))
    seen = np.zeros(cells, bool)  # no sorting: an oblique slice has many voxels under the mouse
    seen[flat] = True
    rows = np.flatnonzero(seen)
    place = np.empty(len(seen), np.int32)
    place[rows] = np.arange(len(rows), dtype=np.int32)
    return torch.from_numpy(rows), torch.from_numpy(place[flat].astype(np.int64))


def map_grid(
    pyramid: FeaturePyramid,
    matrices: Sequence[Tensor],
    use: Callable[[int, Tensor], None],
    stage: str,
    progress: Progress | None = None,
    multiple: int = 1,
) -> None:
    """:func:`map_box` of the whole grid in slabs along x, as many at once as PyTorch has threads.

    :param use: gets the first plane and the values (K, planes, Y, Z) of every slab, in any order, from
        several threads.
    :param multiple: slabs begin at multiples of this.
    :raises Cancelled: between slabs.
    """
    size_x, size_y, size_z = pyramid.grid.shape
    planes = min(SLAB_PLANES, SLAB_ELEMENTS // (matrices[0].shape[1] * size_y * size_z))
    planes = max(planes // multiple, 1) * multiple
    level_tensors(pyramid)  # made here, because silencing a warning is not safe in several threads

    def slab(x: int) -> None:
        use(x, map_box(pyramid, matrices, (x, 0, 0), (min(x + planes, size_x), size_y, size_z)))

    in_threads(slab, range(0, size_x, planes), stage, progress)


def in_threads(
    function: Callable[[A], T],
    items: Sequence[A],
    stage: str = "",
    progress: Progress | None = None,
    *,
    urgent: bool = False,
) -> list[T]:
    """Results of a function for all items, as many at once as PyTorch has threads.

    Threads of our own beat threads inside every operation: no thread waits for another.

    :param urgent: somebody waits for a few short items: they do not queue behind what is computed for a whole scan.
    :raises Cancelled: between items.
    """
    progress = progress or Progress()
    results: list[T] = []
    if torch.get_num_threads() == 1:
        for item in items:
            progress.step(stage, len(results), len(items))
            results.append(function(item))
    else:
        futures = [_workers(torch.get_num_threads(), urgent).submit(function, item) for item in items]
        try:
            for future in futures:
                progress.step(stage, len(results), len(items))
                results.append(future.result())
        finally:
            for future in futures:
                future.cancel()
            wait(futures)
    progress.step(stage, len(items), len(items))
    return results


def in_one_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Result of a short computation, made at once by one thread: on a busy machine threads inside of operations that
    take microseconds make them a hundred times slower."""
    return in_threads(lambda _: function(*arguments), [None], urgent=True)[0]


@lru_cache(maxsize=2)
def _workers(threads: int, urgent: bool) -> ThreadPoolExecutor:
    """Threads in which PyTorch uses no further threads; those of urgent work are others, and rest most of the time."""
    started = threading.Barrier(threads)

    def start() -> None:
        torch.get_num_threads()  # the first call of a thread sets it to the number of all, even after another was set
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, "vox2vec")
    wait([pool.submit(start) for _ in range(threads)])
    torch.set_num_threads(threads)  # the workers' setting counts for themselves, but also for threads to come
    return pool
