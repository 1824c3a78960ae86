"""One script for two ways of working: with the mouse in the browser, and with calls to the session.

Both have to end with the same voxels, points and matches. What only a hand can say exactly, the points that were hit
and the strokes that were painted, is handed from the first way to the second.
"""

import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import nibabel
import numpy as np
from numpy.typing import NDArray

from Testing.browser.tab import Tab

BALANCE, THRESHOLD = 0.65, 96.5
BACKGROUND_STROKE = ((-60, 20), (-20, 10), (-5, -50), (0, -85), (50, -105))
"""From the heart over the spine into the back: places in the middle axial slice, RAS mm (right, anterior)."""
LUNG_STROKE = ((50, 55), (85, -10), (50, -70))
"""In the right lung."""
OTHER_LUNG_STROKE = ((-112, 20), (-110, -30), (-60, -75))


@dataclass
class Hand:
    """What the hand did.

    :ivar points: the points that were hit, in RAS mm, by name.
    :ivar scene: the scene that was saved then, with the strokes that were painted in it.
    """

    points: dict[str, list[float]] = field(default_factory=dict)
    scene: Path | None = None


@dataclass
class Outcome:
    """What comes out.

    :ivar alike: voxels of the segment that was made of the similarity map.
    :ivar structures: voxels of what was learnt from the strokes.
    :ivar matches: place in the follow-up in RAS mm, cycle error and reliability of every point.
    """

    alike: NDArray[np.bool_]
    structures: NDArray[np.bool_]
    matches: list[tuple[list[float], float, bool]]


class Way(Protocol):
    """A way of working."""

    def open(self, scan: Path) -> None: ...
    def pin(self, name: str, alike: bool) -> None: ...
    def adjust(self, balance: float, threshold: float) -> None: ...
    def makeSegment(self) -> NDArray[np.bool_]: ...
    def compare(self, followUp: Path) -> list[tuple[list[float], float, bool]]: ...
    def paint(self) -> NDArray[np.bool_]: ...


def play(way: Way, scan: Path, followUp: Path) -> Outcome:
    """The scenario."""
    way.open(scan)
    way.pin("vertebra", alike=True)
    way.pin("lung", alike=False)
    way.adjust(BALANCE, THRESHOLD)
    alike = way.makeSegment()
    structures = way.paint()
    return Outcome(alike, structures, way.compare(followUp))


class Mouse:
    """The mouse in the browser.

    :param folder: for downloads.
    """

    PLACES: ClassVar = {"vertebra": (0.5, 0.70), "lung": (0.3, 0.55)}

    def __init__(self, tab: Tab, hand: Hand, folder: Path) -> None:
        self._tab, self._hand, self._folder = tab, hand, folder

    def open(self, scan: Path) -> None:
        assert self._tab.get("scan")["name"] == scan.name.split(".")[0], "the viewer was started with it"
        self._tab.until("get('embedded')")

    def pin(self, name: str, alike: bool) -> None:
        self._tab.click("Red", *self.PLACES[name], shift=not alike)
        self._hand.points[name] = self._tab.get("points")[-1]["ras"]

    def adjust(self, balance: float, threshold: float) -> None:
        self._tab.page.locator("#balance").fill(str(balance))
        self._tab.page.locator("#threshold").fill(str(threshold))
        self._tab.until(f"get('threshold') === {threshold} && get('balance') === {balance}")
        self._tab.rest()

    def makeSegment(self) -> NDArray[np.bool_]:
        self._tab.page.locator("#make-segment").click()
        self._tab.until("get('results').length === 1 && parseFloat(get('results')[0].ml) > 0.5 && !get('busy')")
        self._tab.page.locator("#tab-segment").click()
        return self._voxels() == 1

    def compare(self, followUp: Path) -> list[tuple[list[float], float, bool]]:
        tab = self._tab
        tab.page.locator("#open-follow-up").set_input_files(followUp)
        tab.until("get('followUpEmbedded') && get('matches').length === 1")
        tab.rest()
        return [(m["ras"], m["cycleErrorMm"], m["reliable"]) for m in tab.get("matches")]

    def paint(self) -> NDArray[np.bool_]:
        tab = self._tab
        self.stroke(tab)
        self._hand.scene = tab.download("#save-scene", self._folder)
        tab.page.locator("#apply").click()
        tab.until("get('results').length === 2 && !get('busy')")
        return self._voxels() == 2

    @staticmethod
    def stroke(tab: Tab) -> None:
        """One stroke of background, one in the right lung; waits for what is learnt from them."""
        tab.page.locator("#tab-segment").click()
        tab.page.locator("#tool-paint").click()
        tab.until("get('tool') === 'paint' && get('structures').length === 2")
        tab.page.locator("#brush").fill("7")
        for row, stroke in enumerate((BACKGROUND_STROKE, LUNG_STROKE)):
            tab.choose(row)
            before = tab.get("previews")
            tab.drag("Red", *tab.shares("Red", stroke))
            tab.until(f"get('structures')[{row}].painted && ({row} === 0 || get('previews') > {before})")
            tab.rest()

    def _voxels(self) -> NDArray[np.uint8]:
        return np.asarray(nibabel.load(self._tab.download("#save-nifti", self._folder)).dataobj)


