"""What can go wrong, said in one sentence: what is wrong, where, and what to do.

Command line, Slicer and browser show these messages as they are; anything that is not a
:class:`Vox2VecError` is a defect of ours.
"""


class Vox2VecError(Exception):
    """Base of all errors that a user can act on."""


class VolumeError(Vox2VecError):
    """A scan cannot be read, written, or used: missing, damaged, not a 3D CT, impossible geometry."""


class PointError(Vox2VecError):
    """A point lies outside the scan, or is not three finite numbers."""


class ModelError(Vox2VecError):
    """A model is unknown, damaged, or does not match what is asked of it."""


class HeadError(Vox2VecError):
    """Strokes do not suffice to learn from, or a head and what it is given do not fit together."""


class SettingsError(Vox2VecError):
    """A settings file or an override cannot be read, names an unknown key, or gives a value of the wrong type."""


class CacheError(Vox2VecError):
    """The embedding cache cannot be written or is damaged beyond rebuilding."""


class EngineError(Vox2VecError):
    """The requested device or engine is not available, or ran out of memory."""


class DeviceMemoryError(EngineError):
    """The memory of the device is full; another device, or a smaller part of the scan, may do."""


class MissingExtraError(Vox2VecError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package: pip install 'vox2vec-slicer[{extra}]'.")
        self.extra = extra


class Cancelled(Vox2VecError):
    """The user asked a running job to stop; nothing half done was left behind."""

    def __init__(self) -> None:
        super().__init__("Cancelled; nothing was left half done.")
