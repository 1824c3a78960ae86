"""Which voxels of an embedding's grid a slice view shows, and their values, without computing the others."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from Vox2VecSlicerLib import Geometry
from Vox2VecSlicerLib.Scan import Scan

if TYPE_CHECKING:
    from slicer import vtkMRMLSliceNode

    from Vox2VecCore.similarity import Calibration, Query

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


def writeSlices(
    scan: Scan,
    query: "Query",
    calibrate: "Calibration",
    sliceNodes: "list[vtkMRMLSliceNode]",
    values: NDArray[np.float32],
) -> None:
    """Write the percentiles of a query into ``values`` (X, Y, Z), where slice views show them; elsewhere they stay."""
    from Vox2VecCore.similarity import at_voxels, on_slice, whole_scan

    pyramid = scan.pyramid
    if not Geometry.isLinear(scan.volumeNode):  # a curved slice: all of the grid, which takes longer
        values[...] = whole_scan(pyramid, query, calibrate)
        return
    done: set[tuple[int, int]] = set()
    for sliceNode in sliceNodes:
        plane = planeInGrid(scan, sliceNode)
        if isAligned(plane, pyramid.grid.shape):
            axis, indices = alignedPlanes(plane, pyramid.grid.shape)
            for index in indices:
                if (axis, index) not in done:
                    done.add((axis, index))
                    out = np.moveaxis(values, axis, 0)
                    out[index] = on_slice(pyramid, query, axis, index, calibrate)
        else:
            voxels = obliqueVoxels(plane, pyramid.grid.shape)
            if len(voxels):
                values[tuple(voxels.T)] = at_voxels(pyramid, query, voxels, calibrate)
