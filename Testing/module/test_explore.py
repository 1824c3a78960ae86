"""Explore: points, sliders, colours, a segment of what lights up."""

import threading

import pytest
import slicer
from PySide6 import QtCore, QtTest

from Vox2VecSlicerLib import Similarity

LIVER = (-28.0, 6.0, 8.0)
LUNG = (28.0, 0.0, 0.0)


def overlay_values(panel):
    """The map that lies over the CT."""
    return slicer.util.arrayFromVolume(panel.session.overlayNode)


def test_a_pinned_point_shows_its_likes(panel, embedded) -> None:
    panel.session.points.addPositive(LIVER)
    panel.finish()
    assert panel.session.similarityAt(LIVER) > 99
    assert panel.ui.positiveLabel.text == "1 point"
    assert panel.ui.makeSegmentButton.enabled


def test_a_point_is_answered_before_spreading_is_prepared(panel, embedded, monkeypatch) -> None:
    go, prepare = threading.Event(), Similarity.prepare
    monkeypatch.setattr(Similarity, "prepare", lambda *arguments: (go.wait(20), prepare(*arguments)))
    panel.session.similarity._prepared.clear()
    panel.session.points.addPositive(LIVER)
    panel.until(lambda: panel.session.similarityAt(LIVER) is not None)
    assert "Preparing to spread similarity" in panel.ui.progressLabel.text
    plain = overlay_values(panel).copy()
    go.set()
    panel.finish()
    assert (overlay_values(panel) != plain).any()


def test_negative_points_push_away(panel, embedded) -> None:
    panel.session.points.addPositive(LIVER)
    panel.finish()
    before = panel.session.similarityAt(LUNG)
    panel.session.points.addNegative(LUNG)
    panel.finish()
    assert panel.session.similarityAt(LUNG) <= before
    assert panel.ui.negativeLabel.text == "1 point"


@pytest.mark.parametrize(
    ("slider", "parameter", "value"),
    [("balanceSlider", "balance", 0.2), ("thresholdSlider", "threshold", 70.0), ("opacitySlider", "opacity", 0.8)],
)
def test_sliders_and_parameters_are_the_same(panel, embedded, slider, parameter, value) -> None:
    widget = getattr(panel.ui, slider)
    widget.value = value
    assert getattr(panel.session.state, parameter) == pytest.approx(value)
    setattr(panel.session.state, parameter, value / 2)
    assert widget.value == pytest.approx(value / 2)


def test_sliding_with_the_mouse_changes_the_map(panel, embedded) -> None:
    panel.session.points.addPositive(LIVER)
    panel.finish()
    before = overlay_values(panel).copy()
    panel.ui.exploreSection.collapsed = False
    panel.breathe()
    slider = panel.ui.balanceSlider.slider()
    QtTest.QTest.keyClick(slider, QtCore.Qt.Key_End)
    assert panel.session.state.balance == 1.0
    panel.finish()
    assert (overlay_values(panel) != before).any()


def test_clear_takes_the_points_away(panel, embedded) -> None:
    panel.session.points.addPositive(LIVER)
    panel.session.points.addNegative(LUNG)
    panel.press(panel.ui.clearPointsButton)
    panel.finish()
    assert panel.ui.positiveLabel.text == panel.ui.negativeLabel.text == "no points"
    assert not panel.ui.makeSegmentButton.enabled


def test_place_mode_by_button_and_by_key(panel, embedded) -> None:
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    selection = slicer.app.applicationLogic().GetSelectionNode()
    panel.ui.positivePlaceWidget.placeButton().click()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    assert selection.GetActivePlaceNodeID() == panel.session.points.positiveNode.GetID()
    panel.desktop.panel.activateWindow()
    panel.ui.clearPointsButton.setFocus()
    panel.breathe()
    QtTest.QTest.keyClick(panel.ui.clearPointsButton, QtCore.Qt.Key_N)
    panel.breathe()
    assert selection.GetActivePlaceNodeID() == panel.session.points.negativeNode.GetID()
    panel.desktop.panel.exit()
    assert interaction.GetCurrentInteractionMode() != interaction.Place, "the next click belongs to another module"
    panel.desktop.panel.enter()
    interaction.SetCurrentInteractionMode(interaction.AdjustWindowLevel)
    panel.desktop.panel.exit()
    assert interaction.GetCurrentInteractionMode() == interaction.AdjustWindowLevel, "what is not ours stays"
    interaction.SwitchToViewTransformMode()


def test_hover_toggle_by_key(panel, embedded) -> None:
    panel.desktop.panel.activateWindow()
    panel.ui.clearPointsButton.setFocus()
    panel.breathe()
    QtTest.QTest.keyClick(panel.ui.clearPointsButton, QtCore.Qt.Key_L)
    panel.breathe()
    assert panel.session.state.hover is True
    assert panel.ui.hoverCheckBox.checked


def test_hover_under_the_crosshair(panel, embedded, red_slice) -> None:
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    panel.ui.hoverCheckBox.checked = True
    seen = []
    for place in (LIVER, LUNG):
        red_slice.JumpSliceByCentering(*place)
        crosshair.SetCursorPositionRAS(list(place))
        panel.breathe(0.2)
        seen.append(overlay_values(panel).copy())
    assert seen[0].max() > 99
    assert (seen[0] != seen[1]).any(), "another place, another map"


def test_colours_view(panel, embedded) -> None:
    box = panel.ui.viewComboBox
    box.setCurrentIndex(box.findData("colors"))
    panel.finish()
    assert panel.session.state.view == "colors"
    assert not panel.ui.errorLabel.visible


def test_make_a_segment(panel, embedded) -> None:
    panel.ui.thresholdSlider.value = 90.0
    panel.session.points.addPositive(LIVER)
    panel.finish()
    panel.press(panel.ui.makeSegmentButton)
    panel.finish()
    result = panel.session.state.result
    assert result is not None
    assert panel.ui.resultSelector.currentNode() is result
    segment = result.GetSegmentation().GetNthSegmentID(0)
    assert slicer.util.arrayFromSegmentBinaryLabelmap(result, segment, embedded).any()


def test_keep_the_map(panel, embedded) -> None:
    panel.session.points.addPositive(LIVER)
    panel.finish()
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    panel.press(panel.ui.exportSimilarityButton)
    panel.finish()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == before + 1


def test_what_the_state_refuses_springs_back(panel, embedded) -> None:
    slider = panel.ui.thresholdSlider
    slider.maximum = 200.0  # as a damaged .ui file would have it
    slider.value = 150.0
    assert panel.session.state.threshold <= 100
    assert panel.ui.errorLabel.visible
    assert "between" in panel.ui.errorLabel.text
    slider.maximum = 100.0
