"""What can go wrong in an evaluation."""

from Vox2VecCore.errors import Vox2VecError


class EvaluationError(Vox2VecError):
    """Scans, labels, settings or the report's folder cannot be used."""
