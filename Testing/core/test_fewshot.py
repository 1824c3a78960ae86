"""Heads from strokes: what is learnt, what is predicted, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from Testing.support.pyramids import concatenation, plain_grid, pyramid_of
from Vox2VecCore.errors import Cancelled, HeadError, ModelError
from Vox2VecCore.fewshot import fitting
from Vox2VecCore.fewshot.classes import HeadClass
from Vox2VecCore.fewshot.examples import Examples, connected, examples_from
from Vox2VecCore.fewshot.fitting import choose
from Vox2VecCore.fewshot.head import Head
from Vox2VecCore.fewshot.intensity import intensity_maps
from Vox2VecCore.fewshot.next_stroke import where_to_paint_next
from Vox2VecCore.fewshot.postprocessing import NO_PROCESSING, PostProcessing, clean_parts
from Vox2VecCore.fewshot.predicting import Predictor
from Vox2VecCore.fewshot.segmenting import _cell_means, segment
from Vox2VecCore.fewshot.session import HeadSession
from Vox2VecCore.fewshot.training import train_head
from Vox2VecCore.fewshot.walker import near_strokes, random_walk
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume

SHAPE = (24, 20, 16)
METHODS = ("prototype", "ridge", "logistic", "mlp")


def anatomy() -> np.ndarray:
    """Background 1, a box of structure 2, and a box of structure 5 beside it, made of whole cells of all levels."""
    labels = np.ones(SHAPE, np.int16)
    labels[4:12, 4:16, 4:12] = 2
    labels[16:24, 4:16, 4:12] = 5
    return labels


def embedding(labels: np.ndarray, *, model_hash: str = "test", noise: float = 0.8, seed: int = 0) -> FeaturePyramid:
    """Every class has a direction of its own on every level, class 3 one between 1 and 5; every cell has some noise."""
    rng = np.random.default_rng(seed)
    levels = []
    for step, channels in ((1, 8), (2, 12), (4, 16)):
        directions = np.random.default_rng(step).normal(size=(6, channels))
        directions[3] = directions[1] + directions[5]
        cells = labels[::step, ::step, ::step]
        levels.append(directions[cells] + noise * rng.normal(size=(*cells.shape, channels)))
    return pyramid_of(levels, grid=plain_grid(SHAPE, (3.0, 3.0, 3.0)), model_hash=model_hash)


def strokes(**more: tuple[slice, slice, slice]) -> Volume:
    """A short stroke in each class."""
    array = np.zeros(SHAPE, np.int16)
    array[1, 2:18, 8], array[12, 5:15, 8] = 1, 1
    array[7, 6:14, 8], array[4:10, 10, 5] = 2, 2
    array[17, 6:14, 8] = 5
    for value, where in more.items():
        array[where] = int(value[1:])
    return Volume(array, plain_grid(SHAPE, (3.0, 3.0, 3.0)).affine, "strokes")


def dice(found: np.ndarray, true: np.ndarray, value: int) -> float:
    a, b = found == value, true == value
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def pyramid() -> FeaturePyramid:
    return embedding(anatomy())


def ct() -> Volume:
    """HU that tell the structures from the background, with noise."""
    hu = np.choose(np.minimum(anatomy(), 3) - 1, [-90.0, 60.0, 160.0])
    hu += np.random.default_rng(3).normal(0, 15, SHAPE)
    return Volume(hu.astype(np.float32), plain_grid(SHAPE, (3.0, 3.0, 3.0)).affine, "ct")


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


def test_removing_a_stroke_is_as_if_it_had_never_been_painted(pyramid):
    session = HeadSession(pyramid, None)
    session.method = "ridge"
    before = session.update(strokes()).labels.copy()
    wrong = session.update(strokes(v5=(slice(4, 10), slice(6, 14), 10))).labels.copy()
    after = session.update(strokes()).labels
    assert (before != wrong).any()
    np.testing.assert_array_equal(before, after)


def test_uncertainty_is_high_where_classes_mix(pyramid):
    labels = anatomy()
    mixed = (slice(16, 24), slice(12, 16), slice(4, 12))
    shown = labels.copy()
    shown[mixed] = 3
    twilight = embedding(shown)
    session = HeadSession(twilight, None)
    found = session.update(strokes())
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


# Post-processing


def test_parts_without_a_stroke_go_and_holes_are_filled():
    labels = np.zeros((20, 20, 20), np.int16)
    labels[2:10, 2:10, 2:10] = 2
    labels[5, 5, 5] = 0  # a hole
    labels[14:18, 14:18, 14:18] = 2
    painted = np.zeros_like(labels)
    painted[3, 3, 3] = 2
    clean_parts(labels, painted, 27.0, PostProcessing())
    assert labels[5, 5, 5] == 2
    assert labels[15, 15, 15] == 0
    assert (labels == 2).sum() == 512


@pytest.mark.parametrize(("keep", "left"), [("largest", 512), ("all", 512 + 64), ("touching", 512 + 64)])
def test_what_is_kept_without_strokes(keep, left):
    labels = np.zeros((20, 20, 20), np.int16)
    labels[2:10, 2:10, 2:10] = 2
    labels[14:18, 14:18, 14:18] = 2
    labels[19, 19, 19] = 2  # smaller than the smallest part
    clean_parts(labels, None, 27.0, PostProcessing(keep=keep))
    assert (labels > 0).sum() == left


def test_painted_voxels_keep_what_they_were_painted(pyramid):
    painted = strokes(v5=(slice(5, 7), slice(6, 9), slice(5, 8)))  # inside of structure 2
    head = train_head([(pyramid, strokes())])
    held = segment(pyramid, head, strokes=painted).labels.array
    free = segment(pyramid, head, strokes=painted, processing=NO_PROCESSING).labels.array
    assert (held[painted.array == 5] == 5).all()
    assert (held[painted.array == 1] == 0).all()
    assert (free[painted.array == 5] == 2).any()


def test_outlines_follow_the_edges_of_the_ct_within_the_cells_of_the_embedding():
    """The embedding's finest cell is two voxels of the CT; HU show where the structure ends between them."""
    fine = (2 * SHAPE[0], 2 * SHAPE[1], 2 * SHAPE[2])
    true = np.zeros(fine, bool)
    true[7:21, 9:31, 7:25] = True
    hu = np.where(true, 150, -90).astype(np.float32)
    grid_spacing = plain_grid(SHAPE, (4.0, 4.0, 4.0))
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -1.0
    cells = true.reshape(SHAPE[0], 2, SHAPE[1], 2, SHAPE[2], 2).mean((1, 3, 5))
    grid = type(grid_spacing)(SHAPE, grid_spacing.affine, fine, affine)
    rng = np.random.default_rng(0)
    levels = []
    for step, channels in ((1, 8), (2, 8), (4, 8)):
        part = cells[::step, ::step, ::step, None]
        sides = np.random.default_rng(step).normal(size=(2, channels))
        levels.append(part * sides[0] + (1 - part) * sides[1] + 0.1 * rng.normal(size=(*part.shape[:3], channels)))
    pyramid = pyramid_of(levels, grid=grid)
    painted = np.zeros(fine, np.int16)
    painted[12, 14:26, 16], painted[3, 4:30, 16] = 2, 1
    strokes = Volume(painted, affine, "strokes")
    scan = Volume(hu, affine, "ct")
    head = train_head([(pyramid, strokes)], "ridge")
    score = {
        edges: dice(
            segment(pyramid, head, volume=scan, processing=PostProcessing(follow_edges=edges)).labels.array == 2,
            true,
            1,
        )
        for edges in (False, True)
    }
    assert score[True] > score[False] + 0.01
    assert score[True] > 0.95


