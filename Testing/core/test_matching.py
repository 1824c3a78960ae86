"""Matching across scans: the coarse-to-fine search against brute force, the vote, real CT deformed, and honesty."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from Testing.support.handmade import handmade_pyramid
from Testing.support.pyramids import concatenation, plain_grid, pyramid_of, random_levels
from Vox2VecCore import search
from Vox2VecCore.embedding import embed
from Vox2VecCore.errors import Cancelled, ModelError, PointError
from Vox2VecCore.landmarks import Landmarks, find_landmarks
from Vox2VecCore.matching import LARGEST_CYCLE_MM, SEED_STEP_MM, Match, _vote, match_points
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.search import best_voxels
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_volume

STRIDES = ((1, 1, 1), (2, 2, 2), (4, 4, 4))


def brute_force(target: FeaturePyramid, source: FeaturePyramid, voxels: np.ndarray, weights: list[float]):
    """Best body voxel and similarity by looking at every voxel."""
    scale = np.repeat(weights, [level.channels for level in target.levels])
    wanted = np.concatenate([level.unit_vectors(voxels) for level in source.levels], axis=1) * scale
    inside = np.argwhere(target.body)
    similarities = concatenation(target)[target.body] @ wanted.T
    return inside[similarities.argmax(axis=0)], similarities.max(axis=0)


def nested_levels(shape, seed: int, noise: float) -> list[np.ndarray]:
    """Levels that agree with each other, as those of a decoder do: a smooth field at every level's resolution."""
    x, y, z = shape
    field = random_levels(shape, (12,), ((1, 1, 1),), seed=seed, smooth=2.5)[0]
    levels = []
    for sx, sy, sz in STRIDES:
        cells = field.reshape(x // sx, sx, y // sy, sy, z // sz, sz, 12).mean(axis=(1, 3, 5))
        rng = np.random.default_rng(seed + sx)
        levels.append((cells + noise * rng.standard_normal(cells.shape)).astype(np.float32))
    return levels


@settings(max_examples=20)
@given(shape=st.tuples(*[st.integers(1, 24)] * 3), seed=st.integers(0, 50), z_stride=st.sampled_from([1, 2, 4]))
def test_search_finds_what_is_there(shape, seed, z_stride):
    """A vector of the scan itself is found, on any shape, whichever level the search starts from."""
    strides = ((1, 1, 1), (2, 2, 1), (4, 4, z_stride))
    pyramid = pyramid_of(random_levels(shape, (8, 16, 70), strides, seed=seed), strides)
    voxels = pyramid.body_voxels(20, seed)
    for dense_cells in (1, 100, 10**6):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search, "DENSE_CELLS", dense_cells)
            search._searches.clear()
            found, similarity = best_voxels(pyramid, pyramid, voxels, [1 / 3] * 3)
        np.testing.assert_array_equal(found, voxels)
        np.testing.assert_allclose(similarity, 1, atol=0.02)


@pytest.mark.parametrize(("noise", "same", "loss"), [(0.2, 1.0, 1e-5), (0.4, 0.85, 0.003)])
def test_search_agrees_with_brute_force(monkeypatch, noise, same, loss):
    shape = (64, 48, 40)
    body = np.random.default_rng(2).random(shape) > 0.3
    source = pyramid_of(nested_levels(shape, 1, 0.0), STRIDES)
    target = pyramid_of(nested_levels(shape, 1, noise), STRIDES, body=body)
    monkeypatch.setattr(search, "DENSE_CELLS", 3000)
    voxels = source.body_voxels(200)
    weights = [0.5, 0.3, 0.2]
    expected, best = brute_force(target, source, voxels, weights)
    found, similarity = best_voxels(target, source, voxels, weights)
    assert body[tuple(found.T)].all()
    assert (similarity <= best + 1e-5).all()
    assert (found == expected).all(axis=1).mean() >= same
    assert (best - similarity).mean() < loss


def test_search_is_exact_when_the_scan_is_small():
    source, target = (pyramid_of(random_levels((20, 18, 16), seed=s), STRIDES) for s in (0, 1))
    voxels = source.body_voxels(50)
    expected, best = brute_force(target, source, voxels, [0.2, 0.3, 0.5])
    found, similarity = best_voxels(target, source, voxels, [0.2, 0.3, 0.5])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(similarity, best, atol=1e-5)


def test_search_stays_in_the_body_whatever_looks_more_alike(monkeypatch):
    shape = (32, 28, 24)
    body = np.random.default_rng(2).random(shape) < 0.002
    source, target = (pyramid_of(random_levels(shape, seed=s), STRIDES, body=body) for s in (0, 1))
    monkeypatch.setattr(search, "DENSE_CELLS", 500)
    found, similarity = best_voxels(target, source, source.body_voxels(50), [0.5, 0.3, 0.2])
    assert body[tuple(found.T)].all()
    assert similarity.min() > -1