class Calls:
    """Calls to the session that the desktop module stands on, without a browser or a window."""

    def __init__(self, session: Any, hand: Hand) -> None:
        self._session, self._hand = session, hand

    def open(self, scan: Path) -> None:
        import slicer

        self._affine = nibabel.load(scan).affine
        self._session.state.volume = slicer.util.loadVolume(str(scan))
        self._session.embed(wait=True)

    def pin(self, name: str, alike: bool) -> None:
        points = self._session.points
        (points.addPositive if alike else points.addNegative)(self._hand.points[name])
        self._session.wait()

    def adjust(self, balance: float, threshold: float) -> None:
        self._session.state.balance, self._session.state.threshold = balance, threshold
        self._session.wait()

    def makeSegment(self) -> NDArray[np.bool_]:
        segmentID = self._session.makeSegment()
        self._session.wait()
        return self._voxels(segmentID)

    def compare(self, followUp: Path) -> list[tuple[list[float], float, bool]]:
        import slicer

        self._session.setTarget(slicer.util.loadVolume(str(followUp)))
        self._session.wait()
        return [(list(m.targetWorld), m.cycleErrorMm, m.reliable) for m in self._session.matches]

    def paint(self) -> NDArray[np.bool_]:
        import slicer

        assert self._hand.scene is not None
        with zipfile.ZipFile(self._hand.scene) as packed, tempfile.TemporaryDirectory() as folder:
            [name] = [n for n in packed.namelist() if n.endswith("strokes.seg.nrrd")]
            strokes = slicer.util.loadSegmentation(packed.extract(name, folder))
        state = self._session.state
        state.backgroundSegment = strokes.GetSegmentation().GetSegmentIdBySegmentName("Background")
        state.strokes = strokes
        self._session.updatePreview(wait=True)
        self._session.wait()
        result = self._session.apply()
        self._session.wait()
        return self._voxels(result.GetSegmentation().GetSegmentIdBySegmentName("Structure 1"))

    def _voxels(self, segmentID: str) -> NDArray[np.bool_]:
        from Vox2VecSlicerLib.Segments import segmentVoxels

        volume = self._session.state.volume
        mask = np.zeros(volume.GetImageData().GetDimensions(), bool)
        mask[tuple(segmentVoxels(self._session.state.result, segmentID, volume).T)] = True
        return asInFile(mask, volume, self._affine)


def asInFile(values: NDArray, volumeNode: Any, affine: NDArray) -> NDArray:
    """Voxels (i, j, k) of a volume that Slicer has read, in the order of its file: Slicer turns left-handed ones over.

    :param affine: of the file.
    """
    from Vox2VecSlicerLib.Geometry import ijkToLocal

    return values if ijkToLocal(volumeNode)[:3, 2] @ affine[:3, 2] > 0 else values[:, :, ::-1]
