"""Which voxels of an embedding's grid a slice view shows, and their values, without computing the others."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from Vox2VecSlicerLib import Geometry
from Vox2VecSlicerLib.Scan import Scan

if TYPE_CHECKING:
    from slicer import vtkMRMLSliceNode

    from Vox2VecCore.similarity import Calibration, Query

Patch = tuple[tuple[Any, ...], NDArray]
"""Where values belong in an array, as its index, and the values."""

MOVING_VOXELS = 60_000
"""So many voxels of an embedding are computed at most for one movement of the mouse: some hundredths of a second."""

ALIGNED_VOXELS = 0.05
"""A plane that leaves a plane of the grid by less than this many voxels across the whole grid is taken as parallel."""


def planeInGrid(scan: Scan, sliceNode: "vtkMRMLSliceNode") -> NDArray[np.float64]:
    """A displayed slice as ``n . voxel = d`` in grid coordinates: (n, d), with the largest component of n being 1.

    For a parent transform that is linear.
    """
    sliceToWorld = Geometry.toNumpy(sliceNode.GetSliceToRAS())
    gridToWorld = Geometry.localToWorldMatrix(scan.volumeNode) @ scan.gridToLocal
    sliceToGrid = np.linalg.inv(gridToWorld) @ sliceToWorld
    normal = np.cross(sliceToGrid[:3, 0], sliceToGrid[:3, 1])
    normal /= normal[np.abs(normal).argmax()]
    return np.append(normal, normal @ sliceToGrid[:3, 3])


def isAligned(plane: NDArray[np.float64], shape: tuple[int, int, int]) -> bool:
    """Whether a plane runs along planes of the grid."""
    normal = np.abs(plane[:3])
    axis = int(normal.argmax())
    others = [i for i in range(3) if i != axis]
    return bool((normal[others] * np.array(shape)[others]).sum() < ALIGNED_VOXELS)


def alignedPlanes(plane: NDArray[np.float64], shape: tuple[int, int, int]) -> tuple[int, list[int]]:
    """Axis and indices of the one or two planes of the grid between which an aligned slice lies."""
    axis = int(np.abs(plane[:3]).argmax())
    middle = (np.array(shape) - 1) / 2
    middle[axis] = 0
    height = plane[3] - plane[:3] @ middle
    near = sorted({int(np.floor(height + 1e-3)), int(np.ceil(height - 1e-3))})
    return axis, [index for index in near if 0 <= index < shape[axis]]


def obliqueVoxels(plane: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """Grid voxels (n, 3) on either side of a slice that crosses the grid obliquely.

    These are all voxels from which an interpolated slice is made: in a cell of the grid that the plane crosses, every
    corner is within one steepest step of it.
    """
    axis = int(np.abs(plane[:3]).argmax())
    a, b = (i for i in range(3) if i != axis)
    u, v = np.meshgrid(np.arange(shape[a]), np.arange(shape[b]), indexing="ij")
    height = plane[3] - plane[a] * u - plane[b] * v
    reach = abs(plane[a]) + abs(plane[b])  # over one cell the plane climbs at most this far
    lowest = np.ceil(height - 1 - reach).astype(np.int64)
    steps = np.arange(int(np.ceil(2 * (1 + reach))) + 1)
    w = lowest[..., None] + steps
    keep = (w >= 0) & (w < shape[axis]) & (w <= height[..., None] + 1 + reach)
    voxels = np.empty((*w.shape, 3), np.int64)
    voxels[..., a], voxels[..., b], voxels[..., axis] = u[..., None], v[..., None], w
    return voxels[keep]


def inSteps(plane: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """A plane of the grid in coordinates of every ``step``-th voxel of it (:func:`everyNth`)."""
    return np.append(plane[:3], (plane[3] - step // 2 * plane[:3].sum()) / step)


def everyNth(shape: tuple[int, int, int], step: int) -> tuple[int, int, int]:
    """Shape of what is left of a grid when only every ``step``-th voxel is looked at, from number ``step // 2`` on."""
    x, y, z = (max(1, len(range(step // 2, n, step))) for n in shape)
    return x, y, z


def stepsToGrid(step: int) -> NDArray[np.float64]:
    """Coordinates of every ``step``-th voxel of a grid to those of the grid (4, 4)."""
    toGrid = np.diag([step, step, step, 1.0])
    toGrid[:3, 3] = step // 2
    return toGrid


@dataclass(frozen=True)
class Shown:
    """What slice views show of the grid of an embedding; read on the main thread, for any thread to compute.

    :param planes: of the grid's every ``step``-th voxel, as ``n . voxel = d``; ``None`` for slices that are curved,
        which may need all of it.
    :param grid: shape of the whole grid.
    """

    planes: tuple[tuple[float, ...], ...] | None
    step: int
    grid: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the grid's every ``step``-th voxel."""
        return everyNth(self.grid, self.step)


def shownOf(scan: Scan, sliceNodes: "list[vtkMRMLSliceNode]", most: int | None) -> Shown:
    """What slice views show of a scan.

    Slices along the grid are cheap. Of slices that cross it obliquely, or are curved, every voxel is taken only if
    these are not more than ``most``, else so many are left out between two as it takes.

    :param most: ``None`` for no limit.
    """
    grid = scan.pyramid.grid.shape
    planes = [planeInGrid(scan, node) for node in sliceNodes] if Geometry.isLinear(scan.volumeNode) else None
    if planes is None:
        count, dimensions = float(np.prod(grid)), 3
    else:
        count, dimensions = sum(_crossed(plane, np.array(grid)) for plane in planes if not isAligned(plane, grid)), 2
    step = 1
    while most is not None and count / step**dimensions > most:
        step *= 2
    return Shown(None if planes is None else tuple(tuple(inSteps(p, step).tolist()) for p in planes), step, grid)


def patches(
    shown: Shown,
    onPlane: Callable[[int, int], NDArray],
    atVoxels: Callable[[NDArray[np.int64]], NDArray],
    done: set[tuple[int, int]] | None = None,
) -> list[Patch]:
    """Values of what is shown, piece by piece, each with its place in an array of :attr:`Shown.shape`; several are
    computed at once.

    :param onPlane: gives the values of a plane of the grid by its axis and index, the two other axes in their order.
    :param atVoxels: gives the values (n,) of voxels (n, 3) of the grid.
    :param done: axis and index of planes that are there already; those that come are added.
    """
    from Vox2VecCore.separable import in_threads

    done = set() if done is None else done
    shape, step = shown.shape, shown.step
    pieces: list[tuple[tuple[Any, ...], Callable[[], NDArray]]] = []
    oblique: list[NDArray[np.int64]] = []
    if shown.planes is None:
        oblique.append(np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1))
    for plane in map(np.array, shown.planes or ()):
        if step > 1 or not isAligned(plane, shape):
            oblique.append(obliqueVoxels(plane, shape))
            continue
        axis, indices = alignedPlanes(plane, shape)
        for index in [each for each in indices if (axis, each) not in done]:
            done.add((axis, index))
            pieces.append(((*[slice(None)] * axis, index), partial(onPlane, axis, index)))
    for voxels in oblique:
        if len(voxels):
            inGrid = np.minimum(voxels * step + step // 2, np.array(shown.grid) - 1)
            pieces.append((tuple(voxels.T), partial(atVoxels, inGrid)))
    values = in_threads(lambda piece: piece[1](), pieces, urgent=True)
    return [(place, value) for (place, _), value in zip(pieces, values, strict=True)]


def writeSlices(
    scan: Scan, query: "Query", calibrate: "Calibration", shown: Shown, values: NDArray[np.float32]
) -> None:
    """Write the percentiles of a query into ``values`` (:attr:`Shown.shape`), where they are shown; elsewhere they
    stay."""
    from Vox2VecCore.similarity import at_voxels, on_slice

    pyramid = scan.pyramid
    for place, found in patches(
        shown,
        lambda axis, index: on_slice(pyramid, query, axis, index, calibrate),
        lambda voxels: at_voxels(pyramid, query, voxels, calibrate),
    ):
        values[place] = found


def _crossed(plane: NDArray[np.float64], shape: NDArray[np.int64]) -> float:
    """About how many voxels :func:`obliqueVoxels` gives."""
    normal = np.abs(plane[:3])
    axis = int(normal.argmax())
    thickness = min(2 * normal.sum() + 1, shape[axis])
    return float(shape.prod() / shape[axis] * thickness)
