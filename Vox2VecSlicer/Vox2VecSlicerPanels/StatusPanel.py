"""Top of the panel: warnings that stay, the last error, and the progress of the running work."""

from slicer.i18n import tr as _

STEPS = 1000
"""Range of the progress bar."""


def duration(seconds: float) -> str:
    """A time left as a person says it."""
    if seconds < 1.5:
        return _("a second")
    if seconds < 90:
        return _("{count} seconds").format(count=round(seconds))
    return _("{count} minutes").format(count=round(seconds / 60))


class StatusPanel:
    """Says what goes on; nothing here opens a window."""

    def __init__(self, ui, session) -> None:
        self._ui, self._session = ui, session
        self._warnings: dict[str, str] = {}
        session.progressChanged.connect(self.showProgress)
        session.failed.connect(self.showError)
        session.warned.connect(self.showWarning)
        ui.cancelButton.connect("clicked()", session.cancel)

    def showProgress(self, progress) -> None:
        """:param progress: the session's report, ``None`` when nothing runs."""
        ui = self._ui
        ui.progressWidget.visible = progress is not None
        if progress is None:
            return
        ui.progressBar.value = round(STEPS * progress.fraction)
        text = progress.title or progress.stage
        if progress.secondsLeft is not None:
            text = _("{what}, {time} left").format(what=text, time=duration(progress.secondsLeft))
        ui.progressLabel.text = text

    def showError(self, message: str) -> None:
        """One sentence; an empty one takes the last away."""
        self._ui.errorLabel.text = f"\u2716 {message}" if message else ""
        self._ui.errorLabel.visible = bool(message)

    def showWarning(self, message: str, about: str = "session") -> None:
        """A line that stays until what it is about is said anew; an empty one takes it away."""
        self._warnings[about] = message
        lines = [f"\u26a0 {text}" for text in self._warnings.values() if text]
        self._ui.warningLabel.text = "\n".join(lines)
        self._ui.warningLabel.visible = bool(lines)

    def release(self) -> None:
        """Undo every connection."""
        self._session.progressChanged.disconnect(self.showProgress)
        self._session.failed.disconnect(self.showError)
        self._session.warned.disconnect(self.showWarning)
        self._ui.cancelButton.disconnect("clicked()", self._session.cancel)
