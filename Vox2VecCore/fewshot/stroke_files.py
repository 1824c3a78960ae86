"""Strokes from files: label maps on any grid, their names and colours."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from Vox2VecCore.errors import HeadError
from Vox2VecCore.fewshot.classes import UNLABELLED, HeadClass
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


def read_names(path: Path) -> dict[int, str]:
    """Names of values from a JSON file such as ``{"2": "liver"}``.

    :raises HeadError: if it is something else.
    """
    example = 'write such as {"2": "liver", "3": "spleen"}'
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HeadError(f"{path}: cannot be read ({error.strerror}); {example}.") from error
    except ValueError as error:
        raise HeadError(f"{path}: is not JSON ({error}); {example}.") from error
    if not isinstance(found, Mapping):
        raise HeadError(f"{path}: holds no names of values; {example}.")
    names: dict[int, str] = {}
    for key, name in found.items():
        if not key.strip().isdecimal() or int(key) < 1 or not isinstance(name, str) or not name.strip():
            raise HeadError(f"{path}: {json.dumps(key)}: {json.dumps(name)} is not a value and its name; {example}.")
        names[int(key)] = name.strip()
    return names


def _corners_apart_mm(a: Volume, b: Volume) -> float:
    corners = np.array(np.meshgrid(*([0, n - 1] for n in a.shape))).reshape(3, -1).T
    return float(np.abs(a.to_ras(corners) - b.to_ras(corners)).max())
