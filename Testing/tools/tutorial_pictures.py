"""The pictures of the README's tutorial: the module's own panel and Slicer's slice views, on the demo CT.

    python -m Testing.tools.tutorial_pictures

The panel is drawn by the stand-in for Qt, in which a frame stands for the Segment Editor; the slices are drawn by
Slicer's displayable managers. The second CT is the first, shifted by 20 mm and noisier.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6 import QtGui

from Testing.conftest import DEMO_CT, REPOSITORY
from Testing.module.conftest import MODULE, Panel
from Testing.module.test_pictures import show_only
from Testing.mrml.test_heads import HEIGHTS, LIVER, Bench
from Testing.mrml.test_session import paint
from Testing.support.qt_stand_in.desktop import Desktop
from Testing.support.slicer_app import App
from Testing.support.slicer_nodes import volumeNode
from Testing.support.slicer_view import SliceView
from Vox2VecCore.volume_io import read_labels, read_volume

SHIFT_MM = (20.0, -10.0, 0.0)
SIZE = 400
VERTEBRA = 33
"""T11 in the labels of the demo CT."""
FOLDER = REPOSITORY / "Resources" / "Screenshots"


def picture_of(panel: Panel, section: str) -> NDArray[np.uint8]:
    """The panel with one section open: (rows, columns, 3)."""
    show_only(panel, section)
    path = panel.grab(section)
    image = QtGui.QImage(str(path)).convertToFormat(QtGui.QImage.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def save(name: str, *pictures: NDArray[np.uint8]) -> None:
    """Pictures beside each other."""
    import matplotlib.image

    height = max(len(each) for each in pictures)
    padded = [np.pad(each, ((0, height - len(each)), (0, 8), (0, 0)), constant_values=238) for each in pictures]
    matplotlib.image.imsave(FOLDER / f"slicer_{name}.png", np.concatenate(padded, axis=1))


def shown(view: SliceView, volume: Any, place: Any) -> NDArray[np.uint8]:
    """The slice of a volume through a place."""
    view.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    view.logic.FitSliceToBackground()
    view.jump(place)
    volume.GetDisplayNode().AutoWindowLevelOff()
    volume.GetDisplayNode().SetWindowLevel(400, 40)
    return view.render()[::-1]


def main() -> None:
    """Make all of them."""
    app, folder = App(), Path(tempfile.mkdtemp())
    desktop = Desktop(app, MODULE, folder)
    desktop.open_module()
    panel = Panel(desktop)
    session = panel.session
    volume, labels = read_volume(DEMO_CT), read_labels(DEMO_CT.with_name("demo_ct_labels.nii.gz"))
    array = np.asarray(volume.array)
    ct = volumeNode(volume.affine, array, "DemoCT")
    views = {name: SliceView(name, name, SIZE) for name in ("Axial", "Sagittal")}
    panel.ui.volumeSelector.setCurrentNode(ct)
    save("setup", picture_of(panel, "setupSection"))
    panel.press(panel.ui.embedButton)
    panel.finish()
    middle = labels.to_ras([np.argwhere(labels.array == VERTEBRA).mean(axis=0)])[0]
    session.points.addPositive(middle)
    panel.finish()
    save("explore", picture_of(panel, "exploreSection"), *(shown(view, ct, middle) for view in views.values()))
    noise = np.random.default_rng(0).normal(0, 20, array.shape)
    moved = volume.affine.copy()
    moved[:3, 3] += SHIFT_MM
    later = volumeNode(moved, (array + noise).astype(np.int16), "FollowUp")
    panel.ui.targetSelector.setCurrentNode(later)
    panel.finish()
    session.state.view = "none"
    own, other = views.values()
    other.sliceNode.SetOrientation("Axial")
    for view, scan in ((own, ct), (other, later)):
        view.showBackground(scan)
    session.matching.showInTarget()
    found = session.matches[0].targetWorld
    save("match", picture_of(panel, "matchSection"), shown(own, ct, middle), shown(other, later, found))
    other.sliceNode.SetOrientation("Sagittal")
    panel.ui.targetSelector.setCurrentNode(None)
    session.points.clear()
    strokes = session.strokesNode()
    ids = [strokes.GetSegmentation().GetNthSegmentID(n) for n in range(2)]
    strokes.GetSegmentation().GetSegment(ids[1]).SetName("Liver")
    bench = Bench(session, ct, np.asarray(labels.array), {})
    paint(session, ids[1], np.concatenate([bench.stroke(LIVER, height) for height in HEIGHTS]))
    paint(session, ids[0], np.concatenate([bench.stroke(LIVER, height, away=True) for height in HEIGHTS]))
    panel.finish()
    place = labels.to_ras([bench.stroke(LIVER, HEIGHTS[1]).mean(axis=0)])[0]
    strokes.GetDisplayNode().SetOpacity2DFill(0)
    save("segment", picture_of(panel, "segmentSection"), *(shown(view, ct, place) for view in views.values()))
    save("heads", picture_of(panel, "headsSection"))
    desktop.close_module()


if __name__ == "__main__":
    main()
