"""What is to be evaluated: a model, labelled scans, protocols."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from Vox2VecCore.evaluation.errors import EvaluationError
from Vox2VecCore.model import Model
from Vox2VecCore.pretraining.layouts import build_manifest
from Vox2VecCore.pretraining.manifest import ScanEntry, read_manifest
from Vox2VecCore.pretraining.run import TRAINING_SPLIT


@dataclass(frozen=True)
class EvaluationRequest:
    """Everything an evaluation is told.

    :param entries: scans, with or without labels.
    :param protocols: names of one family, see ``protocols.py``.
    :param out: folder of the report.
    :param names: of label values.
    :param config: settings file of the protocols, ``overrides`` change them by ``key=value``.
    :param device: and ``engine``: where embeddings are computed.
    :param task: name or file of a segmentation task; whatever the labels mark when left out.
    :param resume: go on with an interrupted evaluation.
    """

    model: Model
    entries: Sequence[ScanEntry]
    protocols: Sequence[str]
    out: Path
    names: Mapping[int, str] = field(default_factory=dict)
    config: Path | None = None
    overrides: Sequence[str] = ()
    seed: int = 0
    device: str = "auto"
    engine: str = "auto"
    resume: bool = False
    task: str | None = None

    @property
    def seen_in_pretraining(self) -> list[str]:
        """Ids of scans that the model says it was trained on; figures on them flatter."""
        trained = set(self.model.config.training.get("scans", ()))
        return [entry.id for entry in self.entries if entry.id in trained]


def select_scans(
    data: Sequence[Path], split: str | None = None, root: Path | None = None, layout: str | None = None
) -> list[ScanEntry]:
    """Scans to evaluate on.

    :param data: manifests, and folders of data sets.
    :param split: those of this split; when left out all that are not marked for training.
    :param root: folder that paths count from; each manifest's own when left out.
    :param layout: of the folders.
    :raises EvaluationError: if there is none, an id is listed twice, or a folder comes without layout.
    :raises PretrainingError: if a manifest cannot be read, or a folder holds no scan of the layout.
    """
    entries: list[ScanEntry] = []
    for path in data:
        if path.is_dir() and layout is None:
            raise EvaluationError(
                f"{path}: is a folder; list its scans by vox2vec manifest, or name its data set's task by --task."
            )
        entries += build_manifest(path, layout) if path.is_dir() and layout is not None else read_manifest(path, root)
    chosen = [e for e in entries if (e.split == split if split is not None else e.split != TRAINING_SPLIT)]
    if not chosen:
        wanted = f"of split '{split}'" if split is not None else f"other than those of split '{TRAINING_SPLIT}'"
        raise EvaluationError(f"{data[0]}: lists no scan {wanted}; choose another --split.")
    ids = [entry.id for entry in chosen]
    if len(set(ids)) < len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise EvaluationError(f"Scan id {twice} is in more than one manifest; make the ids differ.")
    return chosen
