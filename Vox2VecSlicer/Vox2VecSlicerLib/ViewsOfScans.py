"""What lies in one of two compared scans is not drawn in the views of the other: there it would mark wrong places."""

from typing import TYPE_CHECKING, Any

import slicer
import vtk

from Vox2VecSlicerLib.Layers import compositeNodes, sliceNodesShowing
from Vox2VecSlicerLib.Observers import Observers
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.State import ModuleState

if TYPE_CHECKING:
    from slicer import vtkMRMLDisplayableNode, vtkMRMLScene, vtkMRMLVolumeNode

ROLE = "Vox2Vec.Scan"
NOWHERE = "Vox2Vec.NoView"
"""No view has this ID. A node without any ID is drawn in every view."""

OF_THE_VOLUME = ("positivePoints", "negativePoints")
MARKED_CLASSES = ("vtkMRMLMarkupsFiducialNode", "vtkMRMLSegmentationNode")
VIEW_CLASSES = ("vtkMRMLSliceNode", "vtkMRMLViewNode")


def liesIn(node: "vtkMRMLDisplayableNode", volumeNode: "vtkMRMLVolumeNode") -> None:
    """Say that points or segments lie in a scan."""
    node.SetNodeReferenceID(ROLE, volumeNode.GetID())


def scanOf(node: "vtkMRMLDisplayableNode") -> "vtkMRMLVolumeNode | None":
    """The scan that points or segments lie in, as far as it is known and still there."""
    if node.GetNodeReference(ROLE) is None and node.IsA("vtkMRMLSegmentationNode"):
        return node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    return node.GetNodeReference(ROLE)


def drawOnlyIn(node: "vtkMRMLDisplayableNode", viewIDs: list[str]) -> None:
    """Draw a node in these views, in every view if there is none in the list."""
    for index in range(node.GetNumberOfDisplayNodes()):
        display = node.GetNthDisplayNode(index)
        if display is not None and list(display.GetViewNodeIDs()) != viewIDs:
            display.SetViewNodeIDs(viewIDs)


class ViewsOfScans:
    """Looks after the views in which points and segments are drawn: at once when another volume comes into the
    background of a view, at the call of :meth:`tick` after other changes.

    :ivar changed: emitted when another volume has come into the background of a view.
    """

    def __init__(self, scene: "vtkMRMLScene", state: ModuleState) -> None:
        self.changed = Signal()
        self._scene = scene
        self._state = state
        self._observers = Observers()
        self._composites = Observers()
        self._backgrounds: tuple = ()
        self._dirty = True
        self._observers.add(scene, [scene.NodeAddedEvent, scene.NodeRemovedEvent], self._onNode)
        state.changed.connect(self._onState)
        self._watch()

    def tick(self) -> None:
        """Bring the views up to date, if anything has changed since the last call."""
        if not self._dirty:
            return
        self._dirty = False
        volume, target = self._state.volume, self._state.target
        for name in OF_THE_VOLUME:
            if getattr(self._state, name) is not None and volume is not None:
                liesIn(getattr(self._state, name), volume)
        pair = {} if volume is None or target is None or volume is target else {volume: target, target: volume}
        for node in self._marked():
            other = pair.get(node.GetNodeReference(ROLE))
            drawOnlyIn(node, [] if other is None else self._withoutViewsOf(other))
        before, self._backgrounds = self._backgrounds, self._shown()
        if self._backgrounds != before:
            self.changed.emit()

    def release(self) -> None:
        """Draw everything everywhere again, and leave no observer."""
        self._observers.remove()
        self._composites.remove()
        self._state.changed.disconnect(self._onState)
        for node in self._marked():
            drawOnlyIn(node, [])

    def _marked(self) -> list[Any]:
        nodes = [node for each in MARKED_CLASSES for node in slicer.util.getNodesByClass(each, self._scene)]
        return [node for node in nodes if node.GetNodeReference(ROLE) is not None]

    def _withoutViewsOf(self, volumeNode: "vtkMRMLVolumeNode") -> list[str]:
        """All views but the slices of a volume; none are left out when no slice shows it."""
        theirs = {node.GetID() for node in sliceNodesShowing(self._scene, volumeNode)}
        if not theirs:
            return []
        views = [node for each in VIEW_CLASSES for node in slicer.util.getNodesByClass(each, self._scene)]
        return [node.GetID() for node in views if node.GetID() not in theirs] or [NOWHERE]

    def _watch(self) -> None:
        self._composites.remove()
        for node in compositeNodes(self._scene):
            self._composites.add(node, "ModifiedEvent", self._onComposite)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNode(self, _caller: Any, _event: Any, node: Any) -> None:
        if node is not None and any(node.IsA(each) for each in (*MARKED_CLASSES, *VIEW_CLASSES)):
            self._dirty = True
        if node is not None and node.IsA("vtkMRMLSliceCompositeNode"):
            self._watch()
            self._onComposite()

    def _onComposite(self, _caller: Any = None, _event: Any = None) -> None:
        if self._shown() != self._backgrounds:
            self._dirty = True
            if not self._scene.IsBatchProcessing():  # nor does anyone tick while another module is shown
                self.tick()

    def _shown(self) -> tuple:
        return tuple((node.GetID(), node.GetBackgroundVolumeID()) for node in compositeNodes(self._scene))

    def _onState(self, name: str) -> None:
        if name in ("volume", "target", *OF_THE_VOLUME):
            self._dirty = True
