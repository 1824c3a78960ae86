"""Labels of a scan of a manifest: one label map, or a folder with a mask for every structure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.layouts import image_files, image_stem
from Vox2VecCore.pretraining.manifest import ScanEntry
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_labels


def structure_names(entries: Sequence[ScanEntry]) -> list[str]:
    """Names of all structures that the scans' folders of masks hold, in order; none for label maps.

    Structure ``n`` of the list has the value ``n + 1`` in :func:`read_structures`.
    """
    folders = [Path(entry.labels) for entry in entries if entry.labels is not None and Path(entry.labels).is_dir()]
    return sorted({image_stem(mask) for folder in folders for mask in image_files(folder)})


def read_structures(entry: ScanEntry, names: Sequence[str]) -> Volume:
    """The label map of a scan; masks of a folder are put together, a later name on top where two overlap.

    :param names: of :func:`structure_names`; other masks in the folder are left out.
    :raises PretrainingError: if the scan has no labels, or masks of one folder lie on different grids.
    :raises VolumeError: if a file cannot be read.
    """
    if entry.labels is None:
        raise PretrainingError(f"Scan {entry.id} has no labels; name them in the manifest.")
    path = Path(entry.labels)
    if not path.is_dir():
        return read_labels(path)
    whole: Volume | None = None
    for mask in image_files(path):
        if image_stem(mask) not in names:
            continue
        part = read_labels(mask)
        if whole is None:
            whole = part.with_array(np.zeros(part.shape, np.int16))
        if part.shape != whole.shape or not np.allclose(part.affine, whole.affine, atol=1e-3):
            raise PretrainingError(f"{mask}: lies on another grid than the other masks of the folder.")
        whole.array[np.asarray(part.array) > 0] = names.index(image_stem(mask)) + 1
    if whole is None:
        raise PretrainingError(f"{path}: holds no masks; give the folder with one mask file a structure.")
    return whole
