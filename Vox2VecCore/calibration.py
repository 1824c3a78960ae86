"""Per-level statistics of a model on real scans: without them a few loud channels decide every similarity.

Official checkpoints come without such statistics; one or more CTs of the user supply them.
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
