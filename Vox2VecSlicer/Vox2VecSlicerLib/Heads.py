"""What a few-shot head has to offer, and the core's heads behind it.

The controllers know only :class:`HeadTool`; tests and other tools may bring their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.progress import Progress
from Vox2VecCore.volume import Volume

if TYPE_CHECKING:
    from Vox2VecCore.pyramid import FeaturePyramid


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
    uncertainty: NDArray | None = None
    next_ras: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Example:
    """A scan with strokes.

    :param strokes: labels on the scan's own grid, 0 where there is no stroke; ``None`` for no strokes at all.
    :param volume: gives the scan itself; it is copied then, so this is for the worker.
    """

    pyramid: "FeaturePyramid"
    strokes: Volume | None
    volume: Callable[[], Volume]


class HeadTool(Protocol):
    """Trains, applies and keeps heads. Everything but reading structures is called in the worker."""

    def prepare(self, example: Example, base: Any) -> None:
        """Compute what learning from strokes in a scan needs besides the strokes."""
        ...

    def learn(
        self, example: Example, structures: Sequence[Structure], method: str, base: Any, progress: Progress
    ) -> Any:
        """A head from the strokes in a scan.

        :param base: a head that was loaded; what it has learnt counts, too. ``None`` for none.
        """
        ...

    def onPlane(self, head: Any, example: Example, axis: int, index: int) -> NDArray:
        """Quickly what a head says about a plane of the embedding's grid: labels, the two other axes in their order."""
        ...

    def atVoxels(self, head: Any, example: Example, voxels: NDArray[np.int64]) -> NDArray:
        """Quickly what a head says about voxels (n, 3) of the embedding's grid: labels (n,)."""
        ...

    def predict(self, head: Any, example: Example, progress: Progress) -> Prediction:
        """The segmentation of a scan as well as the head can; its strokes stay as they are."""
        ...

    def check(self, head: Any, pyramid: "FeaturePyramid") -> None:
        """Whether a head can be used on a scan.

        :raises ModelError: if the scan was embedded by another model.
        """
        ...

    def structures(self, head: Any) -> list[Structure]:
        """The classes of a head, without background."""
        ...

    def background(self, head: Any) -> int:
        """The label that a head's strokes have for "not a structure"."""
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

    def forget(self) -> None:
        """Drop what is kept of scans."""
        ...


class LazyHeadTool:
    """The core's own head tool, imported when it is first used, for it brings PyTorch; or one that is given.

    :ivar tool: ``None`` as long as none was needed.
    """

    def __init__(self, tool: HeadTool | None = None) -> None:
        self.tool = tool

    def forget(self) -> None:
        """See :meth:`HeadTool.forget`."""
        if self.tool is not None:
            self.tool.forget()

    def __getattr__(self, name: str) -> Any:
        if self.tool is None:
            from Vox2VecSlicerLib.CoreHeads import CoreHeads

            self.tool = CoreHeads()
        return getattr(self.tool, name)
