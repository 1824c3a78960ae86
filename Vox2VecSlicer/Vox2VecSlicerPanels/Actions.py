"""Buttons and what they do, with errors in the panel's own line instead of a window."""

from collections.abc import Callable

from Vox2VecCore.errors import Vox2VecError


class Actions:
    """Connects signals of widgets to actions, and undoes it all at the end.

    :param showError: takes the one sentence of an error that the user can act on, empty when an action begins.
    """

    def __init__(self, showError: Callable[[str], None]) -> None:
        self.showError = showError
        self._connected: list[tuple] = []

    def button(self, button, action: Callable[[], object]) -> None:
        """Run an action when a button is pressed."""
        self.on(button, "clicked()", action)

    def on(self, sender, signal: str, action: Callable[..., object]) -> None:
        """Run an action on any signal of a widget."""

        def run(*values) -> None:
            self.run(lambda: action(*values))

        sender.connect(signal, run)
        self._connected.append((sender.disconnect, (signal, run)))

    def follow(self, signal, action: Callable[..., object]) -> None:
        """Call a function on a signal of the session."""
        signal.connect(action)
        self._connected.append((signal.disconnect, (action,)))

    def run(self, action: Callable[[], object]) -> None:
        """Run an action; an error that the user can act on becomes a line in the panel."""
        self.showError("")
        try:
            action()
        except Vox2VecError as error:
            self.showError(str(error))

    def release(self) -> None:
        """Undo every connection."""
        for disconnect, arguments in self._connected:
            disconnect(*arguments)
        self._connected.clear()
