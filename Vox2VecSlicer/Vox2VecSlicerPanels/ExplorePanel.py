"""Explore: hover, pinned points, sliders, legend, a segment of what lights up."""

import slicer
from slicer.i18n import tr as _

from Vox2VecSlicerPanels.Actions import Actions
from Vox2VecSlicerPanels.Binding import Binding


class ExplorePanel:
    """Similarity in the slice views."""

    def __init__(self, ui, session, binding: Binding, actions: Actions) -> None:
        self._ui, self._session = ui, session
        binding.flag(ui.hoverCheckBox, "hover")
        binding.number(ui.balanceSlider, "balance")
        binding.flag(ui.spreadCheckBox, "spreading")
        binding.number(ui.thresholdSlider, "threshold")
        binding.number(ui.opacitySlider, "opacity")
        binding.choice(
            ui.viewComboBox,
            "view",
            [
                ("similarity", _("Similarity to the points")),
                ("colors", _("Embedding in colours")),
                ("uncertainty", _("Uncertainty of the segmentation")),
                ("none", _("Nothing")),
            ],
        )
        for place in (ui.positivePlaceWidget, ui.negativePlaceWidget):
            place.buttonsVisible = False
            place.placeButton().show()
            place.placeMultipleMarkups = slicer.qSlicerMarkupsPlaceWidget.ForcePlaceMultipleMarkups
        actions.button(ui.clearPointsButton, session.points.clear)
        actions.on(ui.legendCheckBox, "toggled(bool)", session.showLegend)
        actions.button(ui.makeSegmentButton, self.makeSegment)
        actions.button(ui.exportSimilarityButton, session.exportSimilarity)
        actions.follow(session.similarityUpdated, self.refresh)
        actions.follow(session.points.changed, self.refresh)
        actions.follow(session.embedded, lambda _node: self.refresh())
        actions.follow(session.state.changed, self._follow)
        self.refresh()

    def _follow(self, name: str) -> None:
        if name == "volume":
            self.refresh()

    def refresh(self) -> None:
        """Show the lists of points and what can be done with them."""
        ui, state = self._ui, self._session.state
        positive, negative = state.positivePoints, state.negativePoints
        if self._session.isEmbedded(state.volume):  # now clicks make sense, and placing needs lists
            positive, negative = self._session.points.positiveNode, self._session.points.negativeNode
        ui.positivePlaceWidget.setCurrentNode(positive)
        ui.negativePlaceWidget.setCurrentNode(negative)
        ui.positiveLabel.text = self._count(positive)
        ui.negativeLabel.text = self._count(negative)
        pinned = positive is not None and positive.GetNumberOfDefinedControlPoints() > 0
        ui.makeSegmentButton.enabled = pinned
        ui.exportSimilarityButton.enabled = pinned

    def place(self, positive: bool) -> None:
        """Start placing points, or stop."""
        points = self._session.points
        node = points.positiveNode if positive else points.negativeNode
        widget = self._ui.positivePlaceWidget if positive else self._ui.negativePlaceWidget
        widget.setCurrentNode(node)
        widget.setPlaceModeEnabled(not widget.placeModeEnabled)

    def makeSegment(self) -> None:
        """A segment of what is above the threshold around the last point."""
        self._session.makeSegment()

    def leave(self) -> None:
        """Stop placing points: the next click belongs to another module."""
        for widget in (self._ui.positivePlaceWidget, self._ui.negativePlaceWidget):
            if widget.placeModeEnabled:  # else it would end what the mouse does otherwise, such as window and level
                widget.setPlaceModeEnabled(False)

    @staticmethod
    def _count(node) -> str:
        number = node.GetNumberOfDefinedControlPoints() if node is not None else 0
        if number == 1:
            return _("1 point")
        return _("{count} points").format(count=number) if number else _("no points")
