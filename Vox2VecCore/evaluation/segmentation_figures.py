"""Pictures of the segmentation protocols: Dice by structure, few-label curves, best and worst cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.drawing import (
    BLUE,
    CAPTION,
    GREEN,
    LABELLED,
    ORANGE,
    PINK,
    caption,
    chart,
    draw_plane,
    finish_chart,
    need_matplotlib,
    page,
    row_label,
    save,
)
from Vox2VecCore.evaluation.cases import Case, unpacked
from Vox2VecCore.evaluation.scoring import DICE
from Vox2VecCore.evaluation.segmentation_report import extremes, mean_and_spread
from Vox2VecCore.evaluation.tasks import TaskClass, class_masks
from Vox2VecCore.figures import SOFT
from Vox2VecCore.planes import ORIENTATIONS, Plane, plane
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

COLOURS = {"linear": BLUE, "nonlinear": ORANGE, "finetune": GREEN, "scratch": PINK}
STRUCTURES, CURVES = "structures.png", "curves.png"


def draw_figures(
    rows: Sequence[Row], cases: Sequence[Case], classes: Sequence[TaskClass], out: Path, predictions: Path
) -> None:
    """Write all pictures into a folder.

    :param predictions: folder of the packed predictions that the rows name.
    """
    need_matplotlib()
    save(structures_figure(rows, [one.name for one in classes]), out / STRUCTURES)
    if len({row["labelled"] for row in rows}) > 1:
        save(curves_figure(rows), out / CURVES)
    by_id = {case.entry.id: case for case in cases}
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        for which, (score, row) in zip(("best", "worst"), extremes(rows, protocol), strict=False):
            with np.load(predictions / row["prediction"]) as stored:
                packed = stored["packed"]
            entry = by_id[row["scan"]].entry
            volume = read_volume(entry.image)
            truth = class_masks(entry, classes, volume)
            title = f"{protocol}, {which} case: {entry.id}, fold {row['fold']}, mean Dice {score:.2f}"
            save(case_figure(volume, truth, packed, title), out / f"{protocol}_{which}.png")


def structures_figure(rows: Sequence[Row], classes: Sequence[str]) -> "Figure":
    """Mean Dice of every structure, a dot for every protocol; of trainings on all scans, or else on the most."""
    labelled = {row["labelled"] for row in rows}
    shown = 0 if 0 in labelled else max(labelled)
    figure, (axis,) = chart(9.0, 1.6 + 0.24 * len(classes))
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    for protocol in protocols:
        own = [row for row in rows if row["protocol"] == protocol and row["labelled"] == shown]
        values = [[row[DICE] for row in own if row["structure"] == name and row[DICE] is not None] for name in classes]
        means = [float(np.mean(v)) if v else float("nan") for v in values]
        mean, spread = mean_and_spread(own, DICE)
        label = f"{protocol} {mean:.2f}" + (f" ± {spread:.2f}" if np.isfinite(spread) else "")
        axis.plot(means, range(len(classes)), "o", color=COLOURS[protocol], markersize=6, alpha=0.9, label=label)
    axis.set(ylim=(len(classes) - 0.5, -0.5), xlim=(-0.02, 1), xlabel="Dice on the scan's own grid")
    axis.set_yticks(range(len(classes)), [name.replace("_", " ") for name in classes])
    finish_chart(axis)
    return figure


def curves_figure(rows: Sequence[Row]) -> "Figure":
    """Mean Dice against the number of training scans."""
    figure, (axis,) = chart(7.0, 4.5)
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        points = []
        for labelled in {row["labelled"] for row in rows if row["protocol"] == protocol}:
            own = [row for row in rows if (row["protocol"], row["labelled"]) == (protocol, labelled)]
            scans = float(np.mean([row["training_scans"] for row in own]))
            points.append((scans, *mean_and_spread(own, DICE)))
        scans_, means, spreads = (list(column) for column in zip(*sorted(points), strict=True))
        bars = np.nan_to_num(spreads)
        axis.errorbar(scans_, means, bars, marker="o", color=COLOURS[protocol], capsize=3, label=protocol)
    axis.set(ylim=(0, 1), xlabel="training scans", ylabel="mean Dice ± SD over folds and seeds")
    finish_chart(axis)
    return figure


def case_figure(volume: Volume, truth: Sequence[NDArray[np.bool_]], packed: NDArray[np.uint8], title: str) -> "Figure":
    """A scan in three planes with the outlines of reference (above) and prediction (below)."""
    predicted = [unpacked(packed, n) for n in range(len(truth))]
    known = np.argwhere(np.any(truth, axis=0))
    centre = volume.to_ras(known.mean(axis=0) if len(known) else np.array(volume.shape) / 2)[0]
    planes = [plane(volume, centre, orientation) for orientation in ORIENTATIONS]
    figure, lines = page([p.extent for p in planes], 2, height=4.2, head=CAPTION, left=LABELLED)
    for line, masks, name in zip(lines, (truth, predicted), ("reference", "prediction"), strict=True):
        row_label(figure, line[0], name)
        for axis, ground in zip(line, planes, strict=True):
            draw_plane(axis, ground, SOFT)
            for n, mask in enumerate(masks):
                _outline(axis, plane(volume.with_array(mask), centre, ground.orientation), n)
    caption(figure, title, f"{len(truth)} structures")
    return figure


def _outline(axis: "Axes", mask: Plane, number: int) -> None:
    from matplotlib.colors import hsv_to_rgb

    if not mask.image.any() or mask.image.all():
        return
    colour = tuple(hsv_to_rgb((number * 0.618 % 1, 0.65, 1.0)))
    left, right, bottom, top = mask.extent
    rows, columns = mask.image.shape
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = top + (np.arange(rows) + 0.5) * (bottom - top) / rows
    axis.contour(x, y, mask.image.astype(np.float32), levels=[0.5], colors=[colour], linewidths=1.1)
