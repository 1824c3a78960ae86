"""Colours of structures and of maps, as readers see them who are blind to red, to green or to blue."""

import itertools

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from Vox2VecCore.fewshot.classes import BACKGROUND_COLOUR, COLOURS
from Vox2VecSlicerLib.Colors import RAMPS, ramp

# What is left of linear RGB, complete blindness: Machado et al., IEEE TVCG 15(6), 2009, table 1.
EYES = {
    "all colours": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])
JUST_SEEN = 2.3
"""CIE 1976 distance of two colours that can just be told apart side by side."""


def seen(colours: ArrayLike, eyes: str) -> NDArray[np.float64]:
    """CIE L*a*b* (n, 3) of sRGB colours (n, 3) from 0 to 1."""
    given = np.asarray(colours, float)
    linear = np.where(given <= 0.04045, given / 12.92, ((given + 0.055) / 1.055) ** 2.4)
    relative = np.clip(linear @ EYES[eyes].T, 0, 1) @ XYZ.T / WHITE
    f = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("eyes", EYES)
def test_structures_are_told_apart(eyes: str) -> None:
    places = seen([*COLOURS, BACKGROUND_COLOUR], eyes)
    apart = {pair: np.linalg.norm(np.subtract(*places[list(pair)])) for pair in itertools.combinations(range(9), 2)}
    assert min(apart.values()) > 5 * JUST_SEEN, min(apart, key=lambda pair: apart[pair])
    first = [distance for pair, distance in apart.items() if max(pair) < 4]
    assert min(first) > 16 * JUST_SEEN, "few structures are told apart best"


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("name", RAMPS)
def test_more_is_lighter(name: str, eyes: str) -> None:
    lightness = seen(ramp(name), eyes)[:, 0]
    assert np.diff(lightness).min() > -0.1
    assert lightness[-1] - lightness[0] > 50
