"""The evaluation knows a perfect embedding from a useless one, and its copy is the same anatomy."""

import numpy as np
import pytest

from Vox2VecCore.grid import ModelGrid
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.evaluation import (
    disturbed_copy,
    hit_rates,
    labels_of,
    matched_places,
    mean,
    same_patient_errors,
    score,
    shared_organs,
)
from Vox2VecCore.pretraining.features import VoxelFeatures
from Vox2VecCore.volume import Volume

SHAPE = (24, 22, 20)
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def features(array: np.ndarray, affine: np.ndarray = AFFINE) -> VoxelFeatures:
    shape = array.shape[:3]
    grid = ModelGrid(shape, affine, shape, affine)
    return VoxelFeatures(grid, np.argwhere(np.ones(shape, bool)), [array.astype(np.float32)], [(1, 1, 1)], 1.0)


def places(shape: tuple[int, int, int], affine: np.ndarray, offset: float = 0.0) -> np.ndarray:
    """An embedding whose similarity falls with the distance in millimetres."""
    points = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1) * np.diag(affine)[:3]
    points = (points + affine[:3, 3] + offset) / 40
    waves = np.concatenate([np.sin(points), np.cos(points)], axis=-1)
    return waves / np.linalg.norm(waves, axis=-1, keepdims=True)


def labels() -> Volume:
    array = np.zeros(SHAPE, np.int16)
    array[2:10, 2:10, 2:10], array[12:20, 12:20, 10:18], array[2:9, 12:20, 2:9] = 1, 2, 3
    return Volume(array, AFFINE)


def test_perfect_and_useless_features() -> None:
    shifted = AFFINE.copy()
    shifted[:3, 3] = [1, -1, 1]
    here = features(places(SHAPE, AFFINE))
    moved = features(places(SHAPE, shifted), shifted)
    perfect = score(here, moved, here, labels(), labels())
    assert perfect.same_median_mm < 3 and perfect.same_within_10mm == 1
    assert perfect.hit_rate > 0.95 and perfect.dice_source > 0.6 and perfect.dice_target == perfect.dice_source
    rng = np.random.default_rng(0)
    noise = [features(rng.normal(size=(*SHAPE, 8))) for _ in range(3)]
    useless = score(*noise, labels(), labels())
    assert useless.same_median_mm > 15 and useless.hit_rate < 0.3 and useless.dice_target < 0.2
    own = labels_of(here, labels())
    for these, there, errors_mm, rates in ((here, moved, (0, 4), (0.8, 1)), (*noise[:2], (15, 99), (0, 0.3))):
        errors = same_patient_errors(these, there, np.random.default_rng(0), matched_places)
        hits = hit_rates(these, own, there, labels_of(there, labels()), [1, 2, 3], rng, matched_places)
        assert errors_mm[0] <= np.median(errors) <= errors_mm[1]
        assert rates[0] <= mean(hits) <= rates[1]


def test_copy_is_the_same_anatomy_elsewhere_on_the_grid() -> None:
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    volume = Volume((10 * x + 20 * y - 15 * z).astype(np.float32), AFFINE)
    copy = disturbed_copy(volume)
    assert copy.shape != volume.shape and not np.allclose(copy.spacing_mm, volume.spacing_mm)
    ijk = np.stack([rng.integers(3, n - 4, 400) for n in copy.shape], axis=1)
    there = volume.to_ijk(copy.to_ras(ijk))
    inside = ((there >= 0) & (there <= np.array(SHAPE) - 1)).all(axis=1)
    expected = there[inside] @ [10, 20, -15]
    assert inside.sum() > 100
    assert abs(np.mean(copy.array[tuple(ijk[inside].T)] - expected)) < 6
    assert 15 < np.std(copy.array[tuple(ijk[inside].T)] - expected) < 25


def test_no_shared_organ() -> None:
    with pytest.raises(PretrainingError, match="share no organ"):
        shared_organs(np.repeat([0, 1], 50), np.repeat([0, 2], 50))
