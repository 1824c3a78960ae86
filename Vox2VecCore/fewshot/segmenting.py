"""Applying a head to a scan: labels on the CT's own grid, probabilities, uncertainty, volumes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from Vox2VecCore.fewshot.classes import UNLABELLED, HeadClass
from Vox2VecCore.fewshot.examples import stroke_voxels
from Vox2VecCore.fewshot.head import Head
from Vox2VecCore.fewshot.intensity import IntensityMaps, intensity_maps
from Vox2VecCore.fewshot.postprocessing import GUIDE_HU, NO_PROCESSING, USUAL, PostProcessing, clean_parts, guided
from Vox2VecCore.fewshot.predicting import CERTAIN, Predictor
from Vox2VecCore.fewshot.walker import near_strokes, random_walk
from Vox2VecCore.grid import ModelGrid, hu_on_grid
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.separable import in_threads
from Vox2VecCore.shapes import Box, box, ceil_divide, triple
from Vox2VecCore.volume import Volume, apply_affine

STAGE, LEADS_STAGE = "Drawing outlines", "Following edges"
WALK_MM = 6.0
"""Cells of the walk are about this large."""
WALK_HU = (-200.0, 300.0)
"""Differences outside of these, such as between bone and denser bone, are no edges to the walk; within them HU alone
did better than HU and embedding."""
GUIDE_MM = 3.0
"""The guided filter's slope and offset are computed on voxels up to this large."""
LEAST_PROBABLE = 0.02
OUTLINE_PLANES = 8
"""Planes of the CT that are outlined at a time: few, so that they stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a head says about a scan.

    :param labels: class values on the CT's own grid, 0 where there is no structure.
    :param uncertainty: (X, Y, Z) uint8 on the embedding's grid: 0 sure, 255 undecided.
    :param classes: of the head.
    """

    labels: Volume
    uncertainty: NDArray[np.uint8]
    classes: tuple[HeadClass, ...]
    _pyramid: FeaturePyramid = field(repr=False)
    _probabilities: NDArray[np.float16] = field(repr=False)
    _factor: int = field(repr=False)

    def probability(self, value: int) -> Volume:
        """Probability 0 to 1 of a class on the CT's own grid, float32; outlines, parts and holes not yet seen to."""
        index = [each.value for each in self.classes].index(value)
        fine = _enlarged(self._probabilities[index].astype(np.float32), self._factor, self._pyramid.grid.shape)
        grid = self._pyramid.grid
        name = next(each.name for each in self.classes if each.value == value)
        return Volume(grid.to_source(fine), grid.source_affine, f"probability of {name}")

    def volumes_ml(self) -> dict[int, float]:
        """Millilitres of every structure, by class value."""
        return volumes_ml(self.labels, self.classes)


def volumes_ml(labels: Volume, classes: Sequence[HeadClass]) -> dict[int, float]:
    """Millilitres of every structure in a label map, by class value; background is left out."""
    ml = abs(float(np.linalg.det(labels.affine[:3, :3]))) / 1000
    structures = [each.value for each in classes if not each.background]
    return {value: float(np.count_nonzero(labels.array == value)) * ml for value in structures}


