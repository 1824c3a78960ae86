"""Sizes and boxes along three axes."""

from collections.abc import Iterable, Sequence

Triple = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Strides = Sequence[Triple]

ISOTROPIC: Triple = (2, 2, 2)


def triple(values: Iterable[int]) -> Triple:
    """Three whole numbers as a tuple of known length."""
    x, y, z = values
    return int(x), int(y), int(z)


def box(start: Iterable[int], stop: Iterable[int]) -> Box:
    """Slices from ``start`` to ``stop``."""
    x, y, z = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return x, y, z


def ceil_divide(values: Iterable[int], divisors: Iterable[int]) -> Triple:
    """Quotients rounded up: the cells of a level of a grid, the tiles of an axis."""
    return triple(-(-n // d) for n, d in zip(values, divisors, strict=True))


def level_strides(strides: Strides) -> list[Triple]:
    """Stride of every level against the finest one, from the strides between neighbouring levels."""
    total: list[Triple] = [(1, 1, 1)]
    for x, y, z in strides:
        a, b, c = total[-1]
        total.append((a * x, b * y, c * z))
    return total
