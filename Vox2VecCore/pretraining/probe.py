"""Is the representation getting better? Tests on labelled scans while a network trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from Vox2VecCore.config import ModelConfig
from Vox2VecCore.grid import GriddedScan, grid_scan
from Vox2VecCore.network import EmbeddingNetwork
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.evaluation import disturbed_copy, score, score_alone
from Vox2VecCore.pretraining.features import VoxelFeatures, embedded, pyramid_by
from Vox2VecCore.pretraining.labels import read_structures, structure_names
from Vox2VecCore.pretraining.manifest import ScanEntry
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_volume

PROBE_SPLIT = "probe"
ALONE = ("same_median_mm", "same_within_10mm", "dice_source")
BETWEEN = ("hit_rate", "dice_target")


@dataclass(frozen=True, eq=False)
class Probe:
    """A labelled scan and a disturbed copy of it, and perhaps a scan of another patient, on the model's grid."""

    source: GriddedScan
    copy: GriddedScan
    source_labels: Volume
    target: GriddedScan | None = None
    target_labels: Volume | None = None

    @property
    def columns(self) -> list[str]:
        """Names of what is measured."""
        return [f"probe_{name}" for name in (ALONE if self.target is None else ALONE + BETWEEN)]

    def __call__(self, network: EmbeddingNetwork, config: ModelConfig) -> Mapping[str, float]:
        """Matching error and few-shot Dice of a network in evaluation mode, see ``evaluation.py``."""

        def features(scan: GriddedScan) -> VoxelFeatures:
            return embedded(pyramid_by(network, config, scan))

        here, copy = features(self.source), features(self.copy)
        if self.target is None or self.target_labels is None:
            scores = score_alone(here, copy, self.source_labels)
        else:
            scores = score(here, copy, features(self.target), self.source_labels, self.target_labels)
        return {name: getattr(scores, name.removeprefix("probe_")) for name in self.columns}


def load_probe(entries: Sequence[ScanEntry], spacing_mm: tuple[float, float, float]) -> Probe | None:
    """The probe of a run: the first two scans of split ``"probe"`` that have labels; ``None`` if there are none.

    With one scan, nothing is measured between patients.

    :raises PretrainingError: if both are of one patient.
    :raises VolumeError: if they cannot be read.
    """
    labelled = [entry for entry in entries if entry.split == PROBE_SPLIT and entry.labels is not None][:2]
    if not labelled:
        return None
    if len(labelled) == 2 and labelled[0].subject == labelled[1].subject:
        raise PretrainingError(
            f"The probe's two scans {labelled[0].id} and {labelled[1].id} are of one patient; give two patients."
        )
    names = structure_names(labelled)
    volumes = [read_volume(entry.image) for entry in labelled]
    labels = [read_structures(entry, names) for entry in labelled]
    gridded = [grid_scan(volume, spacing_mm) for volume in volumes]
    copy = grid_scan(disturbed_copy(volumes[0]), spacing_mm)
    if len(labelled) == 1:
        return Probe(gridded[0], copy, labels[0])
    return Probe(gridded[0], copy, labels[0], gridded[1], labels[1])
