"""Small made-up CT-like scans."""

import numpy as np

from Vox2VecCore.volume import Volume


def phantom(
    shape: tuple[int, int, int] = (48, 40, 30),
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0),
    seed: int = 0,
    name: str = "phantom",
) -> Volume:
    """An elliptic body with organs of several HU in air, with noise, centred on the origin."""
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    hu = np.full(shape, -1000.0)
    hu[(x / 0.9) ** 2 + (y / 0.8) ** 2 < 1] = 40
    hu[((x - 0.4) / 0.25) ** 2 + (y / 0.4) ** 2 + (z / 0.8) ** 2 < 1] = -850
    hu[((x + 0.4) / 0.3) ** 2 + ((y - 0.1) / 0.3) ** 2 + ((z - 0.2) / 0.5) ** 2 < 1] = 120
    hu[(x / 0.15) ** 2 + ((y + 0.5) / 0.15) ** 2 < 1] = 400
    hu += np.random.default_rng(seed).normal(0, 15, shape)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * np.array(spacing_mm)
    return Volume(hu.astype(np.int16), affine, name)