def segment(
    pyramid: FeaturePyramid,
    head: Head,
    *,
    volume: Volume | None = None,
    strokes: Volume | None = None,
    processing: PostProcessing = USUAL,
    intensity: IntensityMaps | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment a scan.

    :param volume: the scan itself: heads that were learnt with it need it, and outlines follow its edges.
    :param strokes: class values painted in this scan, on the CT's own grid; they hold and speak for their surroundings.
    :param processing: what is done with the probabilities.
    :param intensity: features made from ``volume`` before.
    :raises ModelError: if the head is for another model.
    :raises HeadError: if the head needs the CT, or its answers are no numbers.
    :raises VolumeError: if ``volume`` is not the scan that was embedded.
    :raises Cancelled: when ``progress`` says so.
    """
    progress = progress or Progress()
    if intensity is None and volume is not None and head.needs_ct:
        intensity = intensity_maps(volume, pyramid.grid)
    predictor = Predictor(head, pyramid, intensity)
    spread = processing.spread and strokes is not None and bool(np.any(strokes.array))
    hu = None
    if volume is not None and (spread or processing.follow_edges):
        hu = hu_on_grid(volume, pyramid.grid) if intensity is None else intensity.hu
    factor = _factor(pyramid) if spread else 1
    coarse = _pooled_probabilities(predictor, pyramid, len(head.classes), factor, progress)
    if spread and strokes is not None:
        coarse = _walked(coarse, pyramid, head, hu, strokes, factor, progress)
    labels = _outlined(coarse, pyramid, head, volume if processing.follow_edges else None, hu, factor, progress)
    del hu  # it is as large as the scan, and parts of structures are to come
    painted = None if strokes is None else np.asarray(strokes.array)
    if painted is not None and processing.hold_strokes:
        nothing = [each.value for each in head.classes if each.background]
        there = painted != UNLABELLED
        values = painted[there]
        labels[there] = np.where(np.isin(values, nothing), 0, values)
    if processing != NO_PROCESSING:
        mm3 = abs(float(np.linalg.det(pyramid.grid.source_affine[:3, :3])))
        clean_parts(labels, painted, mm3, processing, progress)
    best = np.partition(coarse, -2, axis=0)[-2:] if len(coarse) > 1 else coarse
    doubt = (best[0] / np.maximum(best[-1], 1e-6) * CERTAIN).astype(np.uint8)
    uncertainty = _repeated(doubt, factor, pyramid.grid.shape) * pyramid.body
    return Segmentation(
        Volume(labels, pyramid.grid.source_affine, "labels"),
        uncertainty,
        head.classes,
        pyramid,
        coarse.astype(np.float16),
        factor,
    )


def apply_head(
    pyramid: FeaturePyramid,
    head: Head,
    *,
    volume: Volume | None = None,
    strokes: Volume | None = None,
    processing: PostProcessing = USUAL,
    progress: Progress | None = None,
) -> Volume:
    """Label map of a scan on the CT's own grid, with the strokes' structure values; arguments of :func:`segment`."""
    found = segment(pyramid, head, volume=volume, strokes=strokes, processing=processing, progress=progress)
    return found.labels


def _factor(pyramid: FeaturePyramid) -> int:
    return max(1, round(WALK_MM / float(pyramid.grid.spacing_mm.mean())))


def _pooled_probabilities(
    predictor: Predictor, pyramid: FeaturePyramid, classes: int, factor: int, progress: Progress
) -> NDArray[np.float32]:
    """Probabilities (classes, X, Y, Z), the mean of ``factor`` voxels along every axis."""
    pooled = np.empty((classes, *ceil_divide(pyramid.grid.shape, (factor,) * 3)), np.float32)

    def use(x: int, slab: Tensor) -> None:
        cells = pooled[:, x // factor : -(-(x + slab.shape[1]) // factor)]
        cells[...] = _cell_means(slab, factor).numpy()

    predictor.each_slab(use, factor, progress)
    return pooled


def _walked(
    prior: NDArray[np.float32],
    pyramid: FeaturePyramid,
    head: Head,
    hu: NDArray[np.float32] | None,
    strokes: Volume,
    factor: int,
    progress: Progress,
) -> NDArray[np.float32]:
    shape = prior.shape[1:]
    seeds = np.full(shape, -1)
    voxels, values, _ = stroke_voxels(pyramid, strokes)
    of = {each.value: n for n, each in enumerate(head.classes)}
    known = np.isin(values, list(of))
    seeds[tuple((voxels[known] // factor).T)] = [of[value] for value in values[known].tolist()]
    if hu is not None:
        features = _pooled(np.clip(hu, *WALK_HU), factor)[..., None] / np.float32(100)
    else:
        cells = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3) * factor
        level = next((each for each in pyramid.levels if max(each.stride) >= factor), pyramid.levels[-1])
        features = level.unit_vectors(cells).reshape(*shape, -1)
    inside = _pooled(pyramid.body.astype(np.float32), factor) > 0.3
    structures = [n for n, each in enumerate(head.classes) if not each.background]
    here = near_strokes(prior, seeds, structures, pyramid.grid.spacing_mm * factor)
    return random_walk(here, features, seeds, inside, progress)


@dataclass(frozen=True, eq=False)
class _Lead:
    """How far a structure is ahead of the background, where it is to be expected.

    :param grid: of the fields, on the part of the CT at ``box``.
    :param slope: with ``offset`` a linear function of the CT's HU, or ``None``: the offset alone.
    """

    value: int
    grid: ModelGrid
    box: Box
    slope: NDArray[np.float32] | None
    offset: NDArray[np.float32]

    def on(self, first: int, last: int, hu: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """The lead on some planes of its part of the CT, whose HU are given."""
        x, y, _ = self.grid.source_shape
        affine = self.grid.source_affine @ _shift(np.array([0, 0, first]))
        planes = replace(self.grid, source_shape=(x, y, last - first), source_affine=affine)
        lead = planes.to_source(self.offset)
        if self.slope is not None:
            lead += planes.to_source(self.slope) * hu
        return lead


def _outlined(
    coarse: NDArray[np.float32],
    pyramid: FeaturePyramid,
    head: Head,
    volume: Volume | None,
    hu: NDArray[np.float32] | None,
    factor: int,
    progress: Progress,
) -> NDArray[np.int16]:
    """The likeliest class of every voxel of the CT, each only where it is to be expected.

    :param volume: the CT whose edges outlines follow, or ``None``; ``hu`` is the same on the embedding's grid.
    """
    leads = _leads(coarse, pyramid.grid, head, None if volume is None else hu, factor, progress)
    labels = np.zeros(pyramid.grid.source_shape, np.int16, order="F")

    def outline(start: int) -> None:
        stop = min(start + OUTLINE_PLANES, labels.shape[2])
        found = labels[:, :, start:stop]
        best = np.zeros(found.shape, np.float32, order="F")
        near = None if volume is None else np.clip(volume.array[:, :, start:stop], *GUIDE_HU, dtype=np.float32)
        for each in leads:
            x, y, z = each.box
            first, last = max(start, z.start), min(stop, z.stop)
            if first >= last:
                continue
            part = (x, y, slice(first - start, last - start))
            lead = each.on(first - z.start, last - z.start, None if near is None else near[part])
            better = lead > best[part]
            np.copyto(best[part], lead, where=better)
            np.copyto(found[part], each.value, where=better)

    in_threads(outline, range(0, labels.shape[2], OUTLINE_PLANES), STAGE, progress)
    return labels


def _leads(
    coarse: NDArray[np.float32],
    grid: ModelGrid,
    head: Head,
    hu: NDArray[np.float32] | None,
    factor: int,
    progress: Progress,
) -> list[_Lead]:
    """What decides between the structures, of each that is to be expected anywhere."""
    step = _guide_step(factor, grid)
    if step > 1:
        affine = grid.affine @ _shift(np.full(3, (step - 1) / 2)) @ np.diag([step, step, step, 1.0])
        grid = replace(grid, shape=ceil_divide(grid.shape, (step,) * 3), affine=affine)
        hu, factor = None if hu is None else _pooled(hu, step), factor // step
    nothing: NDArray | float = 0.0 if head.background is None else coarse[head.background]

    def lead(n: int) -> _Lead | None:
        expected = coarse[n] > LEAST_PROBABLE
        if n == head.background or not expected.any():
            return None
        cells, voxels, part, where = _boxes(expected, factor, grid)
        ahead = _enlarged((coarse[n] - nothing)[cells], factor, part.shape)
        # Slope and offset are smooth, so the grid of the embedding does for them (He and Sun, 2015).
        slope, offset = (None, ahead) if hu is None else guided(hu[voxels], ahead, grid.spacing_mm)
        return _Lead(head.classes[n].value, part, where, slope, offset)

    return [each for each in in_threads(lead, range(len(coarse)), LEADS_STAGE, progress) if each is not None]


def _guide_step(factor: int, grid: ModelGrid) -> int:
    """Voxels of a fine grid that are taken together for the guided filter: whole numbers of them make a cell."""
    limit = GUIDE_MM / float(grid.spacing_mm.mean())
    return max(step for step in range(1, factor + 1) if factor % step == 0 and (step == 1 or step <= limit))


def _boxes(expected: NDArray[np.bool_], factor: int, grid: ModelGrid) -> tuple[Box, Box, ModelGrid, Box]:
    """Cells around the expected ones, their voxels, the grid of these, and the part of the CT in which they lie."""
    found = np.argwhere(expected)
    first, last = np.maximum(found.min(axis=0) - 1, 0), np.minimum(found.max(axis=0) + 2, expected.shape)
    start, stop = first * factor, np.minimum(last * factor, grid.shape)
    corners = np.where(np.array(list(np.ndindex(2, 2, 2))), stop - 0.5, start - 0.5)
    seen = apply_affine(grid.ras_to_source, grid.to_ras(corners))
    low = np.clip(np.floor(seen.min(axis=0)), 0, np.array(grid.source_shape) - 1).astype(int)
    high = np.clip(np.ceil(seen.max(axis=0)) + 1, low + 1, grid.source_shape).astype(int)
    part = replace(
        grid,
        shape=triple((stop - start).tolist()),
        affine=grid.affine @ _shift(start),
        source_shape=triple((high - low).tolist()),
        source_affine=grid.source_affine @ _shift(low),
    )
    return box(first, last), box(start, stop), part, box(low, high)


def _shift(voxels: NDArray) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, 3] = voxels
    return matrix


def _cell_means(values: Tensor, factor: int) -> Tensor:
    """Means (N, X', Y', Z') over cells of ``factor`` voxels along every axis of (N, X, Y, Z), fewer in the last."""
    for axis in (1, 2, 3):
        whole = values.shape[axis] // factor * factor
        means = values.narrow(axis, 0, whole).unflatten(axis, (-1, factor)).mean(axis + 1)
        if whole < values.shape[axis]:
            rest = values.narrow(axis, whole, values.shape[axis] - whole).mean(axis, keepdim=True)
            means = torch.cat([means, rest], axis)
        values = means
    return values


def _pooled(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    return _cell_means(torch.from_numpy(values)[None], factor)[0].numpy()


def _enlarged(values: NDArray[np.float32], factor: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """Cells interpolated to the voxels of the grid."""
    if factor == 1:
        return np.asarray(values, np.float32)
    x = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
    fine = functional.interpolate(x, scale_factor=float(factor), mode="trilinear")[0, 0]
    return fine[: shape[0], : shape[1], : shape[2]].numpy()


def _repeated(values: NDArray[np.uint8], factor: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    if factor == 1:
        return values
    for axis in range(3):
        values = values.repeat(factor, axis)
    return values[: shape[0], : shape[1], : shape[2]]
