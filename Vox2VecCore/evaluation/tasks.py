"""Segmentation tasks: which structures a data set's labels name, by a file's name, or found in the labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.evaluation.errors import EvaluationError
from Vox2VecCore.paths import shipped_tasks_folders
from Vox2VecCore.pretraining.labels import structure_names
from Vox2VecCore.pretraining.layouts import image_files, image_stem
from Vox2VecCore.pretraining.manifest import ScanEntry
from Vox2VecCore.settings import read_settings
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_labels

KEYS = {"title", "layout", "source", "classes"}


@dataclass(frozen=True)
class TaskClass:
    """A structure to segment; two of them may share voxels.

    :param values: of a label map that belong to it.
    :param masks: files of a folder of masks, by their names without ending, that belong to it.
    """

    name: str
    values: tuple[int, ...] = ()
    masks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """What is to be segmented in a data set.

    :param layout: of the data set, for ``vox2vec manifest``.
    :param source: where the data set comes from.
    """

    title: str
    classes: tuple[TaskClass, ...]
    layout: str = "flat"
    source: str = ""


def list_tasks() -> dict[str, Path]:
    """Ready-made task files by name."""
    found: dict[str, Path] = {}
    for folder in shipped_tasks_folders():
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def load_task(name: str) -> Task:
    """A task by its name, or by the path of a file like the ready-made ones.

    :raises EvaluationError: if there is none, or the file does not name classes properly.
    :raises SettingsError: if the file is no TOML or YAML.
    """
    path = list_tasks().get(name, Path(name))
    if not path.is_file():
        raise EvaluationError(f"Unknown task '{name}'; there are {', '.join(list_tasks())}, or give a file.")
    values = read_settings(path)
    classes = values.get("classes")
    if set(values) - KEYS or not isinstance(classes, dict) or not classes:
        raise EvaluationError(f"{path}: a task has [classes] with name = value lines, and title, layout and source.")
    return Task(
        str(values.get("title", path.stem)),
        tuple(_class(key, value, path) for key, value in classes.items()),
        str(values.get("layout", "flat")),
        str(values.get("source", "")),
    )


def task_of_labels(entries: Sequence[ScanEntry], names: Mapping[int, str]) -> Task:
    """The task of learning whatever the labels of some scans mark.

    :param names: of label values; others are called by their number.
    """
    masks = structure_names(entries)
    values: set[int] = set()
    for entry in entries:
        if entry.labels is not None and not Path(entry.labels).is_dir():
            values |= {int(value) for value in np.unique(read_labels(entry.labels).array) if value}
    known = {names.get(value, str(value)): (value,) for value in sorted(values)}
    classes = [TaskClass(name, known.pop(name, ()), (name,)) for name in masks]
    classes += [TaskClass(name, value, (name,)) for name, value in known.items()]
    return Task("structures of the labels", tuple(classes))


def class_masks(entry: ScanEntry, classes: Sequence[TaskClass], scan: Volume) -> list[NDArray[np.bool_]]:
    """Where each class lies, on the scan's own grid.

    :raises EvaluationError: if the scan has no labels, or they lie on another grid than the scan.
    :raises VolumeError: if a file cannot be read, or holds fractions.
    """
    if entry.labels is None:
        raise EvaluationError(f"Scan {entry.id} has no labels; name them in the manifest.")
    path = Path(entry.labels)
    if not path.is_dir():
        values = _on_grid(read_labels(path), scan)
        return [np.asarray(np.isin(values, one.values), bool) for one in classes]
    files = {image_stem(file): file for file in image_files(path)}
    masks: list[NDArray[np.bool_]] = []
    for one in classes:
        mask = np.zeros(scan.shape, bool)
        for stem in one.masks:
            if stem in files:
                mask |= _on_grid(read_labels(files[stem]), scan) > 0
        masks.append(mask)
    return masks


def _on_grid(labels: Volume, scan: Volume) -> NDArray:
    if labels.shape != scan.shape or not np.allclose(labels.affine, scan.affine, atol=0.05):
        raise EvaluationError(f"{labels.name}: lies on another grid than its scan {scan.name}; resample it to that.")
    return np.asarray(labels.array)


def _class(name: str, value: Any, path: Path) -> TaskClass:
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(isinstance(part, (int, str)) and not isinstance(part, bool) for part in parts):
        raise EvaluationError(f"{path}: class {name} needs a label value, the name of a mask file, or a list of them.")
    values = tuple(part for part in parts if isinstance(part, int))
    return TaskClass(name, values, tuple(part for part in parts if isinstance(part, str)) or (name,))
