"""Two volumes side by side: three slice views each, as a layout of the scene's layout node."""

from typing import TYPE_CHECKING

import slicer

from Vox2VecSlicerLib.Layers import compositeNodes, setBackground
from Vox2VecSlicerLib.Observers import Observers
from Vox2VecSlicerLib.Signal import Signal

if TYPE_CHECKING:
    from slicer import vtkMRMLLayoutNode, vtkMRMLScene, vtkMRMLVolumeNode

SIDE_BY_SIDE = 5092
"""Identifier of the layout; Slicer's own are below 1000."""
SOURCE_VIEWS = ("Red", "Yellow", "Green")
TARGET_VIEWS = ("Vox2VecRed", "Vox2VecYellow", "Vox2VecGreen")
_LOOKS = (("Axial", "R", "#F34A33"), ("Sagittal", "Y", "#EDD54C"), ("Coronal", "G", "#6EB04B"))


def description() -> str:
    """The layout in Slicer's XML: the volume's views in the upper row, the target's in the lower one."""
    rows = "".join(
        '<item><layout type="horizontal">'
        + "".join(
            _view(name, orientation, letter + mark, color)
            for name, (orientation, letter, color) in zip(views, _LOOKS, strict=True)
        )
        + "</layout></item>"
        for views, mark in ((SOURCE_VIEWS, ""), (TARGET_VIEWS, "2"))
    )
    return f'<layout type="vertical">{rows}</layout>'


def _view(name: str, orientation: str, label: str, color: str) -> str:
    return (
        f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">'
        f'<property name="orientation" action="default">{orientation}</property>'
        f'<property name="viewlabel" action="default">{label}</property>'
        f'<property name="viewcolor" action="default">{color}</property></view></item>'
    )


def register(scene: "vtkMRMLScene") -> None:
    """Make the layout known: a scene that was saved with it has no views before."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is not None and not node.IsLayoutDescription(SIDE_BY_SIDE):
        node.AddLayoutDescription(SIDE_BY_SIDE, description())
        if node.GetViewArrangement() == SIDE_BY_SIDE:
            node.SetViewArrangement(SIDE_BY_SIDE)


class SideBySide:
    """Shows the layout and gives the views their volumes; remembers the layout that was there.

    :ivar changed: emitted when another layout may be shown, by whomever.
    """

    def __init__(self, scene: "vtkMRMLScene") -> None:
        self.changed = Signal()
        self._scene = scene
        self._before = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
        self._observers = Observers()
        register(scene)
        node = self._node()
        if node is not None:
            self._observers.add(node, "ModifiedEvent", lambda *_: self.changed.emit())

    @property
    def isShown(self) -> bool:
        """Whether the layout is the one that is shown."""
        node = self._node()
        return node is not None and node.GetViewArrangement() == SIDE_BY_SIDE

    def show(self, volumeNode: "vtkMRMLVolumeNode | None", targetNode: "vtkMRMLVolumeNode | None") -> None:
        """Show the two volumes."""
        node = self._node()
        if node is None:
            return
        if not self.isShown:
            register(self._scene)
            self._before = node.GetViewArrangement()
            node.SetViewArrangement(SIDE_BY_SIDE)
        for views, shown in ((SOURCE_VIEWS, volumeNode), (TARGET_VIEWS, targetNode)):
            if shown is not None:
                setBackground([node for node in compositeNodes(self._scene) if node.GetLayoutName() in views], shown)

    def hide(self) -> None:
        """Back to the layout that was there before."""
        node = self._node()
        if node is not None and self.isShown:
            node.SetViewArrangement(self._before)

    def release(self) -> None:
        """Remove the observer; the layout stays as it is."""
        self._observers.remove()

    def _node(self) -> "vtkMRMLLayoutNode | None":
        return self._scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
