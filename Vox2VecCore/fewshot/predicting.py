"""What a head says about the voxels of a scan, level by level.

The first linear map of a head is a sum over levels, so it is computed at each level's own resolution
(:mod:`Vox2VecCore.separable`); this is exact. A slice costs milliseconds, a whole scan about a second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from Vox2VecCore.errors import HeadError
from Vox2VecCore.fewshot.examples import level_columns
from Vox2VecCore.fewshot.head import Head
from Vox2VecCore.fewshot.intensity import CHANNELS, IntensityMaps
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.separable import in_one_thread, map_box, map_grid, map_voxels
from Vox2VecCore.shapes import Triple, box
from Vox2VecCore.similarity import slice_box

SlabUser = Callable[[int, Tensor], None]

STAGE = "Segmenting"
CERTAIN = 255


@dataclass(frozen=True, eq=False)
class GridLabels:
    """Labels of a whole scan on the embedding's grid.

    :param labels: (X, Y, Z) class values; 0 is background.
    :param uncertainty: (X, Y, Z) uint8: 0 sure, 255 undecided between the two likeliest classes; 0 outside the body.
    """

    pyramid: FeaturePyramid
    labels: NDArray[np.int16]
    uncertainty: NDArray[np.uint8]


class Predictor:
    """A head on one scan."""

    def __init__(self, head: Head, pyramid: FeaturePyramid, intensity: IntensityMaps | None) -> None:
        """:raises ModelError, HeadError: if head and scan do not fit together."""
        head.check_fits(pyramid, intensity is not None)
        self._head, self._pyramid = head, pyramid
        self._intensity = intensity if head.needs_ct else None

    @cached_property
    def _matrices(self) -> list[Tensor]:
        weight = torch.from_numpy(self._head.maps.weight)
        return [weight[columns].contiguous() for columns in level_columns([n.channels for n in self._pyramid.levels])]

    def probabilities(self, start: Sequence[int], stop: Sequence[int]) -> Tensor:
        """Probabilities (classes, X, Y, Z) on a box of the grid; outside the body those of the background alone.

        :raises HeadError: if one is not a number.
        """
        return self._probabilities(map_box(self._pyramid, self._matrices, start, stop), start, stop)

    def at_voxels(self, voxels: NDArray[np.int64]) -> NDArray[np.int16]:
        """Class values (n,) at single voxels (n, 3) of the grid, as of oblique planes; 0 is background."""
        maps = self._head.maps
        logits = in_one_thread(map_voxels, self._pyramid, self._matrices, voxels).numpy() + maps.bias
        if self._intensity is not None:
            logits += self._intensity.at(voxels) @ maps.weight[-CHANNELS:]
        if maps.out is not None and maps.out_bias is not None:
            logits = np.maximum(logits, 0) @ maps.out + maps.out_bias
        _check_finite(float(logits.sum()))
        return self._values[logits.argmax(axis=1)] * self._pyramid.body[tuple(voxels.T)]

    def on_slice(self, axis: int, index: int) -> NDArray[np.int16]:
        """Class values on one plane of the grid, the two other axes in their order; 0 is background."""
        start, stop = slice_box(self._pyramid, axis, index)
        first = in_one_thread(map_box, self._pyramid, self._matrices, start, stop)
        return in_one_thread(self._labels, first, start, stop)[0].squeeze(axis)

    def whole(self, progress: Progress | None = None) -> GridLabels:
        """Class values and uncertainty of the whole scan.

        :raises Cancelled: when ``progress`` says so.
        """
        labels = np.empty(self._pyramid.grid.shape, np.int16)
        uncertainty = np.empty(self._pyramid.grid.shape, np.uint8)

        def use(x: int, first: Tensor) -> None:
            planes = slice(x, x + first.shape[1])
            labels[planes], uncertainty[planes] = self._labels(first, *self._box_of(x, first))

        map_grid(self._pyramid, self._matrices, use, STAGE, progress)
        return GridLabels(self._pyramid, labels, uncertainty)

    def each_slab(self, use: SlabUser, multiple: int, progress: Progress | None = None) -> None:
        """Hand probabilities (classes, planes, Y, Z) of every slab along x, with its first plane, to a function.

        :param multiple: slabs begin at multiples of this.
        """

        def give(x: int, first: Tensor) -> None:
            use(x, self._probabilities(first, *self._box_of(x, first)))

        map_grid(self._pyramid, self._matrices, give, STAGE, progress, multiple)

    def _box_of(self, x: int, slab: Tensor) -> tuple[Triple, Triple]:
        _, size_y, size_z = self._pyramid.grid.shape
        return (x, 0, 0), (x + slab.shape[1], size_y, size_z)

    @cached_property
    def _values(self) -> NDArray[np.int16]:
        """Value in label maps of every class, in the order of the logits."""
        return np.array([0 if each.background else each.value for each in self._head.classes], np.int16)

    def _logits(self, first: Tensor, start: Sequence[int], stop: Sequence[int]) -> Tensor:
        """What follows the sum over levels (K, X, Y, Z), which is overwritten: logits (classes, X, Y, Z)."""
        maps = self._head.maps
        if self._intensity is not None:
            self._intensity.add(torch.from_numpy(maps.weight[-CHANNELS:]), start, stop, first)
        first.add_(torch.from_numpy(maps.bias)[:, None, None, None])
        if maps.out is None or maps.out_bias is None:
            return first
        out, bias = torch.from_numpy(maps.out), torch.from_numpy(maps.out_bias)
        return torch.addmm(bias[:, None], out.T, first.relu_().flatten(1)).view(-1, *first.shape[1:])

    def _labels(
        self, first: Tensor, start: Sequence[int], stop: Sequence[int]
    ) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """Class values and uncertainty (X, Y, Z); the two likeliest classes' logits say both, without a softmax."""
        logits = self._logits(first, start, stop).numpy()
        labels = np.empty(logits.shape[1:], np.int16)
        doubt = np.empty(logits.shape[1:], np.float32)
        for x in range(len(labels)):  # planes stay in the processor's cache
            best, index = logits[0, x].copy(), np.zeros(labels.shape[1:], np.uint8)
            second = np.full_like(best, -np.inf)
            for k, other in enumerate(logits[1:, x], start=1):
                np.maximum(index, (other > best) * np.uint8(k), out=index)
                np.maximum(second, np.minimum(best, other), out=second)
                np.maximum(best, other, out=best)
            _check_finite(float(best.sum()))
            np.take(self._values, index, out=labels[x], mode="clip")
            np.exp(second - best, out=doubt[x])
        body = self._pyramid.body[box(start, stop)]
        return labels * body, (doubt * CERTAIN).astype(np.uint8) * body

    def _probabilities(self, first: Tensor, start: Sequence[int], stop: Sequence[int]) -> Tensor:
        found = self._logits(first, start, stop).softmax(0)
        _check_finite(float(found.sum()))
        body = torch.from_numpy(self._pyramid.body[box(start, stop)])
        background = self._head.background
        if background is not None and not bool(body.all()):
            found *= body
            found[background] += ~body
        return found


def _check_finite(number: float) -> None:
    if not isfinite(number):
        raise HeadError("The head gives probabilities that are not numbers on this scan; train it again.")
