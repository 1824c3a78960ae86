"""The banded products give what plain interpolation gives."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from Vox2VecCore import resampling
from Vox2VecCore.resampling import block_mean_weights, linear_weights, resample_linear, resample_nearest


@pytest.fixture
def values() -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-2000, 2000, (23, 31, 19)).astype(np.int16)


def index_matrix(scale: tuple[float, ...], shift: tuple[float, ...]) -> NDArray[np.float64]:
    matrix = np.diag([*scale, 1.0])
    matrix[:3, 3] = shift
    return matrix


@pytest.mark.parametrize(
    ("scale", "shift", "shape"),
    [
        ((1.7, 2.1, 0.4), (0.3, -0.2, 1.0), (12, 14, 40)),
        ((0.5, 0.6, 0.7), (2.6, 0.01, 3.15), (40, 50, 20)),
        ((-0.9, 1.1, -1.3), (22.2, -3.0, 17.0), (30, 33, 16)),
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0), (5, 6, 7)),
        ((9.0, 9.0, 9.0), (4.0, 4.0, 4.0), (2, 3, 2)),
    ],
)
@pytest.mark.parametrize("memory", ["C", "F"])
def test_against_scipy(
    values: NDArray, scale: tuple[float, ...], shift: tuple[float, ...], shape: tuple[int, ...], memory: str
) -> None:
    matrix = index_matrix(scale, shift)
    sigma = (0.8, 0.0, 1.9)
    smooth = np.maximum(values, -1024).astype(np.float64)
    for axis, s in enumerate(sigma):
        if s:
            radius = int(np.ceil(4 * s))
            smooth = ndimage.gaussian_filter1d(smooth, s, axis, mode="nearest", radius=radius)
    where = np.stack([s * x + t for s, t, x in zip(scale, shift, np.indices(shape).astype(float), strict=True)])
    expected = ndimage.map_coordinates(smooth, where, order=1, mode="nearest")
    outside = np.any([(x < -0.5) | (x > n - 0.5) for x, n in zip(where, values.shape, strict=True)], axis=0)
    out = np.empty(shape, np.float32, order=memory)  # type: ignore[call-overload]
    resample_linear(np.array(values, order=memory), matrix, out, fill=-7, sigma=sigma, floor=-1024)  # type: ignore[call-overload]
    np.testing.assert_allclose(out, np.where(outside, -7, expected), atol=2e-3)

    labels = np.empty(shape, np.int16)
    resample_nearest(values, matrix, labels, fill=-7)
    nearest = values[
        tuple(np.clip(np.floor(x + 0.5).astype(int), 0, n - 1) for x, n in zip(where, values.shape, strict=True))
    ]
    np.testing.assert_array_equal(labels, np.where(outside, -7, nearest))


def test_sheared_path_agrees_with_the_fast_one(values: NDArray, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = index_matrix((0.61, 1.37, 0.83), (-1.1, 0.4, 2.2))
    arguments = {"fill": -1024.0, "sigma": (0.0, 0.7, 0.3), "floor": -1024.0}
    fast, slow = np.empty((41, 25, 21), np.float32), np.empty((41, 25, 21), np.float32)
    resample_linear(values, matrix, fast, **arguments)  # type: ignore[arg-type]
    labels, slow_labels = np.empty(fast.shape, np.int16), np.empty(fast.shape, np.int16)
    resample_nearest(values, matrix, labels, fill=0)
    monkeypatch.setattr(resampling, "ALIGNED_TOLERANCE", -1.0)
    resample_linear(values, matrix, slow, **arguments)  # type: ignore[arg-type]
    resample_nearest(values, matrix, slow_labels, fill=0)
    np.testing.assert_allclose(slow, fast, atol=0.05)
    np.testing.assert_array_equal(slow_labels, labels)


def test_work_is_split_the_same_for_any_number_of_threads(values: NDArray, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for threads in ("1", "3", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        out = np.empty((50, 60, 40), np.float32)
        resample_linear(values, index_matrix((0.4, 0.5, 0.45), (0, 0, 0)), out, fill=0)
        results.append(out)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_weights() -> None:
    weights = linear_weights(np.array([-0.5, 0.25, 3.0, 3.4]), 4)
    np.testing.assert_allclose(weights, [[1, 0, 0, 0], [0.75, 0.25, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]], atol=1e-7)
    np.testing.assert_allclose(linear_weights(np.linspace(0, 30, 7), 31, 2.5).sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(block_mean_weights(5, 2), [[0.5, 0.5, 0, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 1]])
