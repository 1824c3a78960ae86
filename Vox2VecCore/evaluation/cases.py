"""Labelled scans on the model's grid, and how they fall into folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.evaluation.errors import EvaluationError
from Vox2VecCore.evaluation.settings import SegmentationSettings
from Vox2VecCore.evaluation.tasks import Task, TaskClass, class_masks
from Vox2VecCore.grid import ModelGrid, grid_scan
from Vox2VecCore.orientation import canonical
from Vox2VecCore.pretraining.manifest import ScanEntry
from Vox2VecCore.progress import Progress
from Vox2VecCore.resampling import resample_nearest
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import check_ct, read_volume


@dataclass(frozen=True, eq=False)
class Case:
    """A labelled scan on the model's grid.

    :param hu: (X, Y, Z) whole HU.
    :param body: (X, Y, Z).
    :param packed: (X, Y, Z, bytes) one bit a class, see :func:`pack`.
    """

    entry: ScanEntry
    grid: ModelGrid
    hu: NDArray[np.int16]
    body: NDArray[np.bool_]
    packed: NDArray[np.uint8]

    def masks(self, box: tuple[slice, ...], classes: int) -> NDArray[np.bool_]:
        """Masks (classes, x, y, z) of a part of the grid."""
        bits = np.unpackbits(self.packed[box], axis=-1, count=classes)
        return np.moveaxis(bits.astype(bool), -1, 0)

    def half(self, number: int, slab_mm: float) -> NDArray[np.bool_]:
        """Slabs (Z,) of one of two halves along the body."""
        size = self.hu.shape[2]
        if slab_mm == 0:
            return (np.arange(size) >= size / 2) == bool(number)
        slab = (np.arange(size) + 0.5) * self.grid.spacing_mm[2] // slab_mm
        return slab.astype(int) % 2 == number


@dataclass(frozen=True)
class Fold:
    """What is trained and measured on: positions in the list of cases, and which half of each scan.

    :param train_half: ``None`` for whole scans, ``test_half`` likewise.
    """

    number: int
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    train_half: int | None = None
    test_half: int | None = None


def read_case(
    entry: ScanEntry, classes: Sequence[TaskClass], spacing_mm: Sequence[float], progress: Progress
) -> tuple[Case, Volume, list[NDArray[np.bool_]]]:
    """A scan on the model's grid, and the scan and its masks as stored.

    :raises EvaluationError: if its labels are missing or lie on another grid.
    :raises VolumeError: if scan or labels cannot be used.
    """
    volume = read_volume(entry.image)
    check_ct(volume)
    stored = class_masks(entry, classes, volume)
    scan = grid_scan(volume, spacing_mm, progress)
    packed = no_masks(scan.grid.shape, len(classes))
    for n, mask in enumerate(stored):
        as_canonical = canonical(volume.with_array(mask))
        here = np.empty(scan.grid.shape, bool)
        resample_nearest(as_canonical.array, as_canonical.ras_to_ijk @ scan.grid.affine, here, fill=0)
        pack(packed, n, here)
    return Case(entry, scan.grid, np.round(scan.hu).astype(np.int16), scan.body, packed), volume, stored


def read_cases(
    entries: Sequence[ScanEntry],
    task: Task,
    settings: SegmentationSettings,
    spacing_mm: Sequence[float],
    named: bool,
    progress: Progress,
) -> tuple[list[Case], list[TaskClass]]:
    """All scans, and the classes that are to be learnt.

    :param named: the classes come from a task, so that each must be there.
    :raises EvaluationError: if a named class is in none of the scans, or no class is left.
    """
    classes = list(task.classes)
    if settings.classes:
        known = {one.name: one for one in classes}
        if missing := [name for name in settings.classes if name not in known]:
            raise EvaluationError(f"Class '{missing[0]}' is unknown; there are {', '.join(known)}.")
        classes = [known[name] for name in settings.classes]
    cases = []
    for n, entry in enumerate(entries):
        progress.step("Reading scans", n, len(entries))
        cases.append(read_case(entry, classes, spacing_mm, progress.within(entry.id))[0])
    shown = np.array([class_sizes(case, len(classes)) >= settings.smallest for case in cases])
    rule: Callable[..., NDArray[np.bool_]] = np.all if settings.classes_in == "every" and not named else np.any
    kept = rule(shown, axis=0)
    if (named or settings.classes) and not kept.all():
        absent = classes[int(np.flatnonzero(~kept)[0])].name
        raise EvaluationError(f"Class '{absent}' is in none of the scans; leave it out with --set classes=[...].")
    if not kept.any():
        raise EvaluationError("The scans' labels mark no structure that can be learnt; check the label files.")
    chosen = np.flatnonzero(kept)
    if len(chosen) < len(classes):
        for n, case in enumerate(cases):
            bits = np.unpackbits(case.packed, axis=-1, count=len(classes))[..., chosen]
            cases[n] = Case(case.entry, case.grid, case.hu, case.body, np.packbits(bits, axis=-1))
    return cases, [classes[n] for n in chosen]


def class_sizes(case: Case, classes: int, region: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Voxels of every class, within a region or everywhere."""
    packed = case.packed if region is None else case.packed[region]
    return np.array([np.count_nonzero(unpacked(packed, n)) for n in range(classes)], np.int64)


def no_masks(shape: Sequence[int], classes: int) -> NDArray[np.uint8]:
    """Empty masks of classes (..., bytes), to be filled by :func:`pack`."""
    return np.zeros((*shape, -(-classes // 8)), np.uint8)


def pack(packed: NDArray[np.uint8], number: int, mask: NDArray[np.bool_]) -> None:
    """Add the mask of a class that has none yet; bits are in the order of ``numpy.packbits``."""
    packed[..., number // 8] |= mask.astype(np.uint8) * np.uint8(1 << (7 - number % 8))


def unpacked(packed: NDArray[np.uint8], number: int) -> NDArray[np.bool_]:
    """The mask of one class."""
    return (packed[..., number // 8] & np.uint8(1 << (7 - number % 8))).astype(bool)


def make_folds(cases: Sequence[Case], settings: SegmentationSettings) -> list[Fold]:
    """Folds: patients left out in turn, all scans of one together; or one half of every patient.

    :raises EvaluationError: if there are too few patients.
    """
    everything = tuple(range(len(cases)))
    if settings.split == "halves":
        # A scan for choosing epochs would be one that is tested on.
        return [Fold(n, everything, (), everything, 1 - n, n) for n in range(2)]
    subjects = sorted({case.entry.subject for case in cases})
    if len(subjects) < settings.folds:
        raise EvaluationError(
            f"{settings.folds} folds need as many patients, and the manifest has {len(subjects)}: set folds=2 or more "
            "scans, or split=halves."
        )
    order = np.arange(len(subjects))
    np.random.RandomState(settings.fold_seed).shuffle(order)
    folds = []
    for n, part in enumerate(np.array_split(order, settings.folds)):
        tested = {subjects[i] for i in part}
        others = [subjects[i] for i in order if subjects[i] not in tested]
        if settings.validation >= len(others):
            raise EvaluationError(
                f"Fold {n + 1} has {len(others)} patients to train on, of which {settings.validation} would choose the "
                "epoch: set validation=0, or give more scans."
            )
        chosen = set(others[: settings.validation])
        members = [
            tuple(i for i in everything if cases[i].entry.subject in group)
            for group in (set(others) - chosen, chosen, tested)
        ]
        folds.append(Fold(n, members[0], members[1], members[2]))
    return folds
