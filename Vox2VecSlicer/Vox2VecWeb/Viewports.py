"""The windows of the page: three slice views of the scan, three of the follow-up, and a 3D view."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import vtk
from trame_slicer.rca_view import RemoteSliceViewFactory, RemoteThreeDViewFactory
from trame_slicer.views import ViewLayoutDefinition
from trame_slicer.views.render_scheduler import NoScheduleRendering
from vtkmodules.vtkCommonCore import vtkCommand

from Vox2VecSlicerLib.Layout import SOURCE_VIEWS, TARGET_VIEWS

THREE_D = "ThreeD"
ORIENTATIONS = ("Axial", "Sagittal", "Coronal")  # in the order of SOURCE_VIEWS
COLORS = {"Axial": "#F34A33", "Sagittal": "#EDD54C", "Coronal": "#6EB04B"}
LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))  # towards smaller and larger RAS coordinates
JPEG_QUALITY = 92
FRAMES_PER_SECOND = 30.0
CLICK_PIXELS = 4
POINT_PIXELS = 9
HELD_SECONDS = 2.0
"""A button that has not moved for so long was released outside the page."""
HU_PER_PIXEL = 2.0


@dataclass(frozen=True)
class Click:
    """A click in a slice view that was neither a drag nor on a point.

    :param world: where, in RAS mm.
    """

    view: str
    world: tuple[float, float, float]
    shift: bool


def lettersOf(sliceToRas: np.ndarray) -> dict[str, str]:
    """What lies at the edges of a slice view: R, L, A, P, S or I, by the direction that counts most."""

    def towards(direction: np.ndarray) -> str:
        axis = int(np.abs(direction).argmax())
        return LETTERS[axis][int(direction[axis] > 0)]

    x, y = sliceToRas[:3, 0], sliceToRas[:3, 1]
    return {"right": towards(x), "left": towards(-x), "top": towards(y), "bottom": towards(-y)}


def _matrix(matrix: Any) -> np.ndarray:
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


class SliceWindow:
    """A slice view and what the mouse does in it: click, drag for window and level.

    Scrolling, panning (middle button), zooming (right button, Ctrl and wheel) are Slicer's own.
    """

    def __init__(self, view: Any, onClick: Callable[[Click], None], onWindow: Callable[[str, float, float], None]):
        self.view = view
        self.name = view.name
        self.clicks = True
        self._onClick = onClick
        self._onWindow = onWindow
        self._pressed: tuple[int, int] | None = None
        self._last = (0, 0)
        self._dragging = False
        self._heldAt: float | None = None
        interactor = view.interactor()
        interactor.AddObserver(vtkCommand.LeftButtonPressEvent, self._onPress, 2.0)
        interactor.AddObserver(vtkCommand.MouseMoveEvent, self._onMove, 2.0)
        interactor.AddObserver(vtkCommand.LeftButtonReleaseEvent, self._onRelease, 2.0)
        interactor.AddObserver(vtkCommand.WindowResizeEvent, self._beforeResize, 2.0)
        interactor.AddObserver(vtkCommand.WindowResizeEvent, self._afterResize, -1.0)
        self._fitted: tuple[float, ...] = ()
        self._wasFitted = False
        self._drawn: tuple[int, int] | None = None

    def drawIfChanged(self) -> None:
        """Ask for a frame when what lies behind the picture has changed.

        The displayable managers ask for frames themselves; the blending of the volumes does not.
        """
        producer = self.view._logic.GetImageDataConnection().GetProducer()
        producer.UpdateInformation()
        stamp = (self.node.GetMTime(), producer.GetExecutive().GetPipelineMTime())
        if stamp != self._drawn:
            self._drawn = stamp
            self.view.schedule_render()

    def fit(self) -> None:
        """The whole scan in the view; it stays so when the view gets another size, until it is panned or zoomed."""
        self.view.fit_view_to_content()
        self._fitted = self._section()

    def _section(self) -> tuple[float, ...]:
        return (*self.node.GetFieldOfView()[:2], *self.node.GetXYZOrigin()[:2])

    def _beforeResize(self, _caller: Any, _event: str) -> None:
        self._wasFitted = bool(self._fitted) and np.allclose(self._section(), self._fitted)

    def _afterResize(self, _caller: Any, _event: str) -> None:
        if self._wasFitted:
            offset = self.view.get_slice_value()
            self.fit()
            self.view.set_slice_value(offset)

    @property
    def isHeld(self) -> bool:
        """Whether the left button is down; on a slow line the page may ask for other things before it comes up."""
        return self._heldAt is not None and time.monotonic() - self._heldAt < HELD_SECONDS

    @property
    def node(self) -> Any:
        """The slice node."""
        return self.view.get_view_node()

    def world(self, position: tuple[int, int]) -> tuple[float, float, float]:
        """Point of the world under a pixel."""
        r, a, s, _ = self.node.GetXYToRAS().MultiplyPoint((*position, 0.0, 1.0))
        return r, a, s

    def status(self) -> dict[str, Any]:
        """Letters at the edges and the slice's place, for the page."""
        toRas = _matrix(self.node.GetSliceToRAS())
        axis = int(np.abs(toRas[:3, 2]).argmax())
        value = toRas[axis, 3]
        low, high = self.view.get_slice_range()
        return {
            **lettersOf(toRas),
            "place": f"{LETTERS[axis][int(value > 0)]} {abs(value):.1f} mm",
            "offset": round(self.view.get_slice_value(), 3),
            "low": round(low, 3),
            "high": round(high, 3),
            "step": max(round(self.view.get_slice_step(), 3), 0.01),
        }

    def _position(self) -> tuple[int, int]:
        return self.view.interactor().GetEventPosition()

    def _onPress(self, _caller: Any, _event: str) -> None:
        self._heldAt = time.monotonic()
        self._pressed = self._last = self._position()
        self._dragging = False
        if not self.clicks or self._onPoint(self._pressed):
            self._pressed = None

    def _onMove(self, _caller: Any, _event: str) -> None:
        if self._heldAt is not None:
            self._heldAt = time.monotonic()
        if self._pressed is None:
            return
        x, y = self._position()
        if not self._dragging and np.hypot(x - self._pressed[0], y - self._pressed[1]) > CLICK_PIXELS:
            self._dragging = True
        if self._dragging and not self.view.interactor().GetShiftKey():
            self._onWindow(self.name, HU_PER_PIXEL * (x - self._last[0]), HU_PER_PIXEL * (self._last[1] - y))
        self._last = (x, y)

    def _onRelease(self, _caller: Any, _event: str) -> None:
        self._heldAt = None
        pressed, self._pressed = self._pressed, None
        if pressed is not None and not self._dragging:
            self._onClick(Click(self.name, self.world(pressed), bool(self.view.interactor().GetShiftKey())))

    def _onPoint(self, position: tuple[int, int]) -> bool:
        """Whether a point of a Markups list is grabbed here: Slicer moves it."""
        toXy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), toXy)
        scene = self.node.GetScene()
        for index in range(scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode")):
            markups = scene.GetNthNodeByClass(index, "vtkMRMLMarkupsFiducialNode")
            for point in range(markups.GetNumberOfControlPoints()):
                place = [0.0, 0.0, 0.0]
                markups.GetNthControlPointPositionWorld(point, place)
                x, y, z, _ = toXy.MultiplyPoint((*place, 1.0))
                near = np.hypot(x - position[0], y - position[1]) < POINT_PIXELS and abs(z) < 1
                if near and not markups.GetNthControlPointLocked(point):
                    return True
        return False


class Viewports:
    """All windows.

    :param application: the running :class:`Application`.
    """

    def __init__(
        self,
        application: Any,
        server: Any,
        onClick: Callable[[Click], None],
        onWindow: Callable[[str, float, float], None],
    ) -> None:
        manager = self._manager = application.core.view_manager
        for kind in (RemoteSliceViewFactory, RemoteThreeDViewFactory):
            factory = kind(
                server,
                populate_view_ui_f=None,  # no buttons inside the pictures
                rca_encoder="jpeg",
                target_fps=FRAMES_PER_SECOND,
                blur_fps=FRAMES_PER_SECOND,
                interactive_quality=JPEG_QUALITY,
            )
            factory._view_ctor = partial(_still, factory._view_ctor)
            manager.register_factory(factory)
        self._callbacks = onClick, onWindow
        self._shown: list[str] = []
        self.slices: dict[str, SliceWindow] = {}
        self._add(SOURCE_VIEWS)
        self.threeD = manager.create_view(
            ViewLayoutDefinition.threed_view(name=THREE_D, background_color=("#000000", "#000000"))
        )
        _drawOnce(self.threeD)
        self._hasSurface = False
        self.crosshair = application.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        self.setLayout("four")

    def _add(self, names: Sequence[str]) -> None:
        for name, orientation in zip(names, ORIENTATIONS, strict=True):
            definition = ViewLayoutDefinition.slice_view(orientation, label=name, color=COLORS[orientation])
            view = self._manager.create_view(definition)
            _drawOnce(view)
            self.slices[name] = SliceWindow(view, *self._callbacks)

    def setLayout(self, layout: str) -> None:
        """``four``, ``rows``, or the name of a single view: what is not shown is not drawn."""
        self._shown = {"four": [*SOURCE_VIEWS, THREE_D], "rows": [*SOURCE_VIEWS, *TARGET_VIEWS]}.get(layout, [layout])
        self._manager.set_current_view_ids(self._shown)  # each of them is drawn once
        self._blockThreeD()

    def tick(self) -> None:
        """Draw what has changed."""
        for name in self._shown:
            if name in self.slices and self.slices[name].view.get_background_volume_id():
                self.slices[name].drawIfChanged()

    def showThreeD(self, shown: bool) -> None:
        """There is a surface to be seen in 3D, or no more: then the view is drawn once without it."""
        self._hasSurface = shown
        self.threeD.fit_view_to_content()
        self.threeD.set_render_blocked(False)
        self._blockThreeD()

    def _blockThreeD(self) -> None:
        """Where nothing is to be seen no click is drawn."""
        self.threeD.set_render_blocked(not self._hasSurface or THREE_D not in self._shown)

    def setBackground(self, volumeNode: Any, target: bool = False) -> None:
        """Show a scan in its three views, fitted. Those of the follow-up are made when they are first needed."""
        if target and TARGET_VIEWS[0] not in self.slices:
            if volumeNode is None:
                return
            self._add(TARGET_VIEWS)
        for name in TARGET_VIEWS if target else SOURCE_VIEWS:
            window = self.slices[name]
            window.view.set_background_volume_id(volumeNode.GetID() if volumeNode is not None else None)
            if volumeNode is not None:
                window.view._reset_node_view_properties()  # the scan's own axes
                window.fit()
        if not target and volumeNode is not None:
            bounds = np.zeros(6)
            volumeNode.GetRASBounds(bounds)
            self.crosshair.SetCrosshairRAS(*bounds.reshape(3, 2).mean(axis=1))

    def fit(self) -> None:
        """The whole scans in their views."""
        for window in self.slices.values():
            if window.view.get_background_volume_id():
                window.fit()
        self.threeD.fit_view_to_content()

    def jump(self, world: Any, names: Any, besides: str | None = None) -> None:
        """Let views show a point of the world, without moving what they show sideways."""
        for name in names:
            if name != besides and name in self.slices:
                self.slices[name].node.JumpSliceByOffsetting(*(float(v) for v in world))

    def scroll(self, name: str, steps: int) -> None:
        """Scroll a view by slices."""
        view = self.slices[name].view
        low, high = view.get_slice_range()
        view.set_slice_value(min(max(view.get_slice_value() + steps * view.get_slice_step(), low), high))

    def setOffset(self, name: str, offset: float) -> None:
        """Show the slice at an offset in mm."""
        self.slices[name].view.set_slice_value(float(offset))

    def showCrosshair(self, shown: bool) -> None:
        """Lines through the last point that was clicked."""
        node = self.crosshair
        node.SetCrosshairMode(node.ShowBasic if shown else node.NoCrosshair)

    def cursor(self) -> tuple[str, tuple[float, float, float]] | None:
        """View and point of the world under the mouse."""
        world = [0.0, 0.0, 0.0]
        if not self.crosshair.GetCursorPositionRAS(world):
            return None
        node = self.crosshair.GetCursorPositionXYZ([0.0, 0.0, 0.0])
        return None if node is None else (node.GetLayoutName(), (world[0], world[1], world[2]))

    def cursorShare(self) -> list[float]:
        """Where the mouse is in its view, from the upper left corner, in shares of width and height."""
        xyz = [0.0, 0.0, 0.0]
        node = self.crosshair.GetCursorPositionXYZ(xyz)
        x, y, _ = xyz
        width, height, _ = node.GetDimensions()
        return [round(x / max(width, 1), 3), round(1 - y / max(height, 1), 3)]

    def status(self) -> dict[str, dict[str, Any]]:
        """Letters and places of all slice views, for the page."""
        return {name: window.status() for name, window in self.slices.items()}


def _still(make: Callable[..., Any], **options: Any) -> Any:
    """A view that is not drawn while it is made: that would be sixty times, half a second. And without antialiasing,
    which takes ten times as long where there is no GPU."""
    view = make(scheduled_render_strategy=NoScheduleRendering(), **options)
    view.render_window().SetMultiSamples(0)
    return view


def _drawOnce(view: Any) -> None:
    """One frame for each change: with two qualities every frame would be drawn a second time when it is still."""
    view._scheduled_render._scheduler.update_quality(JPEG_QUALITY, JPEG_QUALITY)
