"""Which part of a CT is patient: not the air around, not the table, but with the air inside."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from Vox2VecCore.errors import VolumeError
from Vox2VecCore.orientation import canonical
from Vox2VecCore.resampling import block_mean_weights, multiply_axes
from Vox2VecCore.volume import AIR_HU, TISSUE_HU, Volume

WORKING_SPACING_MM = 3.5
ONLY_AIR_HU = -900.0
OPENING_MM = 5.0
SMALLEST_PART = 0.25

CROSS = ndimage.generate_binary_structure(3, 1)
IN_PLANE = CROSS & np.array([False, True, False])
IN_PLANE_STEPS = ((0, 1), (0, -1), (1, 1), (1, -1))


def body_mask(volume: Volume) -> Volume:
    """Find the patient.

    Works at about 3.5 mm. Tissue over -500 HU is opened, which detaches table, tubes and blankets; the largest
    component is kept, with every other one that is at least a quarter as large (the second leg). Lungs, bowel gas
    and airways are in: they are holes of axial slices, or, where the field of view cuts the body, regions mostly
    enclosed by body. Arms and hands are in where they touch the trunk and otherwise out. There is no margin around
    the skin. A scan without tissue thick enough to be a body (a small phantom, a crop inside a lung) is all body.

    :param volume: HU; padding of any value is told from air by being constant.
    :return: boolean mask on a coarser grid of its own, along the scan's closest canonical axes; every voxel of it
        covers whole voxels of the scan.
    :raises VolumeError: if there is nothing but air.
    """
    scan = canonical(volume)
    coarse, affine = _coarse(scan)
    if coarse.max() < ONLY_AIR_HU:
        raise VolumeError(f"{volume.name}: the scan shows only air; check that its values are Hounsfield units.")
    body = _solid_body(coarse > TISSUE_HU, np.linalg.norm(affine[:3, :3], axis=0))
    if body.any():
        body = _fill_slices(body)
        body = _fill_slices(body | _cut_pockets(coarse, body, _padding(coarse)))
    else:
        body = np.ones_like(body)
    return Volume(body, affine, volume.name)


def _coarse(scan: Volume) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Means of blocks of about 3.5 mm, and their voxel-to-RAS matrix."""
    factors = np.maximum(1, np.round(WORKING_SPACING_MM / scan.spacing_mm)).astype(int)
    weights = [block_mean_weights(n, int(factor)) for n, factor in zip(scan.shape, factors, strict=True)]
    coarse = np.empty([len(w) for w in weights], np.float32)
    multiply_axes(scan.array, weights, coarse, AIR_HU)
    block = np.diag([*factors, 1.0])
    block[:3, 3] = (factors - 1) / 2
    return coarse, scan.affine @ block


def _padding(hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """What scanner or converter filled in around the field of view: a constant, the lowest value or the corners'."""
    corners = hu[[0, 0, -1, -1], [0, -1, 0, -1]]
    value = np.median(corners)
    padding = hu < hu.min() + 0.5
    if value < TISSUE_HU and (np.abs(corners - value) < 0.01).mean() > 0.5:
        padding |= np.abs(hu - value) < 0.01
    return padding


def _solid_body(tissue: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The large parts of the tissue, without what only thin bridges connect to them."""
    opening = _ball(OPENING_MM, spacing_mm)
    margin = [(n, n) for n in opening.shape]
    opened = ndimage.binary_opening(np.pad(tissue, margin, mode="edge"), opening)  # a cut body goes on
    opened = opened[tuple(slice(before, -after) for before, after in margin)]
    labels, _ = ndimage.label(opened)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    large = (sizes > 0) & (sizes >= SMALLEST_PART * sizes.max())
    return tissue & ndimage.binary_dilation(large[labels], CROSS)  # what the opening took off edges and thin walls


def _cut_pockets(hu: NDArray[np.float32], body: NDArray[np.bool_], padding: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Lungs that the field of view cuts open, so that they are no holes.

    A region of air is judged by its openness, the share of its axial outline that lies on the edge of the field of
    view. For the air around a body this is at least half, because the frame is longer than the body's outline; a
    cut lung is rarely that open. Arms and legs make the body's outline longer, so the region must also be denser
    than air, the more so the more open it is. In a field of view within a lung, the lung is as open as the
    surroundings of a body: there only the density of lung counts, and that it has few solid parts (a table's foam
    is as dense as lung, but lies in a shell).
    """
    air = ~body & ~padding
    # Eroded, so that a leak through a thin chest wall does not join a lung to the air outside.
    cores, count = ndimage.label(ndimage.binary_erosion(air, IN_PLANE, border_value=1), CROSS)
    if count == 0:
        return np.zeros_like(body)
    regions = np.where(air, np.maximum(cores, ndimage.grey_dilation(cores, footprint=IN_PLANE)), 0)
    on_edge, on_body = np.zeros(count + 1), np.zeros(count + 1)
    for axis, step in IN_PLANE_STEPS:
        on_edge += np.bincount(regions.ravel(), _neighbour(padding, axis, step, True).ravel(), count + 1)
        on_body += np.bincount(regions.ravel(), _neighbour(body, axis, step, False).ravel(), count + 1)
    openness = on_edge / np.maximum(on_edge + on_body, 1)
    index = np.arange(count + 1)
    median, solid = ndimage.median(hu, cores, index), ndimage.mean(hu > TISSUE_HU, cores, index)
    is_pocket = np.where(openness < 0.5, median > -980 + 100 * openness, (median > -880) & (solid < 0.1))
    is_pocket[0] = False
    pockets = is_pocket[regions]
    # Slivers that the erosion removed.
    return pockets | ndimage.binary_dilation(pockets, CROSS, iterations=3, mask=air & (regions == 0))


def _neighbour(mask: NDArray[np.bool_], axis: int, step: int, beyond: bool) -> NDArray[np.bool_]:
    """What lies one voxel further along an axis; ``beyond`` past the array's edge."""
    shifted = np.roll(mask, -step, axis)
    edge = [slice(None)] * 3
    edge[axis] = slice(-1, None) if step > 0 else slice(0, 1)
    shifted[tuple(edge)] = beyond
    return shifted


def _fill_slices(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the holes of every axial slice."""
    labels, count = ndimage.label(~mask, IN_PLANE)
    outside = np.zeros(count + 1, bool)
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        outside[border] = True
    outside[0] = False
    return ~outside[labels]


def _ball(radius_mm: float, spacing_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    reach = np.floor(radius_mm / spacing_mm + 1e-6).astype(int)
    x, y, z = np.ogrid[tuple(slice(-n, n + 1) for n in reach)]
    dx, dy, dz = spacing_mm
    return (x * dx) ** 2 + (y * dy) ** 2 + (z * dz) ** 2 <= radius_mm**2 + 1e-6