def moved(shift: int, seed: int = 3, noise: float = 0.2) -> tuple[FeaturePyramid, FeaturePyramid, np.ndarray]:
    """Two scans of the same thing; the second lies elsewhere in space, is shifted in its grid, and noisier."""
    shape = (64, 64, 64)
    levels = nested_levels(shape, seed, 0.0)
    rng = np.random.default_rng(seed)
    other = [
        np.roll(level, shift // stride[0], axis=1) + noise * rng.standard_normal(level.shape)
        for level, stride in zip(levels, STRIDES, strict=True)
    ]
    grid = plain_grid(shape, (2.0, 2.0, 2.0))
    affine = grid.affine.copy()
    affine[:3, 3] = (300, -200, 1000)
    elsewhere = type(grid)(shape, affine, shape, affine)
    where = np.array([300, -200 + 2.0 * shift, 1000])
    return pyramid_of(levels, STRIDES, grid=grid), pyramid_of(other, STRIDES, grid=elsewhere), where


def test_points_are_found_in_a_shifted_noisy_scan():
    source, target, where = moved(shift=12)
    points = np.random.default_rng(0).uniform((10, 10, 10), (116, 90, 116), (20, 3))
    matches = match_points(source, target, points)
    errors = np.linalg.norm(
        [np.subtract(m.target_ras, p + where) for m, p in zip(matches, points, strict=True)], axis=1
    )
    assert np.median(errors) < 2.0
    assert np.mean(errors < 6) > 0.9
    reliable = np.array([m.reliable for m in matches])
    assert reliable.mean() > 0.8
    assert (errors[reliable] < 6).all()


def test_nothing_is_reliable_in_an_unrelated_scan():
    source, _, _ = moved(shift=0, seed=3)
    unrelated, _, _ = moved(shift=0, seed=77)
    matches = match_points(source, unrelated, source.grid.to_ras(source.body_voxels(30)))
    assert sum(m.reliable for m in matches) <= 1
    assert np.median([m.cycle_error_mm for m in matches]) > 20


def test_a_scan_matches_itself():
    source, _, _ = moved(shift=0)
    points = source.grid.to_ras([[20, 30, 40], [0, 0, 0], [63, 63, 63], *source.body_voxels(10)])
    for match, point in zip(match_points(source, source, points), points, strict=True):
        np.testing.assert_allclose(match.source_ras, point)
        np.testing.assert_allclose(
            match.target_ras, point, atol=2.0
        )  # a voxel: int8 does not tell close neighbours apart
        assert match.cycle_error_mm <= 2.0
        assert 0.99 <= match.similarity <= 1
        assert match.reliable


def test_as_dict_is_the_contract_of_the_command_line():
    source, target, _ = moved(shift=4)
    (match,) = match_points(source, target, (40.0, 50.0, 60.0))
    values = json.loads(json.dumps(match.as_dict()))
    assert set(values) == {"source_ras", "target_ras", "similarity", "cycle_error_mm", "reliable"}
    assert values["source_ras"] == [40.0, 50.0, 60.0]
    assert isinstance(match, Match)


def test_the_vote_ignores_seeds_that_went_astray():
    rng = np.random.default_rng(0)
    offsets = 5.0 * (np.array(list(np.ndindex(3, 3, 3))) - 1)
    displacements = np.array([7.0, -3.0, 11.0]) + rng.normal(0, 1, offsets.shape)
    displacements[::4] += rng.uniform(40, 80, (7, 3))
    shift, spread, share = _vote(displacements, offsets, np.zeros(27))
    np.testing.assert_allclose(shift, (7, -3, 11), atol=1.0)
    assert 0.5 < spread < 2.5
    assert share == pytest.approx(20 / 27)


def test_the_vote_follows_a_local_stretch_when_seeds_are_missing_on_one_side():
    offsets = SEED_STEP_MM * (np.array(list(np.ndindex(3, 3, 3))) - 1)
    one_side = offsets[offsets[:, 0] >= 0]
    shift, _, share = _vote(np.array([2.0, 0, 0]) + 0.3 * one_side, one_side, np.zeros(len(one_side)))
    assert share == 1
    assert np.linalg.norm(shift - (2, 0, 0)) < 0.5 * np.linalg.norm(0.3 * one_side.mean(axis=0))


def test_the_vote_follows_landmarks_when_seeds_are_of_two_minds():
    offsets = 5.0 * (np.array(list(np.ndindex(3, 3, 3))) - 1)
    displacements = np.where(np.arange(27)[:, None] < 15, (0.0, 0, 60), (0.0, 0, 0)).astype(float)
    by_seeds, _, _ = _vote(displacements, offsets, np.zeros(27))
    by_landmarks, _, share = _vote(displacements, offsets, np.where(displacements[:, 2] == 0, 0.7, 0.1))
    assert by_seeds[2] > 40
    assert abs(by_landmarks[2]) < 1
    assert share == pytest.approx(12 / 27)


def test_landmarks_support_what_the_surroundings_did():
    here, shift = np.random.default_rng(0).uniform(0, 100, (40, 3)), np.array([5.0, 0, 200])
    landmarks = Landmarks(here, here[:30], here[:30] + shift)
    support = landmarks.support(np.array([50.0, 50, 50]), np.array([[0.0, 0, 200], [0.0, 0, 0]]))
    np.testing.assert_allclose(support, [0.75, 0])
    np.testing.assert_allclose(landmarks.support(np.array([9000.0, 0, 0]), np.array([[0.0, 0, 200]])), [0])
    moved_on = np.concatenate([np.eye(3), [shift]])
    assert landmarks.agreement(moved_on) == pytest.approx(0.75)
    assert landmarks.agreement(moved_on + 40) == 0
    back = landmarks.reversed(here + shift).support(np.array([50.0, 50, 250]), np.array([[0.0, 0, -200]]))
    np.testing.assert_allclose(back, [0.75])


def test_landmarks_are_found_once_for_a_pair_of_scans(monkeypatch):
    source, target, where = moved(shift=8)
    found = find_landmarks(source, target, [0.5, 0.3, 0.2])
    assert len(found.here) > 0.8 * len(found.asked)
    assert np.median(np.linalg.norm(found.there - found.here - where, axis=1)) < 3
    monkeypatch.setattr("Vox2VecCore.landmarks.best_voxels", None)
    assert find_landmarks(source, target, [0.5, 0.3, 0.2]) is found


def test_a_point_in_air_is_never_reliable():
    source, target, _ = moved(shift=0)
    body = np.ones((64, 64, 64), bool)
    body[:32] = False
    source = replace(source, packed_body=np.packbits(body))
    in_air, in_body = match_points(source, target, [(20.0, 60, 60), (110.0, 60, 60)])
    assert not in_air.reliable
    assert in_body.reliable


@pytest.fixture(scope="module")
def abdomen(shared_ct: Path) -> Volume:
    return read_volume(shared_ct / "msd_liver" / "msd_liver_0.nii.gz")


@pytest.fixture(scope="module")
def abdomen_pyramid(abdomen: Volume) -> FeaturePyramid:
    return handmade_pyramid(abdomen, (4.0, 4.0, 4.0))


def test_real_anatomy_is_found_again_after_a_deformation(abdomen: Volume, abdomen_pyramid: FeaturePyramid):
    """A CT bent by up to 10 mm, noisier, cropped and moved: truth is known at every voxel."""
    rng = np.random.default_rng(0)
    field_mm = np.stack(
        [gaussian_filter(rng.standard_normal(abdomen.shape), 40 / abdomen.spacing_mm) for _ in range(3)]
    )
    field_mm *= 10 / np.abs(field_mm).max()
    indices = np.indices(abdomen.shape) + field_mm / abdomen.spacing_mm[:, None, None, None]
    bent = map_coordinates(abdomen.array.astype(np.float32), indices, order=1, mode="nearest")
    bent += rng.normal(0, 15, bent.shape)
    affine = abdomen.affine.copy()
    affine[:3, 3] = abdomen.to_ras([(8, 8, 3)])[0] + (30, -20, 500)
    target = handmade_pyramid(Volume(bent[8:, 8:, 3:], affine, "bent"), (4.0, 4.0, 4.0))
    found_at = target.grid.to_ras(target.body_voxels(40, seed=1))
    there = np.rint(abdomen.to_ijk(found_at - (30, -20, 500))).astype(int)
    asked = found_at - (30, -20, 500) + field_mm[(slice(None), *there.T)].T
    matches = match_points(abdomen_pyramid, target, asked)
    errors = np.linalg.norm([m.target_ras - f for m, f in zip(matches, found_at, strict=True)], axis=1)
    reliable = np.array([m.reliable for m in matches])
    assert np.median(errors) < 6
    assert reliable.mean() > 0.4
    assert np.mean(errors[reliable] < 15) > 0.9


def test_another_part_of_the_body_has_no_reliable_match(shared_ct: Path):
    """A hip and an upper abdomen with the shipped model: landmarks agree on a map by chance, and seeds on the spot."""
    hip, abdomen = (
        embed(read_volume(shared_ct / f"{name}.nii.gz"), cache=False) for name in ("sts/sts_044", "crlm/crlm_1004")
    )
    matches = match_points(hip, abdomen, hip.grid.to_ras(hip.body_voxels(24, seed=1)))
    assert sum(match.cycle_error_mm < LARGEST_CYCLE_MM for match in matches) > 5  # the way back alone says nothing
    assert not any(match.reliable for match in matches)


def test_refusals():
    source, target, _ = moved(shift=0)
    other = pyramid_of(nested_levels((64, 64, 64), 0, 0), STRIDES, model_hash="another")
    with pytest.raises(ModelError, match="different models"):
        match_points(source, other, [(1, 1, 1)])
    with pytest.raises(PointError, match="outside the scan"):
        match_points(source, target, [(1, 1, 1), (1000, 0, 0)])
    with pytest.raises(Cancelled):
        match_points(source, target, [(1, 1, 1)], progress=Progress(is_cancelled=lambda: True))
    assert match_points(source, target, []) == []
