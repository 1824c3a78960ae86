"""From strokes to a segmentation: a head is trained, its preview shown, and applied when the user says so.

The preview comes in two steps: the displayed slices as soon as the head is there, then the whole scan.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.progress import Progress
from Vox2VecSlicerLib.Heads import Example, HeadTool, Prediction, Structure
from Vox2VecSlicerLib.HeadStore import headText, storeHead
from Vox2VecSlicerLib.Nodes import removeFromScene
from Vox2VecSlicerLib.Overlay import inImageOrder
from Vox2VecSlicerLib.Result import Result
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.SegmentContents import LabelBox, SegmentContent, labelBox, occupied
from Vox2VecSlicerLib.Segments import (
    addSegment,
    describe,
    newSegmentation,
    orientedImage,
    refer,
    segmentIDs,
    setSharedLabels,
    tag,
)
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.SlicePreview import SlicePreview, Slices, slicesOf
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Strokes import Strokes
from Vox2VecSlicerLib.Texts import tr as _
from Vox2VecSlicerLib.Views import Views
from Vox2VecSlicerLib.Worker import Worker

if TYPE_CHECKING:
    from slicer import vtkMRMLScene, vtkMRMLSegmentationNode, vtkMRMLVolumeNode, vtkOrientedImageData

TOPIC = "head"
READING = "head reading"
STORING = "head text"
PREPARATION = "head preparation"
WHOLE = "head whole scan"
ORIGIN_TAG = "Vox2Vec.Strokes"
PREVIEW_NAME = "Vox2Vec preview"
PREVIEW_OPACITY = 0.45
QUIET_SECONDS = 0.05
"""How long the strokes have to rest before they are learnt from."""
FRAMES_SECONDS = 0.1
"""Pause of the worker for the views to draw the displayed slices, where there are few processors."""


@dataclass(frozen=True, eq=False)
class Preview:
    """What the head says about a scan, not yet applied.

    :param voxels: how many voxels of the scan every label has.
    :param uncertainty: see :class:`Heads.Prediction`, in the order of images.
    :param next_ras: see :class:`Heads.Prediction`.
    """

    scan: Scan
    structures: list[Structure]
    labels: LabelBox
    voxels: dict[int, int] = field(default_factory=dict)
    uncertainty: NDArray | None = None
    next_ras: tuple[float, float, float] | None = None


class FewShot:
    """Keeps head and preview up to date with the strokes."""

    def __init__(
        self,
        scene: "vtkMRMLScene",
        state: ModuleState,
        worker: Worker,
        strokes: Strokes,
        views: Views,
        scans: "Callable[[vtkMRMLVolumeNode | None], Scan | None]",
        tool: HeadTool,
        result: Result,
        onFailed: Callable[[Vox2VecError], None],
    ) -> None:
        self.updated = Signal()
        self.head: Any = None
        self._base: Any = None
        self._scene = scene
        self._state = state
        self._worker = worker
        self._strokes = strokes
        self._views = views
        self._scans = scans
        self._tool = tool
        self._result = result
        self._onFailed = onFailed
        self._preview: Preview | None = None
        self._node: vtkMRMLSegmentationNode | None = None
        self._changedAt: float | None = None
        self._slices = SlicePreview(scene, worker, tool, self._drawSlices, onFailed)
        strokes.changed.connect(self._onStrokes)
        state.changed.connect(self._onState)

    @property
    def preview(self) -> Preview | None:
        """The segmentation of the whole scan that is shown and not yet applied."""
        return self._preview

    @property
    def isPartial(self) -> bool:
        """Whether only displayed slices are segmented so far, which cannot be applied."""
        return self._slices.isShown

    @property
    def previewNode(self) -> "vtkMRMLSegmentationNode | None":
        """The segmentation that shows the preview; it is not saved."""
        return self._node if self._node is not None and self._node.GetScene() is self._scene else None

    def tick(self) -> bool:
        """Learn from the strokes once they rest, and let the preview follow the slice views; returns whether learning
        is still to come."""
        self._slices.tick()
        if self._changedAt is None or not self._state.autoUpdate:
            return False
        if time.monotonic() - self._changedAt < QUIET_SECONDS or self._worker.isBusyWith(READING):
            return True
        self._changedAt = None
        if self._strokes.status():
            self.clearPreview()
            self._prepare()
        elif self._scans(self._state.volume) is not None:
            self.update()
        return False

    def update(self) -> None:
        """Train a head from the strokes as they are now and preview it.

        :raises Vox2VecError: if the volume is not embedded or strokes are missing.
        """
        scan = self._scans(self._state.volume)
        if scan is None:
            raise Vox2VecError(_("Embed the volume before learning from strokes."))
        missing = self._strokes.status()
        if missing:
            raise Vox2VecError(missing)
        if self._worker.isBusyWith(READING):
            raise Vox2VecError(_("The head is still being read; learn from the strokes in a moment."))
        self._changedAt = None
        structures = list(self._strokes.structures().values())
        readStrokes = self._strokes.reader(scan)
        method, tool, base = self._state.headMethod, self._tool, self._base
        shown = self._slices.shown(scan)
        self._worker.cancel(WHOLE)

        def work(progress: Progress) -> Slices:
            example = Example(scan.pyramid, readStrokes(), scan.source.volume)
            head = tool.learn(example, structures, method, base, progress)
            return slicesOf(tool, head, example, scan, shown)

        self._worker.submit(TOPIC, _("Learning from strokes"), work, self._learnt, self._onFailed)

    def take(self, head: Any, base: Any) -> None:
        """Use a head that was learnt before.

        :param base: what was loaded from a file, if anything: strokes are added to what it has learnt. A head that
            came from strokes is no base: strokes that are removed have to be forgotten.
        """
        self.head, self._base = head, base
        if base is None:
            self._strokes.keepLabelsOf([])
        else:
            self._strokes.keepLabelsOf(self._tool.structures(base), self._tool.background(base))

    @property
    def base(self) -> Any:
        """The head that was loaded, which strokes are added to; ``None`` without one."""
        return self._base

    def relearn(self) -> None:
        """Learn from the strokes again, as if they had just been painted."""
        self._onStrokes()

    def rest(self) -> None:
        """Wait for the next stroke: what has changed so far was loaded, not painted."""
        self._changedAt = None

    def show(self, preview: Preview) -> None:
        """Show a prediction as preview."""
        self._slices.end()
        self._preview, scan = preview, preview.scan
        fillSegmentation(self._nodeFor(scan), preview)
        if preview.uncertainty is not None:
            self._views.setMap("uncertainty", scan, preview.uncertainty)
            self._views.update()
        self.updated.emit()

    def clearPreview(self) -> None:
        """Drop the preview, and the computation of one."""
        for topic in (TOPIC, WHOLE):
            self._worker.cancel(topic)
        had, self._preview = self._preview is not None or self.isPartial, None
        self._slices.end()
        node, self._node = self.previewNode, None
        if node is not None:
            removeFromScene(self._scene, node)
        self._views.empty("uncertainty")
        if had:
            self.updated.emit()

    def apply(self) -> "vtkMRMLSegmentationNode":
        """Write the preview into the result as the Segment Editor's settings allow; then the preview goes.

        :return: the result segmentation, which is written to at the next calls of :meth:`Session.poll`.
        :raises Vox2VecError: if there is no preview, the last one is still being applied or the settings forbid all.
        """
        preview = self._preview
        if self.isPartial:
            raise Vox2VecError(
                _("So far only the displayed slices are segmented; apply when the whole scan is.")
                if self._worker.isBusyWith(WHOLE)
                else _("Only displayed slices are segmented; update the preview before applying it.")
            )
        if preview is None or not preview.scan.isCurrent:
            raise Vox2VecError(_("There is no preview to apply; paint strokes and wait for it."))
        if self._result.isUnderWay:
            raise Vox2VecError(_("The result is still being written; apply again in a moment."))
        node = self._result.node(preview.scan.volumeNode)

        def done() -> None:
            if self._preview is preview:
                self.clearPreview()
            else:
                self.updated.emit()

        segments = segmentsFor(node, preview.structures, self._strokes.origins())
        contents = {segments[each.label]: contentOf(preview, each.label) for each in preview.structures}
        self._result.write(preview.scan, contents, _("Applying"), done, self._onFailed)
        return node

    def forget(self) -> None:
        """Drop head and preview."""
        self.head = self._base = None
        self._strokes.keepLabelsOf([])
        self.freeMemory()

    def freeMemory(self) -> None:
        """Drop the preview; the head is small, and the user's work."""
        self._changedAt = None
        self.clearPreview()

    def release(self) -> None:
        """:meth:`forget`, and no longer follow strokes and parameters."""
        self.forget()
        self._strokes.changed.disconnect(self._onStrokes)
        self._state.changed.disconnect(self._onState)

    def _learnt(self, slices: Slices) -> None:
        """Show the slices, then see to the head's place in the scene and to the whole scan."""
        tool, head, scan, example = self._tool, slices.head, slices.scan, slices.example
        self.head = head

        def text(_progress: Progress) -> str:
            time.sleep(FRAMES_SECONDS)
            return headText(tool, head)

        self._worker.submit(
            STORING,
            "",
            text,
            lambda text: storeHead(self._scene, self._state, text) if self.head is head else None,
            self._onFailed,
        )
        if not scan.isCurrent:
            return
        self._preview = None
        self._slices.show(slices)
        self._worker.submit(
            WHOLE,
            _("Segmenting the whole scan"),
            lambda progress: previewOf(tool, head, scan, tool.predict(head, example, progress)),
            lambda whole: self.show(whole) if scan.isCurrent else None,
            self._onFailed,
        )
        self.updated.emit()

    def _prepare(self) -> None:
        """The first stroke is there and something is missing still: use the time."""
        scan, tool, base = self._scans(self._state.volume), self._tool, self._base
        if scan is not None and self._strokes.isBegun:
            example = Example(scan.pyramid, None, scan.source.volume)
            self._worker.submit(PREPARATION, "", lambda _progress: tool.prepare(example, base))

    def _drawSlices(self, scan: Scan, head: Any, image: "vtkOrientedImageData") -> None:
        fillSegments(self._nodeFor(scan), self._tool.structures(head), image)

    def _nodeFor(self, scan: Scan) -> "vtkMRMLSegmentationNode":
        """The preview's segmentation, visible and over a scan; made when it is not there."""
        node = self.previewNode
        if node is None:
            node = self._node = newSegmentation(self._scene, PREVIEW_NAME, scan.volumeNode)
            node.GetDisplayNode().SetOpacity2DFill(PREVIEW_OPACITY)
            for each in (node, node.GetDisplayNode()):
                each.SetSaveWithScene(False)
        refer(node, scan.volumeNode)
        node.GetDisplayNode().SetVisibility(True)
        return node

    def _onStrokes(self) -> None:
        self._changedAt = time.monotonic()
        if self._state.autoUpdate:  # what is under way is out of date; stopping it now leaves the thread free in time
            self._worker.cancel(WHOLE)

    def _onState(self, name: str) -> None:
        if name == "volume":
            self.clearPreview()
        if name in ("autoUpdate", "headMethod"):
            self._onStrokes()


