"""The model's grid: the one place where millimetres, voxels of the CT and voxels that the network sees are converted.

Everything outside speaks RAS millimetres. Voxel coordinates are those of voxel centres: voxel ``i`` of an axis
covers ``i - 0.5`` to ``i + 0.5``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from Vox2VecCore.body import body_mask
from Vox2VecCore.errors import PointError, VolumeError
from Vox2VecCore.orientation import canonical, closest_canonical, orthonormal_directions
from Vox2VecCore.progress import Progress
from Vox2VecCore.resampling import resample_linear, resample_nearest
from Vox2VecCore.shapes import Triple, triple
from Vox2VecCore.volume import AIR_HU, Volume, apply_affine

CROP_MARGIN_MM = 5.0
LONGEST_MM = 10_000.0
STAGE = "Preparing the scan"


@dataclass(frozen=True, eq=False)
class ModelGrid:
    """A regular grid over the body in a CT, at the model's spacing.

    Its axes are the CT's own, permuted and flipped to the closest of right, front, head, and made orthogonal
    if the CT is sheared (gantry tilt); an oblique CT keeps its directions. The grid is centred on the crop box
    and has just enough voxels to cover it, so the outermost voxels may reach over the box's faces by up to half
    a voxel on either side, but no voxel centre lies outside the box.

    :param shape: voxels along right, front, head.
    :param affine: 4x4, grid voxel (i, j, k) to RAS millimetres.
    :param source_shape: voxels of the CT as stored.
    :param source_affine: 4x4, stored voxel of the CT to RAS millimetres.
    """

    shape: Triple
    affine: NDArray[np.float64]
    source_shape: Triple
    source_affine: NDArray[np.float64]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelGrid) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((self.shape, self.source_shape))

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Distance between neighbouring voxels along right, front, head, in millimetres."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @cached_property
    def ras_to_voxels(self) -> NDArray[np.float64]:
        """4x4 matrix from RAS millimetres to grid voxels."""
        return np.linalg.inv(self.affine).astype(np.float64)

    @cached_property
    def ras_to_source(self) -> NDArray[np.float64]:
        """4x4 matrix from RAS millimetres to voxels of the CT as stored."""
        return np.linalg.inv(self.source_affine).astype(np.float64)

    def to_voxels(self, points_ras: ArrayLike) -> NDArray[np.float64]:
        """Continuous grid coordinates (n, 3) of points (n, 3) in RAS millimetres, inside the grid or not."""
        return apply_affine(self.ras_to_voxels, points_ras)

    def to_ras(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """RAS millimetres (n, 3) of continuous grid coordinates (n, 3)."""
        return apply_affine(self.affine, voxels)

    def nearest_voxels(self, points_ras: ArrayLike) -> NDArray[np.int64]:
        """Nearest grid voxels (n, 3) of points (n, 3) in RAS millimetres.

        A point in the CT but outside the body crop gets the nearest voxel of the grid.

        :raises PointError: for a point outside the CT, that is beyond the faces of its outermost voxels, or one
            that is not three finite numbers.
        """
        points = np.atleast_2d(np.asarray(points_ras, dtype=np.float64))
        if points.ndim != 2 or points.shape[1] != 3:
            raise PointError(f"Points must be three numbers each, in RAS mm; got an array of shape {points.shape}.")
        source = apply_affine(self.ras_to_source, points)
        inside = ((source >= -0.5 - 1e-6) & (source <= np.array(self.source_shape) - 0.5 + 1e-6)).all(axis=1)
        if not inside.all():  # a NaN compares false
            raise PointError(f"Point {_mm(points[~inside][0])} lies outside the scan, which covers {self._extent()}.")
        nearest = np.floor(self.to_voxels(points) + 0.5).astype(np.int64)
        return np.clip(nearest, 0, np.array(self.shape) - 1)

    def to_source(self, values: NDArray, *, nearest: bool = False, fill: float = 0.0) -> NDArray:
        """Bring values on the grid to the CT's own grid.

        :param values: (X, Y, Z) of the grid's shape.
        :param nearest: take the nearest voxel, for labels, instead of interpolating linearly.
        :param fill: value of CT voxels outside the grid.
        :return: array of exactly ``source_shape``; float32, or the type of ``values`` with ``nearest``. Its first
            axis is the fastest in memory, as in image files and in Slicer.
        :raises VolumeError: if the values do not have the grid's shape.
        """
        if values.shape != self.shape:
            raise VolumeError(f"Values of shape {values.shape} do not fit the model grid {self.shape}.")
        out = np.empty(self.source_shape, values.dtype if nearest else np.float32, order="F")
        axes = closest_canonical(self.source_affine)
        to_grid = self.ras_to_voxels @ self.source_affine @ axes.to_stored(self.source_shape)
        resample = resample_nearest if nearest else resample_linear
        resample(values, to_grid, axes.view(out), fill=fill)
        return out

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the numbers come back exactly."""
        return {
            "shape": list(self.shape),
            "affine": self.affine.tolist(),
            "source_shape": list(self.source_shape),
            "source_affine": self.source_affine.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelGrid":
        """Undo :meth:`as_dict`.

        :raises KeyError, TypeError, ValueError: if the values are not from there.
        """
        return cls(
            triple(values["shape"]),
            np.array(values["affine"], np.float64).reshape(4, 4),
            triple(values["source_shape"]),
            np.array(values["source_affine"], np.float64).reshape(4, 4),
        )

    def _extent(self) -> str:
        corners = np.array(list(np.ndindex(2, 2, 2))) * np.array(self.source_shape) - 0.5
        ras = apply_affine(self.source_affine, corners)
        return f"{_mm(ras.min(axis=0))} to {_mm(ras.max(axis=0))}"


@dataclass(frozen=True, eq=False)
class GriddedScan:
    """A CT on the model's grid.

    :param hu: (X, Y, Z) HU, at least -1024.
    :param body: (X, Y, Z) true in the patient, see :func:`~Vox2VecCore.body.body_mask`.
    """

    grid: ModelGrid
    hu: NDArray[np.float32]
    body: NDArray[np.bool_]


def grid_scan(volume: Volume, spacing_mm: Sequence[float], progress: Progress | None = None) -> GriddedScan:
    """Bring a CT to the model's grid: canonical axes, crop to the body and 5 mm around, low-pass, resample.

    The low-pass before downsampling is a Gaussian, for each axis, whose width makes up the difference between the
    two spacings (Cardoso et al., Scale factor point spread function matching, MICCAI 2015); axes that are
    upsampled are not smoothed. Values below -1024 HU (padding) are taken as air, as is everything outside the scan.

    :param spacing_mm: voxel spacing of the grid along right, front, head.
    :raises VolumeError: if the scan shows only air, or is longer than any body.
    :raises Cancelled: if the user asked for it.
    """
    progress = progress or Progress()
    target = np.array(spacing_mm, np.float64)
    if target.shape != (3,) or not (target > 0).all() or not np.isfinite(target).all():
        raise VolumeError(f"The grid's spacing must be three positive numbers of mm, not {spacing_mm}.")
    progress.step(STAGE, 0, 3)
    mask = body_mask(volume)
    progress.step(STAGE, 1, 3)
    scan = canonical(volume)
    grid = _plan_grid(volume, scan, _crop_box(mask, scan), target)
    hu = _hu_on_grid(scan, grid)
    progress.step(STAGE, 2, 3)
    inside = np.empty(grid.shape, np.float32)
    resample_linear(mask.array, mask.ras_to_ijk @ grid.affine, inside, fill=0.0)
    body = inside > 0.5
    if not body.any():  # smaller than a voxel of the grid
        body[...] = True
    progress.step(STAGE, 3, 3)
    return GriddedScan(grid, hu, body)


def hu_on_grid(volume: Volume, grid: ModelGrid) -> NDArray[np.float32]:
    """HU (X, Y, Z) of a CT on the grid that :func:`grid_scan` made for it.

    :raises VolumeError: if the grid is that of another scan.
    """
    if volume.shape != grid.source_shape or not np.allclose(volume.affine, grid.source_affine, atol=1e-3):
        raise VolumeError(f"{volume.name}: is not the scan that was embedded; its grid is another one.")
    return _hu_on_grid(canonical(volume), grid)


def _hu_on_grid(scan: Volume, grid: ModelGrid) -> NDArray[np.float32]:
    """HU of a scan with canonical axes on a grid, after the low-pass of :func:`grid_scan`."""
    sigma_mm = np.sqrt(np.maximum(grid.spacing_mm**2 - scan.spacing_mm**2, 0) / (8 * np.log(2)))
    hu = np.empty(grid.shape, np.float32)
    to_scan = scan.ras_to_ijk @ grid.affine
    resample_linear(scan.array, to_scan, hu, fill=AIR_HU, sigma=sigma_mm / scan.spacing_mm, floor=AIR_HU)
    return hu


def _crop_box(mask: Volume, scan: Volume) -> NDArray[np.float64]:
    """First and last face (2, 3) of the body and its margin, in voxel coordinates of the scan."""
    to_scan = scan.ras_to_ijk @ mask.affine
    margin = CROP_MARGIN_MM / scan.spacing_mm
    faces = []
    for axis in range(3):
        used = np.flatnonzero(mask.array.any(axis=tuple({0, 1, 2} - {axis})))
        faces.append(to_scan[axis, axis] * np.array([used[0] - 0.5, used[-1] + 0.5]) + to_scan[axis, 3])
    first, last = np.array(faces).T
    first, last = np.floor(first - margin + 0.5) - 0.5, np.ceil(last + margin + 0.5) - 0.5  # whole voxels
    return np.clip([first, last], -0.5, np.array(scan.shape) - 0.5)


def _plan_grid(volume: Volume, scan: Volume, box: NDArray[np.float64], spacing_mm: NDArray[np.float64]) -> ModelGrid:
    """The grid that covers a box, given by two corners in voxel coordinates of the scan."""
    directions = orthonormal_directions(scan.affine)
    corners = scan.to_ras(np.where(np.array(list(np.ndindex(2, 2, 2))), box[1], box[0])) @ directions
    size_mm = corners.max(axis=0) - corners.min(axis=0)
    if size_mm.max() > LONGEST_MM:
        raise VolumeError(f"{volume.name}: would be {size_mm.max() / 1000:.3g} m long; its voxel spacing is damaged.")
    shape = np.maximum(1, np.ceil(size_mm / spacing_mm - 1e-3)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing_mm
    affine[:3, 3] = scan.to_ras(box.mean(axis=0))[0] - affine[:3, :3] @ ((shape - 1) / 2)
    return ModelGrid(triple(shape), affine, volume.shape, volume.affine)


def _mm(point: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{x:.1f}" for x in point) + ") mm RAS"
