"""Checkpoints of a run: written at once or not at all, and never chosen when damaged."""

import json
import os
import re
from pathlib import Path
from typing import Any

import torch

from Vox2VecCore.model import file_sha256
from Vox2VecCore.paths import replace_file
from Vox2VecCore.pretraining.errors import PretrainingError

KEPT = 2


def save_checkpoint(state: dict[str, Any], folder: Path, step: int) -> Path:
    """Write ``step-<n>.pt`` with its hash beside it, then remove all but the newest two.

    :raises PretrainingError: if it cannot be written; earlier checkpoints stay.
    """
    path = folder / f"step-{step:08d}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as temporary:
            with temporary.open("wb") as stream:
                torch.save(state, stream)
                stream.flush()
                os.fsync(stream.fileno())
            note = path.with_suffix(".json")
            note.write_text(json.dumps({"step": step, "sha256": file_sha256(temporary)}), encoding="utf-8")
    # torch reports a full disk as RuntimeError.
    except (OSError, RuntimeError) as error:
        raise PretrainingError(
            f"{path}: the checkpoint cannot be written ({error}); free space and resume from the one before."
        ) from error
    for torn in folder.glob(".*.tmp.step-*"):  # of a run that was killed while it wrote
        torn.unlink(missing_ok=True)
    for old in _checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
        old.with_suffix(".json").unlink(missing_ok=True)
    return path


def load_newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """State of the newest checkpoint whose hash is right; ``None`` if there is none."""
    for path in reversed(_checkpoints(folder)):
        try:
            note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            if file_sha256(path) == note["sha256"]:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
        except (OSError, ValueError, KeyError):
            continue
    return None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*.pt") if re.fullmatch(r"step-\d{8,}", path.stem))
