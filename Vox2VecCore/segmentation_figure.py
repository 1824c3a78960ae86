"""Pictures of segmentations: label maps over their CT, row by row, with the structures' names and colours."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.drawing import CAPTION, LABELLED, LEGEND, TEXT, caption, draw_plane, page, row_label
from Vox2VecCore.figures import SOFT, body_box
from Vox2VecCore.planes import ORIENTATIONS, plane
from Vox2VecCore.volume import Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from Vox2VecCore.fewshot.classes import HeadClass

OPACITY = 0.5


def segmentation_figure(
    ct: Volume,
    rows: Mapping[str, NDArray[np.integer]],
    classes: "Sequence[HeadClass]",
    centre: Sequence[float],
    *,
    remarks: Mapping[int, str] | None = None,
    title: str = "Segmentation",
) -> "Figure":
    """Label maps over a CT in three planes through a point.

    :param rows: label maps (i, j, k) on the CT's grid and what to call them.
    :param classes: names and colours of their values; other values are not drawn.
    :param centre: RAS millimetres.
    :param remarks: said after a structure's name in the legend, by value.
    """
    from matplotlib.patches import Patch

    planes = [plane(ct, centre, orientation) for orientation in ORIENTATIONS]
    figure, lines = page(
        [body_box(ground) for ground in planes], len(rows), height=3.6, head=CAPTION, left=LABELLED, foot=LEGEND
    )
    for axes, (name, labels) in zip(lines, rows.items(), strict=True):
        row_label(figure, axes[0], name)
        for axis, ground in zip(axes, planes, strict=True):
            draw_plane(axis, ground, SOFT)
            image = plane(ct, centre, ground.orientation, labels).image
            colours = np.zeros((*image.shape, 4), np.float32)
            for each in classes:
                colours[image == each.value] = (*each.colour, OPACITY)
            axis.imshow(colours, extent=ground.extent, interpolation="nearest")
    remarks = remarks or {}
    handles = [Patch(color=each.colour, label=f"{each.name} {remarks.get(each.value, '')}".strip()) for each in classes]
    columns = min(len(handles), 4)
    figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, labelcolor=TEXT, fontsize=10)
    caption(figure, title, f"window {SOFT[0]:.0f} to {SOFT[1]:.0f} HU")
    return figure
