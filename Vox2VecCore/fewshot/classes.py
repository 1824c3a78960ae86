"""The classes of a head: what a stroke's value stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from Vox2VecCore.errors import HeadError

UNLABELLED = 0
BACKGROUND = 1
BACKGROUND_COLOUR = (0.45, 0.45, 0.5)
COLOURS = (
    (0.90, 0.35, 0.30),
    (0.30, 0.75, 0.45),
    (0.35, 0.60, 0.95),
    (0.95, 0.80, 0.30),
    (0.75, 0.45, 0.85),
    (0.35, 0.85, 0.85),
    (0.95, 0.60, 0.30),
    (0.65, 0.80, 0.35),
)
"""Of structures that bring none, in turn: told apart by most colour-blind readers, legible on dark grey."""


@dataclass(frozen=True)
class HeadClass:
    """A class of a head.

    :param value: in strokes and in label maps, at least 1.
    :param name: for people.
    :param colour: red, green, blue from 0 to 1.
    :param terminology: codes as Slicer writes them into segments, or an empty string.
    :param background: whether this is "not a structure", which label maps show as 0.
    """

    value: int
    name: str
    colour: tuple[float, float, float]
    terminology: str = ""
    background: bool = False


def classes_of(
    values: Sequence[int],
    background: int = BACKGROUND,
    names: Mapping[int, str] | None = None,
    given: Sequence[HeadClass] = (),
) -> tuple[HeadClass, ...]:
    """Classes for the values that occur in strokes, in ascending order.

    :param background: value of strokes that say "not a structure".
    :param names: of values; others are called "Structure 2" and so on.
    :param given: classes that are known already; each is taken for its value, whatever ``names`` says.
    :raises HeadError: if a value is negative.
    """
    if any(value < 0 for value in values):
        raise HeadError(f"Strokes have the value {min(values)}; values count from 1, and 0 is unlabelled.")
    known = {each.value: each for each in given}
    names = names or {}
    found = []
    for n, value in enumerate(sorted(set(values) - {background})):
        made = HeadClass(value, names.get(value, f"Structure {value}"), COLOURS[n % len(COLOURS)])
        found.append(known.get(value, made))
    if background in values:
        made = HeadClass(background, names.get(background, "Background"), BACKGROUND_COLOUR, background=True)
        found.append(known.get(background, made))
    return tuple(sorted(found, key=lambda each: each.value))
