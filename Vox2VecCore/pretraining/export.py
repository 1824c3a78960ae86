"""From a run to a model directory."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from Vox2VecCore.calibration import level_scales
from Vox2VecCore.config import ModelConfig
from Vox2VecCore.model import Model, load_strictly, save_model
from Vox2VecCore.network import EmbeddingNetwork
from Vox2VecCore.pretraining.checkpoint import load_newest_checkpoint
from Vox2VecCore.pretraining.config import PretrainConfig, load_config
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.features import pyramid_by
from Vox2VecCore.pretraining.prepare import PreparedScan
from Vox2VecCore.pretraining.run_directory import CONFIG, DATA, ENVIRONMENT
from Vox2VecCore.pretraining.stages import stages_before
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid

EMBEDDING = "embedding."
MOST_MEASURED = 8
"""Scans that the scale of the levels is measured on, evenly picked from the list."""


def export_model(
    run: Path,
    directory: Path,
    name: str,
    scans: Sequence[PreparedScan],
    *,
    progress: Progress | None = None,
) -> Model:
    """Write the model of a run, finished or not, from the averaged weights of its newest good checkpoint.

    :param scans: that the run was trained on; a few of them are embedded to learn the scale of the levels.
    :raises PretrainingError: if the run has no usable checkpoint.
    :raises ModelError: if the directory exists or cannot be written.
    """
    if not (run / CONFIG).is_file():
        raise PretrainingError(f"{run} is no run directory; give one that pretraining wrote.")
    config = load_config(run / CONFIG)
    state = load_newest_checkpoint(run / "checkpoints")
    if state is None:
        raise PretrainingError(f"{run}: no usable checkpoint yet; let the run reach its first one.")
    data = json.loads((run / DATA).read_text(encoding="utf-8"))
    training = {
        "steps": state["step"],
        "seed": config.seed,
        "licences": data["licences"],
        "scans": [scan["id"] for scan in data["scans"]],
        "environment": json.loads((run / ENVIRONMENT).read_text(encoding="utf-8")),
    }
    if before := stages_before(run):
        training["stages_before"] = before
    network = EmbeddingNetwork(config.architecture)
    weights: Mapping[str, Tensor] = state["average"]
    own = {key.removeprefix(EMBEDDING): value for key, value in weights.items() if key.startswith(EMBEDDING)}
    load_strictly(network, own, run)
    described = model_config(config, name, training)
    measured = scans[:: -(-len(scans) // MOST_MEASURED)]
    pyramids = _embedded(network.eval(), described, measured, progress or Progress())
    described = replace(described, level_statistics=level_scales(pyramids))
    return save_model(network, described, directory, plain_card(described))


def _embedded(
    network: EmbeddingNetwork, config: ModelConfig, scans: Sequence[PreparedScan], progress: Progress
) -> Iterator[FeaturePyramid]:
    for done, scan in enumerate(scans):
        progress.step("Measuring levels", done, len(scans))
        yield pyramid_by(network, config, scan.gridded(config.spacing_mm))
    progress.step("Measuring levels", len(scans), len(scans))


def model_config(config: PretrainConfig, name: str, training: dict[str, Any]) -> ModelConfig:
    """What a model's ``config.json`` says, from the settings of its run."""
    return ModelConfig(
        name=name,
        architecture=config.architecture,
        spacing_mm=config.spacing_mm,
        patch_shape=config.sampling.largest_view,
        tile_shape=config.tile_shape,
        tile_overlap=config.tile_overlap,
        weights_sha256="",
        window_hu=config.window_hu,
        licence=" and ".join(training.get("licences", {})) or "unknown",
        training=training,
    )


def plain_card(config: ModelConfig) -> str:
    """A model card with what the run itself knows."""
    training = config.training
    licences = "\n".join(f"- {licence}: {count} scans" for licence, count in training["licences"].items())
    spacing = " x ".join(f"{mm:g}" for mm in config.spacing_mm)
    return f"""# {config.name}

A voxel embedding of CT, pretrained without labels by `Vox2VecCore.pretraining`. Not a diagnostic device.

- grid: {spacing} mm; views up to {list(config.patch_shape)} voxels; window {list(config.window_hu)} HU
- steps: {training["steps"]}; seed: {training["seed"]}
- scans: {len(training["scans"])}, listed in config.json

Licences of the scans:

{licences}

No evaluation has been recorded here yet: run `vox2vec evaluate` and add its table before sharing the model.
"""