def segmentsFor(
    node: "vtkMRMLSegmentationNode", structures: Sequence[Structure], origins: dict[int, str]
) -> dict[int, str]:
    """By label: the segment of each structure in a segmentation, by its name; made when it is not there yet.

    Structures may be called alike; each has a segment of its own.

    :param origins: by label, what a structure comes from (its strokes). What was made from the same before is taken
        whatever its name is, and gets the name, colour and terminology that the structure has by now.
    """
    segmentation = node.GetSegmentation()
    made = {tag(segmentation.GetSegment(each), ORIGIN_TAG): each for each in reversed(segmentIDs(node))}
    found = {each.label: made[origin] for each in structures if (origin := origins.get(each.label)) in made}
    for structure in structures:
        name, label = structure.name, structure.label
        if label not in found:
            free = (each for each in segmentIDs(node) if each not in found.values())
            called = (each for each in free if segmentation.GetSegment(each).GetName() == name)
            found[label] = next(called, "") or addSegment(node, name, structure.color, structure.terminology)
        if label in origins:
            segment = segmentation.GetSegment(found[label])
            segment.SetTag(ORIGIN_TAG, origins[label])
            describe(segment, name, structure.color, structure.terminology)
    return found


def contentOf(preview: Preview, label: int) -> Callable[[Progress], SegmentContent]:
    """What gives a structure's content within the embedded part of the scan. For the worker: it takes a while."""
    box, within = preview.labels, preview.scan.partBox()

    def make(_progress: Progress) -> SegmentContent:
        mask = box.labels == label
        own = occupied(mask)
        i, j, k = (a + each.start for a, each in zip(box.first, own, strict=True))
        return SegmentContent(mask[own], (i, j, k), within)

    return make


