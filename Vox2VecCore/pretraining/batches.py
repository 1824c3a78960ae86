"""What one step of training sees: pairs of views of several patients, and the voxels that correspond."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from Vox2VecCore.pretraining.config import PretrainConfig
from Vox2VecCore.pretraining.correspondence import Matches
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.intensity import augment
from Vox2VecCore.pretraining.prepare import PreparedScan
from Vox2VecCore.pretraining.views import partners, random_view
from Vox2VecCore.processes import Share
from Vox2VecCore.shapes import Triple

MOST_TRIES = 50
FEWEST_POINTS = 8
ANCHOR_JITTER = 3.0


class ViewPair(NamedTuple):
    """Two views of a scan.

    :param images: (2, 1, X, Y, Z) float32 in [0, 1].
    :param voxels: (2, n, 3) integer voxels of both views that show the same points.
    :param position_mm: (n, 3) those points, in millimetres from the scan's first voxel.
    :param patient: number of the patient in the step.
    :param scan: id of the scan.
    :param matches: (m, 3) integer voxels of the first view that show the same places, in the same order, as those of
        the other patient of a couple; none where nothing is known.
    :param matched_mm: (m, 3) those places, in millimetres from the scan's first voxel.
    """

    images: Tensor
    voxels: Tensor
    position_mm: Tensor
    patient: int
    scan: str
    matches: Tensor
    matched_mm: Tensor


class Batches(Dataset[list[ViewPair]]):
    """The batch of every step, each computed from the seed and its number alone.

    So a resumed run sees what an uninterrupted one would have, whatever the number of loader processes; and
    several processes together see what one process with all their patients would have.

    :param scans: to draw from.
    :param count: batches of the run.
    :param share: of this process.
    :param matches: known places that scans of different patients share.
    """

    def __init__(
        self,
        scans: Sequence[PreparedScan],
        config: PretrainConfig,
        count: int,
        share: Share,
        matches: Sequence[Matches] = (),
    ) -> None:
        self.scans = {scan.id: scan for scan in scans}
        self.matches = matches
        by_subject = sorted(scans, key=lambda scan: (scan.subject, scan.id))
        self.subjects = [list(group) for _, group in groupby(by_subject, key=lambda scan: scan.subject)]
        self.config, self.count, self.share = config, count, share
        # Larger scans hold more to see, but a whole trunk should not crowd out the rest.
        size = np.array([max(float(np.prod(scan.shape)) for scan in group) ** 0.5 for group in self.subjects])
        self.weights = size / size.sum()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> list[ViewPair]:
        sampling = self.config.sampling
        rng = np.random.default_rng([self.config.seed, number])
        shape = self._random_shape(rng)
        patients = sampling.patients * self.share.count
        enough = len(self.subjects) >= patients
        subjects = rng.choice(len(self.subjects), patients, replace=not enough, p=self.weights)
        first = self.share.rank * sampling.patients
        own = range(first, first + sampling.patients)
        rngs = {patient: np.random.default_rng([self.config.seed, number, patient]) for patient in own}
        couples = np.random.default_rng([self.config.seed, number, patients]).random(patients // 2)
        pairs = []
        for patient in own:
            matched = bool(self.matches) and couples[patient // 2] < self.config.matching.fraction
            if not matched:
                pairs += self._alone(int(subjects[patient]), patient, shape, rngs[patient])
            elif patient % 2 == 0:
                pairs += self._couple(patient, shape, rngs[patient], rngs[patient + 1])
        return pairs

    def _alone(self, subject: int, patient: int, shape: Triple, rng: np.random.Generator) -> list[ViewPair]:
        group = self.subjects[subject]
        pairs = []
        for _ in range(self.config.sampling.pairs):
            scan = group[int(rng.integers(len(group)))]
            nothing = np.zeros((0, 3), np.float32)
            pairs.append(self._pair(scan, patient, shape, None, nothing, rng))
        return pairs

    def _couple(
        self, patient: int, shape: Triple, rng: np.random.Generator, rng_of_second: np.random.Generator
    ) -> list[ViewPair]:
        """Pairs of views of two patients around a place that both show."""
        pairs = []
        for _ in range(self.config.sampling.pairs):
            matches = self.matches[int(rng.integers(len(self.matches)))]
            place = int(rng.integers(matches.voxels.shape[1]))
            order = [0, 1] if rng.random() < 0.5 else [1, 0]
            couple = [
                self._pair(
                    self.scans[matches.scans[side]],
                    patient + n,
                    shape,
                    matches.voxels[side, place].astype(np.float64),
                    matches.voxels[side],
                    (rng, rng_of_second)[n],
                )
                for n, side in enumerate(order)
            ]
            pairs += self._matched(couple, shape, rng)
        return pairs

    def _matched(self, couple: list[ViewPair], shape: Triple, rng: np.random.Generator) -> list[ViewPair]:
        """Keep the matches that lie in both views."""
        size = torch.tensor(shape)
        seen = torch.stack([((pair.matches >= 0) & (pair.matches < size)).all(1) for pair in couple]).all(0)
        kept = torch.from_numpy(rng.permutation(np.flatnonzero(seen.numpy()))[: self.config.matching.points])
        return [pair._replace(matches=pair.matches[kept], matched_mm=pair.matched_mm[kept]) for pair in couple]

    def _random_shape(self, rng: np.random.Generator) -> Triple:
        sampling, steps = self.config.sampling, self.config.architecture.level_strides[-1]
        x, y, z = (
            # Half a coarsest cell is fine enough a step, and few shapes keep the convolution library's plans few.
            min(high, low + int(rng.integers(0, (high - low) // half + 1)) * half)
            for low, high, step in zip(sampling.smallest_view, sampling.largest_view, steps, strict=True)
            for half in (max(1, step // 2),)
        )
        return x, y, z

    def _pair(
        self,
        scan: PreparedScan,
        patient: int,
        shape: Triple,
        anchor: NDArray[np.float64] | None,
        matches: NDArray[np.float32],
        rng: np.random.Generator,
    ) -> ViewPair:
        config = self.config
        for _ in range(MOST_TRIES):
            if anchor is None:
                place = scan.random_body_voxel(rng).astype(np.float64)
            else:
                # Off the place itself, or the middle of a view would always be a matched point.
                place = np.clip(anchor + rng.normal(0, ANCHOR_JITTER, 3), 0, np.array(scan.shape) - 1)
            views = [random_view(place, scan.shape, shape, config.spatial, rng) for _ in range(2)]
            box = views[0].box(scan.shape)
            origin = (box[0].start, box[1].start, box[2].start)
            body = torch.from_numpy(scan.body(box))
            here, there, point = partners(
                views[0].moved(origin), views[1].moved(origin), body, config.sampling.points, rng
            )
            if len(here) >= FEWEST_POINTS:
                break
        else:
            raise PretrainingError(f"Views of scan {scan.id} share no body; leave it out, or use larger views.")
        images = []
        for view in views:
            box = view.box(scan.shape)
            hu = torch.from_numpy(scan.hu[box].astype(np.float32))
            image = view.moved((box[0].start, box[1].start, box[2].start)).sample(hu)
            images.append(augment(image, config.intensity, config.window_hu, rng))
        spacing = torch.tensor(config.spacing_mm)
        return ViewPair(
            torch.stack(images)[:, None],
            torch.stack([here, there]),
            (point + torch.tensor(origin)) * spacing,
            patient,
            scan.id,
            views[0].to_view(torch.from_numpy(matches)).round().long(),
            torch.from_numpy(matches) * spacing,
        )
