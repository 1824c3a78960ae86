"""Three structures in a scan of a few centimetres, their embedding, and a few strokes in each: for tests of heads."""

import numpy as np

from Testing.support.pyramids import plain_grid, pyramid_of
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume

SHAPE = (24, 20, 16)


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


def ct() -> Volume:
    """HU that tell the structures from the background, with noise."""
    hu = np.choose(np.minimum(anatomy(), 3) - 1, [-90.0, 60.0, 160.0])
    hu += np.random.default_rng(3).normal(0, 15, SHAPE)
    return Volume(hu.astype(np.float32), plain_grid(SHAPE, (3.0, 3.0, 3.0)).affine, "ct")
