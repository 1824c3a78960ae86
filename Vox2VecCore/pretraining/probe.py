"""Is the representation getting better? Tests on labelled scans while a network trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from Vox2VecCore.config import ModelConfig
from Vox2VecCore.grid import GriddedScan, grid_scan
from Vox2VecCore.network import EmbeddingNetwork
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.evaluation import disturbed_copy, score
from Vox2VecCore.pretraining.features import embedded_by
from Vox2VecCore.pretraining.manifest import ScanEntry
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_labels, read_volume

PROBE_SPLIT = "probe"
PROBE_COLUMNS = [
    "probe_same_median_mm",
    "probe_same_within_10mm",
    "probe_hit_rate",
    "probe_dice_source",
    "probe_dice_target",
]


@dataclass(frozen=True, eq=False)
class Probe:
    """Two labelled patients, and a disturbed copy of the first, on the model's grid."""

    source: GriddedScan
    copy: GriddedScan
    target: GriddedScan
    source_labels: Volume
    target_labels: Volume

    def __call__(self, network: EmbeddingNetwork, config: ModelConfig) -> Mapping[str, float]:
        """Matching error and few-shot Dice of a network in evaluation mode, see ``evaluation.py``."""
        features = [embedded_by(network, config, scan) for scan in (self.source, self.copy, self.target)]
        scores = score(features[0], features[1], features[2], self.source_labels, self.target_labels)
        return {name: getattr(scores, name.removeprefix("probe_")) for name in PROBE_COLUMNS}


def load_probe(entries: Sequence[ScanEntry], spacing_mm: tuple[float, float, float]) -> Probe | None:
    """The probe of a run: the first two scans of split ``"probe"`` that have labels; ``None`` if there are none.

    :raises PretrainingError: if there is only one.
    :raises VolumeError: if they cannot be read.
    """
    labelled = [entry for entry in entries if entry.split == PROBE_SPLIT and entry.labels is not None]
    if not labelled:
        return None
    if len(labelled) < 2 or labelled[0].subject == labelled[1].subject:
        raise PretrainingError("A probe needs two labelled scans of different patients with split 'probe'.")
    first, second = (read_volume(entry.image) for entry in labelled[:2])
    labels = [read_labels(str(entry.labels)) for entry in labelled[:2]]
    source, copy, target = (grid_scan(v, spacing_mm) for v in (first, disturbed_copy(first), second))
    return Probe(source, copy, target, labels[0], labels[1])
