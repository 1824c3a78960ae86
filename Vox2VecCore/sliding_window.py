"""The published sliding window: how the official code predicts a whole scan, kept for parity and as a baseline.

Embedding does not use it: half-overlapping patches cost several times the arithmetic, and shifting the last patch
back breaks the pooling grid (see :mod:`Vox2VecCore.tiles`).
"""

from collections.abc import Callable
from itertools import product

from torch import Tensor

from Vox2VecCore.shapes import Triple


def sliding_window(image: Tensor, predict: Callable[[Tensor], Tensor], patch: Triple, overlap: float = 0.5) -> Tensor:
    """Predict patch by patch; each patch contributes the middle of its output, the outer ones also their rim.

    :param image: (1, C, X, Y, Z), at least as large as the patch.
    :param predict: patch (1, C, x, y, z) to output (1, K, x, y, z).
    :param overlap: share of a patch that it has in common with the next; the number of voxels is made even.
    :return: (1, K, X, Y, Z).
    :raises ValueError: for an image smaller than the patch.
    """
    shape = image.shape[2:]
    if any(size < p for size, p in zip(shape, patch, strict=True)):
        raise ValueError(f"an image of {tuple(shape)} voxels is smaller than the patch {patch}")
    axes = [_windows(size, p, int(p * overlap) // 2) for size, p in zip(shape, patch, strict=True)]
    output: Tensor | None = None
    for windows in product(*axes):
        x, y, z = (slice(start, start + p) for (start, _, _), p in zip(windows, patch, strict=True))
        prediction = predict(image[:, :, x, y, z])
        if output is None:
            output = prediction.new_empty((1, prediction.shape[1], *shape))
        x, y, z = (slice(a, b) for _, a, b in windows)
        u, v, w = (slice(a - start, b - start) for start, a, b in windows)
        output[:, :, x, y, z] = prediction[:, :, u, v, w]
    assert output is not None
    return output


def _windows(size: int, patch: int, rim: int) -> list[tuple[int, int, int]]:
    """Start of every patch along one axis and the voxels it contributes; later patches win where they meet."""
    starts = [*range(0, size - patch, patch - 2 * rim), size - patch]
    return [
        (start, start if start == 0 else start + rim, start + patch if start == size - patch else start + patch - rim)
        for start in starts
    ]
