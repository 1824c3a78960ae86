"""Settings of the segmentation protocols; the defaults are those of the paper and its code."""

from dataclasses import dataclass
from typing import Literal

from Vox2VecCore.errors import SettingsError
from Vox2VecCore.shapes import Triple


@dataclass(frozen=True)
class SegmentationSettings:
    """How heads and networks are trained and compared (Goncharov et al. 2023, section 3, and the published code).

    :param patch: voxels of a training patch, and of the sliding window.
    :param batch: patches of one scan per step; half of them (rounded down) are centred on voxels of one random class.
    :param steps: per epoch.
    :param learning_rate: of Adam; ``backbone_learning_rate`` that of the backbone, the same when ``none``.
    :param warmup: epochs of fine-tuning in which the backbone stays frozen.
    :param split: ``subjects`` leaves out patients; ``halves`` leaves out half of every patient, in axial slabs.
    :param folds: of ``subjects``; ``halves`` always has two.
    :param fold_seed: shuffles the subjects as scikit-learn's ``KFold`` does.
    :param slab_mm: thickness of the slabs that go in turn to the two halves; 0 for one cut in the middle.
    :param validation: training scans of every fold that choose the best epoch instead; with 0 the last epoch counts.
    :param validate_every: epochs.
    :param labelled: numbers of training scans, for a curve; 0 stands for all.
    :param seeds: everything is repeated with so many seeds, counted from ``--seed``.
    :param classes: names of those to learn; all of the task, or of the labels, when empty.
    :param classes_in: without a task: classes that ``any`` scan shows, or only those in ``every`` one.
    :param smallest: voxels of the model's grid from which a scan counts as showing a class.
    :param overlap: of neighbouring windows.
    :param threshold: probability from which a voxel belongs to a class.
    :param tolerance_mm: of the normalised surface Dice.
    :param bias_from_frequency: heads start at the classes' frequencies; spares short trainings the first steps.
    """

    patch: Triple = (128, 128, 32)
    batch: int = 7
    steps: int = 300
    epochs: int = 150
    learning_rate: float = 3e-4
    backbone_learning_rate: float | None = None
    warmup: int = 50
    split: Literal["subjects", "halves"] = "subjects"
    folds: int = 5
    fold_seed: int = 42
    slab_mm: float = 30.0
    validation: int = 1
    validate_every: int = 1
    labelled: tuple[int, ...] = (0,)
    seeds: int = 1
    classes: tuple[str, ...] = ()
    classes_in: Literal["any", "every"] = "any"
    smallest: int = 1
    overlap: float = 0.5
    threshold: float = 0.5
    tolerance_mm: float = 2.0
    bias_from_frequency: bool = False

    def check(self) -> None:
        """Refuse values that mean nothing.

        :raises SettingsError: names the setting and what it may be.
        """
        at_least_one = ("batch", "steps", "epochs", "validate_every", "seeds", "smallest")
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.folds < 2:
            raise SettingsError(f"folds must be at least 2, not {self.folds}.")
        if min(self.patch) < 1 or self.validation < 0 or self.warmup < 0 or self.slab_mm < 0:
            raise SettingsError("patch, validation, warmup and slab_mm must not be negative, and patch not 0.")
        rates = [
            self.learning_rate,
            *([self.backbone_learning_rate] if self.backbone_learning_rate is not None else []),
        ]
        if not all(0 < rate < float("inf") for rate in rates) or self.tolerance_mm <= 0:
            raise SettingsError("Learning rates and tolerance_mm must be positive numbers.")
        if not 0 <= self.overlap < 1 or not 0 < self.threshold < 1:
            raise SettingsError("overlap lies from 0 to below 1, and threshold between 0 and 1.")
        if not self.labelled or min(self.labelled) < 0 or len(set(self.labelled)) < len(self.labelled):
            raise SettingsError("labelled needs different numbers of scans, such as [1, 2, 5, 0] with 0 for all.")
