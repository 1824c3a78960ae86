"""Training of segmentation heads and networks as published, in steps that can be interrupted and gone on with."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from Vox2VecCore.backbone import FPN3d
from Vox2VecCore.config import ModelConfig
from Vox2VecCore.evaluation.cases import Case, Fold
from Vox2VecCore.evaluation.errors import EvaluationError
from Vox2VecCore.evaluation.segmentation_loss import dice, segmentation_loss
from Vox2VecCore.evaluation.settings import SegmentationSettings
from Vox2VecCore.heads import LinearHead, NonLinearHead
from Vox2VecCore.model import Model
from Vox2VecCore.network import EmbeddingNetwork
from Vox2VecCore.paths import replace_file
from Vox2VecCore.progress import Progress
from Vox2VecCore.sliding_window import sliding_window
from Vox2VecCore.volume import AIR_HU

LINEAR, NONLINEAR, FINETUNE, SCRATCH = "linear", "nonlinear", "finetune", "scratch"
PROTOCOLS = (LINEAR, NONLINEAR, FINETUNE, SCRATCH)
SAMPLED_VOXELS = 20_000
"""Voxels of every class of a scan, drawn once, that patches are centred on; all, if there are fewer."""


class Learner(nn.Module):
    """A backbone with one head, or several side by side.

    Heads read the backbone's own levels, as published; a model's projection, made for similarity, takes no part.
    """

    def __init__(self, model: Model, protocols: Sequence[str], classes: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        shape = model.config.architecture
        network = EmbeddingNetwork(shape) if SCRATCH in protocols else model.network()
        self.backbone: FPN3d = network.backbone
        common = (shape.base_channels, shape.num_scales, classes)
        self.heads = nn.ModuleDict(
            {
                name: NonLinearHead(*common, shape.norm, shape.strides)
                if name == NONLINEAR
                else LinearHead(*common, shape.strides)
                for name in protocols
            }
        )
        self.frozen = False

    def freeze(self, frozen: bool) -> None:
        """Whether the backbone stays as it is, its batch norm included."""
        self.frozen = frozen
        self.backbone.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Learner":
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits (batch, classes, X, Y, Z) of every head."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            levels = self.backbone(image)
        return {name: head(levels) for name, head in self.heads.items()}

    def start_at(self, frequency: NDArray[np.float64]) -> None:
        """Make the heads predict the classes' frequencies before they have learnt anything."""
        odds = torch.from_numpy(np.log(frequency / (1 - frequency))).float()
        for head in self.heads.values():
            last = head.layers[0] if isinstance(head, LinearHead) else head.final_block
            with torch.no_grad():
                last.bias.copy_(odds)  # type: ignore[union-attr, operator]


class Job(NamedTuple):
    """One training: protocols that share it, and everything that decides its result."""

    protocols: tuple[str, ...]
    fold: Fold
    seed: int
    labelled: int

    @property
    def key(self) -> str:
        """Name of its files."""
        scans = f"-{self.labelled}scans" if self.labelled else ""
        return f"{'+'.join(self.protocols)}-fold{self.fold.number + 1}-seed{self.seed}{scans}"

    def training_scans(self) -> tuple[int, ...]:
        """The scans of a point of a few-label curve are drawn anew in every fold and with every seed."""
        if not self.labelled:
            return self.fold.train
        order = np.random.default_rng([self.seed, self.fold.number]).permutation(self.fold.train)
        return tuple(sorted(int(i) for i in order[: self.labelled]))


def trainable_parameters(learner: Learner, protocol: str) -> int:
    """Numbers that a protocol trains."""
    head = sum(p.numel() for p in learner.heads[protocol].parameters())
    return head + (sum(p.numel() for p in learner.backbone.parameters()) if protocol in (FINETUNE, SCRATCH) else 0)


