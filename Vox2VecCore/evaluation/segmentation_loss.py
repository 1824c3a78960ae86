"""The published loss of the segmentation protocols, and the Dice they choose epochs by."""

import torch
import torch.nn.functional as F
from torch import Tensor

SPATIAL = (2, 3, 4)


def segmentation_loss(logits: Tensor, masks: Tensor, roi: Tensor | None = None) -> Tensor:
    """Binary cross-entropy plus soft Dice, classes independent of each other (GitHub mishgon/vox2vec, commit 734e757).

    Cross-entropy is the mean over voxels and classes. Dice is that of a class in a patch, with squares in the
    denominator and a 1 added there alone: a class that a patch does not show pulls at nothing there.

    :param logits: (batch, classes, X, Y, Z).
    :param masks: same shape, 0 and 1.
    :param roi: (batch, X, Y, Z) or (batch, 1, X, Y, Z), true where the loss looks; everywhere when left out.
    """
    masks = masks.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    probability = torch.sigmoid(logits)
    if roi is None:
        mean = entropy.mean()
    else:
        region = (roi if roi.ndim == 5 else roi[:, None]).to(logits.dtype)
        mean = (entropy * region).sum() / (region.sum() * logits.shape[1]).clamp(min=1)
        probability, masks = probability * region, masks * region
    overlap = (probability * masks).sum(SPATIAL)
    sizes = probability.square().sum(SPATIAL) + masks.square().sum(SPATIAL)
    return mean + (1 - 2 * overlap / (sizes + 1)).mean()


def dice(predicted: Tensor, masks: Tensor) -> Tensor:
    """Dice of every class (classes,) of boolean (classes, X, Y, Z); NaN where both are empty."""
    axes = (1, 2, 3)
    both = (predicted & masks).sum(axes).double()
    return 2 * both / (predicted.sum(axes) + masks.sum(axes)).double()
