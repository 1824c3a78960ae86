"""Statistics of a model on scans: every channel ends up with mean 0 and deviation 1 over the body."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from Testing.support.models import random_model
from Testing.support.scans import phantom
from Vox2VecCore import calibration
from Vox2VecCore.calibration import calibrate, level_scales
from Vox2VecCore.embedding import embed as _embed
from Vox2VecCore.errors import ModelError
from Vox2VecCore.model import Model, load_model

embed = partial(_embed, engine="torch")


def test_calibrated_levels_are_standardised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "embed", embed)  # compiling a network takes longer than running it once
    model = random_model(tmp_path, base_channels=4, name="raw")
    volumes = [phantom(seed=1), phantom((60, 40, 20), seed=2)]
    calibrated = calibrate(model, volumes)
    assert load_model(model.directory).config == calibrated.config
    assert calibrated.hash != model.hash
    means, deviations = [], []
    for volume in volumes:
        pyramid = embed(volume, calibrated, cache=False)
        voxels = pyramid.body_voxels(10**6)
        x = np.concatenate([level.standardised_vectors(voxels) for level in pyramid.levels], axis=1)
        means.append(x.mean(axis=0))
        deviations.append(x.std(axis=0))
    assert np.abs(np.mean(means, axis=0)).max() < 0.05
    assert np.abs(np.mean(deviations, axis=0) - 1).max() < 0.35
    # Vectors are still those of the network: standardisation is undone on the way out.
    point = [(0.0, 0.0, 0.0)]
    raw = embed(volumes[0], model, cache=False).vectors(point)
    assert np.allclose(embed(volumes[0], calibrated, cache=False).vectors(point), raw, atol=0.05)


def test_scales_keep_directions_and_bring_levels_to_one_size(tmp_path: Path) -> None:
    model = random_model(tmp_path, base_channels=4, name="raw")
    pyramids = [embed(phantom(seed=seed), model, cache=False) for seed in (1, 2)]
    scales = level_scales(pyramids)
    assert all(set(level.mean) == {0.0} and len(set(level.std)) == 1 for level in scales)
    scaled = Model(replace(model.config, level_statistics=scales), model.directory)
    again = [embed(phantom(seed=seed), scaled, cache=False) for seed in (1, 2)]
    voxels = pyramids[0].body_voxels(1000)
    for before, after in zip(pyramids[0].levels, again[0].levels, strict=True):
        np.testing.assert_allclose(after.unit_vectors(voxels), before.unit_vectors(voxels), atol=0.01)
    squares = [[np.mean(level.standardised_vectors(p.body_voxels(10**6)) ** 2) for level in p.levels] for p in again]
    np.testing.assert_allclose(np.mean(squares, axis=0), 1, rtol=0.02)


def test_no_scan(tmp_path: Path) -> None:
    model = random_model(tmp_path)
    with pytest.raises(ModelError, match="at least one CT"):
        calibrate(model, [])
    assert load_model(model.directory).config.level_statistics is None
