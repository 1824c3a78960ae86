"""Two overlapping, differently deformed views of a scan, and the exact partner of every voxel."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from Vox2VecCore.volume import AIR_HU

INVERSE_STEPS = 16


@dataclass(frozen=True)
class SpatialAugmentation:
    """Random deformation of a view; none of it as published.

    :param rotation_degrees: largest rotation about each axis.
    :param scale: largest relative magnification or its inverse, one factor for all axes.
    :param stretch: the same, one factor for every axis.
    :param elastic_voxels: standard deviation of the control points' displacement, in voxels of the scan.
    :param elastic_step: voxels between control points.
    """

    rotation_degrees: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    elastic_voxels: float = 0.0
    elastic_step: int = 16


@dataclass(frozen=True)
class ViewTransform:
    """Where the voxels of a view lie in its scan.

    ``scan = centre + matrix @ (view - (shape - 1) / 2) + displacement(view)``, all in voxels.

    :param shape: voxels of the view.
    :param matrix: (3, 3).
    :param centre: (3,).
    :param displacement: (1, 3, *shape), or ``None``.
    """

    shape: tuple[int, int, int]
    matrix: Tensor
    centre: Tensor
    displacement: Tensor | None

    def to_scan(self, view: Tensor) -> Tensor:
        """Scan coordinates (n, 3) of view coordinates (n, 3)."""
        scan = self.centre + (view - self._middle) @ self.matrix.T
        return scan if self.displacement is None else scan + self._displaced(view)

    def to_view(self, scan: Tensor) -> Tensor:
        """View coordinates (n, 3) of scan coordinates (n, 3), by fixed-point iteration on the displacement."""
        inverse = torch.linalg.inv(self.matrix)
        view = self._middle + (scan - self.centre) @ inverse.T
        if self.displacement is not None:
            straight = view
            for _ in range(INVERSE_STEPS):
                view = straight - self._displaced(view) @ inverse.T
        return view

    def sample(self, values: Tensor) -> Tensor:
        """Trilinear values (*shape) of a scan (X, Y, Z) float32 in HU; air outside of the scan."""
        if (start := self._plain_start) is not None:
            return _cut(values, start, self.shape)
        axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in self.shape]
        x, y, z = (
            axis.view([-1 if i == j else 1 for j in range(3)])[..., None] * self.matrix[:, i]
            for i, axis in enumerate(axes)
        )
        points = self.centre + x + y + z
        if self.displacement is not None:
            points = points + self.displacement[0].permute(1, 2, 3, 0)
        # grid_sample pads with zero, so that air must be zero.
        return _interpolate((values - AIR_HU)[None], points[None])[0] + AIR_HU

    def box(self, scan_shape: tuple[int, int, int]) -> tuple[slice, slice, slice]:
        """The part of a scan that :meth:`sample` reads; empty slices are widened to one voxel."""
        reach = self.matrix.abs() @ self._middle + 1
        if self.displacement is not None:
            reach = reach + self.displacement.abs().amax((0, 2, 3, 4))
        sides = []
        for centre, half, size in zip(self.centre.tolist(), reach.tolist(), scan_shape, strict=True):
            start = min(max(math.floor(centre - half), 0), size - 1)
            sides.append(slice(start, min(max(math.ceil(centre + half) + 1, start + 1), size)))
        return sides[0], sides[1], sides[2]

    def moved(self, origin: tuple[int, int, int]) -> "ViewTransform":
        """The same view of a part of the scan that begins at voxel ``origin``."""
        return replace(self, centre=self.centre - torch.tensor(origin, dtype=self.centre.dtype))

    @property
    def _plain_start(self) -> tuple[int, int, int] | None:
        """First voxel of a view that is nothing but a part of its scan, else ``None``."""
        if self.displacement is not None or not torch.equal(self.matrix, torch.eye(3)):
            return None
        x, y, z = (self.centre - self._middle).tolist()
        return (int(x), int(y), int(z)) if x == int(x) and y == int(y) and z == int(z) else None

    @property
    def _middle(self) -> Tensor:
        return (torch.tensor(self.shape, dtype=torch.float32) - 1) / 2

    def _displaced(self, view: Tensor) -> Tensor:
        assert self.displacement is not None
        return _interpolate(self.displacement[0], view[None, None, None], padding="border")[:, 0, 0].T


def _cut(values: Tensor, start: tuple[int, int, int], shape: tuple[int, int, int]) -> Tensor:
    """The part (*shape) of a scan that begins at voxel ``start``; air where it reaches outside."""
    inside = [slice(max(0, a), max(0, min(n, a + m))) for a, m, n in zip(start, shape, values.shape, strict=True)]
    part = values[tuple(inside)]
    if part.shape == shape:
        return part.clone()
    whole = torch.full(shape, AIR_HU, dtype=values.dtype)
    there = [slice(i.start - a, i.start - a + n) for i, a, n in zip(inside, start, part.shape, strict=True)]
    whole[tuple(there)] = part
    return whole


def _interpolate(values: Tensor, points: Tensor, padding: str = "zeros") -> Tensor:
    """Trilinear interpolation of (C, X, Y, Z) at voxel coordinates (1, a, b, c, 3) -> (C, a, b, c)."""
    size = torch.tensor(values.shape[1:], dtype=torch.float32)
    # grid_sample counts its last axis first and runs from -1 to 1.
    grid = ((points * 2 + 1) / size - 1).flip(-1).reshape(1, *points.shape[-4:])
    return F.grid_sample(values[None], grid, mode="bilinear", padding_mode=padding, align_corners=False)[0]


def random_view(
    anchor: NDArray[np.float64],
    scan_shape: tuple[int, int, int],
    shape: tuple[int, int, int],
    augmentation: SpatialAugmentation,
    rng: np.random.Generator,
) -> ViewTransform:
    """A random crop that contains ``anchor`` (voxel coordinates of the scan), randomly deformed.

    Without deformation the crop is uniform among the crops that contain the anchor, as published. A scan
    smaller than the crop lies at a random place in it.
    """
    matrix = _random_matrix(augmentation, rng)
    extent = np.abs(matrix) @ np.asarray(shape, dtype=np.float64)
    start = np.empty(3)
    for axis, (size, whole) in enumerate(zip(extent, scan_shape, strict=True)):
        if whole > size:
            low, high = max(0.0, anchor[axis] - size + 1), min(anchor[axis], whole - size)
        else:
            low, high = whole - size, 0.0
        first = np.ceil(low)
        start[axis] = rng.integers(first, max(first, np.floor(high)), endpoint=True)
    displacement = None
    if augmentation.elastic_voxels > 0:
        nodes = [n // augmentation.elastic_step + 2 for n in shape]
        # Cut at two sigma: a displacement that folds space has no partner voxels.
        control = (augmentation.elastic_voxels * rng.normal(0, 1, (1, 3, *nodes)).clip(-2, 2)).astype(np.float32)
        displacement = F.interpolate(torch.from_numpy(control), shape, mode="trilinear", align_corners=True)
    return ViewTransform(
        shape,
        torch.from_numpy(matrix.astype(np.float32)),
        torch.from_numpy((start + (extent - 1) / 2).astype(np.float32)),
        displacement,
    )


def _random_matrix(augmentation: SpatialAugmentation, rng: np.random.Generator) -> NDArray[np.float64]:
    matrix = np.eye(3)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        angle = np.deg2rad(rng.uniform(-1, 1) * augmentation.rotation_degrees)
        turn = np.eye(3)
        turn[[a, a, b, b], [a, b, a, b]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
        matrix = matrix @ turn
    zoom = np.exp(rng.uniform(-1, 1) * np.log1p(augmentation.scale))
    zooms = zoom * np.exp(rng.uniform(-1, 1, 3) * np.log1p(augmentation.stretch))
    return matrix * zooms


def partners(
    first: ViewTransform, second: ViewTransform, body: Tensor, count: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Voxels of two views that show the same point of the body.

    :param body: (X, Y, Z) boolean mask of the scan.
    :param count: pairs wanted; fewer come back when the views share little of the body.
    :return: integer voxels (n, 3) of the first view, those of the second nearest to the same point, and the
        point itself in voxels of the scan.
    """
    flat = rng.permutation(np.unique(rng.integers(0, math.prod(first.shape), 16 * count)))
    voxels = torch.from_numpy(np.stack(np.unravel_index(flat, first.shape), axis=1))
    scan = first.to_scan(voxels.float())
    nearest = scan.round().long()
    inside = ((nearest >= 0) & (nearest < torch.tensor(body.shape))).all(1)
    inside[inside.clone()] = body[tuple(nearest[inside].T)]
    voxels, scan = voxels[inside], scan[inside]
    other = second.to_view(scan).round().long()
    seen = ((other >= 0) & (other < torch.tensor(second.shape))).all(1)
    return voxels[seen][:count], other[seen][:count], scan[seen][:count]
