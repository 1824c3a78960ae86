"""The stand-in refuses what it does not know; otherwise tests on it would be green and hollow."""

from pathlib import Path

import pytest
import slicer

from Testing.support.qt_stand_in import failures


def test_properties_are_attributes_and_methods_stay_methods(clean, desktop) -> None:
    import qt

    button = qt.QPushButton("hello")
    assert button.text == "hello"
    button.text = "there"
    assert (button.text, button.enabled) == ("there", True)
    with pytest.raises(TypeError):
        button.text()
    with pytest.raises(AttributeError, match="has no attribute nonsense"):
        button.nonsense = 1
    with pytest.raises(AttributeError):
        _ = button.setNonsense


def test_signals_need_their_signature(clean, desktop) -> None:
    import qt

    button, seen = qt.QPushButton("x"), []
    with pytest.raises(AttributeError, match=r"no signal clicked\(int\)"):
        button.connect("clicked(int)", print)

    def slot() -> None:  # PythonQt drops surplus arguments
        seen.append("clicked")

    button.connect("clicked(bool)", slot)
    button.click()
    button.disconnect("clicked(bool)", slot)
    button.click()
    assert seen == ["clicked"]
    with pytest.raises(AttributeError, match="not connected"):
        button.disconnect("clicked(bool)", slot)


def test_exceptions_in_slots_are_kept(clean, desktop) -> None:
    import qt

    def broken() -> None:
        raise RuntimeError("in a slot")

    button = qt.QPushButton("x")
    button.connect("clicked()", broken)
    button.click()
    assert len(failures.recorded) == 1
    assert "in a slot" in failures.recorded[0]
    failures.clear()


def test_unknown_classes_raise(clean, desktop, tmp_path: Path) -> None:
    import ctk
    import qt

    for module, name in ((qt, "QWebEngineView"), (ctk, "ctkRangeWidget"), (slicer, "qMRMLVolumeThresholdWidget")):
        with pytest.raises(AttributeError):
            getattr(module, name)
    ui = tmp_path / "panel.ui"
    ui.write_text(
        '<ui version="4.0"><widget class="QWidget" name="root"><layout class="QVBoxLayout" name="all"><item>'
        '<widget class="ctkRangeWidget" name="range"/></item></layout></widget></ui>',
        encoding="utf-8",
    )
    with pytest.raises(AttributeError, match="ctkRangeWidget"):
        slicer.util.loadUI(str(ui))
    ui.write_text(
        '<ui version="4.0"><widget class="QLabel" name="root"><property name="colour"><string>red</string></property>'
        "</widget></ui>",
        encoding="utf-8",
    )
    with pytest.raises(AttributeError, match="QLabel has no property colour"):
        slicer.util.loadUI(str(ui))


def test_a_dialog_without_an_answer_raises(clean, desktop) -> None:
    with pytest.raises(AssertionError, match="Really"):
        slicer.util.confirmOkCancelDisplay("Really?")


def test_node_selector_follows_the_scene(clean, desktop, add_ct) -> None:
    selector, seen = slicer.qMRMLNodeComboBox(), []
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.showChildNodeTypes = False
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    selector.setMRMLScene(slicer.mrmlScene)
    ct = add_ct()
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    assert selector.nodeCount() == 1
    assert selector.currentNode() is ct
    slicer.mrmlScene.Clear(0)
    assert selector.currentNode() is None
    assert seen == [ct, None]
    selector.setMRMLScene(None)


def test_segment_editor_refuses_a_wrong_order(clean, desktop) -> None:
    editor = slicer.qMRMLSegmentEditorWidget()
    with pytest.raises(RuntimeError, match="before the scene"):
        editor.setMRMLScene(slicer.mrmlScene)
    with pytest.raises(RuntimeError, match="before setMRMLSegmentEditorNode"):
        editor.setSegmentationNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode"))