def test_fine_grids_are_outlined_on_coarser_ones_without_a_shift():
    """The walk and the guide work on cells of several voxels."""
    labels = anatomy().repeat(2, 0).repeat(2, 1).repeat(2, 2)
    grid = plain_grid(labels.shape, (1.0, 1.0, 1.0))
    levels = []
    for step in (1, 2, 4):
        cells = labels[::step, ::step, ::step]
        directions = np.random.default_rng(step).normal(size=(6, 8))
        levels.append(directions[cells] + 0.5 * np.random.default_rng(0).normal(size=(*cells.shape, 8)))
    pyramid = pyramid_of(levels, grid=grid)
    hu = np.choose(np.minimum(labels, 3) - 1, [-90.0, 60.0, 160.0]).astype(np.float32)
    strokes_ = strokes().array.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    painted, scan = Volume(strokes_, grid.affine, "strokes"), Volume(hu, grid.affine, "ct")
    found = segment(pyramid, train_head([(pyramid, painted)], volumes=[scan]), volume=scan, strokes=painted)
    for value in (2, 5):
        assert dice(found.labels.array, labels, value) > 0.95  # one voxel off gives 0.93


@pytest.mark.parametrize("planes", [7, 17])
def test_cells_at_the_border_hold_what_is_there(planes):
    """The last cell along an axis, and the last slab of a scan, may have one plane only."""
    values = np.random.default_rng(0).random((2, planes, 5, 4), np.float32)
    expected = values
    for axis in (1, 2, 3):
        starts = np.arange(0, values.shape[axis], 2)
        sizes = np.diff(np.append(starts, values.shape[axis]))
        expected = np.add.reduceat(expected, starts, axis) / sizes.reshape([-1 if a == axis else 1 for a in range(4)])
    np.testing.assert_allclose(_cell_means(torch.from_numpy(values), 2), expected, rtol=1e-5)
    grid = plain_grid((planes, 5, 4), (3.0, 3.0, 3.0))
    sizes = [(-(-planes // n), -(-5 // n), -(-4 // n), 8) for n in (1, 2, 4)]
    noise = pyramid_of([np.random.default_rng(n).normal(size=size) for n, size in enumerate(sizes)], grid=grid)
    painted = Volume(np.zeros(grid.shape, np.int16), grid.affine, "strokes")
    painted.array[0, 0:3], painted.array[planes - 1, 0:3] = 1, 2
    head = train_head([(noise, painted)], "ridge")
    found = segment(noise, head, strokes=painted).labels.array
    assert (found[planes - 1, 0:3] == 2).all()


def test_a_walk_fills_even_places_from_seeds_and_stops_at_edges():
    features = np.zeros((12, 12, 12, 1), np.float32)
    features[6:] = 5.0
    seeds = np.full((12, 12, 12), -1)
    seeds[1, 6, 6], seeds[10, 6, 6] = 0, 1
    prior = np.full((2, 12, 12, 12), 0.5, np.float32)
    walked = random_walk(prior, features, seeds, np.ones((12, 12, 12), bool), prior_weight=0.001)
    assert (walked[:, :6].argmax(0) == 0).all()
    assert (walked[:, 6:].argmax(0) == 1).all()
    np.testing.assert_allclose(walked.sum(0), 1, atol=1e-5)


def test_structures_are_less_likely_away_from_their_strokes_and_nowhere_impossible():
    prior = np.full((20, 20, 20, 3), (0.2, 0.5, 0.3), np.float32).transpose(3, 0, 1, 2)
    seeds = np.full((20, 20, 20), -1)
    seeds[4:7, 5, 5], seeds[15, 15, 15] = 1, 0
    here = near_strokes(prior, seeds, [1, 2], np.full(3, 10.0))
    np.testing.assert_allclose(here[:, 5, 5, 5], prior[:, 5, 5, 5], rtol=1e-6)  # where the strokes are
    np.testing.assert_allclose(here[2] / here[0], 1.5, rtol=1e-5)  # not painted in this scan: no place
    assert here[1, 5, 12, 5] < 0.25
    assert here[1, 19, 19, 19] > 0.01
    np.testing.assert_allclose(here.sum(0), 1, rtol=1e-5)


# Bad input


def test_no_strokes_one_class_only_and_strokes_in_air_are_refused(pyramid):
    empty = Volume(np.zeros(SHAPE, np.int16), pyramid.grid.affine, "empty.nii.gz")
    with pytest.raises(HeadError, match="holds no strokes"):
        train_head([(pyramid, empty)])
    only = Volume(np.where(strokes().array == 1, 1, 0).astype(np.int16), pyramid.grid.affine, "strokes")
    with pytest.raises(HeadError, match="background only"):
        train_head([(pyramid, only)])
    one = Volume(np.where(strokes().array == 2, 2, 0).astype(np.int16), pyramid.grid.affine, "strokes")
    with pytest.raises(HeadError, match="one class only"):
        train_head([(pyramid, one)])
    away = pyramid.grid.affine.copy()
    away[:3, 3] += 500
    with pytest.raises(HeadError, match="outside the body"):
        train_head([(pyramid, Volume(strokes().array, away, "strokes"))])
    negative = strokes()
    negative.array[7, 6, 8] = -3
    with pytest.raises(HeadError, match="-3"):
        train_head([(pyramid, negative)])
    for value in (2.5, np.nan):
        halves = strokes().with_array(strokes().array.astype(np.float32))
        halves.array[7, 6, 8] = value
        with pytest.raises(HeadError, match="not whole numbers"):
            train_head([(pyramid, halves)])
    with pytest.raises(HeadError, match="no scans"):
        train_head([])
    with pytest.raises(HeadError, match="Unknown method"):
        train_head([(pyramid, strokes())], "forest")


def test_a_class_of_three_voxels_is_learnt(pyramid):
    tiny = strokes()
    tiny.array[tiny.array == 5] = 0
    tiny.array[17, 8:11, 8] = 5
    head = train_head([(pyramid, tiny)], "ridge")
    assert head.voxels[5] == 3
    assert dice(segment(pyramid, head, strokes=tiny).labels.array, anatomy(), 5) > 0.5


def test_heads_of_another_model_are_refused(pyramid, tmp_path: Path):
    head = train_head([(pyramid, strokes())])
    other = embedding(anatomy(), model_hash="another")
    for use in (
        lambda: segment(other, head),
        lambda: HeadSession(other, None, head),
        lambda: train_head([(other, strokes())], base=head),
        lambda: train_head([(pyramid, strokes()), (other, strokes())]),
    ):
        with pytest.raises(ModelError, match="model"):
            use()


def test_a_head_that_reads_the_ct_says_so_when_it_is_missing(pyramid):
    head = train_head([(pyramid, strokes())], volumes=[ct()])
    with pytest.raises(HeadError, match="give the CT"):
        segment(pyramid, head)


def test_damaged_head_files_are_refused_in_one_sentence(pyramid, tmp_path: Path):
    path = tmp_path / "head.safetensors"
    train_head([(pyramid, strokes())]).save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:50], whole[: len(whole) // 2], b"not a head at all"):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"head\.safetensors"):
            Head.load(path)
    with pytest.raises(ModelError, match="no such file"):
        Head.load(tmp_path / "missing.safetensors")
    path.write_bytes(whole.replace(b'\\"format_version\\": 1', b'\\"format_version\\": 7'))
    with pytest.raises(ModelError, match="format 7"):
        Head.load(path)


def test_a_head_that_cannot_be_written_leaves_nothing(pyramid, tmp_path: Path):
    head = train_head([(pyramid, strokes())])
    with pytest.raises(HeadError, match="cannot be written"):
        head.save(tmp_path / "missing" / "head.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_probabilities_that_are_no_numbers_are_an_error(pyramid):
    head = train_head([(pyramid, strokes())])
    head.maps.weight[:] = np.nan
    with pytest.raises(HeadError, match="not numbers"):
        segment(pyramid, head, processing=NO_PROCESSING)


def test_learning_and_segmenting_can_be_cancelled(pyramid):
    cancelled = Progress(is_cancelled=lambda: True)
    with pytest.raises(Cancelled):
        train_head([(pyramid, strokes())], progress=cancelled)
    with pytest.raises(Cancelled):
        segment(pyramid, train_head([(pyramid, strokes())]), progress=cancelled)
