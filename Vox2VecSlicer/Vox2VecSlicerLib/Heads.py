"""What a few-shot head has to offer, and the core's heads behind it.

The controllers know only :class:`HeadTool`; tests and other tools may bring their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume

BACKGROUND = 1
"""Label of strokes that say "not a structure"; 0 is unlabelled, structures count from 2."""


@dataclass(frozen=True)
class Structure:
    """A class of a head.

    :param label: its value in strokes and in label maps.
    :param color: red, green, blue from 0 to 1.
    :param terminology: as Slicer writes it into segments, or an empty string.
    """

    label: int
    name: str
    color: tuple[float, float, float]
    terminology: str = ""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a head says about a scan.

    :param labels: label map on the scan's own grid; 0 where there is no structure.
    :param uncertainty: (X, Y, Z) on the embedding's grid, 0 to 100; ``None`` if the head has none.
    :param next_ras: where a further stroke would help most, in the scan's space.
    """

    labels: Volume
    uncertainty: NDArray[np.float32] | None = None
    next_ras: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Example:
    """A scan with strokes: labels on the scan's own grid."""

    pyramid: FeaturePyramid
    strokes: Volume
    volume: Volume | None = field(default=None)


class HeadTool(Protocol):
    """Trains, applies and keeps heads. Everything but reading structures is called in the worker."""

    def train(
        self, examples: Sequence[Example], structures: Sequence[Structure], method: str, progress: Progress
    ) -> Any:
        """A head from strokes."""
        ...

    def predict(self, head: Any, example: Example, progress: Progress) -> Prediction:
        """The segmentation of a scan; strokes in it stay as they are, an empty stroke map is none."""
        ...

    def structures(self, head: Any) -> list[Structure]:
        """The classes of a head, without background."""
        ...

    def describe(self, head: Any) -> str:
        """One line for people: method, scans, classes."""
        ...

    def save(self, head: Any, path: Path) -> None:
        """Write a head file."""
        ...

    def load(self, path: Path) -> Any:
        """Read a head file."""
        ...