def train(
    job: Job,
    cases: Sequence[Case],
    classes: int,
    model: Model,
    settings: SegmentationSettings,
    device: str,
    checkpoint: Path,
    progress: Progress,
) -> tuple[Learner, float]:
    """Train, from the job's checkpoint if there is one.

    :param checkpoint: file that is replaced after every epoch.
    :return: the learner in evaluation mode, and the seconds that training took.
    :raises EvaluationError: if the loss is no number any more.
    :raises Cancelled: when ``progress`` says so; the checkpoint stays.
    """
    learner = Learner(model, job.protocols, classes, job.seed)
    sampler = _Sampler([cases[i] for i in job.training_scans()], classes, job, settings, model.config)
    if settings.bias_from_frequency:
        learner.start_at(sampler.frequency())
    learner = learner.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    rate = settings.learning_rate
    backbone_rate = settings.backbone_learning_rate or rate
    groups = [{"params": list(learner.heads.parameters()), "lr": rate}]
    if {FINETUNE, SCRATCH} & set(job.protocols):
        groups.append({"params": list(learner.backbone.parameters()), "lr": backbone_rate})
    optimiser = torch.optim.Adam(groups, lr=rate)
    epoch, seconds, best, best_dice = 0, 0.0, None, -1.0
    state = _read(checkpoint)
    if state is not None:
        learner.load_state_dict(state["learner"])
        optimiser.load_state_dict(state["optimiser"])
        epoch, seconds, best, best_dice = state["epoch"], state["seconds"], state["best"], state["best_dice"]
    while epoch < settings.epochs:
        started = time.monotonic()
        warming = FINETUNE in job.protocols and epoch < settings.warmup
        learner.freeze(warming or not {FINETUNE, SCRATCH} & set(job.protocols))
        learner.train()
        for step in range(settings.steps):
            done = epoch * settings.steps + step
            loss = _step(learner, optimiser, sampler.batch(done), device)
            if not np.isfinite(loss):
                raise EvaluationError(
                    f"{job.key}: the loss is {loss} in epoch {epoch + 1}; start again with a lower learning_rate."
                )
            progress.step(f"Training {job.key}", done + 1, settings.epochs * settings.steps, f"loss {loss:.3f}")
        epoch += 1
        if job.fold.validation and (epoch % settings.validate_every == 0 or epoch == settings.epochs):
            score = _validate(learner.eval(), [cases[i] for i in job.fold.validation], classes, model, settings, device)
            if score > best_dice:
                best_dice = score
                best = {name: tensor.detach().cpu().clone() for name, tensor in learner.state_dict().items()}
        seconds += time.monotonic() - started
        _write(
            checkpoint,
            {
                "learner": learner.state_dict(),
                "optimiser": optimiser.state_dict(),
                "epoch": epoch,
                "seconds": seconds,
                "best": best,
                "best_dice": best_dice,
            },
        )
    if best is not None:
        learner.load_state_dict(best)
    return learner.eval(), seconds


@torch.no_grad()
def predict(
    learner: Learner, case: Case, config: ModelConfig, settings: SegmentationSettings, device: str
) -> dict[str, NDArray[np.float32]]:
    """Probabilities (classes, X, Y, Z) on the grid by every head, with the published sliding window.

    They are 0 outside the body, where the loss never looked.

    :raises EvaluationError: if they are not numbers.
    """
    image = torch.from_numpy(_scaled(case.hu, config))[None, None]
    size = image.shape[2:]
    short = [max(0, p - n) for p, n in zip(settings.patch, size, strict=True)]
    image = torch.nn.functional.pad(
        image, (0, short[2], 0, short[1], 0, short[0]), value=float(_scaled(np.array(AIR_HU), config))
    )
    names = list(learner.heads)

    def one(patch: Tensor) -> Tensor:
        logits = learner(patch.to(device).contiguous(memory_format=torch.channels_last_3d))
        return torch.sigmoid(torch.cat([logits[name] for name in names], dim=1)).cpu()

    output = sliding_window(image, one, settings.patch, settings.overlap)[0, :, : size[0], : size[1], : size[2]]
    if not bool(torch.isfinite(output).all()):
        raise EvaluationError(
            f"{case.entry.id}: the probabilities of {', '.join(names)} are not numbers; start again with a lower "
            "learning_rate, into a new folder."
        )
    parts = (output * torch.from_numpy(case.body)).numpy().reshape(len(names), -1, *size)
    return dict(zip(names, parts, strict=True))


def _step(learner: Learner, optimiser: torch.optim.Optimizer, batch: tuple[Tensor, ...], device: str) -> float:
    image, masks, roi = (tensor.to(device) for tensor in batch)
    logits = learner(image.contiguous(memory_format=torch.channels_last_3d))
    # Heads side by side share no parameter, so the sum trains each as if it were alone.
    loss = torch.stack([segmentation_loss(each, masks, roi) for each in logits.values()]).sum()
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return float(loss.detach()) / len(logits)


