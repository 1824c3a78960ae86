"""How good is a segmentation from five strokes an organ, in the scan that was painted and in another patient?

Usage: ``python -m Testing.benchmarks.stroke_dice FOLDER [SEED ...]`` with the folder of labelled CT that the tests use;
writes ``stroke_dice.json`` and ``stroke_dice.md`` beside this file, in which other seeds stay. Strokes are simulated
from the labels (``Testing/support/strokes.py``, seeds 0 to 2). The reference is the same head with the same
post-processing on hand-made features: Gaussian, gradient and Laplacian at four scales, as in ilastik.

The labels are automatic (TotalSegmentator) and leave out whole vertebral bodies and much cortical bone. The scan of
``make demo`` is ``lidc_0001`` before it was made smaller, so it is not a third patient.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from Testing.support.strokes import simulate_strokes
from Vox2VecCore import embed, read_volume
from Vox2VecCore.fewshot.postprocessing import NO_PROCESSING
from Vox2VecCore.fewshot.segmenting import segment
from Vox2VecCore.fewshot.training import train_head
from Vox2VecCore.grid import grid_scan
from Vox2VecCore.pretraining.features import hand_made
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_labels

SCANS = {"ts_abdomen_pelvis": "totalsegmentator", "lidc_0001": "lidc"}
ORGANS = {
    "liver": [5],
    "spleen": [1],
    "right kidney": [2],
    "left kidney": [3],
    "right lung": [12, 13, 14],
    "left lung": [10, 11],
    "aorta": [52],
    "vertebrae": list(range(26, 51)),
}
KINDS = ("embedding", "hand-made")
SEEDS = (0, 1, 2)
TRIED = "\n## What was tried"

Row = dict[str, Any]


def measure(folder: Path, seeds: Sequence[int]) -> list[Row]:
    """One row a seed, painted scan and kind of features; Dice of every organ in the painted and in the other scan."""
    scans = {}
    for name, where in SCANS.items():
        ct = read_volume(folder / where / f"{name}.nii.gz")
        labels = read_labels(folder / where / f"{name}_labels.nii.gz")
        pyramid = embed(ct)
        features = hand_made(grid_scan(ct, pyramid.grid.spacing_mm)).pyramid
        scans[name] = (ct, labels, dict(zip(KINDS, (pyramid, features), strict=True)))
    rows = []
    for seed in seeds:
        for painted, (ct, labels, kinds) in scans.items():
            pyramid = kinds["embedding"]
            body = pyramid.grid.to_source(pyramid.body.astype(np.uint8), nearest=True) > 0
            strokes = simulate_strokes(labels, list(ORGANS.values()), body, seed=seed)
            for kind in KINDS:
                head = train_head([(kinds[kind], strokes)], volumes=[ct])
                row: Row = {"seed": seed, "painted": painted, "features": kind, "method": head.method}
                for name, (scan, truth, theirs) in scans.items():
                    own = strokes if name == painted else None
                    found = segment(theirs[kind], head, volume=scan, strokes=own).labels
                    row["own" if name == painted else "other"] = dice(found.array, truth)
                bare = segment(kinds[kind], head, volume=ct, strokes=strokes, processing=NO_PROCESSING).labels
                row["own, head alone"] = dice(bare.array, labels)
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def dice(found: NDArray, truth: Volume) -> dict[str, float]:
    """Dice of every organ that the scan shows."""
    scores = {}
    for value, (name, labels) in enumerate(ORGANS.items(), start=2):
        one, two = found == value, np.isin(truth.array, labels)
        if two.any():
            scores[name] = round(2 * float((one & two).sum()) / float(one.sum() + two.sum()), 3)
    return scores


def table(rows: list[Row]) -> str:
    """Dice by organ: mean over seeds, for each painted scan, in itself and in the other patient."""
    lines = [
        "| | | " + " | ".join((*ORGANS, "mean", "of seeds")) + " |",
        "| --- | --- |" + " --- |" * (len(ORGANS) + 2),
    ]
    for painted in SCANS:
        for side, said in (
            ("own", f"`{painted}` painted"),
            ("own, head alone", f"`{painted}` painted, without post-processing"),
            ("other", f"`{painted}` painted, the other scan"),
        ):
            for kind in KINDS:
                found = [row[side] for row in rows if row["features"] == kind and row["painted"] == painted]
                means = [float(np.mean([each[organ] for each in found])) for organ in ORGANS]
                seeds = [float(np.mean(list(each.values()))) for each in found]
                figures = " | ".join(f"{mean:.2f}" for mean in (*means, np.mean(means)))
                lines.append(f"| {said} | {kind} | {figures} | {min(seeds):.2f} to {max(seeds):.2f} |")
    return "\n".join(lines) + "\n"


def main(folder: Path, seeds: Sequence[int] = SEEDS) -> None:
    """Measure, print and write."""
    beside = Path(__file__)
    before = beside.with_suffix(".json")
    rows = json.loads(before.read_text()) if before.is_file() else []
    rows = [row for row in rows if row["seed"] not in seeds] + measure(folder, seeds)
    before.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    text = beside.with_suffix(".md")
    _, mark, tried = text.read_text().partition(TRIED) if text.is_file() else ("", "", "")
    text.write_text(table(rows) + mark + tried)  # what was tried was measured by hand, and stays
    print(table(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]] or SEEDS)
