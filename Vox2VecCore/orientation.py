"""Closest canonical axes: a scan's own axes, permuted and flipped to right, front, head. Values are never rotated."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.volume import Volume


@dataclass(frozen=True)
class Reorientation:
    """How stored axes become canonical ones.

    :param order: stored axis that becomes the first, second and third canonical axis.
    :param flipped: whether each canonical axis runs against its stored axis.
    """

    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    def view(self, array: NDArray) -> NDArray:
        """The stored array seen along canonical axes; writing to the view writes to the array."""
        return array.transpose(self.order)[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]

    def to_stored(self, stored_shape: tuple[int, ...]) -> NDArray[np.float64]:
        """4x4 matrix from voxel indices along canonical axes to stored voxel indices."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1.0
        for axis, (stored, flip) in enumerate(zip(self.order, self.flipped, strict=True)):
            matrix[stored, axis] = -1.0 if flip else 1.0
            matrix[stored, 3] = stored_shape[stored] - 1.0 if flip else 0.0
        return matrix


def orthonormal_directions(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Closest orthonormal matrix (3, 3) to the directions of the axes (polar decomposition; undoes shear)."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    u, _, vt = np.linalg.svd(directions)
    return u @ vt


def closest_canonical(affine: NDArray[np.float64]) -> Reorientation:
    """The permutation and flips that bring the axes closest to right, front, head.

    All six permutations are compared by the sum of cosines. Unlike a greedy choice this always leaves a
    right-handed frame, also for steeply oblique and left-handed scans.
    """
    directions = orthonormal_directions(affine)
    order = max(permutations(range(3)), key=lambda p: abs(directions[[0, 1, 2], p]).sum())
    a, b, c = order
    x, y, z = (bool(directions[axis, stored] < 0) for axis, stored in enumerate(order))
    return Reorientation((a, b, c), (x, y, z))


def canonical(volume: Volume) -> Volume:
    """The scan along its closest canonical axes; its array is a view of the stored one."""
    axes = closest_canonical(volume.affine)
    return Volume(axes.view(volume.array), volume.affine @ axes.to_stored(volume.shape), volume.name)
