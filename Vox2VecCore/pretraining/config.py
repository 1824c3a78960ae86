"""The settings of a pretraining run: strict, frozen, from one TOML or YAML file, presets and ``--set key=value``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from Vox2VecCore.config import Architecture
from Vox2VecCore.errors import SettingsError
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.intensity import PUBLISHED, IntensityAugmentation
from Vox2VecCore.pretraining.views import SpatialAugmentation
from Vox2VecCore.settings import merged, read_settings, updated
from Vox2VecCore.shapes import Triple


@dataclass(frozen=True)
class Sampling:
    """What one step sees.

    :param patients: different patients of one step.
    :param pairs: pairs of views from each of them.
    :param smallest_view: smallest shape of a view in voxels; every step draws one shape between this and
        ``largest_view``, in multiples of the coarsest stride's half.
    :param largest_view: largest shape.
    :param points: pairs of voxels per pair of views.
    """

    patients: int = 2
    pairs: int = 1
    smallest_view: Triple = (64, 56, 48)
    largest_view: Triple = (96, 80, 72)
    points: int = 896


@dataclass(frozen=True)
class Loss:
    """What is minimised.

    :param kind: InfoNCE, or VICReg as the second published objective.
    :param temperature: of InfoNCE.
    :param ignore_radius_mm: nearer voxels of a patient are no negatives; 0 as published.
    :param negatives: ``"patient"`` takes negatives from the anchor's own patient only, so that the embedding has
        no reason to tell patients apart; ``"all"`` from all voxels of the step and of all processes.
    :param chunk: anchors whose similarities are held at a time; 0 for all.
    :param position_weight: weight of the position-in-the-body objective; 0 for none.
    :param match_weight: weight of InfoNCE between matched points of two patients.
    :param match_radius_mm: its ignore radius, which allows for matches that are a little off.
    """

    kind: Literal["infonce", "vicreg"] = "infonce"
    temperature: float = 0.1
    ignore_radius_mm: float = 8.0
    negatives: Literal["patient", "all"] = "patient"
    chunk: int = 0
    position_weight: float = 0.3
    match_weight: float = 0.7
    match_radius_mm: float = 20.0


@dataclass(frozen=True)
class Matching:
    """Pairs of patients whose matching points are pulled together (see ``correspondence.py``).

    :param every: steps between searches with the network as it is then; 0 for none, as published.
    :param fraction: share of steps, once there are matches, that see matched patients.
    :param most_pairs: pairs of scans searched each time.
    :param points: most matched points used of a pair of views.
    """

    every: int = 250
    fraction: float = 0.75
    most_pairs: int = 100
    points: int = 384


@dataclass(frozen=True)
class Optimisation:
    """Adam with warm-up, cosine decay, gradient clipping and an average of the weights.

    :param steps: optimiser steps of the whole run.
    :param learning_rate: highest learning rate.
    :param warmup_steps: steps of linear warm-up.
    :param final_fraction: learning rate at the end against the highest; 1 for a constant one, as published.
    :param weight_decay: decoupled weight decay.
    :param epsilon: of Adam; gradients well below it move nothing.
    :param clip_norm: largest norm of the gradient.
    :param average_decay: decay of the exponential average of the weights that the model is made from; 0 for none.
    :param accumulate: batches whose gradients are averaged for one optimiser step. That equals a step with so
        many times the patients where nothing passes between patients: negatives of the anchor's own patient, no batch
        norm in backbone and projection. Else batch statistics and negatives are those of each batch.
    """

    steps: int = 1300
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    final_fraction: float = 0.02
    weight_decay: float = 0.05
    epsilon: float = 1e-8
    clip_norm: float = 1.0
    average_decay: float = 0.995
    accumulate: int = 1


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that defines a run, apart from its data and its machine.

    :param spacing_mm: grid that scans are resampled to.
    :param window_hu: HU that the network sees as 0 and 1 when no random window is drawn, and at inference.
    :param tile_shape: tiles of the model's inference.
    :param tile_overlap: voxels that neighbouring tiles share.
    :param precision: ``auto`` is bf16 mixed precision where the processor has it, fp16 on CUDA, else fp32.
    :param seed: of weights and sampling.
    :param probe_every: steps between tests on labelled scans, if the run is given any.
    :param checkpoint_every: steps between checkpoints.
    :param start_from: an earlier run with the same architecture, whose averaged weights this one begins with and
        whose last matches hold until its first own search; a training in stages. Empty for random weights.
    :param log_every: steps between lines of the log.
    """

    architecture: Architecture = field(
        default_factory=lambda: Architecture(base_channels=12, num_scales=5, depth=1, projection_channels=32)
    )
    sampling: Sampling = field(default_factory=Sampling)
    spatial: SpatialAugmentation = field(default_factory=lambda: SpatialAugmentation(12.0, 0.2, 0.12, 2.0, 16))
    intensity: IntensityAugmentation = field(default_factory=IntensityAugmentation)
    loss: Loss = field(default_factory=Loss)
    matching: Matching = field(default_factory=Matching)
    optimisation: Optimisation = field(default_factory=Optimisation)
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    window_hu: tuple[float, float] = (-1000.0, 700.0)
    tile_shape: Triple = (160, 128, 128)
    tile_overlap: Triple = (64, 64, 64)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    seed: int = 0
    probe_every: int = 325
    checkpoint_every: int = 25
    log_every: int = 10
    start_from: str = ""

    def __post_init__(self) -> None:
        coarsest = self.architecture.level_strides[-1]
        for what, shape in (
            ("smallest_view", self.sampling.smallest_view),
            ("largest_view", self.sampling.largest_view),
        ):
            if any(n < s for n, s in zip(shape, coarsest, strict=True)):
                raise PretrainingError(
                    f"sampling.{what} {list(shape)} is smaller than the coarsest stride {list(coarsest)}; "
                    "use larger views or fewer scales."
                )
        if self.matching.every and self.sampling.patients % 2:
            raise PretrainingError("Matched patients come in twos: make sampling.patients even, or matching.every 0.")
        if any(a > b for a, b in zip(self.sampling.smallest_view, self.sampling.largest_view, strict=True)):
            raise PretrainingError("sampling.smallest_view must not be larger than sampling.largest_view.")


