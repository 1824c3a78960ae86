"""Actions of a session on similarity, and on points in a second volume."""

from typing import TYPE_CHECKING, Any

import slicer

from Vox2VecSlicerLib.Layers import sliceNodesShowing
from Vox2VecSlicerLib.Matching import MatchRow
from Vox2VecSlicerLib.SessionSetup import SetupActions

if TYPE_CHECKING:
    from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScalarVolumeNode


class ExploreActions(SetupActions):
    """Explore, and Match."""

    def updateSimilarity(self, wait: bool = False) -> None:
        """Compute the map of the pinned points anew; happens by itself when they change."""
        self.similarity.update()
        if wait:
            self.wait()

    def similarityAt(self, world: Any) -> float | None:
        """Percentile of the map of the pinned points at a point in the world."""
        return self.similarity.at(world)

    @property
    def overlayNode(self) -> Any:
        """The volume that shows the similarity, if there is one."""
        return None if self.state.volume is None else self.views.overlay("similarity", self.state.volume).node

    def showLegend(self, shown: bool) -> None:
        """A legend of the overlay's colours in the views."""
        self.views.showLegend(shown)

    def exportSimilarity(self) -> "vtkMRMLScalarVolumeNode":
        """The map of the pinned points as a volume of its own, on the voxels of the CT; filled when it is computed.

        :raises Vox2VecError: if there is no map.
        """
        return self.similarityResults.export()

    def makeSegment(self, world: Any = None, name: str | None = None) -> str:
        """A segment of what is above the threshold and connected to a point (the last positive one when left out).

        :return: the segment in ``state.result``; it is filled when it is computed.
        :raises Vox2VecError: if there is no map or no point.
        """
        return self.similarityResults.makeSegment(world, name)

    def setTarget(self, volumeNode: "vtkMRMLScalarVolumeNode | None") -> None:
        """Compare with a second volume; it is embedded if it is not yet."""
        self.state.target = volumeNode
        if volumeNode is not None and not self.isEmbedded(volumeNode) and not self.embeddings.isUnderWay(volumeNode):
            self.embed(volumeNode)

    @property
    def matches(self) -> list[MatchRow]:
        """The pinned points in the target."""
        return self.matching.rows

    @property
    def targetPointsNode(self) -> Any:
        """The matches as Markups in the target, if there are any."""
        return self.matching.targetPointsNode

    def propagate(self, markupsNode: "vtkMRMLMarkupsFiducialNode", wait: bool = False) -> "vtkMRMLMarkupsFiducialNode":
        """All points of a list in the target, as a new list."""
        node = self.matching.propagate(markupsNode)
        if wait:
            self.wait()
        return node

    def showSideBySide(self) -> None:
        """The volume above, the target below, three slice views each."""
        self.sideBySide.show(self.state.volume, self.state.target)

    def showSingle(self) -> None:
        """The layout that was there before."""
        self.sideBySide.hide()

    def jumpTo(self, world: Any) -> None:
        """Let all slice views show a point of the world."""
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode", self.scene):
            node.JumpSliceByCentering(*(float(v) for v in world))

    def jumpToMatch(self, row: MatchRow) -> None:
        """Let all slice views show a point of the volume; those of the target show where it lies there."""
        target = self.state.target
        inTarget = [] if target is None else sliceNodesShowing(self.scene, target)
        self.jumpTo(row.sourceWorld)
        for node in inTarget:
            node.JumpSliceByCentering(*row.targetWorld)
