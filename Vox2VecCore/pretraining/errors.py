"""What can go wrong in pretraining."""

from Vox2VecCore.errors import Vox2VecError


class PretrainingError(Vox2VecError):
    """Settings, data or a run directory cannot be used, or training cannot go on."""
