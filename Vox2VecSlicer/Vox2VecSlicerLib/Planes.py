"""Which voxels of an embedding's grid a slice view shows, and their values, without computing the others."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from Vox2VecSlicerLib import Geometry
from Vox2VecSlicerLib.Scan import Scan

if TYPE_CHECKING:
    from slicer import vtkMRMLSliceNode

    from Vox2VecCore.similarity import Calibration, Query

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


def stepFor(scan: Scan, sliceNodes: "list[vtkMRMLSliceNode]") -> int:
    """1 when the displayed slices can be computed while the mouse moves, else of how many voxels one can be.

    Slices along the grid always can; of slices that cross it obliquely, or are curved, that depends on their size.
    """
    shape = np.array(scan.pyramid.grid.shape)
    if not Geometry.isLinear(scan.volumeNode):
        count, dimensions = float(shape.prod()), 3
    else:
        planes = [planeInGrid(scan, node) for node in sliceNodes]
        oblique = [plane for plane in planes if not isAligned(plane, scan.pyramid.grid.shape)]
        count, dimensions = sum(_crossed(plane, shape) for plane in oblique), 2
    step = 1
    while count / step**dimensions > MOVING_VOXELS:
        step *= 2
    return step


def writeSlices(
    scan: Scan,
    query: "Query",
    calibrate: "Calibration",
    sliceNodes: "list[vtkMRMLSliceNode]",
    values: NDArray[np.float32],
    step: int = 1,
) -> None:
    """Write the percentiles of a query into ``values``, where slice views show them; elsewhere they stay.

    :param values: (X, Y, Z) of the grid, or of every ``step``-th voxel of it (:func:`everyNth`).
    """
    from Vox2VecCore.similarity import at_voxels, on_slice, whole_scan

    pyramid, shape = scan.pyramid, values.shape
    isLinear = Geometry.isLinear(scan.volumeNode)
    if not isLinear and step == 1:
        values[...] = whole_scan(pyramid, query, calibrate)
        return
    done: set[tuple[int, int]] = set()
    for plane in [inSteps(planeInGrid(scan, node), step) for node in sliceNodes] if isLinear else [None]:
        if plane is None:  # a curved slice: all of the grid
            voxels = np.stack(np.unravel_index(np.arange(values.size), shape), axis=1)
        elif step == 1 and isAligned(plane, shape):
            axis, indices = alignedPlanes(plane, shape)
            for index in indices:
                if (axis, index) not in done:
                    done.add((axis, index))
                    out = np.moveaxis(values, axis, 0)
                    out[index] = on_slice(pyramid, query, axis, index, calibrate)
            continue
        else:
            voxels = obliqueVoxels(plane, shape)
        if len(voxels):
            inGrid = np.minimum(voxels * step + step // 2, np.array(pyramid.grid.shape) - 1)
            values[tuple(voxels.T)] = at_voxels(pyramid, query, inGrid, calibrate)


def _crossed(plane: NDArray[np.float64], shape: NDArray[np.int64]) -> float:
    """About how many voxels :func:`obliqueVoxels` gives."""
    normal = np.abs(plane[:3])
    axis = int(normal.argmax())
    thickness = min(2 * normal.sum() + 1, shape[axis])
    return float(shape.prod() / shape[axis] * thickness)
