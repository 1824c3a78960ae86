"""What a head says about the voxels of a scan, level by level.

The first linear map of a head is a sum over levels, so it is computed at each level's own resolution
(:mod:`Vox2VecCore.separable`); this is exact. A slice costs milliseconds, a whole scan about a second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from Vox2VecCore.errors import HeadError
from Vox2VecCore.fewshot.examples import level_columns
from Vox2VecCore.fewshot.head import Head
from Vox2VecCore.fewshot.intensity import CHANNELS, IntensityMaps
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.separable import in_one_thread, map_box, map_grid
from Vox2VecCore.similarity import slice_box
from Vox2VecCore.volume import Volume

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

    def labels_on_ct(self) -> Volume:
        """The labels on the CT's own grid, the nearest voxel of each."""
        grid = self.pyramid.grid
        return Volume(grid.to_source(self.labels, nearest=True), grid.source_affine, "labels")


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
        """Probabilities (X, Y, Z, classes) on a box of the grid; outside the body those of the background alone.

        :raises HeadError: if one is not a number.
        """
        return self._probabilities(map_box(self._pyramid, self._matrices, start, stop), start, stop)

    def on_slice(self, axis: int, index: int) -> NDArray[np.int16]:
        """Class values on one plane of the grid, the two other axes in their order; 0 is background."""
        start, stop = slice_box(self._pyramid, axis, index)
        found = in_one_thread(self.probabilities, start, stop)
        return self._values[found.argmax(-1).numpy()].squeeze(axis)

    def whole(self, progress: Progress | None = None) -> GridLabels:
        """Class values and uncertainty of the whole scan.

        :raises Cancelled: when ``progress`` says so.
        """
        labels = np.empty(self._pyramid.grid.shape, np.int16)
        uncertainty = np.empty(self._pyramid.grid.shape, np.uint8)

        def use(x: int, first: Tensor) -> None:
            stop = (x + len(first), *self._pyramid.grid.shape[1:])
            found = self._probabilities(first, (x, 0, 0), stop)
            best, index = found.topk(min(2, found.shape[-1]), dim=-1)
            labels[x : stop[0]] = self._values[index[..., 0].numpy()]
            doubt = best[..., 1] / best[..., 0] if best.shape[-1] > 1 else torch.zeros_like(best[..., 0])
            uncertainty[x : stop[0]] = (doubt * CERTAIN).to(torch.uint8).numpy()

        map_grid(self._pyramid, self._matrices, use, STAGE, progress)
        return GridLabels(self._pyramid, labels, uncertainty)

    def each_slab(self, use: SlabUser, progress: Progress | None = None) -> None:
        """Hand probabilities (planes, Y, Z, classes) of every slab along x, with its first plane, to a function."""

        def give(x: int, first: Tensor) -> None:
            stop = (x + len(first), *self._pyramid.grid.shape[1:])
            use(x, self._probabilities(first, (x, 0, 0), stop))

        map_grid(self._pyramid, self._matrices, give, STAGE, progress)

    @cached_property
    def _values(self) -> NDArray[np.int16]:
        """Value in label maps of every class, in the order of the logits."""
        return np.array([0 if each.background else each.value for each in self._head.classes], np.int16)

    def _probabilities(self, first: Tensor, start: Sequence[int], stop: Sequence[int]) -> Tensor:
        maps = self._head.maps
        if self._intensity is not None:
            self._intensity.add(torch.from_numpy(maps.weight[-CHANNELS:]), start, stop, first)
        logits = first.add_(torch.from_numpy(maps.bias))
        if maps.out is not None and maps.out_bias is not None:
            logits = functional.linear(logits.relu_(), torch.from_numpy(maps.out.T), torch.from_numpy(maps.out_bias))
        found = logits.softmax(-1)
        if not bool(torch.isfinite(found.sum())):
            raise HeadError("The head gives probabilities that are not numbers on this scan; train it again.")
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        outside = torch.from_numpy(~self._pyramid.body[box])
        background = self._head.background
        if background is not None:
            found[outside] = functional.one_hot(torch.tensor(background), found.shape[-1]).float()
        return found
