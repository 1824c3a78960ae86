"""Heads: keep what was learned from strokes, use it on other scans, loaded or in a folder."""

import ctk
import qt
from slicer.i18n import tr as _

from Vox2VecSlicerLib import Installation
from Vox2VecSlicerLib.BatchProcess import BatchProcess
from Vox2VecSlicerPanels.Actions import Actions

COMPLAINTS = ("Error: ", "Warning: ")
"""How the command line begins the line that says what is wrong with a scan."""

FILTER = "Vox2Vec head (*.safetensors)"


class HeadsPanel:
    """The folder is worked through by the command line in a process of its own.

    :ivar batch: that process; the module polls it.
    """

    def __init__(self, ui, session, actions: Actions) -> None:
        self._ui, self._session, self._actions = ui, session, actions
        self._saved: tuple = (None, "")
        self._complaints: list[str] = []
        self.batch = BatchProcess()
        ui.inputFolderEdit.filters = ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Readable
        ui.outputFolderEdit.filters = ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Writable
        actions.button(ui.saveHeadButton, self.save)
        actions.button(ui.loadHeadButton, self.load)
        actions.button(ui.dropHeadButton, self.drop)
        actions.on(ui.headVolumesSelector, "checkedNodesChanged()", self.refresh)
        actions.button(ui.applyHeadButton, lambda: session.applyHead(list(ui.headVolumesSelector.checkedNodes())))
        for edit in (ui.inputFolderEdit, ui.outputFolderEdit):
            actions.on(edit, "currentPathChanged(QString)", lambda _path: self.refresh())
        actions.button(ui.batchButton, self.startOrStopBatch)
        actions.follow(self.batch.lineRead, self._batchLine)
        actions.follow(self.batch.finished, self._batchFinished)
        actions.follow(session.previewUpdated, self.refresh)
        actions.follow(session.headLoaded, self._keepFile)
        self.refresh()

    def refresh(self) -> None:
        """Which buttons make sense."""
        ui, session = self._ui, self._session
        ui.headLabel.text = session.headSummary() if session.hasHead else _("Nothing has been learned yet.")
        ui.saveHeadButton.enabled = ui.dropHeadButton.enabled = session.hasHead
        ui.applyHeadButton.enabled = session.hasHead and not ui.headVolumesSelector.noneChecked()
        folders = ui.inputFolderEdit.currentPath and ui.outputFolderEdit.currentPath
        ui.batchButton.enabled = self.batch.running or bool(folders and self._headFile)
        ui.batchButton.text = _("Stop") if self.batch.running else _("Segment folder")
        ui.batchButton.toolTip = (
            _("Segment every scan of the folder. Slicer stays usable meanwhile.")
            if self._headFile
            else _("Save or load a head first: the run reads it from its file.")
        )

    def save(self) -> None:
        """Ask for a file and write the head."""
        path = qt.QFileDialog.getSaveFileName(self._ui.headsSection, _("Save head"), "head.safetensors", FILTER)
        if path:
            self._session.saveHead(path)
            self._keepFile(path)

    def load(self) -> None:
        """Ask for a file and read the head; one of another model is refused."""
        path = qt.QFileDialog.getOpenFileName(self._ui.headsSection, _("Load head"), "", FILTER)
        if path:
            self._session.loadHead(path)

    def _keepFile(self, path) -> None:
        self._saved = (self._session.fewShot.head, str(path))
        self.refresh()

    @property
    def _headFile(self) -> str:
        """The file that holds the head as it is now; empty when strokes have been added since."""
        head, path = self._saved
        return path if head is not None and head is self._session.fewShot.head else ""

    def drop(self) -> None:
        """Forget the head; its file stays, and is no longer what a folder is segmented with."""
        self._session.dropHead()
        self.refresh()

    def startOrStopBatch(self) -> None:
        """Segment the folder; pressed again, stop."""
        if self.batch.running:
            self.batch.cancel()
            self._ui.batchLabel.text = _("Stopping...")
            return
        Installation.install(Installation.BASE, Installation.BATCH)
        ui = self._ui
        ui.batchLog.setPlainText("")
        self._complaints.clear()
        self.batch.applyHead(
            self._headFile,
            ui.inputFolderEdit.currentPath,
            ui.outputFolderEdit.currentPath,
            self._session.state,
        )
        ui.batchLabel.text = _("Running...")
        self.refresh()

    def _batchLine(self, line: str) -> None:
        self._ui.batchLog.appendPlainText(line)
        if line.startswith(COMPLAINTS):
            self._complaints.append(line)

    def _batchFinished(self, code: int) -> None:
        """Say how it ended, and which scans failed, if any."""
        ended = _("Done.") if code == 0 else _("Ended with code {code}; the log says why.").format(code=code)
        self._ui.batchLabel.text = "\n".join([ended, *self._complaints])
        self._complaints.clear()
        self.refresh()
