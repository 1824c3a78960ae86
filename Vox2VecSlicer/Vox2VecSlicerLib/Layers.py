"""The foreground layer of the slice views: ours while the module is used, the user's own again afterwards."""

from typing import TYPE_CHECKING, Any

import slicer

from Vox2VecSlicerLib.Observers import Observers

if TYPE_CHECKING:
    from slicer import vtkMRMLScene, vtkMRMLSliceCompositeNode, vtkMRMLSliceNode, vtkMRMLVolumeNode


def compositeNodes(scene: "vtkMRMLScene", background: "vtkMRMLVolumeNode | None" = None) -> list[Any]:
    """The slice views' layers; those with a certain background, or all."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene)
    return [n for n in nodes if background is None or n.GetBackgroundVolumeID() == background.GetID()]


def sliceNodesShowing(scene: "vtkMRMLScene", volume: "vtkMRMLVolumeNode") -> list[Any]:
    """The slice views that have a volume in their background."""
    names = {node.GetLayoutName() for node in compositeNodes(scene, volume)}
    return [node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode", scene) if node.GetLayoutName() in names]


def visibleSliceNodesShowing(scene: "vtkMRMLScene", volume: "vtkMRMLVolumeNode") -> list[Any]:
    """The same without views that the layout does not show at the moment; their nodes stay in the scene."""
    laidOut = any(node.IsMappedInLayout() for node in slicer.util.getNodesByClass("vtkMRMLSliceNode", scene))
    return [node for node in sliceNodesShowing(scene, volume) if node.IsMappedInLayout() or not laidOut]


def shownIn(scene: "vtkMRMLScene", sliceNode: "vtkMRMLSliceNode | None") -> Any:
    """The volume in the background of a slice view, or ``None``."""
    for node in [] if sliceNode is None else compositeNodes(scene):
        if node.GetLayoutName() == sliceNode.GetLayoutName():
            return scene.GetNodeByID(node.GetBackgroundVolumeID() or "")
    return None


def setBackground(nodes: "list[vtkMRMLSliceCompositeNode]", volume: "vtkMRMLVolumeNode") -> None:
    """Put a volume into the background of slice views; all of it is in view where it was not shown before."""
    changed = [node for node in nodes if node.GetBackgroundVolumeID() != volume.GetID()]
    for node in changed:
        node.SetBackgroundVolumeID(volume.GetID())
    application = slicer.modules.volumes.logic().GetMRMLApplicationLogic()
    logics = application.GetSliceLogics()
    for logic in map(logics.GetItemAsObject, range(logics.GetNumberOfItems())):
        if logic.GetSliceCompositeNode() in changed:
            logic.FitSliceToBackground()


def showVolume(scene: "vtkMRMLScene", volume: "vtkMRMLVolumeNode", spared: "vtkMRMLVolumeNode | None") -> None:
    """Show a volume that no slice view shows, in all of them but those of another volume."""
    if visibleSliceNodesShowing(scene, volume):
        return
    theirs = [] if spared is None else compositeNodes(scene, spared)
    setBackground([node for node in compositeNodes(scene) if node not in theirs] or theirs, volume)


class ForegroundLayers:
    """Shows overlays in front of volumes and remembers what was there before.

    The scene is saved with the user's own foreground: the overlays are not part of it.
    """

    def __init__(self, scene: "vtkMRMLScene") -> None:
        self._scene = scene
        self._before: dict[str, tuple[str | None, float]] = {}
        self._shown: dict[str, tuple[str, float]] = {}
        self._observers = Observers()
        self._observers.add(scene, scene.StartSaveEvent, lambda *_: self._takeOff())
        self._observers.add(scene, scene.EndSaveEvent, lambda *_: self._putOn())

    def show(self, overlay: "vtkMRMLVolumeNode", volume: "vtkMRMLVolumeNode", opacity: float) -> int:
        """Put an overlay in front of a volume, in every view that shows it; returns the number of views."""
        nodes = compositeNodes(self._scene, volume)
        shown = {node.GetID() for node in nodes}
        self._hide([each for each in self._showing(overlay) if each not in shown])
        for node in nodes:
            self._remember(node)
            self._shown[node.GetID()] = (overlay.GetID(), opacity)
            _setForeground(node, overlay.GetID(), opacity)
        return len(nodes)

    def hide(self, overlay: "vtkMRMLVolumeNode | None" = None) -> None:
        """Give the views their former foreground back: those that show an overlay, or all."""
        self._hide(list(self._shown) if overlay is None else self._showing(overlay))

    def _showing(self, overlay: "vtkMRMLVolumeNode") -> list[str]:
        return [each for each, (overlayID, _opacity) in self._shown.items() if overlayID == overlay.GetID()]

    def _hide(self, compositeIDs: list[str]) -> None:
        for compositeID in compositeIDs:
            overlayID, _opacity = self._shown.pop(compositeID)
            self._restore(compositeID, overlayID)
            self._before.pop(compositeID, None)

    def release(self) -> None:
        """Former foregrounds back, observers gone."""
        self.hide()
        self._observers.remove()

    def _remember(self, node: "vtkMRMLSliceCompositeNode") -> None:
        current, ours = node.GetForegroundVolumeID(), self._shown.get(node.GetID())
        if ours is None or current != ours[0]:  # what the user has chosen meanwhile counts, too
            self._before[node.GetID()] = (current, node.GetForegroundOpacity())

    def _restore(self, compositeID: str, overlayID: str) -> None:
        node = self._scene.GetNodeByID(compositeID)
        if node is None or node.GetForegroundVolumeID() != overlayID:
            return
        former, opacity = self._before.get(compositeID, (None, 0.0))
        if former is not None and self._scene.GetNodeByID(former) is None:
            former, opacity = None, 0.0
        _setForeground(node, former, opacity)

    def _takeOff(self) -> None:
        for compositeID, (overlayID, _) in self._shown.items():
            self._restore(compositeID, overlayID)

    def _putOn(self) -> None:
        for compositeID, (overlayID, opacity) in self._shown.items():
            node = self._scene.GetNodeByID(compositeID)
            if node is not None:
                _setForeground(node, overlayID, opacity)


def _setForeground(node: "vtkMRMLSliceCompositeNode", volumeID: str | None, opacity: float) -> None:
    wasModifying = node.StartModify()
    node.SetForegroundVolumeID(volumeID)
    node.SetForegroundOpacity(opacity)
    node.EndModify(wasModifying)
