"""The grid: right, front and head stay where they are, to a fraction of a voxel, for every stored layout."""

import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from Vox2VecCore.errors import Cancelled, PointError, VolumeError
from Vox2VecCore.grid import ModelGrid, grid_scan
from Vox2VecCore.progress import Progress, ProgressReport
from Vox2VecCore.volume import Volume

LOW_HU, HIGH_HU = -400.0, 1000.0  # all tissue, so that the whole image is body


@st.composite
def geometries(draw: st.DrawFn) -> tuple[tuple[int, int, int], NDArray]:
    """Shape and affine: any rotation, handedness, order of axes, spacing from 0.3 to 10 mm, from one voxel up."""
    angles = draw(st.just([0.0, 0.0, 0.0]) | st.lists(st.floats(-180, 180), min_size=3, max_size=3))
    spacing = np.array(draw(st.lists(st.floats(0.3, 10), min_size=3, max_size=3)))
    flips = np.array(draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=3, max_size=3)))
    order = draw(st.permutations(range(3)))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()[:, order] * spacing * flips
    affine[:3, 3] = draw(st.lists(st.floats(-500, 500), min_size=3, max_size=3))
    i, j, k = draw(st.lists(st.integers(1, 24), min_size=3, max_size=3))
    return (i, j, k), affine


