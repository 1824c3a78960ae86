"""How pictures are drawn: a dark page, planes of scans to one scale, marks, legend, caption.

Needs matplotlib (extra ``cli``), which is imported when something is drawn. Figures are made without pyplot, so
they need no display and may be made in any thread.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from Vox2VecCore.errors import MissingExtraError, VolumeError
from Vox2VecCore.paths import replace_file
from Vox2VecCore.planes import Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

PICTURES = (".png", ".jpg", ".pdf", ".svg")
DPI = 110

BACKGROUND = "#0d1117"
TEXT = "#d0d7de"
FAINT = "#8b949e"
BLUE, ORANGE, GREEN, PINK = "#56d4ff", "#ffb454", "#7ee787", "#ff7b9c"

EDGE = 0.2
GAP = 0.1
CAPTION = 0.6
LEGEND = 0.95
LABELLED = 0.5
"""Inches: around the page, between planes, above them, below them, left of rows with labels."""

CROSSHAIR_GAP_MM = 14.0

LETTER_PLACES = (
    (0.02, 0.5, "left", "center"),
    (0.98, 0.5, "right", "center"),
    (0.5, 0.98, "center", "top"),
    (0.5, 0.02, "center", "bottom"),
)

Box = tuple[float, float, float, float]
"""Left, right, bottom and top in millimetres; left is larger than right."""


def need_matplotlib() -> None:
    """Say early that no picture can be made.

    :raises MissingExtraError: if matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("A picture", "cli") from error


def save(figure: "Figure", path: Path) -> None:
    """Write a figure; the file appears whole or not at all.

    :param path: ends in one of ``PICTURES``.
    :raises VolumeError: if it cannot be written.
    """
    if path.suffix.lower() not in PICTURES:
        raise VolumeError(f"{path}: pictures are written as {', '.join(PICTURES)}; choose one of these endings.")
    drawn = BytesIO()  # matplotlib ends in an error of its own when the disk gets full under a .pdf
    figure.savefig(drawn, format=path.suffix[1:].lower(), dpi=DPI, facecolor=BACKGROUND)
    try:
        with replace_file(path) as temporary:
            temporary.write_bytes(drawn.getbuffer())
    except OSError as error:
        raise VolumeError(
            f"{path}: the picture cannot be written ({error.strerror or error}); free space or choose another folder."
        ) from error


def page(
    columns: Sequence[Box],
    rows: int,
    *,
    width: float = 14.0,
    height: float = 6.0,
    head: float,
    foot: float = EDGE,
    left: float = EDGE,
) -> tuple["Figure", list[list["Axes"]]]:
    """A dark page with rows of planes, all to one scale.

    :param columns: what each column shows.
    :param width: inches of all columns together, at most.
    :param height: inches of a row, at most.
    :param head: inches above the planes.
    :param foot: inches below.
    :param left: inches to the left.
    :return: the figure, and its axes row by row.
    """
    from matplotlib.figure import Figure

    widths = [x0 - x1 for x0, x1, _, _ in columns]
    heights = [y1 - y0 for _, _, y0, y1 in columns]
    inch = min(width / sum(widths), height / max(heights))
    row = max(heights) * inch
    size = (
        left + sum(widths) * inch + (len(columns) - 1) * GAP + EDGE,
        head + rows * row + (rows - 1) * GAP + foot,
    )
    figure = Figure(figsize=size, facecolor=BACKGROUND)
    lines = []
    for r in range(rows):
        x, y = left, foot + (rows - 1 - r) * (row + GAP)
        line = []
        for box, w, h in zip(columns, widths, heights, strict=True):
            bottom = y + (row - h * inch) / 2
            axis = figure.add_axes((x / size[0], bottom / size[1], w * inch / size[0], h * inch / size[1]))
            axis.set(xlim=box[:2], ylim=box[2:], xticks=[], yticks=[], facecolor="black")
            for spine in axis.spines.values():
                spine.set_visible(False)
            line.append(axis)
            x += w * inch + GAP
        lines.append(line)
    return figure, lines


