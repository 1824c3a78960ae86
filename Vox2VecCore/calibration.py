"""Per-level statistics of a model on real scans, of one of two kinds.

Official checkpoints come without any, and a few loud channels decide every similarity: CTs of the user supply mean and
deviation of every channel. A network whose loss compared the directions of its levels needs only their scale: mean 0
and one deviation for all channels of a level, which leaves every similarity as it is.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from Vox2VecCore.config import LevelStatistics
from Vox2VecCore.embedding import embed
from Vox2VecCore.errors import ModelError
from Vox2VecCore.model import CONFIG, Model
from Vox2VecCore.paths import replace_file
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume

VOXELS_PER_SCAN = 20_000
SMALLEST_STD = 1e-3
"""A channel that is constant over the body stays silent instead of being blown up."""


def level_statistics(
    model: Model, volumes: Iterable[Volume], progress: Progress | None = None
) -> tuple[LevelStatistics, ...]:
    """Mean and standard deviation of every channel of every level over body voxels of some scans.

    :param volumes: CTs, the more alike those of later use the better; each counts the same.
    :raises ModelError: if there is no scan.
    """
    plain = Model(replace(model.config, level_statistics=None), model.directory)
    samples = []
    for volume in volumes:
        pyramid = embed(volume, plain, cache=False, progress=progress)
        samples.append(pyramid.vectors(pyramid.grid.to_ras(pyramid.body_voxels(VOXELS_PER_SCAN))))
    if not samples:
        raise ModelError("Calibration needs at least one CT.")
    weights = np.concatenate([np.full(len(sample), 1 / len(sample)) for sample in samples])
    vectors = np.concatenate(samples).astype(np.float64)
    mean = np.average(vectors, axis=0, weights=weights)
    std = np.sqrt(np.average((vectors - mean) ** 2, axis=0, weights=weights))
    borders = np.cumsum(model.config.architecture.level_channels)[:-1]
    return tuple(
        LevelStatistics(tuple(m.tolist()), tuple(np.where(s < SMALLEST_STD, 1 / SMALLEST_STD, s).tolist()))
        for m, s in zip(np.split(mean, borders), np.split(std, borders), strict=True)
    )


def level_scales(pyramids: Iterable[FeaturePyramid]) -> tuple[LevelStatistics, ...]:
    """Statistics that scale every level to a root mean square of 1 a channel over the body and keep its directions.

    :param pyramids: of a model without statistics, at least one; each counts the same.
    """
    squares, channels = [], []
    for pyramid in pyramids:
        voxels = pyramid.body_voxels(VOXELS_PER_SCAN)
        found = [level.magnitudes(voxels).astype(np.float64) ** 2 for level in pyramid.levels]
        squares.append([square.mean() / level.channels for square, level in zip(found, pyramid.levels, strict=True)])
        channels = [level.channels for level in pyramid.levels]
    scales = np.sqrt(np.mean(squares, axis=0))
    return tuple(
        LevelStatistics((0.0,) * count, (float(scale) if scale > SMALLEST_STD else 1.0,) * count)
        for scale, count in zip(scales, channels, strict=True)
    )


def calibrate(model: Model, volumes: Iterable[Volume], progress: Progress | None = None) -> Model:
    """Write the statistics of some scans into a model's ``config.json``.

    :return: the model as it is now; its hash, and with it every cache key, is a new one.
    :raises ModelError: if there is no scan or the model directory cannot be written.
    """
    config = replace(model.config, level_statistics=level_statistics(model, volumes, progress))
    try:
        with replace_file(model.directory / CONFIG) as path:
            path.write_text(config.to_json(), encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{model.directory}: cannot be written ({error.strerror}).") from error
    return Model(config, model.directory)
