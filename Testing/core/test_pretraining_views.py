"""Views of a scan: a voxel's partner shows the same physical point."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from Vox2VecCore.pretraining.views import SpatialAugmentation, partners, random_view

STRONG = SpatialAugmentation(rotation_degrees=15, scale=0.15, stretch=0.1, elastic_voxels=1.5, elastic_step=16)
PLAIN = SpatialAugmentation()
SHAPE = (48, 40, 32)


def coordinates(shape: tuple[int, int, int]) -> list[torch.Tensor]:
    """Images whose value is the voxel's own coordinate along x, y, z."""
    return list(torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij"))


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), strong=st.booleans(), small=st.booleans())
def test_partner_is_the_same_point_within_half_a_voxel(seed: int, strong: bool, small: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (30, 24, 20) if small else (80, 70, 60)
    augmentation = STRONG if strong else PLAIN
    anchor = np.array([rng.integers(n) for n in shape], dtype=float)
    first, second = (random_view(anchor, shape, SHAPE, augmentation, rng) for _ in range(2))
    here, there, scan = partners(first, second, torch.ones(shape, dtype=torch.bool), 200, rng)
    assert len(here) > 0
    # Judged in voxels of the second view, so that its magnification does not count.
    exact = second.to_view(first.to_scan(here.float()))
    assert (exact - there).abs().max() <= 0.5 + 1e-3
    torch.testing.assert_close(second.to_scan(exact), scan, atol=0.02, rtol=0)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_the_image_is_sampled_where_the_transform_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (80, 70, 60)
    view = random_view(np.array([40.0, 35, 30]), shape, SHAPE, STRONG, rng)
    voxels = torch.from_numpy(np.stack([rng.integers(0, n, 300) for n in SHAPE], axis=1))
    scan = view.to_scan(voxels.float())
    inside = ((scan > 0) & (scan < torch.tensor(shape) - 1)).all(1)
    for axis, image in enumerate(coordinates(shape)):
        seen = view.sample(image)[tuple(voxels.T)]
        torch.testing.assert_close(seen[inside], scan[inside, axis], atol=0.02, rtol=0)


def test_without_deformation_a_view_is_a_crop_that_holds_the_anchor() -> None:
    shape = (80, 70, 60)
    image = torch.arange(80 * 70 * 60, dtype=torch.float32).reshape(shape) % 4001 - 1000
    for seed in range(50):
        rng = np.random.default_rng(seed)
        anchor = np.array([rng.integers(n) for n in shape], dtype=float)
        view = random_view(anchor, shape, SHAPE, PLAIN, rng)
        start = view.to_scan(torch.zeros(1, 3))[0]
        assert torch.equal(start, start.round())
        x, y, z = (int(v) for v in start)
        torch.testing.assert_close(view.sample(image), image[x : x + 48, y : y + 40, z : z + 32], atol=0.5, rtol=0)
        here = view.to_view(torch.from_numpy(anchor.astype(np.float32))[None])[0]
        assert ((here >= 0) & (here < torch.tensor(SHAPE))).all()


def test_every_crop_that_holds_the_anchor_is_as_likely() -> None:
    rng = np.random.default_rng(0)
    anchor, shape = np.array([2.0, 35, 30]), (80, 70, 60)
    views = [random_view(anchor, shape, SHAPE, PLAIN, rng) for _ in range(600)]
    starts = np.array([view.to_scan(torch.zeros(1, 3))[0, 0].item() for view in views])
    counts = [(starts == start).sum() for start in range(3)]
    assert sum(counts) == 600
    assert min(counts) > 175, "each is expected 200 times"


def test_small_scan_is_padded_with_air() -> None:
    view = random_view(np.array([5.0, 5, 5]), (10, 10, 10), SHAPE, PLAIN, np.random.default_rng(0))
    sampled = view.sample(torch.full((10, 10, 10), 40.0))
    assert sampled.shape == SHAPE
    assert (sampled == 40).sum() == 1000
    assert (sampled == -1024).sum() == sampled.numel() - 1000


def test_pairs_lie_in_the_body_and_are_different_voxels() -> None:
    rng = np.random.default_rng(3)
    shape = (80, 70, 60)
    body = torch.zeros(shape, dtype=torch.bool)
    body[30:50, 20:45, 20:40] = True
    first, second = (random_view(np.array([40.0, 30, 30]), shape, SHAPE, STRONG, rng) for _ in range(2))
    here, there, scan = partners(first, second, body, 500, rng)
    assert len(here) == len(np.unique(here, axis=0)) > 100
    assert body[tuple(scan.round().long().T)].all()
    assert ((there >= 0) & (there < torch.tensor(SHAPE))).all()


@pytest.mark.parametrize("count", [1, 64])
def test_no_more_pairs_than_asked(count: int) -> None:
    rng = np.random.default_rng(4)
    first, second = (random_view(np.array([40.0, 30, 30]), (80, 70, 60), SHAPE, STRONG, rng) for _ in range(2))
    here, there, scan = partners(first, second, torch.ones(80, 70, 60, dtype=torch.bool), count, rng)
    assert len(here) == len(there) == len(scan) == count


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), small=st.booleans())
def test_a_plain_view_is_cut_out_and_equals_the_interpolated_one(seed: int, small: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (30, 44, 20) if small else (80, 70, 60)
    scan = torch.from_numpy(rng.integers(-1024, 2000, shape).astype(np.float32))
    view = random_view(np.array([rng.integers(n) for n in shape], dtype=float), shape, SHAPE, PLAIN, rng)
    box = view.box(shape)
    moved = view.moved((box[0].start, box[1].start, box[2].start))
    assert moved._plain_start is not None
    # No displacement at all is a displacement of zero, which takes the long way.
    general = replace(moved, displacement=torch.zeros(1, 3, *SHAPE))
    torch.testing.assert_close(moved.sample(scan[box]), general.sample(scan[box]), atol=0.05, rtol=0)
    turned = random_view(np.array([5.0, 5, 5]), shape, SHAPE, SpatialAugmentation(rotation_degrees=3), rng)
    assert turned._plain_start is None
