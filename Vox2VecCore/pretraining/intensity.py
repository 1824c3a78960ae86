"""Random changes of a view's intensities: what differs between scanners, doses, kernels and contrast phases."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class IntensityAugmentation:
    """Chances and ranges of the changes; the defaults are the gentle set, :data:`PUBLISHED` the published one.

    :param filter_chance: chance of a blur or (half of the time) a sharpening.
    :param blur_sigma: range of the Gaussian's sigma in voxels.
    :param sharpen_sigma: range of the sharpening's first sigma in voxels; the second is 0.5.
    :param sharpen_alpha: range of the sharpening's strength.
    :param filter_axes: axes that are filtered; (0, 1) is axial.
    :param noise_chance: chance of additive white noise.
    :param noise_hu: range of its standard deviation.
    :param tissue_chance: chance of a smooth monotone change of the HU scale, as between contrast phases.
    :param tissue_hu: standard deviation of that change at every knot of :data:`TISSUE_KNOTS_HU`.
    :param window_chance: chance of a random window.
    :param window_low: range of its lower end in HU.
    :param window_high: range of its upper end in HU.
    :param gamma_chance: chance of a gamma and contrast change of the windowed image.
    :param gamma: largest factor of gamma, or its inverse.
    """

    filter_chance: float = 0.5
    blur_sigma: tuple[float, float] = (0.25, 1.0)
    sharpen_sigma: tuple[float, float] = (0.5, 1.0)
    sharpen_alpha: tuple[float, float] = (0.0, 2.0)
    filter_axes: tuple[int, ...] = (0, 1, 2)
    noise_chance: float = 0.5
    noise_hu: tuple[float, float] = (0.0, 40.0)
    tissue_chance: float = 0.7
    tissue_hu: float = 25.0
    window_chance: float = 0.8
    window_low: tuple[float, float] = (-1200.0, -900.0)
    window_high: tuple[float, float] = (300.0, 900.0)
    gamma_chance: float = 0.5
    gamma: float = 1.25


PUBLISHED = IntensityAugmentation(
    blur_sigma=(0.25, 1.5),
    sharpen_alpha=(10.0, 30.0),
    filter_axes=(0, 1),
    noise_hu=(0.0, 30.0),
    tissue_chance=0.0,
    window_low=(-1350.0, -1000.0),
    window_high=(300.0, 1000.0),
    gamma_chance=0.0,
)
"""Goncharov et al. 2023, as in the published code (section "augmentation" of its data module)."""

TISSUE_KNOTS_HU = (-1100.0, -900.0, -500.0, -120.0, -60.0, 0.0, 40.0, 80.0, 150.0, 300.0, 700.0, 3200.0)


def augment(
    hu: Tensor, options: IntensityAugmentation, window_hu: tuple[float, float], rng: np.random.Generator
) -> Tensor:
    """Randomly changed view, scaled to [0, 1].

    :param hu: (X, Y, Z) float32.
    :param window_hu: window that is used when no random one is drawn.
    """
    if rng.random() < options.filter_chance:
        if rng.random() < 0.5:
            hu = gaussian_blur(hu, rng.uniform(*options.blur_sigma), options.filter_axes)
        else:
            sigma, alpha = rng.uniform(*options.sharpen_sigma), rng.uniform(*options.sharpen_alpha)
            hu = sharpen(hu, sigma, 0.5, alpha, options.filter_axes)
    if rng.random() < options.tissue_chance:
        hu = shift_tissues(hu, options.tissue_hu, rng)
    if rng.random() < options.noise_chance:
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        hu = hu + rng.uniform(*options.noise_hu) * torch.randn(hu.shape, generator=generator)
    low, high = window_hu
    if rng.random() < options.window_chance:
        low, high = rng.uniform(*options.window_low), rng.uniform(*options.window_high)
    scaled = ((hu - low) / (high - low)).clamp(0, 1)
    if rng.random() < options.gamma_chance:
        scaled = scaled ** float(options.gamma ** rng.uniform(-1, 1))
    return scaled


def gaussian_blur(hu: Tensor, sigma: float, axes: tuple[int, ...] = (0, 1)) -> Tensor:
    """Gaussian filter of a (X, Y, Z) image, kernel cut at 4 sigma, mirrored border (as ``scipy.ndimage``)."""
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return hu
    x = torch.arange(-radius, radius + 1, dtype=hu.dtype, device=hu.device)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in axes:
        size = hu.shape[axis]
        # One product with a banded matrix: many times faster than a convolution with a single channel.
        columns = _mirrored(size, radius, hu.device).unfold(0, len(kernel), 1)
        band = hu.new_zeros(size, size).scatter_add_(1, columns, kernel.expand(size, -1))
        hu = torch.tensordot(band, hu, dims=([1], [axis])).movedim(0, axis)
    return hu


def sharpen(hu: Tensor, sigma_1: float, sigma_2: float, alpha: float, axes: tuple[int, ...] = (0, 1)) -> Tensor:
    """Unsharp masking: blurred + alpha (blurred - blurred again)."""
    blurred = gaussian_blur(hu, sigma_1, axes)
    return blurred + alpha * (blurred - gaussian_blur(blurred, sigma_2, axes))


def _mirrored(size: int, radius: int, device: torch.device) -> Tensor:
    """Indices -radius ... size + radius - 1 folded back by mirroring at the voxels' outer edges."""
    index = torch.arange(-radius, size + radius, device=device) % (2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)


def shift_tissues(hu: Tensor, sigma_hu: float, rng: np.random.Generator) -> Tensor:
    """A random monotone change of the HU scale, piecewise linear between :data:`TISSUE_KNOTS_HU`.

    :param sigma_hu: standard deviation of the shift at every knot.
    """
    knots = np.array(TISSUE_KNOTS_HU)
    moved = np.maximum.accumulate(knots + rng.normal(0, sigma_hu, len(knots)))
    return torch.from_numpy(np.interp(hu.numpy(), knots, moved).astype(np.float32))
