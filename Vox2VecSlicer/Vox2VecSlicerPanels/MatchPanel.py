"""Match: the pinned points in a second scan."""

import qt

from Vox2VecSlicerPanels.Actions import Actions
from Vox2VecSlicerPanels.Binding import Binding


class MatchPanel:
    """A table of matches; a click on a row shows its places in both scans."""

    def __init__(self, ui, session, binding: Binding, actions: Actions) -> None:
        self._ui, self._session = ui, session
        self._rows: list = []
        binding.node(ui.targetSelector, "target", session.setTarget)
        actions.on(ui.sideBySideCheckBox, "toggled(bool)", self._arrange)
        actions.on(ui.propagateSelector, "currentNodeChanged(vtkMRMLNode*)", lambda _node: self.refresh())
        actions.button(ui.propagateButton, lambda: session.propagate(ui.propagateSelector.currentNode()))
        actions.on(ui.matchesTable, "cellClicked(int,int)", self._jump)
        actions.follow(session.matchesUpdated, self.showMatches)
        actions.follow(session.state.changed, self._follow)
        actions.follow(session.sideBySide.changed, self.refresh)
        ui.matchesTable.horizontalHeader().setStretchLastSection(True)
        self.refresh()

    def _follow(self, name: str) -> None:
        if name == "target":
            self.refresh()

    def refresh(self) -> None:
        """Enable what makes sense."""
        target = self._session.state.target
        points = self._ui.propagateSelector.currentNode()
        self._ui.propagateButton.enabled = target is not None and points is not None
        if target is None:
            self._session.showSingle()
            self.showMatches([])
        self._ui.sideBySideCheckBox.enabled = target is not None
        self._ui.sideBySideCheckBox.checked = self._session.sideBySide.isShown

    def showMatches(self, rows: list) -> None:
        """:param rows: the session's matches, in the order of the points."""
        table = self._ui.matchesTable
        self._rows = list(rows)
        table.setRowCount(len(self._rows))
        for index, row in enumerate(self._rows):
            texts = (row.label, f"{row.similarity:.2f}", f"{row.cycleErrorMm:.1f}", row.verdict)
            for column, text in enumerate(texts):
                table.setItem(index, column, qt.QTableWidgetItem(text))
        table.resizeColumnsToContents()

    def _arrange(self, sideBySide: bool) -> None:
        if not sideBySide:
            self._session.showSingle()
        elif not self._session.sideBySide.isShown:  # else the box only says how it is
            self._session.showSideBySide()

    def _jump(self, row: int, _column: int) -> None:
        self._session.jumpToMatch(self._rows[row])
