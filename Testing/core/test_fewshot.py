"""Heads from strokes: what is learnt and what is predicted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from Testing.support.few_strokes import SHAPE, anatomy, ct, dice, embedding, strokes
from Testing.support.pyramids import concatenation, pyramid_of
from Vox2VecCore.fewshot import fitting
from Vox2VecCore.fewshot.classes import HeadClass
from Vox2VecCore.fewshot.examples import Examples, connected, examples_from
from Vox2VecCore.fewshot.fitting import choose
from Vox2VecCore.fewshot.head import Head
from Vox2VecCore.fewshot.intensity import intensity_maps
from Vox2VecCore.fewshot.next_stroke import where_to_paint_next
from Vox2VecCore.fewshot.predicting import GridLabels, Predictor
from Vox2VecCore.fewshot.segmenting import segment
from Vox2VecCore.fewshot.session import HeadSession
from Vox2VecCore.fewshot.training import train_head
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume

METHODS = ("prototype", "ridge", "logistic", "mlp")


@pytest.fixture(scope="module")
def pyramid() -> FeaturePyramid:
    return embedding(anatomy())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("with_ct", [False, True])
def test_structures_are_found_from_short_strokes(pyramid, method, with_ct):
    head = train_head([(pyramid, strokes())], method, volumes=[ct()] if with_ct else None)
    found = segment(pyramid, head, volume=ct() if with_ct else None, strokes=strokes())
    assert head.method == method
    assert set(np.unique(found.labels.array)) == {0, 2, 5}
    for value in (2, 5):
        assert dice(found.labels.array, anatomy(), value) > 0.85
    assert found.volumes_ml()[2] == pytest.approx((found.labels.array == 2).sum() * 0.027)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("clicks", [1, 2])
def test_a_click_or_two_a_class_are_enough(pyramid, method, clicks):
    """Their voxels do not vary, neither all of them nor those that stay when every other one is left out."""
    array = np.zeros(SHAPE, np.int16)
    array[[7, 9][:clicks], 10, 8], array[[19, 21][:clicks], 9, 6], array[[1, 13][:clicks], 3, 13] = 2, 5, 1
    clicked = Volume(array, strokes().affine, "clicks")
    found = Predictor(train_head([(pyramid, clicked)], method), pyramid, None).whole().labels
    assert all(dice(found, anatomy(), value) > 0.5 for value in (2, 5))


@pytest.mark.parametrize("method", METHODS)
def test_prediction_by_levels_is_that_of_the_whole_vector(pyramid, method):
    head = train_head([(pyramid, strokes())], method)
    plain = head.maps(concatenation(pyramid).reshape(-1, 36)).reshape(*SHAPE, -1)
    plain = np.exp(np.moveaxis(plain - plain.max(-1, keepdims=True), -1, 0))
    plain /= plain.sum(0)
    predictor = Predictor(head, pyramid, None)
    np.testing.assert_allclose(predictor.probabilities((0, 0, 0), SHAPE), plain, atol=1e-4)
    np.testing.assert_allclose(predictor.probabilities((5, 3, 2), (9, 11, 7)), plain[:, 5:9, 3:11, 2:7], atol=1e-4)
    values = np.array([0, 2, 5])
    np.testing.assert_array_equal(predictor.whole().labels, values[plain.argmax(0)])
    np.testing.assert_array_equal(predictor.on_slice(1, 9), values[plain[:, :, 9].argmax(0)])
    some = np.argwhere(np.ones(SHAPE, bool))[::7]
    np.testing.assert_array_equal(predictor.at_voxels(some), values[plain.argmax(0)][tuple(some.T)])
    with_ct = Predictor(train_head([(pyramid, strokes())], volumes=[ct()]), pyramid, intensity_maps(ct(), pyramid.grid))
    plane = some[some[:, 1] == 9]
    np.testing.assert_array_equal(with_ct.at_voxels(plane), with_ct.on_slice(1, 9)[plane[:, 0], plane[:, 2]])


def test_a_head_comes_back_from_its_file_and_predicts_the_same(pyramid, tmp_path: Path):
    liver = HeadClass(2, "Liver", (0.8, 0.4, 0.3), "SCT^10200004^Liver")
    head = train_head([(pyramid, strokes())], "mlp", classes=[liver], names={5: "Spleen"}, volumes=[ct()])
    head.save(tmp_path / "head.safetensors")
    again = Head.load(tmp_path / "head.safetensors")
    assert again.classes == head.classes
    assert [each.name for each in again.structures] == ["Liver", "Spleen"]
    assert again.structures[0].terminology == "SCT^10200004^Liver"
    assert (again.scans, again.method, again.note, again.needs_ct) == (("ct",), "mlp", head.note, True)
    first, second = (segment(pyramid, each, volume=ct()).labels.array for each in (head, again))
    np.testing.assert_array_equal(first, second)
    assert "Liver, Spleen" in again.summary()


def test_further_strokes_add_to_a_head_after_its_scan_is_closed(pyramid, tmp_path: Path):
    """The second scan shows a structure that the first does not; a head of both knows both."""
    train_head([(pyramid, strokes())]).save(tmp_path / "first.safetensors")
    other = anatomy()
    other[4:12, 4:16, 4:12] = 4
    second = embedding(other, seed=9)
    painted = strokes()
    painted.array[painted.array == 2] = 4
    both = train_head([(second, painted)], base=Head.load(tmp_path / "first.safetensors"))
    assert [each.value for each in both.structures] == [2, 4, 5]
    assert dice(segment(pyramid, both).labels.array, anatomy(), 2) > 0.8
    assert dice(segment(second, both).labels.array, other, 4) > 0.8


def learnt(session: HeadSession, painted: Volume) -> GridLabels:
    session.train(painted)
    return session.predict()


def test_removing_a_stroke_is_as_if_it_had_never_been_painted(pyramid):
    session = HeadSession(pyramid, None)
    session.method = "ridge"
    before = learnt(session, strokes()).labels.copy()
    wrong = learnt(session, strokes(v5=(slice(4, 10), slice(6, 14), 10))).labels.copy()
    after = learnt(session, strokes()).labels
    assert (before != wrong).any()
    np.testing.assert_array_equal(before, after)


def test_uncertainty_is_high_where_classes_mix(pyramid):
    labels = anatomy()
    mixed = (slice(16, 24), slice(12, 16), slice(4, 12))
    shown = labels.copy()
    shown[mixed] = 3
    twilight = embedding(shown)
    session = HeadSession(twilight, None)
    found = learnt(session, strokes())
    inside = found.uncertainty[mixed].mean()
    assert inside > 3 * found.uncertainty[labels == 2].mean()
    assert found.uncertainty.max() <= 255
    assert session.where_to_paint_next() is not None


def test_the_hint_is_uncertain_far_from_strokes_and_unlike_them(pyramid):
    unsure = np.zeros(SHAPE, np.uint8)
    unsure[5:8, 5:8, 5:8] = 200  # beside the strokes
    unsure[20:24, 12:16, 4:8] = 150  # far from them, in a structure that nobody painted
    painted = np.argwhere(strokes().array == 2)
    hint = where_to_paint_next(pyramid, unsure, painted)
    assert hint is not None
    assert tuple(pyramid.grid.nearest_voxels([hint])[0] // 4) == (5, 3, 1)
    assert where_to_paint_next(pyramid, np.zeros(SHAPE, np.uint8), painted) is None


def test_auto_says_what_it_took_and_why(pyramid):
    few = Volume(np.zeros(SHAPE, np.int16), pyramid.grid.affine, "clicks")
    few.array[1, 2, 3], few.array[7, 8, 8] = 1, 2
    assert train_head([(pyramid, few)]).method == "prototype"
    head = train_head([(pyramid, strokes())])
    assert head.method == "ridge"
    assert "labelled voxels" in head.note
    assert choose(head.examples, "mlp") == ("mlp", "chosen by the user")


def test_a_long_stroke_weighs_no_more_than_its_class(pyramid):
    head = train_head([(pyramid, strokes(v1=(slice(0, 2), slice(0, 20), slice(0, 16))))])
    values, weights = head.examples.values, head.examples.weights
    for value in (0, 1, 2, 5):
        assert weights[values == value].sum() == pytest.approx(1)
    painted = (values == 1).sum()
    assert painted > 200
    assert weights[values == 1].max() > 2 / painted, "voxels of crowded cells share their weight"


def test_touching_voxels_of_a_class_are_one_stroke():
    painted = (np.random.default_rng(0).random((7, 6, 5)) < 0.15) * np.random.default_rng(1).integers(1, 3, (7, 6, 5))
    ijk = np.argwhere(painted)
    numbers = connected(ijk, painted[tuple(ijk.T)])
    of_class = [ndimage.label(painted == value, np.ones((3, 3, 3)))[0] for value in (1, 2)]
    expected = (of_class[0] + 1000 * of_class[1])[tuple(ijk.T)]
    assert len(set(numbers)) == len(set(expected)) == len(set(zip(numbers, expected, strict=True)))


def test_leaving_strokes_out_is_learning_without_them(pyramid):
    """Sums over the strokes that stay are those of all less those left out."""
    more = strokes(v2=(slice(5, 9), 5, 8), v5=(slice(18, 22), 12, 6), v1=(slice(2, 20), 1, 2))
    examples = examples_from(pyramid, more, None, "strokes")
    seen = []

    def temperature(task, held):
        seen.extend(held)
        return 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Task, "temperature", temperature)
        fitting.fit(examples, "ridge", 1)
    assert len(seen) == 3
    for maps, out in seen:
        kept = (examples.vectors, examples.values, examples.strokes, examples.weights)
        rest = Examples(*(part[~out] for part in kept), False, ("strokes",))
        without = fitting.fit(rest, "ridge", 1, calibrate=False).maps
        np.testing.assert_allclose(maps(examples.vectors), without(examples.vectors), atol=1e-3)


def test_moments_of_long_vectors_are_whole():
    """They are made by blocks of columns, each product of two of them once."""
    rng = np.random.default_rng(0)
    x, w, index = rng.normal(size=(40, 300)).astype(np.float32), rng.random(40), rng.integers(0, 3, 40)
    parts = [torch.from_numpy(part) for part in (x, index, w.astype(np.float32))]
    found = fitting._Moments.of(*parts, 3)
    np.testing.assert_allclose(found.products, (x.T * w) @ x, atol=1e-4)
    np.testing.assert_allclose(found.sums, (np.eye(3)[index].T * w) @ x, atol=1e-4)
    np.testing.assert_allclose(found.weights, np.bincount(index, w, 3), rtol=1e-5)


def test_probabilities_of_left_out_strokes_are_not_overconfident(pyramid):
    """Without anything to tell the classes apart, calibrated probabilities are near even."""
    rng = np.random.default_rng(0)
    levels = [rng.normal(size=np.array(level.unit).shape) for level in pyramid.levels]
    noise = pyramid_of(levels, grid=pyramid.grid)
    painted = Volume(np.zeros(SHAPE, np.int16), pyramid.grid.affine, "strokes")
    for n in range(6):
        painted.array[3 * n, 2:8, 4], painted.array[3 * n, 12:18, 4] = 1, 2
    sure = Predictor(train_head([(noise, painted)], "ridge"), noise, None).probabilities((0, 0, 0), SHAPE)
    assert float(sure.amax(0).mean()) < 0.85


def test_a_class_of_three_voxels_is_learnt(pyramid):
    tiny = strokes()
    tiny.array[tiny.array == 5] = 0
    tiny.array[17, 8:11, 8] = 5
    head = train_head([(pyramid, tiny)], "ridge")
    assert head.voxels[5] == 3
    assert dice(segment(pyramid, head, strokes=tiny).labels.array, anatomy(), 5) > 0.5
