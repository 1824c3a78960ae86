"""Similarity queries: the fast sums over levels against the plain definition, calibration, negatives, slices."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from Testing.support.pyramids import concatenation, percentiles, plain_grid, pyramid_of, random_levels
from Vox2VecCore.embedding import embed
from Vox2VecCore.errors import Cancelled, ModelError, PointError, Vox2VecError
from Vox2VecCore.grid import ModelGrid
from Vox2VecCore.progress import Progress
from Vox2VecCore.similarity import (
    Query,
    at_voxels,
    calibration,
    level_weights,
    make_query,
    on_slice,
    similarity_map,
    whole_scan,
)
from Vox2VecCore.spreading import prepare
from Vox2VecCore.volume_io import read_labels, read_volume

SHAPE = (37, 22, 19)
T6_T8_T10_T12, FROM_L3_TO_T1 = (38, 36, 34, 32), range(29, 44)
"""Labels of the demo CT."""


@pytest.fixture
def pyramid(tmp_path: Path):
    return pyramid_of(random_levels(SHAPE, smooth=1.5), folder=tmp_path)


def plain(pyramid, query: Query) -> np.ndarray:
    """The definition: the weighted unit vectors in one long vector, times the voxel's long vector."""
    long = np.concatenate([w * v for w, v in zip(query.weights, query.vectors, strict=True)])
    return concatenation(pyramid) @ long.astype(np.float32)