def _validate(
    learner: Learner, cases: Sequence[Case], classes: int, model: Model, settings: SegmentationSettings, device: str
) -> float:
    """Mean Dice over classes, then over scans, on the grid: of the non-linear head where there is one."""
    chosen = NONLINEAR if NONLINEAR in learner.heads else next(iter(learner.heads))
    scores = []
    for case in cases:
        predicted = torch.from_numpy(predict(learner, case, model.config, settings, device)[chosen])
        masks = torch.from_numpy(case.masks((slice(None),) * 3, classes))
        scores.append(float(torch.nanmean(dice((predicted >= settings.threshold), masks))))
    return float(np.nanmean(scores)) if not np.isnan(scores).all() else 0.0


class _Sampler:
    """Batches that depend on nothing but the job and the number of the step."""

    def __init__(
        self, cases: Sequence[Case], classes: int, job: Job, settings: SegmentationSettings, config: ModelConfig
    ) -> None:
        self._cases, self._classes, self._job, self._settings, self._config = cases, classes, job, settings, config
        self._regions = [_region(case, job.fold.train_half, settings) for case in cases]
        self._of_class: list[dict[int, NDArray[np.int64]]] = []
        self._of_body: list[NDArray[np.int64]] = []
        self._counts = np.zeros(classes)
        self._body_count = 0
        for n, (case, region) in enumerate(zip(cases, self._regions, strict=True)):
            rng = np.random.default_rng([job.seed, job.fold.number, n])
            inside = np.argwhere(region)
            if len(inside) == 0:
                raise EvaluationError(f"{case.entry.id}: no body in the part to train on; choose another slab_mm.")
            bits = np.unpackbits(case.packed[region], axis=-1, count=classes)
            self._counts += bits.sum(axis=0)
            self._body_count += len(inside)
            found = {c: _some(inside[bits[:, c] > 0], rng) for c in range(classes) if bits[:, c].any()}
            self._of_class.append(found)
            self._of_body.append(_some(inside, rng))
        if not any(self._of_class):
            raise EvaluationError(f"{job.key}: no training scan shows any of the classes; give more scans.")

    def frequency(self) -> NDArray[np.float64]:
        """Share of body voxels of every class."""
        return np.clip(self._counts / self._body_count, 1e-5, 0.5)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (batch, 1, x, y, z), masks (batch, classes, x, y, z) and region (batch, x, y, z)."""
        rng = np.random.default_rng([self._job.seed, self._job.fold.number, 1 << 20, step])
        n = int(rng.integers(len(self._cases)))
        case, found = self._cases[n], self._of_class[n]
        size = np.array(self._settings.patch)
        centres = []
        if found:
            own = found[int(rng.choice(list(found)))]
            centres += [own[rng.integers(len(own))] for _ in range(self._settings.batch // 2)]
        body = self._of_body[n]
        centres += [body[rng.integers(len(body))] for _ in range(self._settings.batch - len(centres))]
        images, masks, regions = [], [], []
        limit = np.maximum(np.array(case.hu.shape) - size, 0)
        for centre in centres:
            start = np.clip(centre - size // 2, 0, limit)
            box = tuple(slice(int(a), int(a + s)) for a, s in zip(start, size, strict=True))
            short = [(0, int(s - n)) for s, n in zip(size, case.hu[box].shape, strict=True)]
            images.append(np.pad(case.hu[box], short, constant_values=int(AIR_HU)))
            masks.append(np.pad(case.masks(box, self._classes), [(0, 0), *short]))
            regions.append(np.pad(self._regions[n][box], short))
        image = torch.from_numpy(_scaled(np.stack(images), self._config))[:, None]
        return image, torch.from_numpy(np.stack(masks)), torch.from_numpy(np.stack(regions))


def _region(case: Case, half: int | None, settings: SegmentationSettings) -> NDArray[np.bool_]:
    return case.body if half is None else case.body & case.half(half, settings.slab_mm)


def _some(voxels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    return voxels if len(voxels) <= SAMPLED_VOXELS else rng.choice(voxels, SAMPLED_VOXELS, replace=False)


def _scaled(hu: NDArray, config: ModelConfig) -> NDArray[np.float32]:
    low, high = config.window_hu
    return np.clip((hu.astype(np.float32) - low) / (high - low), 0, 1)


def _read(checkpoint: Path) -> dict[str, Any] | None:
    """The state of an interrupted training; a damaged one counts as none."""
    if not checkpoint.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001  pickle, zip and torch errors of many kinds; training starts anew
        return None
    return state


def _write(checkpoint: Path, state: dict[str, Any]) -> None:
    try:
        with replace_file(checkpoint) as temporary:
            torch.save(state, temporary)
    # torch reports a full disk as RuntimeError.
    except (OSError, RuntimeError) as error:
        raise EvaluationError(f"{checkpoint}: cannot be written ({error}); free space and resume.") from error
