"""Set-up: what is installed, model, device, cache and memory."""

from pathlib import Path

import qt
from slicer.i18n import tr as _

from Vox2VecSlicerLib import Hardware, Installation
from Vox2VecSlicerPanels.Actions import Actions
from Vox2VecSlicerPanels.Binding import Binding
from Vox2VecSlicerPanels.Settings import Settings
from Vox2VecSlicerPanels.StatusPanel import duration

OFFICIAL = "vox2vec"
MACHINE_CHOICES = ("device", "engine")
"""Parameters that follow the computer and not the scene."""


class SetupPanel:
    """Folds away once everything is there."""

    def __init__(self, ui, session, binding: Binding, actions: Actions, settings: Settings) -> None:
        self._ui, self._session, self._binding, self._settings = ui, session, binding, settings
        self._actions = actions
        binding.choice(ui.modelComboBox, "model", self._models())
        binding.choice(
            ui.deviceComboBox,
            "device",
            [
                ("auto", _("Automatic")),
                ("cpu", _("Processor (CPU)")),
                ("cuda", _("NVIDIA graphics card (CUDA)")),
                ("mps", _("Apple graphics (MPS)")),
            ],
        )
        binding.choice(
            ui.engineComboBox,
            "engine",
            [("auto", _("Automatic")), ("torch", "PyTorch"), ("openvino", "OpenVINO")],
        )
        actions.button(ui.installButton, self.install)
        actions.button(ui.modelFolderButton, self.chooseModelFolder)
        actions.button(ui.downloadModelButton, lambda: session.fetchModel(OFFICIAL))
        actions.button(ui.checkDeviceButton, session.requestDeviceDescription)
        actions.button(ui.clearCacheButton, self.clearCache)
        actions.button(ui.releaseMemoryButton, session.releaseMemory)
        actions.follow(session.modelsChanged, self._modelsChanged)
        actions.follow(session.deviceDescribed, self._deviceDescribed)
        actions.follow(session.embedded, lambda _node: self._showCache())
        actions.follow(session.state.changed, self._follow)
        self.applyMachineChoices()
        self.refresh()

    def holdMachineChoices(self) -> None:
        """A scene is about to be closed or loaded: what it brings is no choice of the user's."""
        self._held = True

    def applyMachineChoices(self) -> None:
        """A scene that comes from another computer does not bring that computer's device along."""
        self._held = False
        for name in MACHINE_CHOICES:
            setattr(self._session.state, name, self._settings.get(name, "auto"))

    def refresh(self) -> None:
        """Say what is here."""
        ready = not Installation.missing()
        ui = self._ui
        ui.installationLabel.text = Installation.summary()
        ui.installButton.enabled = bool(Installation.missing(Installation.BASE, Installation.OPENVINO))
        ui.installButton.text = _("Install OpenVINO") if ready else _("Install")
        ui.openVinoCheckBox.enabled = not ready
        ui.setupSection.collapsed = ready
        self._showModel()
        self._showProcessorNote()
        self._showCache()

    def install(self) -> None:
        """Install what is missing; the main thread waits, Slicer shows the progress."""
        ready = not Installation.missing()
        files = [Installation.BASE]
        if ready or self._ui.openVinoCheckBox.checked:
            files.append(Installation.OPENVINO)
        try:
            Installation.install(*files)
        finally:
            self.refresh()

    def chooseModelFolder(self) -> None:
        """Take a model directory; what is wrong with it is said at once."""
        folder = qt.QFileDialog.getExistingDirectory(self._ui.setupSection, _("Choose a model folder"))
        if not folder:
            return
        refusal = self._session.checkModel(folder)
        if refusal:
            self._actions.showError(refusal)
            return
        self._settings.addModelFolder(folder)
        self._modelsChanged()
        self._session.state.model = folder

    def clearCache(self) -> None:
        """Delete the embedded scans on disk."""
        self._session.clearCache()
        self._showCache()

    def _models(self) -> list[tuple[str, str]]:
        names = [(name, name) for name in self._session.models()]
        return names + [(folder, Path(folder).name or folder) for folder in self._settings.modelFolders]

    def _modelsChanged(self) -> None:
        self._binding.fill(self._ui.modelComboBox, self._models())
        self._binding.show("model")
        self._showModel()

    def _follow(self, name: str) -> None:
        if name in MACHINE_CHOICES:
            if not self._held:
                self._settings.set(name, getattr(self._session.state, name))
            self._showProcessorNote()
        elif name == "model":
            self._showModel()
            self._showProcessorNote()

    def _showModel(self) -> None:
        session, ui = self._session, self._ui
        chosen = session.state.model
        ui.modelLabel.text = session.checkModel(chosen) or session.describeModel(chosen)
        ui.downloadModelButton.enabled = OFFICIAL not in session.models()

    def _deviceDescribed(self, text: str, hasGraphicsCard: bool) -> None:
        self._ui.deviceLabel.text = text
        self._showProcessorNote(hasGraphicsCard)

    def _showProcessorNote(self, hasGraphicsCard: bool | None = None) -> None:
        state = self._session.state
        if hasGraphicsCard is None:
            hasGraphicsCard = Hardware.graphicsCardExpected()
        if hasGraphicsCard and state.device != "cpu":
            self._ui.cpuLabel.text = ""
            return
        note = _("The processor does the work. {time} Point, match and segment are quick.")
        self._ui.cpuLabel.text = "\u26a0 " + note.format(time=self._expectedTime())

    def _expectedTime(self) -> str:
        last = self._settings.get(self._timeSetting(), "")
        if last:
            return _("The last scan took {time} here.").format(time=duration(float(last)))
        if self._session.state.model == OFFICIAL:
            return _("The official model takes about 20 seconds with OpenVINO and 40 without for a trunk on two cores.")
        return _("vox2vec-small takes about 5 seconds for a chest on two cores.")

    def noteEmbeddingTime(self, seconds: float) -> None:
        """Remember how long a scan took on this computer."""
        self._settings.set(self._timeSetting(), f"{seconds:.1f}")
        self._showProcessorNote()

    def _timeSetting(self) -> str:
        return f"LastEmbeddingSeconds/{Path(self._session.state.model).name}"

    def _showCache(self) -> None:
        size = self._session.cacheBytes()
        self._ui.cacheLabel.text = _("Cache: {size} GB").format(size=f"{size / 1e9:.1f}")
        self._ui.clearCacheButton.enabled = size > 0
