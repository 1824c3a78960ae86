"""Symmetric InfoNCE over pairs of voxel embeddings."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Exclusion:
    """Which voxels are no negatives of each other.

    Neighbours a few millimetres apart show the same tissue, and the same place of another patient looks alike
    by intent: pushing those apart teaches noise and patient identity.

    :param position_mm: (N, 3) place of every pair in its scan, in millimetres.
    :param patient: (N,) integer that tells the patients apart.
    :param radius_mm: voxels of one patient nearer than this are no negatives; 0 keeps all, as published.
    :param across_patients: whether voxels of other patients are negatives, as published in the paper's text.
    """

    position_mm: Tensor
    patient: Tensor
    radius_mm: float = 0.0
    across_patients: bool = True

    def mask(self, rows: Tensor, columns: Tensor) -> Tensor:
        """(rows, columns) true where a pair of the given indices is not to be used as a negative."""
        same = self.patient[rows, None] == self.patient[None, columns]
        # cdist's matrix-product shortcut loses millimetres at the scale of a body.
        distance = torch.cdist(
            self.position_mm[rows], self.position_mm[columns], compute_mode="donot_use_mm_for_euclid_dist"
        )
        near = same & (distance < self.radius_mm)
        return near if self.across_patients else near | ~same


def info_nce(
    first: Tensor,
    second: Tensor,
    temperature: float = 0.1,
    exclusion: Exclusion | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Symmetric InfoNCE of Goncharov et al. 2023, section 2.2 (the NT-Xent form of Chen et al. 2020).

    Every voxel of either view is an anchor; its denominator holds its partner in the other view and all other
    voxels of both views.

    :param first: (N, C) unit vectors of the voxels in one view.
    :param second: (N, C) unit vectors of the same voxels in the other view.
    :param temperature: softmax temperature.
    :param exclusion: voxels that are left out of the denominator.
    :param chunk: anchors whose row of the 2N x 2N similarity matrix is held at a time; the rows are computed
        again in the backward pass. ``None`` holds the whole matrix. Value and gradients are the same.
    :return: scalar, the mean over the 2N anchors.
    """
    vectors = torch.cat([first, second])
    count = len(first)
    indices = torch.arange(2 * count, device=vectors.device)

    def anchors(rows: Tensor, vectors: Tensor) -> Tensor:
        logits = vectors[rows] @ vectors.T / temperature
        partner = (rows + count) % (2 * count)
        positive = logits.gather(1, partner[:, None])
        dropped = rows[:, None] == indices[None]
        if exclusion is not None:
            dropped = dropped | exclusion.mask(rows % count, indices % count)
        dropped = dropped & (indices[None] != partner[:, None])
        return (logits.masked_fill(dropped, -torch.inf).logsumexp(1) - positive[:, 0]).sum()

    if chunk is None:
        total = anchors(indices, vectors)
    else:
        parts = [checkpoint(anchors, rows, vectors, use_reentrant=False) for rows in indices.split(chunk)]
        total = torch.stack(parts).sum()
    return total / (2 * count)


def vicreg(
    first: Tensor, second: Tensor, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    """VICReg (Bardes et al. 2022), the second objective that vox2vec was published with.

    :param first: (N, C) vectors, not normalised.
    :param second: (N, C) vectors of the same voxels in the other view.
    """
    total = invariance * (first - second).pow(2).mean()
    for vectors in (first, second):
        count, channels = vectors.shape
        centred = vectors - vectors.mean(0)
        total = total + variance / 2 * (1 - torch.sqrt(centred.var(0) + 1e-4)).clamp(min=0).mean()
        products = (centred.T @ centred / (count - 1)).pow(2)
        total = total + covariance * (products.sum() - products.diagonal().sum()) / channels
    return total
