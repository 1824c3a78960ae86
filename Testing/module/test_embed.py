"""Embed: choose, press, watch, cancel; and everything that can be wrong with what is chosen."""

import numpy as np
import pytest
import slicer


def test_nothing_chosen(panel) -> None:
    assert not panel.ui.embedButton.enabled
    assert "Sample Data" in panel.ui.embedLabel.text


def test_press_and_watch(panel, add_ct, slow_tiles) -> None:
    ct = add_ct()
    panel.ui.volumeSelector.setCurrentNode(ct)
    assert panel.session.state.volume is ct
    panel.press(panel.ui.embedButton)
    panel.until(lambda: panel.ui.progressBar.value > 0)
    assert panel.ui.progressWidget.visible
    assert "CT" in panel.ui.progressLabel.text
    assert not panel.ui.embedButton.enabled, "pressed once is enough"
    panel.until(lambda: "left" in panel.ui.progressLabel.text)
    panel.finish()
    assert panel.session.isEmbedded(ct)
    assert not panel.ui.progressWidget.visible
    assert "Embedded" in panel.ui.embedLabel.text
    assert not panel.ui.exploreSection.collapsed


def test_cancel_really_stops(panel, add_ct, slow_tiles) -> None:
    ct = add_ct()
    panel.ui.volumeSelector.setCurrentNode(ct)
    panel.press(panel.ui.embedButton)
    panel.until(lambda: panel.ui.progressBar.value > 0)
    panel.press(panel.ui.cancelButton)
    panel.until(lambda: not panel.session.busy)
    panel.breathe()
    assert not panel.session.isEmbedded(ct)
    assert not panel.ui.progressWidget.visible
    assert panel.session.cacheBytes() == 0, "nothing half done is left"
    assert panel.ui.embedButton.enabled


def test_the_second_time_is_from_the_cache(panel, add_ct, monkeypatch) -> None:
    from Vox2VecCore import embedding

    ct = add_ct()
    panel.ui.volumeSelector.setCurrentNode(ct)
    panel.press(panel.ui.embedButton)
    panel.finish()
    panel.press(panel.ui.releaseMemoryButton)
    assert not panel.session.isEmbedded(ct)
    panel.widget.embed.refresh()
    assert "at once" in panel.ui.embedLabel.text
    before = panel.session.cacheBytes()
    with monkeypatch.context() as patch:
        patch.setattr(embedding, "tile_image", lambda *_: pytest.fail("computed again"))
        panel.press(panel.ui.embedButton)
        panel.finish()
    assert panel.session.isEmbedded(ct)
    assert panel.session.cacheBytes() == before


def test_label_maps_are_not_offered(panel) -> None:
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colours")
    assert panel.ui.volumeSelector.nodeCount() == 0


def test_a_volume_without_an_image_is_refused(panel) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    panel.ui.volumeSelector.setCurrentNode(node)
    assert not panel.ui.embedButton.enabled
    assert panel.ui.embedButton.toolTip == panel.ui.embedLabel.text


def test_what_does_not_look_like_ct_is_warned_about(panel) -> None:
    values = np.random.default_rng(0).uniform(0, 900, (20, 30, 40)).astype(np.int16)
    node = slicer.util.addVolumeFromArray(values, name="MR")
    panel.ui.volumeSelector.setCurrentNode(node)
    panel.breathe()
    if panel.ui.embedButton.enabled and not panel.ui.warningLabel.visible:  # some are only seen when embedded
        panel.press(panel.ui.embedButton)
        panel.finish()
    assert panel.ui.warningLabel.visible
    assert "CT" in panel.ui.warningLabel.text


def test_volume_deleted_during_the_job(panel, add_ct, slow_tiles) -> None:
    ct = add_ct()
    panel.ui.volumeSelector.setCurrentNode(ct)
    panel.press(panel.ui.embedButton)
    panel.until(lambda: panel.ui.progressBar.value > 0)
    slicer.mrmlScene.RemoveNode(ct)
    panel.finish()
    assert panel.ui.volumeSelector.currentNode() is None
    assert not panel.ui.embedButton.enabled


