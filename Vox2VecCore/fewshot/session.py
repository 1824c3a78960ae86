"""Strokes that change in one scan: the head and its answers follow, and only what has changed is computed."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.errors import HeadError
from Vox2VecCore.fewshot.classes import BACKGROUND, HeadClass
from Vox2VecCore.fewshot.examples import examples_from, stroke_voxels
from Vox2VecCore.fewshot.head import Head
from Vox2VecCore.fewshot.intensity import IntensityMaps, intensity_maps
from Vox2VecCore.fewshot.next_stroke import where_to_paint_next
from Vox2VecCore.fewshot.postprocessing import USUAL, PostProcessing
from Vox2VecCore.fewshot.predicting import GridLabels, Predictor
from Vox2VecCore.fewshot.segmenting import Segmentation, segment
from Vox2VecCore.fewshot.training import head_from
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume


class HeadSession:
    """A scan that is being painted.

    :ivar method: see :func:`~Vox2VecCore.fewshot.training.train_head`.
    :ivar classes: names, colours and terminology of the values in the strokes.
    :ivar head: the latest, or the one it was begun with.
    """

    def __init__(
        self, pyramid: FeaturePyramid, volume: Callable[[], Volume] | Volume | None, head: Head | None = None
    ) -> None:
        """
        :param volume: the scan itself, or what reads it when it is first needed; ``None`` to do without.
        :param head: learnt before, in other scans: its examples count, too. A head that was learnt without the CT
            makes this session do without.
        :raises ModelError: if the head is for another model.
        """
        self.method = "auto"
        self.classes: list[HeadClass] = []
        self.background = BACKGROUND
        self.head = head
        if head is not None:
            head.check_fits(pyramid, has_ct=True)
        self._base, self._pyramid, self._volume = head, pyramid, volume
        self._strokes: Volume | None = None
        self._found: GridLabels | None = None

    @cached_property
    def volume(self) -> Volume | None:
        """The scan itself."""
        return self._volume() if callable(self._volume) else self._volume

    @cached_property
    def intensity(self) -> IntensityMaps | None:
        """Features of the CT itself, made once."""
        if self.volume is None or (self._base is not None and not self._base.needs_ct):
            return None
        return intensity_maps(self.volume, self._pyramid.grid)

    def train(self, strokes: Volume, progress: Progress | None = None) -> Head:
        """Learn from the strokes as they are now, those of before forgotten.

        :param strokes: class values on the CT's own grid; 0 is unlabelled.
        :raises HeadError: if strokes are missing or of one class only; the head of before stays.
        :raises Cancelled: when ``progress`` says so.
        """
        progress = progress or Progress()
        progress.check()
        name = strokes.name if self.volume is None else self.volume.name
        examples = examples_from(self._pyramid, strokes, self.intensity, name)
        last = self.head if self.head is not self._base else None
        self.head = head_from(
            [examples],
            self._pyramid,
            self.method,
            self.classes,
            self.background,
            base=self._base,
            last=last,
            calibrate=False,
            progress=progress,
        )
        self._strokes, self._found = strokes, None
        return self.head

    def on_slice(self, axis: int, index: int) -> NDArray[np.int16]:
        """Class values on one plane of the embedding's grid, see :meth:`Predictor.on_slice`."""
        return self._predictor().on_slice(axis, index)

    def at_voxels(self, voxels: NDArray[np.int64]) -> NDArray[np.int16]:
        """Class values at single voxels of the grid, see :meth:`Predictor.at_voxels`."""
        return self._predictor().at_voxels(voxels)

    def predict(self, progress: Progress | None = None) -> GridLabels:
        """What the head says about the whole scan, voxel by voxel; kept until the strokes change."""
        if self._found is None:
            self._found = self._predictor().whole(progress)
        return self._found

    def segment(self, processing: PostProcessing = USUAL, progress: Progress | None = None) -> Segmentation:
        """The segmentation as well as it gets: surroundings, edges and parts are seen to."""
        return segment(
            self._pyramid,
            self._trained(),
            volume=self.volume,
            strokes=self._strokes,
            processing=processing,
            intensity=self.intensity,
            progress=progress,
        )

    def where_to_paint_next(self) -> tuple[float, float, float] | None:
        """Where a further stroke would help most, RAS millimetres."""
        nowhere = np.zeros((0, 3), np.int64)
        painted = nowhere if self._strokes is None else stroke_voxels(self._pyramid, self._strokes)[0]
        return where_to_paint_next(self._pyramid, self.predict().uncertainty, painted)

    def _trained(self) -> Head:
        if self.head is None:
            raise HeadError("There is no head yet; paint strokes first.")
        return self.head

    def _predictor(self) -> Predictor:
        return Predictor(self._trained(), self._pyramid, self.intensity)
