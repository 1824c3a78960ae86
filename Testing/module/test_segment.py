"""Segment: strokes become a preview, a result, and can be taken back."""

import numpy as np
import pytest
import slicer

from Testing.support.qt_stand_in import scripted_module


def stroke(panel, ct, segment_id: str, box: tuple[slice, ...]) -> None:
    """A box of voxels in a segment, as the editor's Paint would leave it."""
    strokes = panel.session.strokesNode()
    mask = np.zeros(slicer.util.arrayFromVolume(ct).shape, np.uint8)
    mask[box] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, strokes, segment_id, ct)


def segment_ids(node) -> list[str]:
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]


@pytest.fixture
def painted(panel, embedded):
    """Strokes in the body and in its bright part, with the section open."""
    panel.ui.segmentSection.collapsed = False
    panel.breathe()
    background, structure = segment_ids(panel.session.strokesNode())[:2]
    stroke(panel, embedded, background, np.s_[13:17, 28:33, 20:28])
    stroke(panel, embedded, structure, np.s_[15:19, 18:25, 11:16])
    panel.finish()
    return embedded


def result_voxels(panel, ct) -> int:
    result = panel.session.state.result
    if result is None:
        return 0
    return sum(
        int(np.count_nonzero(slicer.util.arrayFromSegmentBinaryLabelmap(result, segment_id, ct)))
        for segment_id in segment_ids(result)
    )


def test_editor_gets_its_nodes_in_the_right_order(panel, embedded) -> None:
    editor = panel.ui.segmentEditorWidget
    panel.ui.segmentSection.collapsed = False
    panel.breathe()
    calls = [name for name in editor.calls if name.startswith("set")]
    order = ["setMRMLSegmentEditorNode", "setMRMLScene", "setSegmentationNode", "setSourceVolumeNode"]
    assert [calls.index(name) for name in order] == sorted(calls.index(name) for name in order)
    assert editor.segmentationNode() is panel.session.strokesNode()
    assert editor.sourceVolumeNode() is embedded
    assert editor.mrmlSegmentEditorNode().GetSingletonTag() != "SegmentEditor"


def test_the_editor_follows_another_choice_of_strokes(panel, embedded) -> None:
    panel.ui.segmentSection.collapsed = False
    panel.breathe()
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Other strokes")
    other.SetReferenceImageGeometryParameterFromVolumeNode(embedded)
    panel.session.state.strokes = other
    panel.breathe()
    assert panel.ui.segmentEditorWidget.segmentationNode() is other


def test_leaving_takes_views_and_keys_from_the_editor(panel, embedded) -> None:
    editor = panel.ui.segmentEditorWidget
    panel.ui.segmentSection.collapsed = False
    panel.breathe()
    editor.calls.clear()
    panel.desktop.panel.exit()
    assert {"setActiveEffect", "uninstallKeyboardShortcuts", "removeViewObservations"} <= set(editor.calls)


def test_what_is_missing_is_said_and_translated(panel, embedded) -> None:
    panel.ui.segmentSection.collapsed = False
    panel.breathe()
    assert panel.ui.strokesLabel.text
    assert panel.ui.strokesLabel.text in scripted_module.translated
    assert not panel.ui.updatePreviewButton.enabled
    assert not panel.ui.applyButton.enabled


def test_the_editor_leaves_the_views_of_a_second_scan_alone(panel, embedded, red_slice, add_ct) -> None:
    other = add_ct("follow-up", seed=5)
    panel.session.state.target = other
    composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    composite.SetBackgroundVolumeID(other.GetID())
    panel.ui.segmentSection.collapsed = False
    panel.breathe()
    assert panel.ui.segmentEditorWidget.sourceVolumeNode() is embedded
    assert composite.GetBackgroundVolumeID() == other.GetID()


def test_strokes_become_a_result_and_can_be_undone(panel, painted) -> None:
    panel.press(panel.ui.updatePreviewButton)
    panel.finish()
    assert panel.session.hasHead
    assert panel.ui.strokesLabel.text == ""
    panel.press(panel.ui.applyButton)
    panel.finish()
    assert result_voxels(panel, painted) > 0
    assert panel.ui.undoButton.enabled
    panel.press(panel.ui.undoButton)
    assert result_voxels(panel, painted) == 0
    panel.press(panel.ui.redoButton)
    assert result_voxels(panel, painted) > 0


def test_each_stroke_updates_the_preview_by_itself(panel, painted) -> None:
    updates = []
    panel.session.previewUpdated.connect(lambda: updates.append(1))
    structure = segment_ids(panel.session.strokesNode())[1]
    stroke(panel, painted, structure, np.s_[15:20, 16:26, 10:17])
    panel.until(lambda: len(updates) > 0)
    panel.finish()
    panel.ui.autoUpdateCheckBox.checked = False
    updates.clear()
    stroke(panel, painted, structure, np.s_[15:19, 18:25, 11:16])
    panel.breathe(1.0)
    panel.finish()
    assert updates == []


def test_add_a_structure(panel, embedded) -> None:
    panel.ui.segmentSection.collapsed = False
    panel.breathe()
    before = len(segment_ids(panel.session.strokesNode()))
    panel.press(panel.ui.addStructureButton)
    ids = segment_ids(panel.session.strokesNode())
    assert len(ids) == before + 1
    assert panel.ui.segmentEditorWidget.mrmlSegmentEditorNode().GetSelectedSegmentID() == ids[-1]


def test_where_to_paint_next_jumps_the_slices(panel, painted, red_slice) -> None:
    panel.press(panel.ui.updatePreviewButton)
    panel.finish()
    red_slice.JumpSliceByCentering(90.0, 90.0, 90.0)
    panel.press(panel.ui.paintNextButton)
    panel.finish()
    assert not panel.ui.errorLabel.visible
    shown = [red_slice.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)]
    assert shown == pytest.approx(panel.session.whereToPaintNext(), abs=1e-3)


def test_scene_closed_in_the_middle_of_training(panel, painted) -> None:
    panel.session.updatePreview()
    slicer.mrmlScene.Clear(0)
    panel.finish()
    assert panel.ui.segmentEditorWidget.segmentationNode() is None
    assert not panel.ui.applyButton.enabled


def test_segmentation_deleted_in_the_middle(panel, painted) -> None:
    panel.session.updatePreview()
    slicer.mrmlScene.RemoveNode(panel.session.state.strokes)
    panel.finish()
    assert not panel.ui.applyButton.enabled
