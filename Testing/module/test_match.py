"""Match: the pinned points in a second scan."""

import slicer
from PySide6 import QtCore

LIVER, LUNG = (-28.0, 6.0, 8.0), (28.0, 0.0, 0.0)


def chosen(panel, add_ct):
    """A second scan, embedded because it was chosen."""
    target = add_ct("follow-up", seed=5)
    panel.ui.targetSelector.setCurrentNode(target)
    panel.finish()
    return target


def test_each_pinned_point_is_a_row(panel, embedded, add_ct) -> None:
    panel.session.points.addPositive(LIVER)
    panel.session.points.addPositive(LUNG)
    panel.finish()
    target = chosen(panel, add_ct)
    assert panel.session.isEmbedded(target)
    table = panel.ui.matchesTable
    panel.until(lambda: table.rowCount == 2)
    texts = [table.item(0, column).text() for column in range(table.columnCount)]
    assert all(texts), texts
    float(texts[1]), float(texts[2])
    rows = panel.session.matches
    assert texts[3] == rows[0].verdict == ("found" if rows[0].reliable else "no reliable match")


def test_no_second_scan_no_rows(panel, embedded, add_ct) -> None:
    panel.session.points.addPositive(LIVER)
    panel.finish()
    chosen(panel, add_ct)
    panel.until(lambda: panel.ui.matchesTable.rowCount == 1)
    assert panel.ui.sideBySideCheckBox.enabled
    panel.ui.targetSelector.setCurrentNode(None)
    panel.finish()
    assert panel.ui.matchesTable.rowCount == 0
    assert not panel.ui.sideBySideCheckBox.enabled


def test_side_by_side_and_back(panel, embedded, add_ct) -> None:
    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    chosen(panel, add_ct)
    before = layout.GetViewArrangement()
    panel.press(panel.ui.sideBySideCheckBox)
    assert panel.ui.sideBySideCheckBox.checked
    assert layout.GetViewArrangement() != before
    panel.press(panel.ui.sideBySideCheckBox)
    assert layout.GetViewArrangement() == before
    panel.press(panel.ui.sideBySideCheckBox)
    layout.SetViewArrangement(before)
    assert not panel.ui.sideBySideCheckBox.checked, "the user has chosen another layout"


def test_a_click_on_a_row_shows_its_place(panel, embedded, add_ct, monkeypatch) -> None:
    panel.session.points.addPositive(LIVER)
    panel.finish()
    chosen(panel, add_ct)
    panel.until(lambda: panel.ui.matchesTable.rowCount == 1)
    jumps = []
    monkeypatch.setattr(panel.session, "jumpToMatch", jumps.append)
    panel.ui.matchesTable.cellClicked.emit(0, 0)
    assert [round(float(value)) for value in jumps[0].sourceWorld] == [round(value) for value in LIVER]


def test_propagate_a_list(panel, embedded, add_ct) -> None:
    chosen(panel, add_ct)
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "landmarks")
    points.AddControlPointWorld(list(LIVER))
    panel.ui.propagateSelector.setCurrentNode(points)
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode")
    panel.press(panel.ui.propagateButton)
    panel.finish()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == before + 1
    assert QtCore.QThread.currentThread() is not None
