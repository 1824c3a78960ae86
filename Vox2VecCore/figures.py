"""Pictures for people: a similarity map over its CT, a CT and its embedding in colours, matches side by side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.drawing import (
    BLUE,
    CAPTION,
    FAINT,
    LABELLED,
    LEGEND,
    ORANGE,
    PICTURES,
    Box,
    caption,
    crosshair,
    draw_plane,
    legend,
    need_matplotlib,
    note,
    page,
    ring,
    row_label,
    save,
)
from Vox2VecCore.planes import ORIENTATIONS, Plane, distance_mm, on_plane, plane
from Vox2VecCore.volume import TISSUE_HU, Volume

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from Vox2VecCore.matching import Match

__all__ = ["PICTURES", "body_box", "colours_figure", "match_figure", "need_matplotlib", "save", "similarity_figure"]

Point = Sequence[float]

POSITIVE = BLUE
NEGATIVE = "#ffffff"
DOUBTFUL = ORANGE

LUNG, SOFT, VESSEL, BONE = (-1350.0, 150.0), (-160.0, 240.0), (-200.0, 600.0), (-500.0, 1300.0)
"""Grey-value windows, HU shown as black and as white."""
AROUND_MM = 10.0
"""The window is chosen by the tissue this far around a point along each axis."""
MARGIN_MM = 8.0
NEARBY_MM = 4.0
"""A point is marked in planes that are at most this far away."""
TOP_SHARES = (10.0, 3.0, 1.0, 0.3, 0.1)
"""Percent of the body: from the share where the overlay begins to the one where it is brightest."""
MATCH_VIEW_MM = 170.0
MATCHES_SHOWN = 6
TRUTH_SHOWN_MM = 20.0
"""The true place is marked in planes that are at most this far away; further off, the mark would mislead."""


def similarity_figure(
    ct: Volume,
    heat: Volume,
    positive: Sequence[Point],
    negative: Sequence[Point] = (),
    *,
    percentiles: bool = True,
    title: str = "Similarity to the marked point",
) -> "Figure":
    """A similarity map over its CT in three planes through the first positive point.

    :param heat: on the CT's grid: percentiles 0 to 100, or cosines.
    :param positive: clicked points in RAS millimetres; the first chooses the planes.
    :param negative: points to look away from.
    """
    centre = positive[0]
    window = window_hu(ct, centre)
    planes = [plane(ct, centre, orientation) for orientation in ORIENTATIONS]
    figure, (axes,) = page([body_box(p) for p in planes], 1, head=CAPTION, foot=LEGEND)
    low, high, ticks = _percentile_scale() if percentiles else _cosine_scale(heat)
    ramp = _ramp()
    for axis, ground in zip(axes, planes, strict=True):
        draw_plane(axis, ground, window)
        values = plane(heat, centre, ground.orientation).image
        shown = -np.log10(np.maximum(100.0 - values, 1e-3)) if percentiles else values
        axis.imshow(ramp((shown - low) / (high - low)), extent=ground.extent, interpolation="bilinear")
        crosshair(axis, on_plane(ct, centre, ground.orientation), POSITIVE)
        for points, colour, sign in ((positive, POSITIVE, "+"), (negative, NEGATIVE, "_")):
            for point in points:
                if distance_mm(ct, centre, point, ground.orientation) <= NEARBY_MM:
                    ring(axis, on_plane(ct, point, ground.orientation), colour, sign)
    legend(figure, ramp, ticks, "most similar share of the body" if percentiles else "cosine")
    caption(figure, title, f"{_mm(centre)}    {_window_text(window)}")
    return figure


def colours_figure(ct: Volume, colours: Mapping[str, NDArray], centre: Point) -> "Figure":
    """A CT in three planes, and below it the colours of its embedding.

    :param colours: rows and what to call them; each (i, j, k, 3) on the CT's grid, uint8 or 0 to 1.
    :param centre: a point in RAS millimetres that the planes go through.
    """
    window = window_hu(ct, centre)
    planes = [plane(ct, centre, orientation) for orientation in ORIENTATIONS]
    figure, (first, *others) = page(
        [body_box(p) for p in planes], 1 + len(colours), height=3.6, head=CAPTION, left=LABELLED
    )
    row_label(figure, first[0], "CT")
    for axis, ground in zip(first, planes, strict=True):
        draw_plane(axis, ground, window)
    for axes, (name, values) in zip(others, colours.items(), strict=True):
        row_label(figure, axes[0], name)
        for axis, ground in zip(axes, planes, strict=True):
            draw_plane(axis, plane(ct, centre, ground.orientation, values), None)
    caption(figure, "Embedding in colours", f"{_mm(centre)}    {_window_text(window)}")
    return figure


def match_figure(
    source: Volume,
    target: Volume,
    matches: "Sequence[Match]",
    *,
    names: Sequence[str] | None = None,
    truth: Sequence[Point] | None = None,
) -> "Figure":
    """Points of a scan and where they were found in another: a column a point, at most six; axial, then coronal.

    :param names: what each point is.
    :param truth: where each point really is in the target, in RAS millimetres, where that is known.
    """
    shown = list(matches)[:MATCHES_SHOWN]
    half = MATCH_VIEW_MM / 2
    square = (half, -half, -half, half)
    figure, rows = page([square] * len(shown), 4, width=2.3 * len(shown), head=CAPTION + 0.55, left=LABELLED)
    layout = [(orientation, found) for orientation in ORIENTATIONS[:2] for found in (False, True)]
    for axes, (orientation, found) in zip(rows, layout, strict=True):
        ct = target if found else source
        for c, (axis, match) in enumerate(zip(axes, shown, strict=True)):
            point = match.target_ras if found else match.source_ras
            x, y = on_plane(ct, point, orientation)
            axis.set(xlim=(x + half, x - half), ylim=(y - half, y + half))
            draw_plane(axis, plane(ct, point, orientation), window_hu(source, match.source_ras), letters=c == 0)
            if found and truth is not None and distance_mm(ct, point, truth[c], orientation) <= TRUTH_SHOWN_MM:
                axis.plot(*on_plane(ct, truth[c], orientation), marker="x", color=NEGATIVE, markersize=5)
            ring(axis, (x, y), POSITIVE if match.reliable or not found else DOUBTFUL)
        row_label(figure, axes[0], f"{'target' if found else 'source'}, {orientation}")
    for c, match in enumerate(shown):
        heading = names[c] if names is not None else _mm(match.source_ras)
        detail = f"similarity {match.similarity:.2f}" if match.reliable else "not reliable"
        if truth is not None:
            detail = f"{np.linalg.norm(np.subtract(match.target_ras, truth[c])):.1f} mm off, " + detail
        note(rows[0][c], heading, 0.5, 1.14, "center", "bottom", fontsize=11)
        colour = FAINT if match.reliable else DOUBTFUL
        note(rows[0][c], detail, 0.5, 1.04, "center", "bottom", fontsize=8.5, fontweight="normal", color=colour)
    more = f"first {len(shown)} of {len(matches)} points" if len(matches) > len(shown) else ""
    caption(figure, "The same places in another scan", more or ("x marks the true place" if truth is not None else ""))
    return figure


def window_hu(ct: Volume, point_ras: Point) -> tuple[float, float]:
    """Grey-value window that suits the tissue around a point."""
    centre = np.round(ct.to_ijk([point_ras])[0]).astype(int)
    reach = np.maximum(1, np.round(AROUND_MM / ct.spacing_mm)).astype(int)
    near = ct.array[tuple(slice(max(c - r, 0), c + r + 1) for c, r in zip(centre, reach, strict=True))]
    middle, high = np.percentile(near, (50, 90)) if near.size else (0.0, 0.0)
    return LUNG if middle < TISSUE_HU else BONE if middle > 500 else VESSEL if high > 220 else SOFT


def _ramp() -> "Colormap":
    """Dark violet to pale yellow, told apart by all kinds of colour vision; the least similar are see-through."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    colours = colormaps["inferno"](np.linspace(0.3, 1.0, 256))
    colours[:, 3] = np.clip(np.linspace(0, 2, 256), 0, 0.7)
    return ListedColormap(colours)


