"""Every class, property, signal and method of Qt, CTK and qMRML that the module uses is one that Slicer documents."""

import ast
from pathlib import Path

import pytest

from Testing.support.gui_usage import Use, ui_classes, uses_in_python, uses_in_ui
from Testing.support.slicer_gui_api import CLASSES, SLICER, lookup

MODULE = Path(__file__).resolve().parents[2] / "Vox2VecSlicer"
UI = MODULE / "Resources" / "UI" / "Vox2VecSlicer.ui"
GUI_FILES = [MODULE / "Vox2VecSlicer.py", *sorted((MODULE / "Vox2VecSlicerPanels").glob("*.py"))]
ALL_FILES = [*GUI_FILES, *sorted((MODULE / "Vox2VecSlicerLib").glob("*.py"))]
APPLICATION_SIGNALS = {"startupCompleted()", "aboutToQuit()"}


def complaint(use: Use) -> str | None:
    """What is wrong with a use, or ``None``."""
    if use.class_name == "slicer.app":
        return None if use.member in APPLICATION_SIGNALS else f"{use.where}: slicer.app has no signal {use.member}"
    if use.class_name not in CLASSES:
        return f"{use.where}: {use.class_name} ({use.member}) is not in the table"
    if use.kind == "class":
        return None
    kinds = ("properties", "methods") if use.kind == "properties or slots" else (use.kind,)
    if use.kind == "methods":
        kinds = ("methods", "constants")
    if any(use.member in lookup(use.class_name, kind) for kind in kinds):
        return None
    return f"{use.where}: {use.class_name} has no {use.member} ({use.kind})"


def test_ui_file_uses_documented_names_only() -> None:
    uses = list(uses_in_ui(UI))
    assert len(uses) > 200
    assert [text for use in uses if (text := complaint(use))] == []


@pytest.mark.parametrize("path", GUI_FILES, ids=lambda path: path.stem)
def test_python_uses_documented_names_only(path: Path) -> None:
    reader = uses_in_python(path, ui_classes(UI))
    assert [text for use in reader.uses if use.class_name != "?" and (text := complaint(use))] == []


def test_enough_was_understood() -> None:
    """The check is worth something only if it sees most of what is there."""
    uses = [use for path in GUI_FILES for use in uses_in_python(path, ui_classes(UI)).uses]
    assert sum(use.class_name != "?" for use in uses) > 150
    unknown = [use for use in uses if use.class_name == "?"]
    assert len(unknown) <= 3, unknown


@pytest.mark.parametrize("path", ALL_FILES, ids=lambda path: path.stem)
def test_helpers_of_slicer_are_documented(path: Path) -> None:
    import slicer

    for name in uses_in_python(path, ui_classes(UI)).slicer_names:
        parts = name.split(".")[1:]
        if parts[0].startswith("q"):
            assert parts[0] in CLASSES, name
        elif parts[0] in SLICER:
            known = SLICER[parts[0]]
            assert known is None or len(parts) < 2 or parts[1] in known, name
        else:
            assert hasattr(slicer, parts[0]), f"{name} is not in slicer-core"


def test_every_widget_that_can_be_used_has_a_tooltip() -> None:
    import xml.etree.ElementTree as ElementTree

    passive = {"QWidget", "qMRMLWidget"}
    without = []
    for widget in ElementTree.parse(UI).getroot().iter("widget"):
        names = {found.attrib["name"] for found in widget.findall("property")}
        label_of_a_row = widget.attrib["class"] == "QLabel" and "LayoutLabel" in widget.attrib["name"]
        if "toolTip" not in names and widget.attrib["class"] not in passive and not label_of_a_row:
            without.append(widget.attrib["name"])
    assert without == []


def test_texts_for_the_user_are_translated() -> None:
    """Text assigned to a label or button in Python goes through the translation."""
    for path in GUI_FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
                shown = node.targets[0].attr in ("text", "toolTip", "title")
                literal = isinstance(node.value, ast.Constant) and str(node.value.value).strip()
                assert not (shown and literal), f"{path.name}:{node.lineno}"


def test_sentences_of_the_controllers_are_translated() -> None:
    """Errors that they raise, and titles of what the worker does."""
    plain = []
    for path in (MODULE / "Vox2VecSlicerLib").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
            said = {"submit": call.args[1:2], "step": call.args[:1]}.get(name, [])
            said = call.args[:1] if name.endswith("Error") and name not in ("ValueError", "RuntimeError") else said
            if any(isinstance(text, ast.JoinedStr) or (isinstance(text, ast.Constant) and text.value) for text in said):
                plain.append(f"{path.name}:{call.lineno}")
    assert plain == []


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("ui.embedButton.setText('x')", "no setText"),
        ("ui.embedLabel.text()", "no text"),
        ("ui.embedButton.connect('clicked(int)', f)", "no clicked(int)"),
        ("editor = ui.segmentEditorWidget\neditor.setMasterVolumeNode(None)", "no setMasterVolumeNode"),
        ("qt.QWebEngineView()", "QWebEngineView"),
        (
            "for place in (ui.positivePlaceWidget, ui.negativePlaceWidget):\n    place.buttonsShown = 1",
            "no buttonsShown",
        ),
    ],
)
def test_a_wrong_name_is_noticed(tmp_path: Path, code: str, wrong: str) -> None:
    path = tmp_path / "Panel.py"
    path.write_text(code, encoding="utf-8")
    complaints = [complaint(use) for use in uses_in_python(path, ui_classes(UI)).uses]
    assert any(wrong in (text or "") for text in complaints), complaints
