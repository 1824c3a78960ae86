"""``vox2vec doctor``: what is here, what is missing, and how to add it."""

import os
import platform
import re
from pathlib import Path
from typing import Any

import typer
from rich.console import Group, RenderableType

from Vox2VecCore.cli.console import facts, report, size
from Vox2VecCore.cli.options import JsonOption

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
            "vox2vec": version(DISTRIBUTION),
            **{name.lower(): version(name) for name in PACKAGES},
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


def version(distribution: str) -> str | None:
    """Version of an installed distribution, ``None`` if it is not there."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def memory() -> int | None:
    """Main memory in bytes, ``None`` where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def extras() -> dict[str, dict[str, Any]]:
    """For every extra of the distribution which of its packages are missing, and the command that adds them."""
    needs = requirements()
    found = {}
    for extra in sorted(needs):
        missing = sorted(name for name in _packages(extra, needs) if version(name) is None)
        found[extra] = {
            "missing": missing,
            "install": f"pip install '{DISTRIBUTION}[{extra}]'" if missing else None,
        }
    return found


def requirements() -> dict[str, list[str]]:
    """What each extra asks for, as the distribution's metadata says; nothing where it was not installed by pip."""
    from importlib import metadata

    try:
        stated = metadata.requires(DISTRIBUTION) or []
        names = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {name: [] for name in names if name != "test"}
    for requirement in stated:
        for extra in re.findall(r"extra\s*==\s*['\"]([^'\"]+)['\"]", requirement):
            found.get(extra, []).append(requirement.partition(";")[0].strip())
    return found


def _packages(extra: str, needs: dict[str, list[str]]) -> set[str]:
    """Distributions of an extra, and of the extras of our own that it includes."""
    found: set[str] = set()
    for requirement in needs.get(extra, []):
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?", requirement)
        assert match is not None
        name, included = match[1], match[2] or ""
        if name == DISTRIBUTION:
            for other in included.split(","):
                found |= _packages(other.strip(), needs)
        else:
            found.add(name)
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
