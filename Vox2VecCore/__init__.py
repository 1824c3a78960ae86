"""Voxel embeddings of CT: a vector for every voxel, similarity maps, and matching points across scans.

The names below are the public interface; each is imported when it is first used, so that importing the package
costs nothing.
"""

TYPE_CHECKING = False  # as type checkers know it, without importing typing
if TYPE_CHECKING:
    from typing import Any

    from Vox2VecCore.embedding import embed
    from Vox2VecCore.errors import Vox2VecError
    from Vox2VecCore.fewshot.segmenting import apply_head
    from Vox2VecCore.fewshot.training import train_head
    from Vox2VecCore.matching import match_points
    from Vox2VecCore.model import load_model
    from Vox2VecCore.similarity import similarity_map
    from Vox2VecCore.volume import Volume
    from Vox2VecCore.volume_io import read_volume, write_volume

__all__ = [
    "Volume",
    "Vox2VecError",
    "apply_head",
    "embed",
    "load_model",
    "match_points",
    "read_volume",
    "similarity_map",
    "train_head",
    "write_volume",
]

_HOMES = {
    "Volume": "volume",
    "Vox2VecError": "errors",
    "apply_head": "fewshot.segmenting",
    "embed": "embedding",
    "load_model": "model",
    "match_points": "matching",
    "read_volume": "volume_io",
    "similarity_map": "similarity",
    "train_head": "fewshot.training",
    "write_volume": "volume_io",
}


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
