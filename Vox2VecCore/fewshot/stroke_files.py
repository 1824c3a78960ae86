"""Strokes from files: label maps on any grid, their names and colours."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from Vox2VecCore.errors import HeadError
from Vox2VecCore.fewshot.classes import UNLABELLED, ClassNote, HeadClass
from Vox2VecCore.resampling import resample_nearest
from Vox2VecCore.slicer_segments import read_segments
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_labels

SAME_GRID_MM = 0.01


def read_strokes(path: Path, background: int) -> tuple[Volume, list[HeadClass]]:
    """Strokes, and the classes that the file describes; none but ``.seg.nrrd`` files do.

    :param background: value of strokes that say "not a structure".
    :raises VolumeError: if the file cannot be read or its values are not whole numbers.
    :raises HeadError: if it holds no strokes.
    """
    strokes = read_labels(path)
    if not strokes.array.any():
        raise HeadError(f"{path}: holds no strokes; paint some in the structure and some in the background.")
    classes = [
        HeadClass(each.value, each.name, each.colour, each.terminology, each.value == background)
        for each in read_segments(path)
        if each.value > UNLABELLED
    ]
    return strokes, classes


def read_known_strokes(path: Path, known: Sequence[HeadClass]) -> Volume:
    """Strokes of classes that a head has.

    :raises VolumeError: as :func:`read_strokes`.
    :raises HeadError: if it holds no strokes, or some of a class that is not known.
    """
    strokes, _ = read_strokes(path, UNLABELLED)
    unknown = set(np.unique(strokes.array).tolist()) - {UNLABELLED, *(each.value for each in known)}
    if unknown:
        names = ", ".join(f"{each.value} ({each.name})" for each in known)
        raise HeadError(f"{path}: has strokes of the value {min(unknown)}, but the head was trained on {names}.")
    return strokes


def on_grid_of(ct: Volume, strokes: Volume) -> tuple[Volume, str | None]:
    """Strokes on the CT's own grid, and a sentence if they were brought to it.

    :raises HeadError: if no stroke lies in the CT.
    """
    if strokes.shape == ct.shape and _corners_apart_mm(ct, strokes) < SAME_GRID_MM:
        return strokes, None
    painted = np.argwhere(strokes.array != UNLABELLED)
    ijk = ct.to_ijk(strokes.to_ras(painted))
    inside = ((ijk > -0.5) & (ijk < np.array(ct.shape) - 0.5)).all(axis=1)
    if not inside.any():
        raise HeadError(
            f"{strokes.name}: no stroke lies in {ct.name}, the two do not overlap; give the strokes of this scan."
        )
    array = np.zeros(ct.shape, strokes.array.dtype, order="F")
    resample_nearest(np.asarray(strokes.array), strokes.ras_to_ijk @ ct.affine, array, fill=UNLABELLED)
    # A stroke thinner than the CT's voxels would fall between them.
    voxels = np.floor(ijk[inside] + 0.5).astype(np.int64)
    array[tuple(voxels.T)] = strokes.array[tuple(painted[inside].T)]
    lost = np.count_nonzero(~inside)
    outside = f"; {lost} of {len(painted)} painted voxels lie outside the scan and are left out" if lost else ""
    note = f"{strokes.name}: the strokes lie on another grid than {ct.name} and were brought to it{outside}."
    return Volume(array, ct.affine, strokes.name), note


def read_names(path: Path) -> dict[int, ClassNote]:
    """Names of values from a JSON file, and colours and terminology where it has some.

    ``{"2": "liver", "3": {"name": "spleen", "colour": [0.6, 0.4, 0.4], "terminology": "..."}}``; terminology as Slicer
    writes it into segments.

    :raises HeadError: if it is something else.
    """
    example = 'write such as {"2": "liver", "3": {"name": "spleen", "colour": [0.6, 0.4, 0.4]}}'
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HeadError(f"{path}: cannot be read ({error.strerror}); {example}.") from error
    except ValueError as error:
        raise HeadError(f"{path}: is not JSON ({error}); {example}.") from error
    if not isinstance(found, Mapping):
        raise HeadError(f"{path}: holds no names of values; {example}.")
    names: dict[int, ClassNote] = {}
    for key, described in found.items():
        note = _note({"name": described} if isinstance(described, str) else described)
        if not key.strip().isdecimal() or int(key) < 1 or note is None:
            raise HeadError(
                f"{path}: {json.dumps(key)}: {json.dumps(described)} is not a value and its name; {example}."
            )
        names[int(key)] = note
    return names


def _note(described: Any) -> ClassNote | None:
    """``None`` if it says something else than a name, three parts of a colour from 0 to 1, and terminology."""
    if not isinstance(described, Mapping) or not set(described) <= {"name", "colour", "terminology"}:
        return None
    name, colour, terminology = (described.get(key) for key in ("name", "colour", "terminology"))
    if not isinstance(name, str) or not name.strip() or not isinstance(terminology or "", str):
        return None
    if colour is None:
        return ClassNote(name.strip(), None, terminology or "")
    numbers = isinstance(colour, list) and all(type(part) in (int, float) and 0 <= part <= 1 for part in colour)
    if not numbers or len(colour) != 3:
        return None
    return ClassNote(name.strip(), (float(colour[0]), float(colour[1]), float(colour[2])), terminology or "")


def _corners_apart_mm(a: Volume, b: Volume) -> float:
    corners = np.array(np.meshgrid(*([0, n - 1] for n in a.shape))).reshape(3, -1).T
    return float(np.abs(a.to_ras(corners) - b.to_ras(corners)).max())
