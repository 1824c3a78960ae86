"""Choices that belong to this computer and not to a scene, in Slicer's settings."""

import qt

PREFIX = "Vox2Vec/"


class Settings:
    """Device, engine, folders of models, and how long the last embedding took here."""

    def __init__(self) -> None:
        self._settings = qt.QSettings()

    def get(self, name: str, default: str) -> str:
        """A text that was stored, else the default."""
        value = self._settings.value(PREFIX + name)
        return default if value in (None, "") else str(value)

    def set(self, name: str, value: str) -> None:
        """Store a text."""
        self._settings.setValue(PREFIX + name, value)

    @property
    def modelFolders(self) -> list[str]:
        """Model directories that the user has chosen."""
        return [folder for folder in self.get("ModelFolders", "").split("\n") if folder]

    def addModelFolder(self, folder: str) -> None:
        """Remember a model directory."""
        self.set("ModelFolders", "\n".join(dict.fromkeys([*self.modelFolders, folder])))
