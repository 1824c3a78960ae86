"""Versions of what is installed."""

from importlib import metadata


def installed_version(distribution: str) -> str | None:
    """Version of a distribution, ``None`` if it is not installed; imports nothing of it."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