PRESETS: dict[str, PretrainConfig] = {
    "small": PretrainConfig(),
    "vox2vec": PretrainConfig(
        architecture=Architecture(base_channels=16, num_scales=6, projection_channels=128),
        sampling=Sampling(1, 10, (128, 128, 32), (128, 128, 32), 1024),
        spatial=SpatialAugmentation(),
        intensity=PUBLISHED,
        loss=Loss(ignore_radius_mm=0.0, negatives="all", chunk=2048, position_weight=0.0),
        matching=Matching(every=0),
        optimisation=Optimisation(100_000, 3e-4, 0, 1.0, 0.0, average_decay=0.0),
        spacing_mm=(1.0, 1.0, 2.0),
        window_hu=(-1350.0, 1000.0),
        tile_shape=(128, 128, 32),
        tile_overlap=(64, 64, 0),
    ),
}
"""``small`` is the recipe of the shipped model's first stage; ``vox2vec`` the published sampling, augmentation and
optimiser (Goncharov et al. 2023), with one projection per level instead of one for all."""


def load_config(path: Path | None = None, preset: str = "small", overrides: Sequence[str] = ()) -> PretrainConfig:
    """A preset, changed by a TOML or YAML file (which may name another ``preset``), changed by overrides.

    :param overrides: such as ``loss.temperature=0.2`` or ``spacing_mm=[2, 2, 3]``; values as in TOML.
    :raises SettingsError: on an unknown preset or key, or a value of the wrong type.
    :raises PretrainingError: on settings that do not go together.
    """
    values = merged({} if path is None else read_settings(path), overrides)
    preset = values.pop("preset", preset)
    if preset not in PRESETS:
        raise SettingsError(f"Unknown preset '{preset}'; there are {', '.join(PRESETS)}.")
    return updated(PRESETS[preset], values)