@settings(max_examples=25)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    z_stride=st.sampled_from([1, 2, 3]),
    balance=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_equals_the_plain_definition(shape, z_stride, balance, seed):
    strides = [(1, 1, 1), (2, 2, 1), (4, 4, z_stride)]
    pyramid = pyramid_of(random_levels(shape, (3, 5, 70), strides, seed=seed), strides)
    query = make_query(pyramid, [np.array(shape) // 2], balance=balance)
    expected = plain(pyramid, query)
    np.testing.assert_allclose(whole_scan(pyramid, query), expected, atol=2e-6)
    for axis in range(3):
        index = shape[axis] // 3
        np.testing.assert_allclose(on_slice(pyramid, query, axis, index), expected.take(index, axis), atol=2e-6)
    voxels = np.random.default_rng(seed).integers(0, shape, (50, 3))
    np.testing.assert_allclose(at_voxels(pyramid, query, voxels), expected[tuple(voxels.T)], atol=2e-6)


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads_gives_the_same(pyramid, threads):
    query = make_query(pyramid, [(5, 5, 5)])
    expected = plain(pyramid, query)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        np.testing.assert_allclose(whole_scan(pyramid, query), expected, atol=2e-6)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_clicked_voxel_is_the_most_similar(pyramid):
    heat = percentiles(pyramid, [(10, 11, 12)])
    assert np.unravel_index(heat.argmax(), heat.shape) == (10, 11, 12)
    assert heat.max() == pytest.approx(100, abs=1e-3)
    assert (heat == heat.max()).sum() == 1


def test_calibration_is_the_rank_in_the_body(pyramid):
    query = make_query(pyramid, [(10, 11, 12)])
    plain_values = whole_scan(pyramid, query)
    heat = whole_scan(pyramid, query, calibration(pyramid, query))
    as_in_slicer = whole_scan(pyramid, query, calibration(pyramid, query), order="F")
    assert as_in_slicer.flags.f_contiguous
    np.testing.assert_array_equal(as_in_slicer, heat)
    ranks = plain_values.ravel().argsort().argsort().reshape(SHAPE) / (plain_values.size - 1) * 100
    np.testing.assert_allclose(heat, ranks, atol=0.1)


def test_calibrated_slices_and_voxels_are_those_of_the_whole_scan():
    body = np.random.default_rng(3).random(SHAPE) > 0.3
    pyramid = pyramid_of(random_levels(SHAPE), body=body)
    query = make_query(pyramid, [(10, 11, 12)])
    percentiles = calibration(pyramid, query)
    heat = whole_scan(pyramid, query, percentiles)
    assert (heat[~body] == 0).all()
    assert 49 < np.median(heat[body]) < 51
    for axis in range(3):
        # The sums differ in their last bits, so a voxel may read the next entry of the table.
        np.testing.assert_allclose(on_slice(pyramid, query, axis, 7, percentiles), heat.take(7, axis), atol=0.02)
    voxels = np.argwhere(np.ones(SHAPE, bool))[::7]
    np.testing.assert_allclose(at_voxels(pyramid, query, voxels, percentiles), heat[tuple(voxels.T)], atol=0.02)


def test_calibration_keeps_the_order(pyramid):
    query = make_query(pyramid, [(10, 11, 12)])
    values = np.linspace(-2, 2, 10001, dtype=np.float32)
    percentiles = calibration(pyramid, query)(values)
    assert (np.diff(percentiles) >= 0).all()
    assert percentiles[0] >= 0
    assert percentiles[-1] == 100


def test_calibration_leaves_its_input_alone(pyramid):
    query = make_query(pyramid, [(10, 11, 12)])
    values = whole_scan(pyramid, query)
    copy = values.copy()
    calibration(pyramid, query)(values)
    np.testing.assert_array_equal(values, copy)


def test_a_scan_that_looks_the_same_everywhere_is_all_alike():
    pyramid = pyramid_of([np.ones((8, 8, 8, 4)), np.ones((4, 4, 4, 4)), np.ones((2, 2, 2, 4))])
    assert (percentiles(pyramid, [(1, 1, 1)]) == 100).all()


def test_an_empty_body_is_all_zero():
    pyramid = pyramid_of(random_levels((8, 8, 8)), body=np.zeros((8, 8, 8), bool))
    assert (percentiles(pyramid, [(1, 1, 1)]) == 0).all()


def test_balance_moves_weight_between_fine_and_coarse():
    np.testing.assert_allclose(level_weights(6, 0.5), 1 / 6)
    assert level_weights(6, 0.0)[0] == pytest.approx(0.70, abs=0.01)
    assert level_weights(6, 1.0)[-1] == pytest.approx(0.70, abs=0.01)
    np.testing.assert_allclose(level_weights(4, 0.3), level_weights(4, 0.7)[::-1])
    assert level_weights(1, 0.2).tolist() == [1.0]
    for balance in (-0.1, 1.1, float("nan")):
        with pytest.raises(Vox2VecError, match="between 0"):
            level_weights(6, balance)


def two_kinds() -> list[np.ndarray]:
    """Three kinds of tissue: A and B share their coarse levels, C shares nothing with either."""
    directions = np.eye(4, dtype=np.float32)
    fine = np.zeros((12, 4, 4, 4), np.float32)
    fine[:4], fine[4:8], fine[8:] = directions[0], directions[1] + directions[0], directions[3]
    coarse = np.zeros((6, 2, 2, 4), np.float32)
    coarse[:4], coarse[4:] = directions[0], directions[2]
    return [fine, coarse]


def test_negatives_push_their_kind_down_and_leave_the_rest():
    pyramid = pyramid_of(two_kinds(), [(1, 1, 1), (2, 2, 2)])
    without = whole_scan(pyramid, make_query(pyramid, [(0, 0, 0)]))
    with_negative = whole_scan(pyramid, make_query(pyramid, [(0, 0, 0)], [(5, 0, 0)]))
    margin = [m[0, 0, 0] - m[5, 0, 0] for m in (without, with_negative)]
    assert margin[1] > 2 * margin[0]
    assert with_negative[0, 0, 0] == with_negative.max()


def test_a_negative_of_another_kind_changes_nothing():
    pyramid = pyramid_of(two_kinds(), [(1, 1, 1), (2, 2, 2)])
    alone, against_c = (make_query(pyramid, [(0, 0, 0)], n) for n in ((), [(9, 0, 0)]))
    np.testing.assert_allclose(whole_scan(pyramid, alone), whole_scan(pyramid, against_c), atol=1e-6)


def test_levels_where_negatives_look_the_same_lose_their_say():
    pyramid = pyramid_of(two_kinds(), [(1, 1, 1), (2, 2, 2)])
    query = make_query(pyramid, [(0, 0, 0)], [(5, 0, 0)])
    assert sum(query.weights) == pytest.approx(1)
    assert query.weights[0] > 0.8


def test_negative_equal_to_the_positive_is_harmless(pyramid):
    query = make_query(pyramid, [(5, 5, 5)], [(5, 5, 5)])
    assert np.isfinite(whole_scan(pyramid, query)).all()


def test_several_positives_form_their_mean(pyramid):
    points = [(3, 4, 5), (20, 10, 8), (30, 20, 15)]
    query = make_query(pyramid, points)
    for level, vector in zip(pyramid.unit_vectors(points), query.vectors, strict=True):
        mean = level.mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_map_lies_on_the_grid_of_the_ct():
    source = np.array([[0, -2.0, 0, 40], [3.0, 0, 0, -7], [0, 0, 2.5, 11], [0, 0, 0, 1]])
    grid = plain_grid((24, 20, 16), (1.5, 1.5, 2.0))
    grid = ModelGrid(grid.shape, np.diag([1.5, 1.5, 2.0, 1.0]) + np.eye(4, k=3) * 6, (12, 21, 15), source)
    pyramid = pyramid_of(random_levels(grid.shape, smooth=3), grid=grid)
    point = grid.to_ras([[12, 10, 8]])
    heat = similarity_map(pyramid, point)
    assert heat.array.shape == (12, 21, 15)
    assert heat.array.dtype == np.float32
    np.testing.assert_array_equal(heat.affine, source)
    assert 0 <= heat.array.min() <= heat.array.max() <= 100
    brightest = heat.to_ras([np.unravel_index(heat.array.argmax(), heat.shape)])
    assert np.linalg.norm(brightest - point) < 4


def test_uncalibrated_map_is_zero_outside_the_body():
    body = np.zeros(SHAPE, bool)
    body[5:20, 5:20, 5:15] = True
    pyramid = pyramid_of(random_levels(SHAPE), body=body)
    heat = similarity_map(pyramid, [(10, 10, 10)], calibrated=False)
    assert (heat.array[~body] == 0).all()
    assert 0.99 <= heat.array[10, 10, 10] <= 1
    for point in np.argwhere(body)[::100]:
        assert similarity_map(pyramid, [point], calibrated=False).array.max() <= 1


def test_refusals(pyramid):
    with pytest.raises(PointError, match="outside the scan"):
        make_query(pyramid, [(500, 0, 0)])
    with pytest.raises(PointError, match="at least one positive"):
        make_query(pyramid, [], [(1, 1, 1)])
    query = make_query(pyramid, [(1, 1, 1)])
    with pytest.raises(PointError, match="Slice 99"):
        on_slice(pyramid, query, 0, 99)
    other = pyramid_of(random_levels(SHAPE), model_hash="another")
    for use in (
        lambda: whole_scan(other, query),
        lambda: on_slice(other, query, 0, 0),
        lambda: calibration(other, query),
    ):
        with pytest.raises(ModelError, match="another model"):
            use()


def test_a_point_that_was_not_embedded_is_refused():
    levels = random_levels((8, 8, 8))
    for level in levels:
        level[: level.shape[0] // 2] = 0
    with pytest.raises(PointError, match="nothing was embedded"):
        make_query(pyramid_of(levels), [(1, 1, 1)])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_query_can_be_cancelled(pyramid, threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with pytest.raises(Cancelled):
            similarity_map(pyramid, [(1, 1, 1)], progress=Progress(is_cancelled=lambda: True))
    finally:
        torch.set_num_threads(before)


def test_a_query_serves_another_scan_of_the_same_model(pyramid):
    levels = random_levels(SHAPE, smooth=1.5)
    moved = pyramid_of([np.roll(level, 8 // stride, axis=0) for level, stride in zip(levels, (1, 2, 4), strict=True)])
    query = make_query(pyramid, [(10, 11, 12)])
    heat = whole_scan(moved, query, calibration(moved, query))
    assert np.unravel_index(heat.argmax(), heat.shape) == (18, 11, 12)


def test_many_voxels_and_few_find_the_same_cells():
    from Vox2VecCore.separable import FEW_VOXELS, distinct_cells

    voxels = np.random.default_rng(0).integers(0, (40, 30, 20), (FEW_VOXELS, 3))
    for stride in ((1, 1, 1), (4, 4, 2)):
        shape = [-(-n // s) for n, s in zip((40, 30, 20), stride, strict=True)]
        rows, which = (each.numpy() for each in distinct_cells(voxels, stride, shape))
        flat = np.ravel_multi_index(tuple((voxels // np.array(stride)).T), shape)
        if max(stride) > 1:
            np.testing.assert_array_equal(rows, np.unique(flat))
        np.testing.assert_array_equal(rows[which], flat)


@pytest.fixture(scope="module")
def rows():
    """Along each of three rows what a place looks like turns slowly until little of it is left."""
    length = 100
    angle = np.linspace(0, np.pi, length)
    level = np.zeros((length, 3, 1, 12), np.float32)
    for row in range(3):
        turning = np.stack([np.cos(angle), np.sin(angle), np.full(length, 0.6)], axis=1)
        level[:, row, 0, 4 * row : 4 * row + 3] = turning
    return pyramid_of([level], [(1, 1, 1)])


def test_spreading_follows_what_changes_little_from_place_to_place(rows):
    """The far end of the clicked row looks less like its near end than the other rows do; it is found all the same."""
    plain_map, spread_map = (percentiles(rows, [(0, 0, 0)], spreading=each) for each in (False, True))
    assert plain_map[80:, 0].max() < plain_map[:, 1:].min()
    assert spread_map[80:, 0].min() > spread_map[:, 1:].max()


def test_spreading_looks_away_from_negatives(rows):
    heat = percentiles(rows, [(0, 0, 0)], [(0, 1, 0)], spreading=True)
    assert heat[:, 1].mean() < heat[:, 2].min() <= heat[:, 2].max() < heat[:, 0].min()


def test_a_click_goes_on_with_what_is_being_prepared(monkeypatch):
    """Between two steps of the preparation a click is answered: what one of them has found serves the other."""
    pyramid = pyramid_of(random_levels((16, 16, 16)))
    weights = level_weights(len(pyramid.levels), 0.5)
    alone = percentiles(pyramid_of(random_levels((16, 16, 16))), [(3, 4, 5)], spreading=True)
    sought: list[int] = []
    topk = torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda part, *a, **k: sought.append(len(part)) or topk(part, *a, **k))
    clicked: list[np.ndarray] = []

    def click() -> bool:
        if len(sought) == 2 and not clicked:
            clicked.append(percentiles(pyramid, [(3, 4, 5)], spreading=True))
        return False

    prepare(pyramid, weights, Progress(is_cancelled=click))
    assert sum(sought) == 16**3, "every voxel's neighbours are sought once"
    np.testing.assert_array_equal(clicked[0], alone)


def test_spreading_where_there_is_nothing_to_spread_over():
    same = pyramid_of([np.ones((8, 8, 8, 4)), np.ones((4, 4, 4, 4)), np.ones((2, 2, 2, 4))])
    assert (percentiles(same, [(1, 1, 1)], spreading=True) == 100).all()
    for count in (0, 1, 15, 16):
        body = np.zeros((8, 8, 8), bool)
        body.flat[:count] = True
        heat = percentiles(pyramid_of(random_levels((8, 8, 8)), body=body), [(1, 1, 1)], spreading=True)
        assert np.isfinite(heat).all() and (heat[~body] == 0).all()


def test_one_click_lights_up_the_spine(demo_ct):
    """With the shipped model, on the demo CT: most vertebrae, where plain similarity finds those nearby."""
    labels = read_labels(demo_ct.with_name("demo_ct_labels.nii.gz"))
    pyramid = embed(read_volume(demo_ct), "vox2vec-small", cache=False)
    boxes = ndimage.find_objects(labels.array)
    vertebrae = {n: labels.array[box] == n for n, box in enumerate(boxes, start=1) if n in FROM_L3_TO_T1}
    corners = {n: [side.start for side in boxes[n - 1]] for n in FROM_L3_TO_T1}
    places = [labels.to_ras(np.argwhere(vertebrae[n])[::37] + corners[n]) for n in FROM_L3_TO_T1]
    voxels = [pyramid.grid.nearest_voxels(inside) for inside in places]
    lit: dict[bool, list[int]] = {False: [], True: []}
    for clicked in T6_T8_T10_T12:
        depth = ndimage.distance_transform_edt(vertebrae[clicked], sampling=labels.spacing_mm)
        point = labels.to_ras([np.add(np.unravel_index(depth.argmax(), depth.shape), corners[clicked])])
        for spreading, counts in lit.items():
            query = make_query(pyramid, point, spreading=spreading)
            heat = [at_voxels(pyramid, query, each, calibration(pyramid, query)) for each in voxels]
            counts.append(sum(np.mean(each > 95) > 0.4 for each in heat))
    assert np.mean(lit[True]) > 10 and np.mean(lit[False]) < 8, lit
