"""The simplest head there is, for tests of what stands around heads: every voxel gets the class that is nearest."""

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.errors import ModelError
from Vox2VecCore.fewshot.classes import BACKGROUND
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume
from Vox2VecSlicerLib.Heads import Example, Prediction, Structure


@dataclass(frozen=True)
class Means:
    """Mean vector of every class, and how many voxels it was made of."""

    labels: list[int]
    vectors: NDArray[np.float32]
    counts: list[int]
    structures: list[Structure]
    model_hash: str


def said(session: Any) -> Volume:
    """What the head of a session says about its volume, strokes held: labels on the part that was embedded."""
    scan = session.embeddings.scan(session.state.volume)
    example = Example(scan.pyramid, session.strokes.labels(scan), scan.source.volume)
    return session.headTool.predict(session.fewShot.head, example, Progress()).labels


class NearestClass:
    """Nearest class mean in the embedding."""

    def __init__(self) -> None:
        self.learnt = self.prepared = 0

    def prepare(self, example: Example, base: object) -> None:
        self.prepared += 1

    def learn(
        self, example: Example, structures: Sequence[Structure], method: str, base: object, progress: Progress
    ) -> Means:
        assert example.strokes is not None
        progress.step("Learning", 0, 1)
        strokes, grid = example.strokes, example.pyramid.grid
        ijk = np.argwhere(strokes.array)
        labels = strokes.array[tuple(ijk.T)]
        vectors = np.concatenate(example.pyramid.unit_vectors(strokes.to_ras(ijk)), axis=1)
        kinds = sorted(set(labels.tolist()))
        means = np.stack([vectors[labels == kind].mean(axis=0) for kind in kinds])
        counts = [int((labels == kind).sum()) for kind in kinds]
        head = Means(kinds, means, counts, list(structures), example.pyramid.model_hash)
        self.learnt += 1
        assert grid.source_shape == strokes.shape
        return head

    def onPlane(self, head: Means, example: Example, axis: int, index: int) -> NDArray[np.uint8]:
        shape = [1 if n == axis else size for n, size in enumerate(example.pyramid.grid.shape)]
        voxels = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1)
        voxels[:, axis] = index
        return self.atVoxels(head, example, voxels).reshape(shape).squeeze(axis)

    def atVoxels(self, head: Means, example: Example, voxels: NDArray[np.int64]) -> NDArray[np.uint8]:
        nearest = np.array(head.labels)[self._likeness(head, example.pyramid, voxels).argmax(axis=1)]
        return np.where(nearest == BACKGROUND, 0, nearest).astype(np.uint8)

    def predict(self, head: Means, example: Example, progress: Progress) -> Prediction:
        pyramid = example.pyramid
        self.check(head, pyramid)
        voxels = np.stack(np.meshgrid(*map(np.arange, pyramid.grid.shape), indexing="ij"), axis=-1).reshape(-1, 3)
        likeness = self._likeness(head, pyramid, voxels)
        nearest = self.atVoxels(head, example, voxels).reshape(pyramid.grid.shape)
        labels = pyramid.grid.to_source(nearest, nearest=True)
        if example.strokes is not None:
            strokes = example.strokes.array
            labels[strokes != 0] = np.where(strokes == BACKGROUND, 0, strokes)[strokes != 0]
        ordered = np.sort(likeness, axis=1)
        doubt = 100 * np.exp(-5 * (ordered[:, -1] - ordered[:, -2])).reshape(pyramid.grid.shape).astype(np.float32)
        point = tuple(pyramid.grid.to_ras([np.unravel_index(doubt.argmax(), doubt.shape)])[0])
        return Prediction(Volume(labels, pyramid.grid.source_affine, "labels"), doubt, point)

    @staticmethod
    def _likeness(head: Means, pyramid: FeaturePyramid, voxels: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.concatenate([level.unit_vectors(voxels) for level in pyramid.levels], axis=1) @ head.vectors.T

    def forget(self) -> None:
        pass

    def check(self, head: Means, pyramid: FeaturePyramid) -> None:
        if pyramid.model_hash != head.model_hash:
            raise ModelError("This head was trained with another model; train it again.")

    def structures(self, head: Means) -> list[Structure]:
        return head.structures

    def background(self, head: Means) -> int:
        return BACKGROUND

    def describe(self, head: Means) -> str:
        return f"{len(head.structures)} structures"

    def save(self, head: Means, path: Path) -> None:
        path.write_text(json.dumps(asdict(head) | {"vectors": head.vectors.tolist()}))

    def load(self, path: Path) -> Means:
        values = json.loads(path.read_text())
        structures = [Structure(**(each | {"color": tuple(each["color"])})) for each in values.pop("structures")]
        return Means(vectors=np.array(values.pop("vectors"), np.float32), structures=structures, **values)


class HeldBack(NearestClass):
    """Says nothing about a whole scan until it is let go.

    :ivar gate: set it to let whole scans go.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def predict(self, head: Means, example: Example, progress: Progress) -> Prediction:
        while not self.gate.wait(0.002):
            progress.check()
        return super().predict(head, example, progress)
