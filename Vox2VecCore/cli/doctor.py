"""``vox2vec doctor``: what is here, what is missing, and how to add it."""

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import typer
from packaging.requirements import Requirement
from rich.console import Group, RenderableType

from Vox2VecCore.cli.console import facts, report, size
from Vox2VecCore.cli.options import JsonOption
from Vox2VecCore.versions import installed_version

DISTRIBUTION = "vox2vec-slicer"
PACKAGES = ("torch", "numpy", "scipy", "nibabel", "SimpleITK", "safetensors", "openvino", "typer", "rich", "matplotlib")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("doctor")(doctor)


def doctor(as_json: JsonOption = False) -> None:
    """Report versions, devices, engine, memory, cache, models, and what each extra lacks."""
    found = examine()
    report(found, as_json, lambda: _human(found))


def examine() -> dict[str, Any]:
    """Everything about this installation that matters when something does not work."""
    import torch

    from Vox2VecCore.cli.models import summary
    from Vox2VecCore.engines import available_devices, choose
    from Vox2VecCore.model import list_models
    from Vox2VecCore.paths import models_folder, shipped_models_folders

    device, engine = choose("auto", "auto")
    return {
        "versions": {
            "python": platform.python_version(),
            "vox2vec": installed_version(DISTRIBUTION),
            **{name.lower(): installed_version(name) for name in PACKAGES},
        },
        "platform": platform.platform(),
        "devices": available_devices(),
        "auto": {"device": device, "engine": engine},
        "cpu_threads": torch.get_num_threads(),
        "memory_bytes": memory(),
        "cache": _cache(),
        "model_folders": [str(folder) for folder in (*shipped_models_folders(), models_folder())],
        "models": [summary(model) for model in list_models()],
        "extras": extras(),
    }


def memory() -> int | None:
    """Main memory in bytes, ``None`` where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def extras() -> dict[str, dict[str, Any]]:
    """For every extra of the distribution which of its packages are missing, and the command that adds them."""
    stated = requirements()
    found = {}
    for extra in extra_names():
        missing = sorted(name for name in packages(extra, stated) if installed_version(name) is None)
        install = f"pip install '{DISTRIBUTION}[{extra}]'" if missing else None
        found[extra] = {"missing": missing, "install": install}
    return found


def extra_names() -> list[str]:
    """Extras that users choose from; none where the distribution was not installed by pip."""
    try:
        names = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []
    return sorted(set(names) - {"test", "slicer-test"})


def requirements() -> list[Requirement]:
    """What the distribution's metadata asks for."""
    try:
        return [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        return []


def packages(extra: str, stated: Sequence[Requirement]) -> set[str]:
    """Distributions of an extra on this Python and system, and of the extras of our own that it includes."""
    found: set[str] = set()
    for requirement in stated:
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == DISTRIBUTION:
            found = found.union(*(packages(other, stated) for other in requirement.extras))
        else:
            found.add(requirement.name)
    return found


def _cache() -> dict[str, Any]:
    from Vox2VecCore.cache import PyramidCache, max_bytes

    cache = PyramidCache()
    existing = next(folder for folder in (cache.folder, *cache.folder.parents) if folder.exists())
    return {
        "folder": str(cache.folder),
        "bytes": sum(entry.bytes for entry in cache.entries()),
        "max_bytes": max_bytes(),
        "writable": existing.is_dir() and os.access(existing, os.W_OK),
    }


def _human(found: dict[str, Any]) -> RenderableType:
    cache, auto = found["cache"], found["auto"]
    writable = "" if cache["writable"] else "; not writable: set VOX2VEC_CACHE_DIR to another folder"
    folder: Path | str = cache["folder"]
    return Group(
        "Versions",
        facts({f"  {name}": number or "not installed" for name, number in found["versions"].items()}),
        "\nThis computer",
        facts(
            {
                "  System": found["platform"],
                "  Devices": ", ".join(found["devices"]),
                "  auto picks": f"{auto['engine']} on {auto['device']}",
                "  CPU threads": found["cpu_threads"],
                "  Memory": size(found["memory_bytes"]) if found["memory_bytes"] else "unknown",
                "  Cache": f"{folder} ({size(cache['bytes'])} of at most {size(cache['max_bytes'])}{writable})",
            }
        ),
        "\nModels",
        facts(
            {
                f"  {model['name']}": f"{' x '.join(f'{s:g}' for s in model['spacing_mm'])} mm, {model['licence']}, "
                f"hash {model['hash'][:12]}"
                for model in found["models"]
            }
            or {"  none": "get the official one: vox2vec models fetch vox2vec"}
        ),
        "\nExtras",
        facts(
            {
                f"  {name}": f"lacks {', '.join(state['missing'])}: {state['install']}" if state["missing"] else "ready"
                for name, state in found["extras"].items()
            }
            or {"  unknown": "Vox2Vec was not installed by pip here"}
        ),
    )