def ramp(shape: tuple[int, int, int], affine: NDArray) -> tuple[Volume, NDArray]:
    """An image whose HU are linear in RAS, and the coefficients (4,): HU = c[:3] . ras + c[3]."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1) @ affine[:3, :3].T + affine[:3, 3]
    direction = np.array([0.5, -0.7, 0.6])
    low, high = (corners @ direction).min(), (corners @ direction).max()
    scale = (HIGH_HU - LOW_HU) / max(high - low, 1.0)
    coefficients = np.append(direction * scale, LOW_HU - low * scale)
    hu = voxel_centres(shape, affine) @ coefficients[:3] + coefficients[3]
    return Volume(hu.astype(np.float32), affine), coefficients


def voxel_centres(shape: tuple[int, ...], affine: NDArray) -> NDArray:
    """RAS of every voxel centre, (*shape, 3)."""
    return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


def usable_spacing(shape: tuple[int, int, int], affine: NDArray, fineness: float) -> NDArray:
    """A spacing that gives at most some 40 voxels along each grid axis."""
    extent = np.ptp(voxel_centres((2, 2, 2), affine @ np.diag([*shape, 1.0])).reshape(-1, 3), axis=0)
    return np.maximum(extent / 20, 0.5) * fineness


def assert_same_hu(got: NDArray, expected: NDArray, coefficients: NDArray) -> None:
    """Agreement to a hundredth of a millimetre of the ramp."""
    assert np.abs(got - expected).max(initial=0) < 0.01 * np.linalg.norm(coefficients[:3]) + 2e-3


@given(geometries(), st.floats(0.5, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_points_come_back(geometry: tuple[tuple[int, int, int], NDArray], fineness: float, seed: int) -> None:
    shape, affine = geometry
    grid = grid_scan(ramp(shape, affine)[0], usable_spacing(shape, affine, fineness)).grid
    indices = np.random.default_rng(seed).uniform(-0.5, np.array(shape) - 0.5, (20, 3))
    points = indices @ affine[:3, :3].T + affine[:3, 3]
    assert np.abs(grid.to_ras(grid.to_voxels(points)) - points).max() < 1e-3
    voxels = grid.nearest_voxels(points)
    assert voxels.dtype == np.int64 and (voxels >= 0).all() and (voxels < np.array(grid.shape)).all()
    # The whole image is body, so no point is further from its voxel than half a voxel along each axis.
    assert (np.abs(grid.to_voxels(points) - voxels) < 0.501).all()
    frame = grid.affine[:3, :3] / grid.spacing_mm
    np.testing.assert_allclose(frame.T @ frame, np.eye(3), atol=1e-9)
    assert np.linalg.det(frame) > 0
    assert np.diag(frame).min() > 0


@given(geometries(), st.floats(0.5, 3))
@settings(max_examples=60)
def test_linear_ramp_there_and_back(geometry: tuple[tuple[int, int, int], NDArray], fineness: float) -> None:
    shape, affine = geometry
    volume, coefficients = ramp(shape, affine)
    target = usable_spacing(shape, affine, fineness)
    scan = grid_scan(volume, target)
    assert scan.hu.shape == scan.body.shape == scan.grid.shape
    assert scan.hu.dtype == np.float32 and scan.body.dtype == bool and scan.body.all()
    np.testing.assert_allclose(scan.grid.spacing_mm, target)

    centres = voxel_centres(scan.grid.shape, scan.grid.affine)
    exact = centres @ coefficients[:3] + coefficients[3]
    source = volume.to_ijk(centres.reshape(-1, 3)).reshape(centres.shape)
    # Within the reach of the low-pass the edge of the image bends the ramp.
    sigma = np.sqrt(np.maximum(target.max() ** 2 - volume.spacing_mm**2, 0) / (8 * np.log(2))) / volume.spacing_mm
    margin = np.ceil(4 * sigma)
    away = ((source >= margin) & (source <= np.array(shape) - 1 - margin)).all(-1)
    assert_same_hu(scan.hu[away], exact[away], coefficients)

    back = scan.grid.to_source(exact.astype(np.float32))
    assert back.shape == shape and back.dtype == np.float32
    on_grid = scan.grid.to_voxels(voxel_centres(shape, affine).reshape(-1, 3)).reshape(*shape, 3)
    away = ((on_grid >= 0) & (on_grid <= np.array(scan.grid.shape) - 1)).all(-1)
    assert_same_hu(back[away], volume.array[away], coefficients)


@pytest.mark.parametrize("target", [(1.0, 1.0, 2.0), (2.0, 2.0, 2.0), (0.7, 0.9, 1.1), (3.0, 3.0, 3.0)])
def test_ramp_is_exact_in_the_middle(target: tuple[float, float, float]) -> None:
    """An ordinary CT, large enough to have an inside also for the low-pass: catches shifts of half a voxel."""
    affine = np.array([[-0.8, 0, 0, 30], [0, -0.8, 0, 40], [0, 0, 1.25, -100], [0, 0, 0, 1.0]])
    volume, coefficients = ramp((64, 70, 40), affine)
    scan = grid_scan(volume, target)
    exact = voxel_centres(scan.grid.shape, scan.grid.affine) @ coefficients[:3] + coefficients[3]
    inner = tuple(slice(n // 4, n - n // 4) for n in scan.grid.shape)
    assert_same_hu(scan.hu[inner], exact[inner], coefficients)
    assert scan.hu[inner].size > 100


def test_gantry_tilt() -> None:
    affine = np.array([[-1.0, 0, 0, 30], [0, -1.0, 0.5, 40], [0, 0, 2.0, -100], [0, 0, 0, 1.0]])
    volume, coefficients = ramp((40, 44, 30), affine)
    scan = grid_scan(volume, (1.5, 1.5, 2.0))
    centres = voxel_centres(scan.grid.shape, scan.grid.affine)
    source = volume.to_ijk(centres.reshape(-1, 3)).reshape(centres.shape)
    away = ((source >= 5) & (source <= np.array(volume.shape) - 6)).all(-1)
    exact = centres @ coefficients[:3] + coefficients[3]
    assert_same_hu(scan.hu[away], exact[away], coefficients)
    beyond = ((source < -0.6) | (source > np.array(volume.shape) - 0.4)).any(-1)
    assert beyond.any() and (scan.hu[beyond] == -1024).all()
    inner = (slice(5, -5),) * 3
    assert_same_hu(scan.grid.to_source(exact.astype(np.float32))[inner], volume.array[inner], coefficients)
    labels = scan.grid.to_source((exact > 300).astype(np.uint8), nearest=True)
    assert labels.dtype == np.uint8 and ((labels > 0) == (volume.array > 300)).mean() > 0.97


def smooth_noise(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    coarse = np.random.default_rng(3).uniform(-300, 900, [-(-n // 4) for n in shape])
    return np.kron(coarse, np.ones((4, 4, 4)))[: shape[0], : shape[1], : shape[2]].astype(np.float32)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_stored_layout_does_not_matter(order: tuple[int, int, int], flips: tuple[int, int, int]) -> None:
    array = smooth_noise((21, 26, 18))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [5, -8, 20], degrees=True).as_matrix() * [0.9, 1.1, 2.0]
    expected = grid_scan(Volume(array, affine), (1.5, 1.5, 1.5))

    stored = array.transpose(order)[tuple(slice(None, None, f) for f in flips)]
    to_first = np.zeros((4, 4))
    to_first[3, 3] = 1
    for axis, (source, flip) in enumerate(zip(order, flips, strict=True)):
        to_first[source, axis] = flip
        to_first[source, 3] = stored.shape[axis] - 1 if flip < 0 else 0
    scan = grid_scan(Volume(np.ascontiguousarray(stored), affine @ to_first), (1.5, 1.5, 1.5))

    np.testing.assert_allclose(scan.grid.affine, expected.grid.affine, atol=1e-9)
    np.testing.assert_allclose(scan.hu, expected.hu, atol=0.01)
    np.testing.assert_array_equal(scan.body, expected.body)
    back = scan.grid.to_source(scan.hu, fill=-7)
    assert back.shape == stored.shape
    there = expected.grid.to_source(expected.hu, fill=-7)
    np.testing.assert_allclose(back, there.transpose(order)[tuple(slice(None, None, f) for f in flips)], atol=0.01)


@pytest.mark.parametrize("memory", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
def test_type_and_memory_order_do_not_matter(memory: str, dtype: type) -> None:
    array = np.clip(smooth_noise((20, 24, 17)), 0, 255).astype(dtype)
    expected = grid_scan(Volume(array.astype(np.float32), np.eye(4)), (2, 2, 2)).hu
    got = grid_scan(Volume(np.array(array, order=memory), np.eye(4)), (2, 2, 2)).hu  # type: ignore[call-overload]
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_low_pass_removes_what_the_grid_cannot_hold() -> None:
    checkers = (np.indices((60, 60, 60)).sum(0) % 2 * 800.0 - 300).astype(np.float32)
    noise = np.random.default_rng(0).normal(100, 100, (60, 60, 60)).astype(np.float32)
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    inner = (slice(5, -5),) * 3
    assert np.std(grid_scan(Volume(checkers, affine), (1.7, 1.7, 1.7)).hu[inner]) < 0.02 * np.std(checkers)
    # A Gaussian of 1.38 voxels passes (4 pi sigma^2)^(-3/4) = 0.092 of white noise's deviation.
    assert np.std(grid_scan(Volume(noise, affine), (1.7, 1.7, 1.7)).hu[inner]) == pytest.approx(9.2, rel=0.1)
    # Nothing is smoothed where nothing is lost.
    same = grid_scan(Volume(noise, affine), (0.5, 0.5, 0.5))
    np.testing.assert_allclose(same.hu, noise, atol=1e-2)


def test_grid_covers_the_scan_and_stays_inside() -> None:
    scan = grid_scan(Volume(np.zeros((11, 7, 1), np.int16), np.diag([1.0, 1.0, 5.0, 1.0])), (2, 2, 2))
    assert scan.grid.shape == (6, 4, 3)  # 11, 7 and 5 mm
    np.testing.assert_allclose(scan.grid.to_ras([[0, 0, 0]])[0], [0, 0, -2])
    np.testing.assert_allclose(scan.grid.to_ras([[5, 3, 2]])[0], [10, 6, 2])
    assert (scan.hu == 0).all()


def test_crop_keeps_a_margin_around_the_body() -> None:
    array = np.full((80, 90, 30), -1000, np.int16)
    array[30:50, 20:60] = 40
    grid = grid_scan(Volume(array, np.eye(4)), (1, 1, 1)).grid
    first, last = grid.to_ras([[0, 0, 0], np.array(grid.shape) - 1])
    assert (first <= [26, 16, 0]).all() and (first >= [18, 8, 0]).all()
    assert (last >= [53, 63, 29]).all() and (last <= [62, 72, 29]).all()


def test_padding_counts_as_air() -> None:
    array = np.full((60, 60, 20), -3024, np.int16)
    array[10:50, 10:50] = 40
    assert grid_scan(Volume(array, np.eye(4)), (2, 2, 2)).hu.min() >= -1024


def test_points_outside() -> None:
    affine = np.array([[0, 0, 2.0, -10], [-1, 0, 0, 50], [0, 3.0, 0, 7], [0, 0, 0, 1]])
    array = np.full((40, 30, 50), -1000, np.int16)
    array[10:25, 8:20, 15:30] = 30
    grid = grid_scan(Volume(array, affine), (2, 2, 2)).grid
    # Faces: R -11 to 89, A 10.5 to 50.5, S 5.5 to 95.5.
    edge = grid.nearest_voxels([[-10.9, 10.6, 5.6], [88.9, 50.4, 95.4]])
    np.testing.assert_array_equal(edge[0], [0, 0, 0])  # in the CT, outside the crop: the nearest voxel
    np.testing.assert_array_equal(edge[1], np.array(grid.shape) - 1)
    with pytest.raises(PointError, match=r"\(-11\.5, 20\.0, 30\.0\).*\(-11\.0, 10\.5, 5\.5\).*\(89\.0, 50\.5, 95\.5\)"):
        grid.nearest_voxels([[20, 20, 30], [-11.5, 20, 30]])
    with pytest.raises(PointError):
        grid.nearest_voxels([[20, np.nan, 30]])
    with pytest.raises(PointError, match="three numbers"):
        grid.nearest_voxels([[20, 30]])
    assert grid.nearest_voxels([40, 30, 50]).shape == (1, 3)


def test_json_is_exact() -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [3, 1 / 3, 20], degrees=True).as_matrix() * [0.7, 0.7, 1.25]
    grid = grid_scan(Volume(np.zeros((20, 21, 9), np.int16), affine), (1, 1, 2)).grid
    again = ModelGrid.from_dict(json.loads(json.dumps(grid.as_dict())))
    np.testing.assert_array_equal(again.affine, grid.affine)
    np.testing.assert_array_equal(again.source_affine, grid.source_affine)
    assert again == grid and again.shape == grid.shape and hash(again) == hash(grid)
    assert again != grid_scan(Volume(np.zeros((20, 21, 9), np.int16), affine), (1, 1, 1)).grid
    with pytest.raises(KeyError):
        ModelGrid.from_dict({})
    with pytest.raises(ValueError):
        ModelGrid.from_dict(grid.as_dict() | {"affine": [1, 2]})


def test_to_source_fills_outside_the_crop() -> None:
    array = np.full((60, 70, 20), -1000, np.int16)
    array[20:40, 20:50] = 40
    grid = grid_scan(Volume(array, np.eye(4)), (1, 1, 1)).grid
    for nearest, dtype in ((False, np.float32), (True, np.int32)):
        out = grid.to_source(np.full(grid.shape, 5, np.int32), nearest=nearest, fill=-3)
        assert out.shape == array.shape and out.dtype == dtype
        assert (out[20:40, 20:50] == 5).all() and (out[:5] == -3).all() and (out[:, -5:] == -3).all()
    assert grid.to_source(np.ones(grid.shape, bool), nearest=True).dtype == bool
    with pytest.raises(VolumeError, match="do not fit"):
        grid.to_source(np.zeros((3, 3, 3)))


def test_nearest_keeps_labels() -> None:
    labels = np.random.default_rng(1).integers(0, 5, (20, 30, 25))
    affine = np.diag([-1.0, 1.0, -1.0, 1.0])
    grid = grid_scan(Volume(np.zeros(labels.shape, np.int16), affine), (1, 1, 1)).grid
    on_grid = labels[::-1, :, ::-1].astype(np.uint8)
    np.testing.assert_array_equal(grid.to_source(on_grid, nearest=True), labels)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, np.inf, 1)])
def test_bad_spacing(spacing: tuple[float, ...]) -> None:
    with pytest.raises(VolumeError, match="spacing"):
        grid_scan(Volume(np.zeros((3, 3, 3), np.int16), np.eye(4)), spacing)


def test_progress_and_cancel() -> None:
    reports: list[ProgressReport] = []
    volume = Volume(np.zeros((5, 5, 5), np.int16), np.eye(4))
    grid_scan(volume, (1, 1, 1), Progress(reports.append))
    assert reports[0].fraction == 0 and reports[-1].fraction == 1
    with pytest.raises(Cancelled):
        grid_scan(volume, (1, 1, 1), Progress(is_cancelled=lambda: True))
