"""Segmenting: strokes, the preview that is learnt from them, heads and results."""

from pathlib import Path
from typing import Any

import numpy as np
import slicer

from Vox2VecCore.errors import Vox2VecError
from Vox2VecSlicerLib.Layout import SOURCE_VIEWS
from Vox2VecSlicerLib.Nodes import removeFromScene
from Vox2VecSlicerLib.Segments import segmentIDs
from Vox2VecSlicerLib.Session import Session
from Vox2VecSlicerLib.StoredLabels import StoredLabels
from Vox2VecWeb.Page import Page
from Vox2VecWeb.Painting import BRUSH_MM, Painting
from Vox2VecWeb.Viewports import Viewports

SURFACE = "Closed surface"


class Segment:
    """The section of the page where strokes become a segmentation."""

    def __init__(self, page: Page, session: Session, viewports: Viewports, application: Any) -> None:
        self._page = page
        self._session = session
        self._viewports = viewports
        self._application = application
        self._painting = Painting(application.core.segmentation_editor)
        self._awaitsHead = False
        self._awaitsRelease = False
        self._counted: dict[str, tuple[Any, str]] = {}
        self._hidesLikeness = False
        page.show(
            tool="explore",
            brush=8.0,
            structures=[],
            active="",
            strokesStatus="",
            preview=False,
            whole=False,
            previews=0,
            results=[],
            surface=False,
            head="",
            canUndo=False,
            canRedo=False,
            autoUpdate=session.state.autoUpdate,
        )
        page.command("setTool", self._setTool)
        page.command("choose", self._choose)
        page.command("addStructure", self._addStructure)
        page.command("rename", self._rename)
        page.command("recolor", self._recolor)
        page.command("removeStructure", self._removeStructure)
        page.command("undo", self._undo)
        page.command("redo", self._redo)
        page.command("updatePreview", session.updatePreview)
        page.command("apply", self._apply)
        page.command("whereNext", self._whereNext)
        page.command("applyHead", self._applyHead)
        page.command("forgetHead", session.dropHead)
        page.command("removeResult", self._removeResult)
        page.follow("brush", lambda _value: self._startTool())
        page.follow("surface", self._showSurface)
        page.follow("autoUpdate", lambda value: setattr(session.state, "autoUpdate", bool(value)))
        session.previewUpdated.connect(self._onPreview)
        session.headLoaded.connect(self._onHeadLoaded)

    def forget(self) -> None:
        """Another scan is shown: strokes, preview and results are gone."""
        self._painting.forget()
        self._session.clearPreview()
        state = self._session.state
        for name in ("strokes", "result"):
            node = getattr(state, name)
            if node is not None:
                setattr(state, name, None)
                self._application.scene.RemoveNode(node)
        self._take("explore")
        self._page.show(structures=[], active="", preview=False, whole=False, results=[], strokesStatus="")
        self._setClicks()

    def tick(self) -> bool:
        """Bring the page up to date with what is painted; returns whether structures or results have changed."""
        state = self._session.state
        self._page.show(
            canUndo=self._painting.canUndo or self._hasWritten("canUndo"),
            canRedo=self._painting.canRedo or self._hasWritten("canRedo"),
        )
        if self._awaitsRelease:
            self._startTool()
        if self._awaitsHead and not self._session.busy:
            self._awaitsHead = False
            self._takeApplied()
        stamp = tuple(
            (node.GetID(), node.GetSegmentation().GetMTime(), hasStamp(node)) if node is not None else None
            for node in (state.strokes, state.result, self._session.fewShot.previewNode)
        )
        if stamp == getattr(self, "_stamp", None):
            return False
        self._stamp = stamp
        self._list()
        return True

    def openHead(self, folder: Path) -> None:
        """Load an uploaded head; once it is read it is applied to the scan."""
        if self._session.state.volume is None:
            self._page.say("Open a scan first; then load the head that is to segment it.")
            return
        self._session.loadHead(next(folder.iterdir()))

    def _onHeadLoaded(self, _path: Path) -> None:
        self._page.show(head=self._session.headSummary())
        try:
            self._applyHead()
        except Vox2VecError as error:
            self._page.say(str(error))

    def _applyHead(self) -> None:
        self._session.applyHead([self._session.state.volume])
        self._awaitsHead = True

    # Structures and tools

    def _list(self) -> None:
        state = self._session.state
        strokes, background = state.strokes, state.backgroundSegment
        rows = []
        preview = self._session.fewShot.preview
        shown = {}
        if preview is not None:
            shown = {each.name: _ml(preview.voxels[each.label], state.volume) for each in preview.structures}
        for segmentID in [] if strokes is None else segmentIDs(strokes):
            segment = strokes.GetSegmentation().GetSegment(segmentID)
            rows.append(
                {
                    "id": segmentID,
                    "name": segment.GetName(),
                    "color": _hex(segment.GetColor()),
                    "background": segmentID == background,
                    "painted": self._session.strokes.isPainted(strokes, segmentID),
                    "ml": shown.get(segment.GetName(), ""),
                }
            )
        results = []
        if state.result is not None:
            for segmentID in segmentIDs(state.result):
                segment = state.result.GetSegmentation().GetSegment(segmentID)
                results.append(
                    {
                        "id": segmentID,
                        "name": segment.GetName(),
                        "color": _hex(segment.GetColor()),
                        "ml": self._resultMl(segmentID, segment),
                    }
                )
        status = "" if strokes is None else self._session.strokesStatus()
        self._page.show(structures=rows, results=results, strokesStatus=status, head=self._session.headSummary())

    def _resultMl(self, segmentID: str, segment: Any) -> str:
        """Volume of a segment of the result; counted again only when it has changed, for every stroke asks for it."""
        image, value = segment.GetRepresentation("Binary labelmap"), segment.GetLabelValue()
        labels = StoredLabels.of(image)
        stamp = None if labels is None else (image.GetMTime(), image.GetPointData().GetScalars().GetMTime(), value)
        if segmentID not in self._counted or self._counted[segmentID][0] != stamp:
            voxels = 0 if labels is None else labels.count(value)
            self._counted[segmentID] = (stamp, _ml(voxels, self._session.state.volume))
        return self._counted[segmentID][1]

    def _setTool(self, tool: str) -> None:
        if tool not in ("explore", "paint", "erase"):
            raise ValueError(f"There is no tool {tool}.")
        if tool != "explore" and self._session.state.volume is None:
            raise Vox2VecError("Open a scan before painting.")
        self._take(tool)
        self._startTool()

    def _take(self, tool: str) -> None:
        """While strokes are painted, the colours of what looks alike would hide what is learnt from them."""
        state = self._session.state
        if tool != "explore" and state.view == "similarity":
            state.view, self._hidesLikeness = "none", True
        elif tool == "explore" and self._hidesLikeness:
            self._hidesLikeness = False
            if state.view == "none":
                state.view = "similarity"
        self._page.show(tool=tool)

    def _startTool(self) -> None:
        page, session = self._page, self._session
        self._awaitsRelease = any(window.isHeld for window in self._viewports.slices.values())
        if self._awaitsRelease:  # a stroke ends in the structure in which it was begun
            return
        self._setClicks()
        if page.state.tool == "explore":
            self._painting.stop()
            return
        strokes = session.strokesNode()
        names = segmentIDs(strokes)
        if page.state.active not in names:
            page.show(active=next(each for each in names if each != session.state.backgroundSegment))
        brush = min(max(float(page.state.brush), BRUSH_MM[0]), BRUSH_MM[1])
        self._painting.start(page.state.tool, strokes, session.state.volume, page.state.active, brush)

    def _setClicks(self) -> None:
        """The left button pins and moves points, or it paints."""
        explores = self._page.state.tool == "explore"
        for window in self._viewports.slices.values():
            window.clicks = explores
        for node in (self._session.state.positivePoints, self._session.state.negativePoints):
            if node is not None:
                node.SetLocked(not explores)

    def _choose(self, segmentID: str) -> None:
        self._page.show(active=segmentID)
        if self._page.state.tool == "explore":
            self._take("paint")
        self._startTool()

    def _segment(self, segmentID: str) -> Any:
        strokes = self._session.state.strokes
        segment = None if strokes is None else strokes.GetSegmentation().GetSegment(segmentID)
        if segment is None:
            raise Vox2VecError("This structure is no longer there.")
        return segment

    def _addStructure(self) -> None:
        self._choose(self._session.addStructure())

    def _rename(self, segmentID: str, name: str) -> None:
        if name.strip():
            self._segment(segmentID).SetName(name.strip()[:60])

    def _recolor(self, segmentID: str, color: str) -> None:
        self._segment(segmentID).SetColor(*(int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)))

    def _removeStructure(self, segmentID: str) -> None:
        self._segment(segmentID)
        self._session.state.strokes.GetSegmentation().RemoveSegment(segmentID)
        if self._page.state.active == segmentID:
            self._take("explore")
            self._page.show(active="")
            self._startTool()

    def _hasWritten(self, what: str) -> bool:
        return self._session.state.result is not None and bool(getattr(self._session, what))

    def _undo(self) -> None:
        if self._painting.canUndo:
            self._painting.undo()
        elif self._hasWritten("canUndo"):
            self._session.undo()

    def _redo(self) -> None:
        if self._painting.canRedo:
            self._painting.redo()
        elif self._hasWritten("canRedo"):
            self._session.redo()

    # Preview and result

    def _onPreview(self) -> None:
        previews, fewShot = self._page.state.previews + 1, self._session.fewShot
        whole = fewShot.preview is not None
        shown = whole or fewShot.isPartial
        self._page.show(preview=shown, whole=whole, previews=previews, head=self._session.headSummary())
        if self._page.state.surface and not fewShot.isPartial:  # the former surface stays until the whole scan is there
            self._showSurface(True)
        self._stamp = None

    def _apply(self) -> None:
        self._session.apply()
        if self._page.state.surface:
            self._showSurface(True)

    def _takeApplied(self) -> None:
        """What a head has segmented becomes the result; a structure that is there already is found anew."""
        state = self._session.state
        own = (state.strokes, state.result, self._session.fewShot.previewNode)
        nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", self._application.scene)
        applied = next((node for node in reversed(nodes) if node not in own), None)
        if applied is None:
            return
        if state.result is None:
            state.result = applied
            return
        result, found = state.result.GetSegmentation(), applied.GetSegmentation()
        for segmentID in segmentIDs(applied):
            former = result.GetSegmentIdBySegmentName(found.GetSegment(segmentID).GetName())
            if former:
                result.RemoveSegment(former)
            result.CopySegmentFromSegmentation(found, segmentID)
        removeFromScene(self._application.scene, applied)

    def _shownSegmentation(self) -> Any:
        return self._session.fewShot.previewNode or self._session.state.result

    def _showSurface(self, shown: Any) -> None:
        for node in (self._session.fewShot.previewNode, self._session.state.result):
            if node is None:
                continue
            wanted = bool(shown) and node is self._shownSegmentation()
            segmentation = node.GetSegmentation()
            if wanted:
                segmentation.RemoveRepresentation(SURFACE)
                node.CreateClosedSurfaceRepresentation()
                node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(SURFACE)
            node.GetDisplayNode().SetVisibility3D(wanted)
            if not wanted:
                segmentation.RemoveRepresentation(SURFACE)
        self._viewports.showThreeD(bool(shown))

    def _removeResult(self, segmentID: str) -> None:
        result = self._session.state.result
        if result is not None:
            result.GetSegmentation().RemoveSegment(segmentID)

    def _whereNext(self) -> None:
        world = self._session.whereToPaintNext()
        if world is None and self._session.fewShot.isPartial:
            self._page.say("So far only the displayed slices are segmented; ask again when the whole scan is.", "info")
            return
        if world is None:
            self._page.say("Paint first; then the place can be found where a stroke would help most.", "info")
            return
        self._viewports.crosshair.SetCrosshairRAS(*world)
        self._viewports.jump(world, SOURCE_VIEWS)


def hasStamp(node: Any) -> int:
    """Changes with the voxels, names and colours of a segmentation."""
    segmentation = node.GetSegmentation()
    stamps = [segmentation.GetMTime()]
    for segmentID in segmentIDs(node):
        segment = segmentation.GetSegment(segmentID)
        image = segment.GetRepresentation("Binary labelmap")
        stamps += [segment.GetMTime(), 0 if image is None else image.GetMTime()]
    return max(stamps)


def _hex(color: Any) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(round(255 * c) for c in color))


def _ml(voxels: int, volumeNode: Any) -> str:
    millilitres = voxels * float(np.prod(volumeNode.GetSpacing())) / 1000
    return f"{millilitres:.1f} ml" if millilitres < 100 else f"{millilitres:.0f} ml"
