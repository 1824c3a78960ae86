"""From a head's probabilities to a segmentation: strokes that hold, parts, holes, outlines, walk."""

import numpy as np
import pytest
import torch

from Testing.support.few_strokes import SHAPE, anatomy, dice, embedding, strokes
from Testing.support.pyramids import plain_grid, pyramid_of
from Vox2VecCore.fewshot.postprocessing import NO_PROCESSING, PostProcessing, clean_parts
from Vox2VecCore.fewshot.segmenting import _cell_means, segment
from Vox2VecCore.fewshot.training import train_head
from Vox2VecCore.fewshot.walker import near_strokes, random_walk
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume


@pytest.fixture(scope="module")
def pyramid() -> FeaturePyramid:
    return embedding(anatomy())


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
    walked = random_walk(prior, features, seeds, np.ones((12, 12, 12), bool))
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
