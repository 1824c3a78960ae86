"""Widgets and the parameters of a session, kept equal in both directions."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from Vox2VecCore.errors import Vox2VecError

if TYPE_CHECKING:
    import ctk
    import qt
    import slicer


class Binding:
    """Connects widgets to the session's state.

    A change in the widget is written to the state; a change of the state, by whomever, shows in the widget. The state
    decides: what it refuses springs back.

    :param session: the ``Session`` whose ``state`` is meant.
    :param onRefused: called with the sentence of a value that the state refuses.
    """

    def __init__(self, session, onRefused: Callable[[str], None]) -> None:
        self._session = session
        self._onRefused = onRefused
        self._show: dict[str, list[Callable[[], None]]] = {}
        self._connected: list[tuple] = []
        self._showing = False
        session.state.changed.connect(self.show)

    def node(self, selector: "slicer.qMRMLNodeComboBox", name: str, choose: Callable | None = None) -> None:
        """A ``qMRMLNodeComboBox`` for a node of the state.

        :param choose: called with the node that the user has chosen, instead of assigning it.
        """
        self._bind(
            name,
            selector,
            "currentNodeChanged(vtkMRMLNode*)",
            lambda: selector.currentNode(),
            lambda node: selector.setCurrentNode(node),
            choose,
        )

    def flag(self, button: "qt.QAbstractButton", name: str) -> None:
        """A checkable button for a bool."""

        def show(value: bool) -> None:
            button.checked = bool(value)

        self._bind(name, button, "toggled(bool)", lambda: bool(button.checked), show)

    def number(self, slider: "ctk.ctkSliderWidget", name: str) -> None:
        """A ``ctkSliderWidget`` for a float."""

        def show(value: float) -> None:
            slider.value = float(value)

        self._bind(name, slider, "valueChanged(double)", lambda: float(slider.value), show)

    def choice(self, box: "qt.QComboBox", name: str, choices: list[tuple[str, str]]) -> None:
        """A ``QComboBox`` for a text.

        :param choices: pairs of what the state holds and what the user reads.
        """
        self.fill(box, choices)

        def show(value: str) -> None:
            index = box.findData(value)
            if index < 0:
                box.addItem(value, value)
                index = box.findData(value)
            box.setCurrentIndex(index)

        self._bind(name, box, "currentIndexChanged(int)", lambda: box.itemData(box.currentIndex), show)

    def fill(self, box: "qt.QComboBox", choices: list[tuple[str, str]]) -> None:
        """Offer these choices in a ``QComboBox``, without touching the state."""
        wasBlocked = box.blockSignals(True)
        box.clear()
        for value, text in choices:
            box.addItem(text, value)
        box.blockSignals(wasBlocked)

    def show(self, name: str | None = None) -> None:
        """Make the widgets show the state: of one parameter, or of all."""
        wasShowing, self._showing = self._showing, True
        try:
            for bound, functions in self._show.items():
                if name is None or name == bound:
                    for function in functions:
                        function()
        finally:
            self._showing = wasShowing

    def release(self) -> None:
        """Undo every connection."""
        self._session.state.changed.disconnect(self.show)
        for sender, signal, slot in self._connected:
            sender.disconnect(signal, slot)
        self._connected.clear()
        self._show.clear()

    def _bind(
        self, name: str, widget, signal: str, read: Callable, show: Callable, choose: Callable | None = None
    ) -> None:
        def write() -> None:
            if self._showing:
                return
            try:
                if choose is None:
                    setattr(self._session.state, name, read())
                else:
                    choose(read())
            except (ValueError, Vox2VecError) as error:
                self._onRefused(str(error))
                self.show(name)

        widget.connect(signal, write)
        self._connected.append((widget, signal, write))
        self._show.setdefault(name, []).append(lambda: show(getattr(self._session.state, name)))
