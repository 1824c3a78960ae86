"""The directory of a run: its settings, data and versions, so that a run can be told apart and resumed."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from Vox2VecCore.pretraining.config import PretrainConfig, load_config
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.manifest import licence_report
from Vox2VecCore.pretraining.prepare import PreparedScan, Skipped
from Vox2VecCore.settings import differences, to_toml
from Vox2VecCore.versions import installed_version

CONFIG = "config.toml"
DATA = "data.json"
ENVIRONMENT = "environment.json"
PACKAGES = ("vox2vec-slicer", "torch", "numpy", "scipy", "lightning-fabric")


def claim(
    run: Path,
    config: PretrainConfig,
    scans: Sequence[PreparedScan],
    resume: bool,
    skipped: Sequence[Skipped] = (),
) -> None:
    """Start a run directory, or make sure that this is the run to go on with.

    :param skipped: scans that could not be used; recorded with their reasons.
    :raises PretrainingError: if the directory holds another run, or cannot be written.
    """
    if (run / CONFIG).is_file():
        if not resume:
            raise PretrainingError(f"{run} holds a run already; add --resume to go on with it, or choose another.")
        _check_same(run, config, scans)
        return
    # A run that was stopped at its very start may have left these two.
    if run.is_dir() and {path.name for path in run.iterdir()} - {DATA, ENVIRONMENT}:
        raise PretrainingError(f"{run} is not empty and no run; choose a new directory.")
    try:
        run.mkdir(parents=True, exist_ok=True)
        (run / DATA).write_text(json.dumps(_described(scans, skipped), indent=1), encoding="utf-8")
        (run / ENVIRONMENT).write_text(json.dumps(environment(), indent=1), encoding="utf-8")
        # Last, because its presence says that there is a run.
        (run / CONFIG).write_text(to_toml(config), encoding="utf-8")
    except OSError as error:
        raise PretrainingError(f"{run}: cannot be written ({error.strerror}); check space and rights.") from error


def environment() -> dict[str, str]:
    """Versions of what a run stands on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    return found | {package: installed_version(package) or "not installed" for package in PACKAGES}


def _check_same(run: Path, config: PretrainConfig, scans: Sequence[PreparedScan]) -> None:
    changed = differences(load_config(run / CONFIG), config)
    if changed:
        raise PretrainingError(
            f"{run} was started with other settings of {', '.join(changed)}; use its {CONFIG}, or a new directory."
        )
    before = json.loads((run / DATA).read_text(encoding="utf-8"))["scans"]
    now = _described(scans)["scans"]
    if before != now:
        ids = sorted({s["id"] for s in before} ^ {s["id"] for s in now}) or ["their content"]
        raise PretrainingError(f"{run} was started with other scans ({', '.join(ids[:3])}); use the same manifest.")


def _described(scans: Sequence[PreparedScan], skipped: Sequence[Skipped] = ()) -> dict[str, Any]:
    return {
        "licences": licence_report(scans),
        "scans": [
            {"id": s.id, "subject": s.subject, "shape": list(s.shape), "licence": s.licence, "prepared": s.folder.name}
            for s in scans
        ],
        "skipped": [asdict(s) for s in skipped],
    }
