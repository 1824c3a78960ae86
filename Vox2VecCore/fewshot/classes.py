"""The classes of a head: what a stroke's value stands for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from Vox2VecCore.errors import HeadError

UNLABELLED = 0
BACKGROUND = 1
BACKGROUND_COLOUR = (0.45, 0.45, 0.5)
COLOURS = (
    (0.90, 0.35, 0.30),
    (0.30, 0.95, 1.00),
    (0.95, 0.90, 0.10),
    (0.75, 0.20, 1.00),
    (0.25, 0.50, 0.75),
    (0.85, 0.60, 0.10),
    (0.70, 0.90, 0.65),
    (0.80, 0.70, 1.00),
)
"""Of structures that bring none, in turn: told apart by colour-blind readers, too, and legible on dark grey."""


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


@dataclass(frozen=True)
class ClassNote:
    """What is said about a class; ``None`` and nothing leave colour and terminology as they are."""

    name: str
    colour: tuple[float, float, float] | None = None
    terminology: str = ""

    def on(self, each: HeadClass) -> HeadClass:
        """The class with what this says about it."""
        terminology = self.terminology or each.terminology
        return replace(each, name=self.name, colour=self.colour or each.colour, terminology=terminology)


def told_apart(classes: Sequence[HeadClass]) -> dict[int, str]:
    """Names by value, with the value where several classes share one."""
    count = Counter(each.name for each in classes)
    return {each.value: each.name if count[each.name] == 1 else f"{each.name} ({each.value})" for each in classes}


def classes_of(
    values: Sequence[int],
    background: int = BACKGROUND,
    names: Mapping[int, str | ClassNote] | None = None,
    given: Sequence[HeadClass] = (),
) -> tuple[HeadClass, ...]:
    """Classes for the values that occur in strokes, in ascending order.

    :param background: value of strokes that say "not a structure".
    :param names: of values, perhaps with colour and terminology; others are called "Structure 2" and so on.
    :param given: classes that are known already; ``names`` has the last word.
    :raises HeadError: if a value is negative.
    """
    if any(value < 0 for value in values):
        raise HeadError(f"Strokes have the value {min(values)}; values count from 1, and 0 is unlabelled.")
    known = {each.value: each for each in given}
    found = [
        known.get(value, HeadClass(value, f"Structure {value}", COLOURS[n % len(COLOURS)]))
        for n, value in enumerate(sorted(set(values) - {background}))
    ]
    if background in values:
        nothing = HeadClass(background, "Background", BACKGROUND_COLOUR, background=True)
        found.append(known.get(background, nothing))
    notes = {value: ClassNote(each) if isinstance(each, str) else each for value, each in (names or {}).items()}
    named = [notes[each.value].on(each) if each.value in notes else each for each in found]
    return tuple(sorted(named, key=lambda each: each.value))
