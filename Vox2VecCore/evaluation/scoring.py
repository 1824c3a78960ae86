"""How good a segmentation is, on the scan's own grid: Dice, surface Dice and surface distance by MONAI."""

import importlib
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from Vox2VecCore.errors import MissingExtraError

DICE, NSD, HD95 = "Dice", "NSD", "HD95 (mm)"
MEASURES = (DICE, NSD, HD95)


def need_monai() -> Any:
    """MONAI's metrics.

    :raises MissingExtraError: if MONAI is not installed.
    """
    try:
        return importlib.import_module("monai.metrics")
    except ImportError as error:
        raise MissingExtraError("Evaluating segmentations", "evaluate") from error


def measure(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], spacing_mm: NDArray[np.float64], tolerance_mm: float
) -> dict[str, float]:
    """Measures of one structure.

    :param predicted: (X, Y, Z), as ``truth``.
    :return: Dice, normalised surface Dice and 95th percentile of the Hausdorff distance; NaN for all if the truth is
        empty, and for the distance if only the prediction is: it has no finite value then, and the others are 0.
    """
    metrics = need_monai()
    if not truth.any():
        return dict.fromkeys(MEASURES, float("nan"))
    if not predicted.any():
        return {DICE: 0.0, NSD: 0.0, HD95: float("nan")}
    # Surfaces are sought around both alone, with a voxel of margin so that a border of the box is none of them.
    pair = np.pad(np.stack([predicted, truth]), [(0, 0), (1, 1), (1, 1), (1, 1)])
    seen = [np.flatnonzero(pair.any(axis=tuple({0, 1, 2, 3} - {axis}))) for axis in (1, 2, 3)]
    box = tuple(slice(int(where[0]) - 1, int(where[-1]) + 2) for where in seen)
    a, b = (torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None].float() for mask in pair)
    spacing = [float(s) for s in spacing_mm]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI's, about its own calls
        dice = metrics.compute_dice(a, b, include_background=True)
        surface = metrics.compute_surface_dice(a, b, [tolerance_mm], include_background=True, spacing=spacing)
        distance = metrics.compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing)
    return {DICE: float(dice), NSD: float(surface), HD95: float(distance)}
