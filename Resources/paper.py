"""A miniature of the paper's comparison on two labelled CTs: ``make paper``.

Usage: ``python paper.py [--ct FOLDER] [--out FOLDER] [--model M] [--set KEY=VALUE]``. Linear and non-linear head on
the frozen backbone, fine-tuning and training from scratch get the same steps on the same patches, once with one
patient left out and once with half of each, and the table stands beside the published one.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from Vox2VecCore.backbone import FPN3d
from Vox2VecCore.cli.console import progress
from Vox2VecCore.cli.guard import guarded
from Vox2VecCore.cli.options import DEFAULT_MODEL
from Vox2VecCore.errors import VolumeError
from Vox2VecCore.evaluation.protocols import evaluate
from Vox2VecCore.evaluation.report import readable_json
from Vox2VecCore.evaluation.request import EvaluationRequest
from Vox2VecCore.evaluation.training import PROTOCOLS
from Vox2VecCore.fewshot.stroke_files import read_names
from Vox2VecCore.heads import LinearHead, NonLinearHead
from Vox2VecCore.model import load_model
from Vox2VecCore.pretraining.manifest import ScanEntry

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ROOT / "Resources" / "Recipes" / "paper.toml"
SCANS = ("lidc/lidc_0001", "totalsegmentator/ts_abdomen_pelvis")
PUBLISHED = {"linear": 0.65, "nonlinear": 0.73, "finetune": 0.78, "scratch": 0.77}
BTCV_CLASSES = 13


def main() -> int:
    """Read the arguments and run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = os.environ.get("VOX2VEC_SHARED_CT", str(ROOT.parent / "shared" / "data" / "ct"))
    parser.add_argument("--ct", type=Path, default=Path(shared), help="folder of the two scans")
    parser.add_argument("--out", type=Path, default=Path("paper"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    arguments = parser.parse_args()

    def job() -> int:
        text, found = paper(arguments.ct, arguments.out, arguments.model, arguments.set)
        (arguments.out / "paper.json").write_text(readable_json(found) + "\n", encoding="utf-8")
        (arguments.out / "paper.md").write_text(text, encoding="utf-8")
        sys.stdout.write(text)
        return 0

    return guarded(job)


def paper(ct: Path, out: Path, model_name: str, overrides: list[str]) -> tuple[str, dict[str, Any]]:
    """Run both comparisons, going on with interrupted ones; the table, and its numbers."""
    entries = [ScanEntry(Path(s).name, Path(s).name, f"{ct / s}.nii.gz", f"{ct / s}_labels.nii.gz") for s in SCANS]
    if not all(Path(path).is_file() for e in entries for path in (e.image, str(e.labels))):
        raise VolumeError(f"{ct}: lacks {' and '.join(SCANS)} with labels; name their folder in VOX2VEC_SHARED_CT.")
    names = {value: note.name for value, note in read_names(ct / "labels.json").items()}
    model, reports = load_model(model_name), {}
    for split in ("subjects", "halves"):
        folder = out / split
        if not (folder / "report.json").is_file():
            request = EvaluationRequest(
                model, entries, PROTOCOLS, folder, names, SETTINGS, [f"split={split}", *overrides],
                resume=folder.exists(),
            )  # fmt: skip
            with progress() as bar:
                evaluate(request, bar)
        reports[split] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    # Of protocols trained side by side only one counts.
    trainings = {
        (split, row["protocol"].removeprefix("non"), row["fold"], row["seed"]): row["training_seconds"]
        for split, one in reports.items()
        for row in one["results"]
    }
    minutes = sum(trainings.values()) / 60
    return table(reports, minutes), {"training_minutes": minutes, "threads": torch.get_num_threads(), **reports}


def table(reports: dict[str, Any], minutes: float) -> str:
    """The measured figures beside the published ones, and what sets the two apart."""
    rows = {split: {row["protocol"]: row for row in r["summary"]["Protocols"]} for split, r in reports.items()}
    first = reports["subjects"]
    settings, classes = first["settings"], {split: len(r["classes"]) for split, r in reports.items()}
    lines = [
        "| protocol | other patient: Dice | other half: Dice | trainable parameters | published, BTCV |",
        "|---|---|---|---|---|",
    ]
    for name in ("scratch", "linear", "nonlinear", "finetune"):
        cells = [f"{rows[s][name]['Dice']:.2f} ± {rows[s][name]['Dice SD']:.2f}" for s in ("subjects", "halves")]
        parameters = rows["subjects"][name]["trainable parameters"]
        lines.append(f"| {name} | {' | '.join(cells)} | {parameters} | {PUBLISHED[name]:.2f} |")
    sizes = [
        sum(p.numel() for p in module.parameters())
        for module in (FPN3d(1, 16, 6), LinearHead(16, 6, BTCV_CLASSES), NonLinearHead(16, 6, BTCV_CLASSES))
    ]
    steps = settings["steps"] * settings["epochs"]
    lines += [
        "",
        f"Measured: {first['model']}, {classes['subjects']} structures that both of two scans show, each protocol "
        f"{steps} steps of {settings['batch']} patches of {' x '.join(map(str, settings['patch']))} voxels at 3 mm, "
        f"{minutes:.0f} minutes of training in all; reference labels are TotalSegmentator's own output. Mean ± SD over "
        "two folds.",
        "Published: 13 organs of 30 scans of BTCV drawn by people, 23 of them to train on, 45,000 steps of 7 patches "
        "of 128 x 128 x 32 voxels at 1 x 1 x 2 mm, a network pretrained on about 6,550 scans. Measured and "
        "published figures cannot be compared by value, only the order within each column.",
        f"At the official size the non-linear head trains {sizes[2]:,} numbers, {sizes[0] / sizes[2]:.0f} times fewer "
        f"than the backbone's {sizes[0]:,}; the linear head trains {sizes[1]:,}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