def previewOf(tool: HeadTool, head: Any, scan: Scan, prediction: Prediction) -> Preview:
    """A prediction, ready to be shown, and no larger than it has to be. For the worker."""
    labels = labelBox(scan.part.turned(prediction.labels.array), scan.part.first)
    structures = tool.structures(head)
    voxels = {each.label: int(np.count_nonzero(labels.labels == each.label)) for each in structures}
    doubt = None if prediction.uncertainty is None else inImageOrder(prediction.uncertainty)
    return Preview(scan, structures, labels, voxels, doubt, prediction.next_ras)


def fillSegmentation(node: "vtkMRMLSegmentationNode", preview: Preview) -> None:
    """Make a segmentation show the structures of a preview, and no others."""
    box = preview.labels
    fillSegments(node, preview.structures, orientedImage(box.labels, box.first, preview.scan.volumeNode))


def fillSegments(
    node: "vtkMRMLSegmentationNode", structures: Sequence[Structure], image: "vtkOrientedImageData"
) -> None:
    """Make a segmentation show the structures of an image of labels, and no others."""
    found = segmentsFor(node, structures, {each.label: f"label {each.label}" for each in structures})
    for segmentID in segmentIDs(node):
        if segmentID not in found.values():
            node.GetSegmentation().RemoveSegment(segmentID)
    setSharedLabels(node, image, {segmentID: label for label, segmentID in found.items()})
