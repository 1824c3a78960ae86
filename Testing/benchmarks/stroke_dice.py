"""How good is a segmentation from five strokes an organ, in the scan that was painted and in another patient?

Usage: ``python -m Testing.benchmarks.stroke_dice FOLDER`` with the folder of labelled CT that the tests use. Strokes
are simulated from the labels (``Testing/support/strokes.py``, seeds 0 to 2). The reference is the same head with the
same post-processing on hand-made features: Gaussian, gradient and Laplacian at four scales, as in ilastik.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from Testing.support.strokes import simulate_strokes
from Vox2VecCore import embed, read_volume
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
SEEDS = (0, 1, 2)


def measure(folder: Path) -> list[dict[str, object]]:
    """One row a seed, painted scan, kind of features, and method; Dice of every organ in both scans."""
    scans = {}
    for name, where in SCANS.items():
        ct = read_volume(folder / where / f"{name}.nii.gz")
        labels = read_labels(folder / where / f"{name}_labels.nii.gz")
        pyramid = embed(ct)
        features = hand_made(grid_scan(ct, pyramid.grid.spacing_mm)).pyramid
        scans[name] = (ct, labels, {"embedding": pyramid, "hand-made": features})
    rows = []
    for seed in SEEDS:
        for painted, (ct, labels, kinds) in scans.items():
            body = kinds["embedding"].grid.to_source(kinds["embedding"].body.astype(np.uint8), nearest=True) > 0
            strokes = simulate_strokes(labels, list(ORGANS.values()), body, seed=seed)
            for kind in kinds:
                for method in ("ridge", "logistic"):
                    head = train_head([(kinds[kind], strokes)], method, volumes=[ct])
                    row: dict[str, object] = {"seed": seed, "painted": painted, "features": kind, "method": method}
                    for name, (other, truth, theirs) in scans.items():
                        own = strokes if name == painted else None
                        found = segment(theirs[kind], head, volume=other, strokes=own).labels
                        row["own" if name == painted else "other"] = dice(found, truth)
                    rows.append(row)
                    print(json.dumps(row), flush=True)
    return rows


def dice(found: Volume, truth: Volume) -> Mapping[str, float]:
    """Dice of every organ that the scan shows."""
    scores = {}
    for value, (name, labels) in enumerate(ORGANS.items(), start=2):
        one, two = found.array == value, np.isin(truth.array, labels)
        if two.any():
            scores[name] = round(2 * float((one & two).sum()) / float(one.sum() + two.sum()), 3)
    return scores


def table(rows: list[dict[str, object]]) -> str:
    """Means over seeds, scans and organs."""
    lines = ["| features | method | painted scan | other patient |", "| --- | --- | --- | --- |"]
    for kind in ("embedding", "hand-made"):
        for method in ("ridge", "logistic"):
            own = [row for row in rows if row["features"] == kind and row["method"] == method]
            means = [np.mean([np.mean(list(row[side].values())) for row in own]) for side in ("own", "other")]  # type: ignore[attr-defined]
            lines.append(f"| {kind} | {method} | {means[0]:.2f} | {means[1]:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure(Path(sys.argv[1]))))
