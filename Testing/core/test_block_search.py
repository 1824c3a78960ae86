"""A block of seeds is laid where all of them fit, against brute force; and nowhere when no body is in reach."""

import numpy as np
import pytest

from Testing.support.pyramids import plain_grid, pyramid_of, random_levels
from Vox2VecCore.alignment import agreed_affine
from Vox2VecCore.block_search import fit_block
from Vox2VecCore.landmarks import Landmarks, agreed_map, inverse_map
from Vox2VecCore.pyramid import FeaturePyramid

STRIDES = ((1, 1, 1), (2, 2, 2))
SHAPE = (24, 20, 16)
WEIGHTS = (0.5, 0.5)


def scan(seed: int = 0, body: np.ndarray | None = None) -> FeaturePyramid:
    grid = plain_grid(SHAPE)
    return pyramid_of(random_levels(SHAPE, (8, 8), STRIDES, seed=seed), STRIDES, grid=grid, body=body)


def similarity(target: FeaturePyramid, vectors: list[np.ndarray], seed: int, voxel: np.ndarray) -> float:
    if (voxel < 0).any() or (voxel >= SHAPE).any() or not target.body[tuple(voxel)]:
        return 0.0
    here = [level.unit_vectors(voxel[None])[0] for level in target.levels]
    return float(sum(a @ b[seed] for a, b in zip(here, vectors, strict=True)))


@pytest.mark.parametrize("corner", [(10, 9, 7), (1, 18, 15), (-2, 4, 8)])
def test_the_best_of_all_shifts(corner: tuple[int, int, int]) -> None:
    body = np.random.default_rng(1).random(SHAPE) < 0.8
    source, target = scan(2), scan(3, body)
    seeds = np.array([(8, 8, 8), (11, 8, 8), (8, 11, 9), (8, 8, 5)])
    vectors = [w * level.unit_vectors(seeds) for w, level in zip(WEIGHTS, source.levels, strict=True)]
    places = seeds - seeds[0] + corner
    reach_mm = 3.5 * target.grid.spacing_mm.max()
    block = fit_block(target, vectors, places, 0, reach_mm)
    reach = np.floor(reach_mm / target.grid.spacing_mm).astype(int)
    shifts = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, 3)
    shifts = shifts[np.linalg.norm(shifts * target.grid.spacing_mm, axis=1) <= reach_mm]
    centres = places[0] + shifts
    inside = ((centres >= 0) & (centres < SHAPE)).all(axis=1)
    inside[inside] = body[tuple(centres[inside].T)]
    totals = [sum(similarity(target, vectors, n, p + d) for n, p in enumerate(places)) for d in shifts[inside]]
    assert block is not None
    found = sum(similarity(target, vectors, n, p + block.shift) for n, p in enumerate(places))
    assert found == pytest.approx(max(totals), abs=1e-4)
    assert body[tuple(places[0] + block.shift)]
    for n, own in enumerate(block.of_seeds):
        best = max(similarity(target, vectors, n, places[n] + d) for d in shifts)
        assert similarity(target, vectors, n, places[n] + own) == pytest.approx(best, abs=1e-4)


def test_no_body_in_reach() -> None:
    source = scan()
    seeds = np.array([(8, 8, 8), (9, 8, 8)])
    vectors = [level.unit_vectors(seeds) for level in source.levels]
    assert fit_block(source, vectors, seeds + 200, 0, 6.0) is None
    nothing = np.zeros(SHAPE, bool)
    assert fit_block(scan(body=nothing), vectors, seeds, 0, 6.0) is None


def test_landmarks_of_both_directions_give_a_map_and_its_inverse() -> None:
    rng = np.random.default_rng(0)
    here = rng.uniform(-100, 100, (40, 3))
    there = here * 1.1 + [20, -10, 200]
    nothing = np.zeros((0, 3))
    first, second = Landmarks(here, here[:20], there[:20]), Landmarks(there, there[20:], here[20:])
    affine = agreed_map(first, second)
    back = inverse_map(affine)
    assert affine is not None and back is not None
    assert np.abs(here @ affine[:3] + affine[3] - there).max() < 5
    assert np.allclose((here @ affine[:3] + affine[3]) @ back[:3] + back[3], here)
    assert agreed_map(first, Landmarks(there, nothing, nothing)) is None  # 20 are too few
    assert inverse_map(None) is None
    assert agreed_affine(here, rng.uniform(-100, 100, (40, 3))) is None
