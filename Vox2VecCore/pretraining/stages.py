"""A run that begins with the weights of an earlier one: training in stages with other settings, or on further scans."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from Vox2VecCore.pretraining.checkpoint import load_newest_checkpoint
from Vox2VecCore.pretraining.config import load_config
from Vox2VecCore.pretraining.correspondence import Matches, load_matches
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.run_directory import CONFIG, DATA

STAGES = "stages.json"


def begin_with(objective: nn.Module, earlier: Path) -> list[dict[str, Any]]:
    """Take the averaged weights of an earlier run's newest good checkpoint.

    :return: name, steps, seed and scans of the stages up to there, first one first.
    :raises PretrainingError: if there is no such run or checkpoint, or its network is another one.
    """
    state = load_newest_checkpoint(earlier / "checkpoints") if (earlier / CONFIG).is_file() else None
    if state is None:
        raise PretrainingError(f"start_from: {earlier} holds no run with a usable checkpoint; give a run directory.")
    weights = {key: value for key, value in state["average"].items() if key != "updates"}
    try:
        objective.load_state_dict(weights)
    except RuntimeError as error:
        raise PretrainingError(
            f"start_from: the network of {earlier} is another one; use its [architecture] and its position_weight."
        ) from error
    config = load_config(earlier / CONFIG)
    scans = [scan["id"] for scan in json.loads((earlier / DATA).read_text(encoding="utf-8"))["scans"]]
    return [*stages_before(earlier), {"run": earlier.name, "steps": state["step"], "seed": config.seed, "scans": scans}]


def stages_before(run: Path) -> list[dict[str, Any]]:
    """The stages that a run began with, as :func:`begin_with` gave them."""
    path = run / STAGES
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def last_matches(earlier: Path, scans: set[str]) -> list[Matches]:
    """The matches between patients that an earlier run found last, as far as these scans are concerned."""
    files = sorted((earlier / "matches").glob("step-*.npz"))
    return [m for m in load_matches(files[-1]) if scans.issuperset(m.scans)] if files else []