def chart(width: float, height: float, count: int = 1) -> tuple["Figure", list["Axes"]]:
    """A dark page with diagrams side by side; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=BACKGROUND, layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def finish_chart(axis: "Axes", columns: int = 4) -> None:
    """Colours of a diagram on a dark page, and its legend above it, when everything has been drawn.

    :param columns: of the legend.
    """
    axis.set_facecolor(BACKGROUND)
    axis.tick_params(colors=TEXT, labelsize=9)
    axis.grid(color=FAINT, alpha=0.2, linewidth=0.6)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set_color(TEXT)
    for spine in axis.spines.values():
        spine.set_color(FAINT)
    axis.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False, labelcolor=TEXT, fontsize=9
    )


def draw_plane(axis: "Axes", plane: Plane, window_hu: tuple[float, float] | None, letters: bool = True) -> None:
    """A plane with its orientation letters.

    :param window_hu: shown as black and white; ``None`` when the plane holds colours.
    """
    limits = axis.get_xlim(), axis.get_ylim()
    if window_hu is None:
        axis.imshow(plane.image, extent=plane.extent, interpolation="nearest")
    else:
        low, high = window_hu
        axis.imshow(plane.image, cmap="gray", vmin=low, vmax=high, extent=plane.extent, interpolation="bilinear")
    axis.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    if not letters:
        return
    for letter, place in zip(plane.letters, LETTER_PLACES, strict=True):
        note(axis, letter, *place)


def note(axis: "Axes", text: str, x: float, y: float, across: str, up: str, **style: Any) -> None:
    """Text in a plane at a place between 0 and 1, readable on any grey."""
    style = {"color": TEXT, "fontsize": 10, "fontweight": "bold", **style}
    axis.text(x, y, text, transform=axis.transAxes, ha=across, va=up, path_effects=outline(), **style)


def crosshair(axis: "Axes", place: tuple[float, float], colour: str) -> None:
    """Thin lines from the borders towards a point, which they leave free."""
    x, y = place
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    for xs, ys in (
        ((left, x + CROSSHAIR_GAP_MM), (y, y)),
        ((x - CROSSHAIR_GAP_MM, right), (y, y)),
        ((x, x), (bottom, y - CROSSHAIR_GAP_MM)),
        ((x, x), (y + CROSSHAIR_GAP_MM, top)),
    ):
        axis.plot(xs, ys, color=colour, linewidth=0.6, alpha=0.5)


def ring(axis: "Axes", place: tuple[float, float], colour: str, sign: str | None = None) -> None:
    """A ring around a point, with a sign in it; what is under it stays visible."""
    for shade, width, alpha in (("black", 3.6, 0.6), (colour, 1.7, 1.0)):
        axis.plot(*place, marker="o", markersize=15, fillstyle="none", color=shade, markeredgewidth=width, alpha=alpha)
    if sign is not None:
        axis.plot(*place, marker=sign, markersize=7, color=colour, markeredgewidth=1.7)


def legend(figure: "Figure", ramp: "Colormap", ticks: Mapping[float, str], title: str) -> None:
    """The colours of an overlay, as seen over grey, with what they mean."""
    width, height = figure.get_size_inches()
    bar = figure.add_axes((0.5 - 2.4 / width, 0.42 / height, 4.8 / width, 0.14 / height), facecolor="#5a5a5a")
    bar.imshow(ramp(np.linspace(0, 1, 256))[None], aspect="auto", extent=(0, 1, 0, 1))
    bar.set(yticks=[], xticks=list(ticks), xticklabels=list(ticks.values()))
    bar.tick_params(colors=TEXT, labelsize=9, length=3)
    bar.set_title(title, color=FAINT, fontsize=9, pad=5)
    for spine in bar.spines.values():
        spine.set_visible(False)


def row_label(figure: "Figure", first: "Axes", text: str) -> None:
    """What a row of planes shows, written upwards to the left of its first plane."""
    box = first.get_position()
    x, y = LABELLED / 2 / figure.get_figwidth(), (box.y0 + box.y1) / 2
    figure.text(x, y, text, color=FAINT, fontsize=10, rotation=90, ha="center", va="center")


def caption(figure: "Figure", title: str, detail: str) -> None:
    """A line above the planes."""
    width, height = figure.get_size_inches()
    y = 1 - CAPTION / 2 / height
    figure.text(EDGE / width, y, title, color=TEXT, fontsize=14, fontweight="bold", va="center")
    figure.text(1 - EDGE / width, y, detail, color=FAINT, fontsize=10, ha="right", va="center")


def outline() -> list[Any]:
    """A dark rim that keeps text and marks readable over bright tissue."""
    from matplotlib import patheffects

    return [patheffects.withStroke(linewidth=3, foreground="black", alpha=0.7)]
