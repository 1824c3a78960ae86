"""Intensity augmentation: the published filters, and what the random changes may not do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from Vox2VecCore.pretraining.intensity import (
    PUBLISHED,
    IntensityAugmentation,
    augment,
    gaussian_blur,
    sharpen,
    shift_tissues,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NONE = IntensityAugmentation(filter_chance=0, noise_chance=0, tissue_chance=0, window_chance=0, gamma_chance=0)


@pytest.mark.parametrize("name", ["fpn_c2_s6", "fpn_c4_s4"])
def test_filters_equal_the_published_ones(name: str) -> None:
    expected = np.load(GOLDEN / name / "expected.npz")
    hu = torch.from_numpy(expected["hu"].astype(np.float32))
    np.testing.assert_allclose(gaussian_blur(hu, 1.1), expected["hu_blur_1p1"], atol=2e-3)
    np.testing.assert_allclose(sharpen(hu, 0.8, 0.5, 20.0), expected["hu_sharpen"], atol=3e-2)
    scaled = augment(hu, NONE, (-1350.0, 1000.0), np.random.default_rng(0))
    np.testing.assert_allclose(scaled, expected["hu_scaled"], atol=1e-6)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), published=st.booleans())
def test_result_is_in_range_repeatable_and_does_not_touch_its_input(seed: int, published: bool) -> None:
    hu = torch.from_numpy(np.random.default_rng(seed).normal(0, 500, (14, 12, 10)).astype(np.float32))
    before = hu.clone()
    options = PUBLISHED if published else IntensityAugmentation()
    first, again = (augment(hu, options, (-1000.0, 700.0), np.random.default_rng(seed)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(hu, before)
    assert first.dtype == torch.float32
    assert first.min() >= 0 and first.max() <= 1


@settings(max_examples=50)
@given(seed=st.integers(0, 2**31), sigma=st.floats(1, 60))
def test_tissues_keep_their_order(seed: int, sigma: float) -> None:
    hu = torch.linspace(-1200, 3300, 4000)
    changed = shift_tissues(hu, sigma, np.random.default_rng(seed))
    assert (changed.diff() >= 0).all()