def _percentile_scale() -> tuple[float, float, dict[float, str]]:
    """What share of the body looks more alike, on a logarithmic scale: half the body says nothing, a hundredth much."""
    low, high = -np.log10(TOP_SHARES[0]), -np.log10(TOP_SHARES[-1])
    return low, high, {float((-np.log10(t) - low) / (high - low)): f"top {t:g} %" for t in TOP_SHARES}


def _cosine_scale(heat: Volume) -> tuple[float, float, dict[float, str]]:
    sample = heat.array[::3, ::3, ::3]
    low, high = np.percentile(sample[sample != 0], (90, 100)) if sample.any() else (0.0, 1.0)
    high = max(high, low + 1e-6)
    return low, high, {x: f"{low + x * (high - low):.2f}" for x in (0.0, 0.5, 1.0)}


def body_box(ground: Plane) -> Box:
    """Where a plane of a CT is not air, with a margin."""
    left, right, bottom, top = ground.extent
    tissue = ground.image > TISSUE_HU
    rows, columns = np.flatnonzero(tissue.mean(axis=1) > 0.02), np.flatnonzero(tissue.mean(axis=0) > 0.02)
    if len(rows) == 0 or len(columns) == 0:
        return ground.extent
    step_x, step_y = (right - left) / ground.image.shape[1], (bottom - top) / ground.image.shape[0]
    return (
        min(left, left + columns[0] * step_x + MARGIN_MM),
        max(right, left + (columns[-1] + 1) * step_x - MARGIN_MM),
        max(bottom, top + (rows[-1] + 1) * step_y - MARGIN_MM),
        min(top, top + rows[0] * step_y + MARGIN_MM),
    )


def _mm(point: Point) -> str:
    return f"({', '.join(f'{value:.0f}' for value in point)}) mm RAS"


def _window_text(window: tuple[float, float]) -> str:
    return f"W {window[1] - window[0]:.0f}  L {(window[0] + window[1]) / 2:.0f}"
