"""What is here: models, device, cache. Nothing below imports PyTorch before it is asked for it."""

import sys
from typing import TYPE_CHECKING

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.model import list_models, load_model
from Vox2VecCore.paths import cache_folder
from Vox2VecCore.progress import Progress
from Vox2VecSlicerLib import Libraries
from Vox2VecSlicerLib.Texts import tr as _

if TYPE_CHECKING:
    from Vox2VecCore.cache import PyramidCache


def models() -> list[str]:
    """Models that can be chosen by name, shipped ones first."""
    return [model.directory.name for model in list_models()]


def checkModel(nameOrFolder: str) -> str | None:
    """Why a model cannot be used, in one sentence, or ``None``. Its weights are read only when it is used."""
    try:
        model = load_model(nameOrFolder)
    except Vox2VecError as error:
        return str(error)
    if not (model.directory / "model.safetensors").is_file():
        sentence = _("{folder}: the weights are missing; fetch or import the model again.")
        return sentence.format(folder=model.directory)
    return None


def describeModel(nameOrFolder: str) -> str:
    """What a model is, in one line: the voxels that it sees, and under which licence it stands.

    :raises ModelError: if it cannot be used (:func:`checkModel`).
    """
    config = load_model(nameOrFolder).config
    spacing = " x ".join(f"{mm:g}" for mm in config.spacing_mm)
    return _("Sees voxels of {spacing} mm. Licence: {licence}").format(spacing=spacing, licence=config.licence)


def fetchModel(name: str, progress: Progress) -> None:
    """Download a published model. For the worker."""
    from Vox2VecCore.model_fetch import fetch_model

    fetch_model(name, progress=progress)


def describeDevice(device: str, engine: str) -> tuple[str, bool]:
    """What would compute: one line for people, and whether it is a GPU. For the worker: imports PyTorch.

    :raises Vox2VecError: if PyTorch is missing or the choice is not available here.
    """
    Libraries.load()
    import torch

    from Vox2VecCore.engines import choose

    device, engine = choose(device, engine)  # type: ignore[arg-type]
    if device == "cuda":
        found = torch.cuda.get_device_properties(0)
        memory = f"{found.total_memory / 2**30:.0f}"
        text = _("{card}, {memory} GB, {engine}")
        return text.format(card=found.name, memory=memory, engine=_engineName(engine)), True
    if device == "mps":
        return _("Apple GPU, {engine}").format(engine=_engineName(engine)), True
    count = torch.get_num_threads()
    text = _("CPU, 1 thread, {engine}") if count == 1 else _("CPU, {count} threads, {engine}")
    return text.format(count=count, engine=_engineName(engine)), False


def _engineName(engine: str) -> str:
    return {"openvino": "OpenVINO", "torch": "PyTorch"}[engine]


def releaseDeviceMemory() -> None:
    """Give back what PyTorch keeps of the GPU's memory, if it was ever used."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def cacheBytes() -> int:
    """Size of the embedding cache on disk; asked when the module opens, so it loads nothing."""
    return sum(path.stat().st_size for path in cache_folder().rglob("*") if path.is_file())


def clearCache() -> int:
    """Empty the embedding cache; returns the bytes freed."""
    return _cache().clear()


def _cache() -> "PyramidCache":
    from Vox2VecCore.cache import PyramidCache

    return PyramidCache()