def test_scene_closed_during_the_job(panel, add_ct, slow_tiles) -> None:
    panel.ui.volumeSelector.setCurrentNode(add_ct())
    panel.press(panel.ui.embedButton)
    panel.until(lambda: panel.ui.progressBar.value > 0)
    slicer.mrmlScene.Clear(0)
    panel.finish()
    assert panel.session.state.volume is None
    assert not panel.ui.progressWidget.visible
    other = add_ct("another")
    panel.ui.volumeSelector.setCurrentNode(other)
    panel.session.state.model = panel.session.models()[0]
    assert panel.ui.embedButton.enabled


@pytest.mark.parametrize("known", [True, False], ids=["known", "defect"])
def test_a_worker_exception_is_said_once_and_the_module_stays_usable(panel, add_ct, monkeypatch, known) -> None:
    from Vox2VecCore import embedding
    from Vox2VecCore.errors import EngineError

    def fail(*_):
        raise EngineError("The engine has no fuel: refill it.") if known else RuntimeError("a defect")

    said = []
    panel.session.failed.connect(said.append)
    ct = add_ct()
    panel.ui.volumeSelector.setCurrentNode(ct)
    with monkeypatch.context() as patch:
        patch.setattr(embedding, "tile_image", fail)
        panel.press(panel.ui.embedButton)
        panel.finish()
    assert len(said) == 1
    assert said[0] in panel.ui.errorLabel.text
    assert not known or "no fuel" in said[0]
    panel.press(panel.ui.embedButton)
    panel.finish()
    assert panel.session.isEmbedded(ct)
    assert not panel.ui.errorLabel.visible


def test_no_window_comes_up(panel, add_ct) -> None:
    panel.ui.volumeSelector.setCurrentNode(add_ct())
    panel.press(panel.ui.embedButton)
    panel.finish()
    assert panel.desktop.messages == []


def test_another_region_of_interest_has_to_be_embedded(panel, embedded) -> None:
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    region.SetRadiusXYZ(30, 30, 30)
    assert "Embedded:" in panel.ui.embedLabel.text
    panel.ui.roiSelector.setCurrentNode(region)
    assert "not in this region" in panel.ui.embedLabel.text
    panel.press(panel.ui.embedButton)
    panel.finish()
    assert "Embedded:" in panel.ui.embedLabel.text
    panel.ui.roiSelector.setCurrentNode(None)
    assert "not in this region" in panel.ui.embedLabel.text


def test_a_region_of_interest_is_followed_while_it_is_dragged(panel, embedded, monkeypatch) -> None:
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    region.SetRadiusXYZ(30, 30, 30)
    panel.ui.roiSelector.setCurrentNode(region)
    panel.press(panel.ui.embedButton)
    panel.finish()
    looks = []
    check = panel.session.checkVolume
    monkeypatch.setattr(panel.session, "checkVolume", lambda node: looks.append(node) or check(node))

    def said(part: str) -> bool:
        panel.finish()
        return part in panel.ui.embedLabel.text

    for n in range(40):
        region.SetCenter(n, 0, 0)
    assert said("not in this region")
    assert len(looks) == 1, "looked at once, however many events a drag has"
    region.SetCenter(0, 0, 0)
    assert said("Embedded:"), "dragged back"
    region.SetRadiusXYZ(20, 20, 20)
    assert said("not in this region")
    region.SetCenter(2000, 0, 0)
    assert said("R lies outside CT")
    assert not panel.ui.embedButton.enabled
    region.SetCenter(0, 0, 0)
    region.SetRadiusXYZ(30, 30, 30)
    assert said("Embedded:")
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    region.SetAndObserveTransformNodeID(moved.GetID())
    shift = np.eye(4)
    shift[0, 3] = 25
    moved.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
    assert said("not in this region"), "and under a transform"
    slicer.mrmlScene.RemoveNode(region)
    assert said("not in this region"), "now it is the whole scan"


def test_a_scan_that_is_turned_around_has_to_be_embedded_again(panel, embedded) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    flip = slicer.util.vtkMatrixFromArray(np.diag([-1.0, 1.0, 1.0, 1.0]))
    node.SetMatrixTransformToParent(flip)
    embedded.SetAndObserveTransformNodeID(node.GetID())
    panel.finish()
    assert "Not embedded" in panel.ui.embedLabel.text
