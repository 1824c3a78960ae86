"""The core's few-shot heads as the controllers use them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.fewshot.classes import BACKGROUND, BACKGROUND_COLOUR, HeadClass
from Vox2VecCore.fewshot.examples import stroke_voxels
from Vox2VecCore.fewshot.head import Head
from Vox2VecCore.fewshot.next_stroke import where_to_paint_next
from Vox2VecCore.fewshot.session import HeadSession
from Vox2VecCore.progress import Progress
from Vox2VecSlicerLib.Heads import Example, Prediction, Structure

if TYPE_CHECKING:
    from Vox2VecCore.pyramid import FeaturePyramid

FULL_DOUBT = 255


class CoreHeads:
    """Keeps the session of the scan that is being painted, so that an update costs only what has changed."""

    def __init__(self) -> None:
        self._session: HeadSession | None = None
        self._for: tuple[Any, ...] = ()

    def prepare(self, example: Example, base: Any) -> None:
        """See :meth:`Heads.HeadTool.prepare`."""
        self._of(example, base).intensity  # noqa: B018 - it is kept

    def learn(
        self, example: Example, structures: Sequence[Structure], method: str, base: Any, progress: Progress
    ) -> Head:
        """See :meth:`Heads.HeadTool.learn`."""
        session = self._of(example, base)
        session.method = method
        session.background = BACKGROUND if base is None else self.background(base)
        session.classes = [
            HeadClass(session.background, "Background", BACKGROUND_COLOUR, background=True),
            *(HeadClass(s.label, s.name, s.color, s.terminology) for s in structures),
        ]
        assert example.strokes is not None
        return session.train(example.strokes, progress)

    def onPlane(self, head: Head, example: Example, axis: int, index: int) -> NDArray[np.int16]:
        """See :meth:`Heads.HeadTool.onPlane`."""
        return self._with(head, example).on_slice(axis, index)

    def atVoxels(self, head: Head, example: Example, voxels: NDArray[np.int64]) -> NDArray[np.int16]:
        """See :meth:`Heads.HeadTool.atVoxels`."""
        return self._with(head, example).at_voxels(voxels)

    def predict(self, head: Head, example: Example, progress: Progress) -> Prediction:
        """See :meth:`Heads.HeadTool.predict`."""
        found = self._with(head, example).segment(progress=progress)
        hint = None
        if example.strokes is not None:
            painted = stroke_voxels(example.pyramid, example.strokes)[0]
            hint = where_to_paint_next(example.pyramid, found.uncertainty, painted)
        return Prediction(found.labels, _percent(found.uncertainty), hint)

    def check(self, head: Head, pyramid: "FeaturePyramid") -> None:
        """See :meth:`Heads.HeadTool.check`."""
        head.check_fits(pyramid, has_ct=True)

    def structures(self, head: Head) -> list[Structure]:
        """See :meth:`Heads.HeadTool.structures`."""
        return [Structure(each.value, each.name, each.colour, each.terminology) for each in head.structures]

    def background(self, head: Head) -> int:
        """See :meth:`Heads.HeadTool.background`."""
        return next((each.value for each in head.classes if each.background), BACKGROUND)

    def describe(self, head: Head) -> str:
        """See :meth:`Heads.HeadTool.describe`."""
        return head.summary()

    def save(self, head: Head, path: Path) -> None:
        """See :meth:`Heads.HeadTool.save`."""
        head.save(path)

    def load(self, path: Path) -> Head:
        """See :meth:`Heads.HeadTool.load`."""
        return Head.load(path)

    def forget(self) -> None:
        """Drop the session of the scan that was painted."""
        self._session, self._for = None, ()

    def _of(self, example: Example, base: Any) -> HeadSession:
        """The session of a scan, begun when it is not that of the last one."""
        if self._session is None or self._for != (example.pyramid, base):
            self._session = HeadSession(example.pyramid, example.volume, head=base)
            self._for = (example.pyramid, base)
        return self._session

    def _with(self, head: Head, example: Example) -> HeadSession:
        """The session that is kept, if the head comes from it, or one of its own."""
        session = self._session
        if session is None or session.head is not head or self._for[0] is not example.pyramid:
            session = HeadSession(example.pyramid, example.volume, head=head)
        return session


def _percent(uncertainty: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.rint(np.arange(FULL_DOUBT + 1) * 100 / FULL_DOUBT).astype(np.uint8)[uncertainty]
