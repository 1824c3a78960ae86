"""Axial, coronal and sagittal planes of a scan, the way radiologists hang them.

Patient's right on the left of the picture, front up in axial planes, head up in the others, face to the left in
sagittal ones. Oblique scans are shown along their own axes, which is why the letters at the borders are those of
the closest direction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.orientation import closest_canonical
from Vox2VecCore.volume import Volume, apply_affine

Orientation = Literal["axial", "coronal", "sagittal"]
ORIENTATIONS: tuple[Orientation, ...] = ("axial", "coronal", "sagittal")

# Canonical axes (right, front, head) across, up, and through each plane.
AXES: dict[Orientation, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
LETTERS: dict[Orientation, tuple[str, str, str, str]] = {
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "S", "I"),
    "sagittal": ("A", "P", "S", "I"),
}
"""What lies at the left, right, top and bottom of the picture."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of a scan, ready to be drawn.

    :param image: (rows, columns) or (rows, columns, colours), top row first, as seen.
    :param across_mm: position of the left and of the right border; it falls from left to right.
    :param up_mm: position of the bottom and of the top border.
    """

    orientation: Orientation
    image: NDArray
    across_mm: tuple[float, float]
    up_mm: tuple[float, float]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top in millimetres along the scan's own axes."""
        return (*self.across_mm, *self.up_mm)

    @property
    def letters(self) -> tuple[str, str, str, str]:
        """What lies at the left, right, top and bottom of the picture."""
        return LETTERS[self.orientation]


def plane(
    volume: Volume, point_ras: Sequence[float], orientation: Orientation, colours: NDArray | None = None
) -> Plane:
    """The plane of a scan through a point.

    :param colours: (i, j, k, 3) on the scan's grid, shown instead of the scan's values.
    """
    along = closest_canonical(volume.affine)
    across, up, through = AXES[orientation]
    spacing, shape = _canonical_spacing(volume), np.array(volume.shape)[list(along.order)]
    voxel = np.clip(np.round(to_mm(volume, [point_ras])[0] / spacing), 0, shape - 1).astype(int)
    stored: list[slice | int] = [slice(None)] * 3
    stored[along.order[through]] = int(
        shape[through] - 1 - voxel[through] if along.flipped[through] else voxel[through]
    )
    image = (volume.array if colours is None else colours)[tuple(stored)]
    if along.order[across] < along.order[up]:
        image = np.swapaxes(image, 0, 1)
    # Rows are now the axis that goes up, columns the one across; both are to be seen against their canonical sense.
    image = image[:: 1 if along.flipped[up] else -1, :: 1 if along.flipped[across] else -1]
    low, high = -0.5 * spacing, (shape - 0.5) * spacing
    return Plane(orientation, image, (high[across], low[across]), (low[up], high[up]))


def to_mm(volume: Volume, points_ras: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Points (n, 3) in RAS as millimetres along the scan's own right, front and head, from its first voxel."""
    along = closest_canonical(volume.affine)
    to_canonical = np.linalg.inv(along.to_stored(volume.shape)) @ volume.ras_to_ijk
    return apply_affine(to_canonical, points_ras) * _canonical_spacing(volume)


def on_plane(volume: Volume, point_ras: Sequence[float], orientation: Orientation) -> tuple[float, float]:
    """Where a point lies in the plane: millimetres across and up, as in :attr:`Plane.extent`."""
    across, up, _ = AXES[orientation]
    mm = to_mm(volume, [point_ras])[0]
    return float(mm[across]), float(mm[up])


def distance_mm(volume: Volume, a_ras: Sequence[float], b_ras: Sequence[float], orientation: Orientation) -> float:
    """How far apart the planes through two points are."""
    through = AXES[orientation][2]
    a, b = to_mm(volume, [a_ras, b_ras])
    return float(abs(a[through] - b[through]))


def _canonical_spacing(volume: Volume) -> NDArray[np.float64]:
    return volume.spacing_mm[list(closest_canonical(volume.affine).order)]
