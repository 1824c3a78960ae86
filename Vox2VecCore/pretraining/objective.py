"""The network with its losses, as one module so that data-parallel training wraps both."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from Vox2VecCore.network import EmbeddingNetwork
from Vox2VecCore.pretraining.batches import ViewPair
from Vox2VecCore.pretraining.config import PretrainConfig
from Vox2VecCore.pretraining.distributed import gather_rows, process_count, summed
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.loss import Exclusion, info_nce, vicreg

POSITION_UNIT_MM = 100.0
POSITION_TOLERANCE_MM = 10.0
FEWEST_MATCHES = 16


Couple = tuple[Tensor, Tensor, Tensor]
"""Vectors (m, C) of matched places in two patients, and where they are in the first, in millimetres (m, 3)."""


class Losses(NamedTuple):
    """Losses of a step; their means over processes are those of all voxels of the step."""

    total: Tensor
    contrast: Tensor
    match: Tensor
    position_mm: Tensor


class Objective(nn.Module):
    """Embedding network, position head and losses.

    :param config: of the run.
    """

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        self.config = config
        architecture = config.architecture
        self.embedding = EmbeddingNetwork(architecture)
        self.position = nn.Linear(sum(architecture.level_channels), 3) if config.loss.position_weight else None

    def forward(self, pairs: Sequence[ViewPair]) -> Losses:
        """Losses of pairs of views, all of one shape.

        :raises PretrainingError: if vectors are not finite; names the scans.
        """
        images = torch.cat([pair.images for pair in pairs])
        levels = self.embedding.backbone(images.contiguous(memory_format=torch.channels_last_3d))
        # The convolutions bear reduced precision; distances between vectors do not.
        with torch.autocast(images.device.type, enabled=False):
            return self._losses(levels, pairs)

    def _losses(self, levels: Sequence[Tensor], pairs: Sequence[ViewPair]) -> Losses:
        first, second, matched = self._vectors(levels, pairs)
        for pair, a, b in zip(pairs, first, second, strict=True):
            if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
                raise PretrainingError(f"The embedding of scan {pair.scan} is not finite; lower the learning rate.")
        weights = self.config.loss
        contrast = self._contrast(first, second, pairs)
        couples = self._couples(pairs, matched)
        match = self._match(couples, contrast.device)
        place = self._place(first, second, pairs, couples) if self.position is not None else torch.zeros_like(match)
        total = contrast + weights.match_weight * match + weights.position_weight / POSITION_TOLERANCE_MM * place
        return Losses(total, contrast.detach(), match.detach(), place.detach())

    def _vectors(
        self, levels: Sequence[Tensor], pairs: Sequence[ViewPair]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Vectors of every pair's corresponding voxels in both views, and of its matched voxels in the first."""
        voxels, images = [], []
        for n, pair in enumerate(pairs):
            voxels += [pair.voxels[0], pair.voxels[1], pair.matches]
            images += [2 * n, 2 * n + 1, 2 * n]
        rows = torch.cat(self._columns(levels, voxels, images), dim=1).split([len(v) for v in voxels])
        return list(rows[::3]), list(rows[1::3]), list(rows[2::3])

    @staticmethod
    def _couples(pairs: Sequence[ViewPair], matched: Sequence[Tensor]) -> list[Couple]:
        """Couples of a step: neighbouring pairs of views with the same number of matches."""
        couples = []
        n = 0
        while n < len(pairs) - 1:
            if len(pairs[n].matches) and len(pairs[n].matches) == len(pairs[n + 1].matches):
                if len(pairs[n].matches) >= FEWEST_MATCHES:
                    couples.append((matched[n], matched[n + 1], pairs[n].matched_mm))
                n += 1
            n += 1
        return couples

    def _columns(self, levels: Sequence[Tensor], voxels: Sequence[Tensor], images: Sequence[int]) -> list[Tensor]:
        """Vectors (n, C_i) of voxels of the given images of the step, one tensor a level.

        Only these voxels are projected: the projection is voxel-wise, and at the finest level it would cost as
        much as the backbone.
        """
        gathered = []
        for level, stride in zip(levels, self.config.architecture.level_strides, strict=True):
            cells = [v // torch.tensor(stride, device=v.device) for v in voxels]
            rows = [level[n][:, i, j, k] for n, (i, j, k) in zip(images, (c.unbind(1) for c in cells), strict=True)]
            gathered.append(torch.cat(rows, dim=1).float())
        if self.embedding.projection is not None:
            projected = self.embedding.projection([rows[None, :, :, None, None] for rows in gathered])
            gathered = [rows[0, :, :, 0, 0] for rows in projected]
        if self.config.loss.kind == "vicreg":
            return [rows.T for rows in gathered]
        return [F.normalize(rows.T, dim=1) / len(gathered) ** 0.5 for rows in gathered]

    def _contrast(self, first: Sequence[Tensor], second: Sequence[Tensor], pairs: Sequence[ViewPair]) -> Tensor:
        loss = self.config.loss
        chunk = loss.chunk or None
        if loss.kind == "vicreg":
            return vicreg(gather_rows(torch.cat(list(first))), gather_rows(torch.cat(list(second))))
        if loss.negatives == "all":
            count = torch.tensor([len(rows) for rows in first])
            patient = torch.repeat_interleave(torch.tensor([pair.patient for pair in pairs]), count)
            position = torch.cat([pair.position_mm for pair in pairs])
            exclusion = Exclusion(
                gather_rows(position), gather_rows(patient.to(position.device)), loss.ignore_radius_mm
            )
            one, two = gather_rows(torch.cat(list(first))), gather_rows(torch.cat(list(second)))
            return info_nce(one, two, loss.temperature, exclusion, chunk)
        return self._over_patients(
            pairs,
            lambda own: info_nce(
                torch.cat([first[n] for n in own]),
                torch.cat([second[n] for n in own]),
                loss.temperature,
                _exclusion([pairs[n].position_mm for n in own], loss.ignore_radius_mm),
                chunk,
            ),
        )

    def _match(self, couples: Sequence[Couple], device: torch.device) -> Tensor:
        """InfoNCE between matched places of two patients."""
        loss = self.config.loss
        parts = [
            info_nce(a, b, loss.temperature, _exclusion([position], loss.match_radius_mm)) for a, b, position in couples
        ]
        return _mean(parts, [1] * len(parts), device)

    def _place(
        self,
        first: Sequence[Tensor],
        second: Sequence[Tensor],
        pairs: Sequence[ViewPair],
        couples: Sequence[Couple],
    ) -> Tensor:
        """Position in the body: a linear function of the vector that differs between two voxels of a patient by
        their distance along each axis, in millimetres. Where its zero lies is for the network to choose, which
        makes one coordinate system for all patients (after Lei et al., Relative position regression, 2021).
        Matched places of two patients have the same position."""

        def error(own: Sequence[int]) -> Tensor:
            found = self._positions(torch.cat([rows[n] for rows in (first, second) for n in own]))
            residual = found - torch.cat([pairs[n].position_mm for _ in range(2) for n in own])
            return _tolerant(residual - residual.mean(0))

        total = self._over_patients(pairs, error)
        apart = [_tolerant(self._positions(a) - self._positions(b)) for a, b, _ in couples]
        return total + _mean(apart, [1] * len(apart), total.device)

    def _positions(self, vectors: Tensor) -> Tensor:
        assert self.position is not None
        # Vectors are divided by the root of the number of levels; undone, the weights have the usual size.
        return POSITION_UNIT_MM * self.position(vectors * self.config.architecture.num_scales**0.5)

    @staticmethod
    def _over_patients(pairs: Sequence[ViewPair], part: Callable[[list[int]], Tensor]) -> Tensor:
        """Mean over patients of a function of a patient's pairs, by number of voxels."""
        patients: dict[int, list[int]] = {}
        for n, pair in enumerate(pairs):
            patients.setdefault(pair.patient, []).append(n)
        counts = [sum(pairs[n].voxels.shape[1] for n in own) for own in patients.values()]
        return _mean([part(own) for own in patients.values()], counts, pairs[0].images.device)


def _mean(parts: Sequence[Tensor], counts: Sequence[int], device: torch.device) -> Tensor:
    """Weighted mean whose mean over processes is that over the parts of all processes; 0 if there are none."""
    everywhere = summed(torch.tensor(float(sum(counts)), device=device))
    if not parts:
        return torch.zeros((), device=device)
    total = torch.stack([count * part for count, part in zip(counts, parts, strict=True)]).sum()
    return total * process_count() / everywhere


def _exclusion(position_mm: Sequence[Tensor], radius_mm: float) -> Exclusion:
    position = torch.cat(list(position_mm))
    return Exclusion(position, torch.zeros(len(position), dtype=torch.int64, device=position.device), radius_mm)


def _tolerant(difference_mm: Tensor) -> Tensor:
    """Mean Huber loss that does not insist on the last millimetres."""
    return F.smooth_l1_loss(difference_mm, torch.zeros_like(difference_mm), beta=POSITION_TOLERANCE_MM)
