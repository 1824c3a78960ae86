"""Finds what the module's Python and .ui files use of Qt, CTK, qMRML and Slicer, by reading them.

The class of ``ui.name`` is the one that the .ui file gives it; local names, loops over widgets and annotated parameters
are followed. What cannot be followed is not guessed.
"""

import ast
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from Testing.support.slicer_gui_api import RETURNS

CONNECTING = {"button": "clicked()"}
"""Methods of ours that connect a fixed signal of their first argument."""

TOOLKITS = ("qt", "ctk")


@dataclass(frozen=True)
class Use:
    """One use of a member of a class: kind is property, method, signal or constant."""

    class_name: str
    kind: str
    member: str
    where: str


def ui_classes(ui: Path) -> dict[str, str]:
    """Class of each named widget of a .ui file."""
    return {found.attrib["name"]: found.attrib["class"] for found in ElementTree.parse(ui).getroot().iter("widget")}


def uses_in_ui(ui: Path) -> Iterator[Use]:
    """Properties that a .ui file sets, and signals and slots that it connects."""
    tree = ElementTree.parse(ui).getroot()
    classes = ui_classes(ui)
    for widget in tree.iter("widget"):
        for found in widget.findall("property"):
            yield Use(widget.attrib["class"], "properties", found.attrib["name"], widget.attrib["name"])
    for found in tree.iterfind("./connections/connection"):
        sender, receiver = found.findtext("sender") or "", found.findtext("receiver") or ""
        yield Use(classes[sender], "signals", found.findtext("signal") or "", sender)
        yield Use(classes[receiver], "methods", (found.findtext("slot") or "").partition("(")[0], receiver)


class Reader(ast.NodeVisitor):
    """Collects uses in one file. ``slicer_names`` are the attribute chains that start at ``slicer``."""

    def __init__(self, path: Path, classes: dict[str, str]) -> None:
        self.path, self.classes = path, classes
        self.uses: list[Use] = []
        self.slicer_names: list[str] = []
        self._local: list[dict[str, str]] = [{}]
        self._called: set[int] = set()

    def class_of(self, node: ast.expr) -> str | None:
        """Class of an expression, where it is known."""
        if isinstance(node, ast.Name):
            return next((names[node.id] for names in reversed(self._local) if node.id in names), None)
        if isinstance(node, ast.Attribute):
            base = ast.unparse(node.value)
            return self.classes.get(node.attr) if base in ("ui", "self.ui", "self._ui") else None
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                if ast.unparse(node.func.value) in TOOLKITS:
                    return node.func.attr
                owner = self.class_of(node.func.value)
                return next((to for (kind, name), to in RETURNS.items() if owner and name == node.func.attr), None)
            return None
        if isinstance(node, ast.IfExp):
            return self.class_of(node.body)
        return None

    def _note(self, class_name: str, kind: str, member: str, node: ast.AST) -> None:
        self.uses.append(Use(class_name, kind, member, f"{self.path.name}:{node.lineno}"))  # type: ignore[attr-defined]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        names = {}
        for argument in node.args.args:
            if isinstance(argument.annotation, ast.Constant):  # "qt.QComboBox"
                names[argument.arg] = str(argument.annotation.value).rsplit(".", 1)[-1]
        self._local.append(names)
        self.generic_visit(node)
        self._local.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        targets, values = node.targets[0], node.value
        pairs = (
            zip(targets.elts, values.elts, strict=False)
            if isinstance(targets, ast.Tuple) and isinstance(values, ast.Tuple)
            else [(targets, values)]
        )
        for target, value in pairs:
            kind = self.class_of(value)
            if isinstance(target, ast.Name) and kind is not None:
                self._local[-1][target.id] = kind
            elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and kind is not None:
                self.classes = {**self.classes, f"{ast.unparse(target)}": kind}
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        if isinstance(node.iter, ast.Tuple) and isinstance(node.target, ast.Name):
            kinds = {self.class_of(element) for element in node.iter.elts}
            if len(kinds) == 1 and (kind := kinds.pop()) is not None:
                self._local[-1][node.target.id] = kind
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self._called.add(id(node.func))
        if isinstance(node.func, ast.Attribute):
            self._connections(node, node.func)
        self.generic_visit(node)

    def _connections(self, node: ast.Call, function: ast.Attribute) -> None:
        texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        signals = [text for text in texts if isinstance(text, str) and text.endswith(")") and "(" in text]
        if function.attr in ("connect", "disconnect") and signals:
            sender = self._owner(function.value)
        elif function.attr in ("on", "_bind") and signals:
            sender = next((kind for kind in map(self._owner, node.args) if kind is not None), None)
        elif function.attr in CONNECTING and node.args and "actions" in ast.unparse(function.value):
            sender, signals = self._owner(node.args[0]), [CONNECTING[function.attr]]
        else:
            return
        for signal in signals:
            self._note(sender or "?", "signals", signal, node)

    def _owner(self, node: ast.expr) -> str | None:
        text = ast.unparse(node)
        return self.classes.get(text) or ("slicer.app" if text == "slicer.app" else self.class_of(node))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        text = ast.unparse(node)
        if text.startswith("slicer."):
            self.slicer_names.append(text)
        root = ast.unparse(node.value)
        parts = text.split(".")
        if root in TOOLKITS:
            self._note(node.attr, "class", node.attr, node)
        elif len(parts) == 3 and (parts[0] in TOOLKITS or parts[1].startswith("q")) and parts[0] != "self":
            self._note(parts[1], "constants", parts[2], node)
        elif (kind := self._owner(node.value)) is not None and kind != "slicer.app":
            called = id(node) in self._called
            self._note(kind, "methods" if called else "properties or slots", node.attr, node)
        self.generic_visit(node)


def uses_in_python(path: Path, classes: dict[str, str]) -> Reader:
    """Everything that one file uses."""
    reader = Reader(path, dict(classes))
    reader.visit(ast.parse(path.read_text(encoding="utf-8")))
    return reader
