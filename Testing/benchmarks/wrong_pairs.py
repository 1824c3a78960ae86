"""How honest ``reliable`` is: points looked for in scans that do not show the place, and in scans that do.

    python -m Testing.benchmarks.wrong_pairs SHARED_CT [MODEL]

*Wrong*: every ordered pair of scans, of different patients, that have no part of the body in common; each reliable
match is false. *Right*: scans and their disturbed copies (shifted, resampled, noisier). *Other patient*: scans of the
same parts; nothing is known about the true place, so only the share of reliable matches is told. All points of a pair
share what the two scans as a whole say about each other, so false ones come in groups: the number of pairs with any is
as telling as their share. The shipped model unless another is given; embeddings are kept in the cache.
"""

import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from Vox2VecCore.embedding import embed
from Vox2VecCore.matching import match_points
from Vox2VecCore.model import Model, load_model
from Vox2VecCore.pretraining.evaluation import disturbed_copy
from Vox2VecCore.volume_io import read_volume

POINTS = 40
TRUE_MM = 10.0
HEAD, NECK, UPPER_CHEST, CHEST, LOWER_CHEST, ABDOMEN, PELVIS, THIGH = range(8)
PARTS = {
    "crlm/crlm_1004": (LOWER_CHEST, ABDOMEN),
    "crlm/crlm_1006": (LOWER_CHEST, ABDOMEN),
    "elastix/elx_lung_baseline": (UPPER_CHEST, LOWER_CHEST),
    "lidc/lidc_0001": (UPPER_CHEST, ABDOMEN),
    "lidc/lidc_0002": (UPPER_CHEST, LOWER_CHEST),
    "lidc/lidc_0003": (UPPER_CHEST, LOWER_CHEST),
    "lidc/lidc_0004": (UPPER_CHEST, ABDOMEN),
    "lidc/lidc_0005": (UPPER_CHEST, ABDOMEN),
    "lidc/lidc_0314": (UPPER_CHEST, LOWER_CHEST),
    "lidc/lidc_0314_native_crop": (CHEST, LOWER_CHEST),
    "lung_4d/l4d_113": (UPPER_CHEST, ABDOMEN),
    "lung_pet_ct_dx/lpcd_a0001": (UPPER_CHEST, LOWER_CHEST),
    "msd_liver/msd_liver_0": (LOWER_CHEST, PELVIS),
    "nsclc_radiogenomics/r01_001": (UPPER_CHEST, ABDOMEN),
    "openkbp/kbp_17": (HEAD, UPPER_CHEST),
    "openkbp/kbp_34": (HEAD, UPPER_CHEST),
    "openkbp/kbp_96": (HEAD, UPPER_CHEST),
    "pyradiomics/prad_lung1": (UPPER_CHEST, LOWER_CHEST),
    "pyradiomics/prad_lung1_native_crop": (UPPER_CHEST, LOWER_CHEST),
    "rider_lung/rider_1129164940": (UPPER_CHEST, LOWER_CHEST),
    "sts/sts_002": (PELVIS, THIGH),
    "sts/sts_007": (PELVIS, THIGH),
    "sts/sts_018": (PELVIS, THIGH),
    "sts/sts_036": (PELVIS, THIGH),
    "sts/sts_037": (NECK, UPPER_CHEST),
    "sts/sts_044": (PELVIS, THIGH),
    "totalsegmentator/ts_abdomen_pelvis": (LOWER_CHEST, PELVIS),
    "totalsegmentator/ts_chest_cta": (UPPER_CHEST, ABDOMEN),
    "visible_human/vhf_pelvis": (PELVIS, THIGH),
}
"""First and last part of the body that a scan shows, generously; the folder's README describes the scans."""


COPIED = (
    "crlm/crlm_1004",
    "lidc/lidc_0001",
    "openkbp/kbp_34",
    "pyradiomics/prad_lung1_native_crop",
    "sts/sts_002",
    "sts/sts_037",
    "totalsegmentator/ts_abdomen_pelvis",
    "totalsegmentator/ts_chest_cta",
)


def apart(a: str, b: str) -> bool:
    """Whether two scans have no part of the body in common."""
    return PARTS[a][1] < PARTS[b][0] or PARTS[b][1] < PARTS[a][0]


def measure(folder: Path, model: Model) -> dict[str, Any]:
    """Reliable matches of every wrong pair, of copies, and of pairs of patients that show the same parts."""
    volumes = {name: read_volume(folder / f"{name}.nii.gz") for name in PARTS}
    pyramids = {name: embed(volume, model) for name, volume in volumes.items()}
    found: dict[str, list[dict[str, Any]]] = {"wrong": [], "right": [], "other patient": []}
    for name in COPIED:
        here = pyramids[name]
        copy = disturbed_copy(volumes[name])
        points = here.grid.to_ras(here.body_voxels(POINTS, seed=1))
        ijk = copy.to_ijk(points)
        points = points[((ijk >= 0) & (ijk <= np.array(copy.shape) - 1)).all(axis=1)]
        matches = match_points(here, embed(copy, model), points)
        true = np.linalg.norm(np.array([m.target_ras for m in matches]) - points, axis=1) < TRUE_MM
        reliable = np.array([m.reliable for m in matches])
        found["right"].append(_row(name, name, reliable) | {"true": float(true.mean())} | _kinds(true, reliable))
    for a, b in permutations(PARTS, 2):
        if apart(a, b) or PARTS[a] == PARTS[b]:
            points = pyramids[a].grid.to_ras(pyramids[a].body_voxels(POINTS, seed=1))
            reliable = np.array([m.reliable for m in match_points(pyramids[a], pyramids[b], points)])
            found["wrong" if apart(a, b) else "other patient"].append(_row(a, b, reliable))
    return found


def _row(source: str, target: str, reliable: np.ndarray) -> dict[str, Any]:
    return {"source": source, "target": target, "points": len(reliable), "reliable": int(reliable.sum())}


def _kinds(true: np.ndarray, reliable: np.ndarray) -> dict[str, int]:
    return {"reliable and true": int((true & reliable).sum()), "reliable and false": int((~true & reliable).sum())}


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """The figures as Markdown; below it the wrong pairs with reliable matches."""
    lines = ["| pairs | number | points | called reliable | pairs with any |", "| --- | --- | --- | --- | --- |"]
    for kind, rows in found.items():
        points, reliable = (sum(row[key] for row in rows) for key in ("points", "reliable"))
        any_ = sum(row["reliable"] > 0 for row in rows)
        lines.append(f"| {kind} | {len(rows)} | {points} | {reliable} ({100 * reliable / points:.2f} %) | {any_} |")
    right = found["right"]
    true = np.mean([row["true"] for row in right])
    false = sum(row["reliable and false"] for row in right)
    lines.append(f"\nright: {100 * true:.1f} % within {TRUE_MM:g} mm; {false} called reliable that are not\n")
    wrong = sorted((row for row in found["wrong"] if row["reliable"]), key=lambda row: -row["reliable"])
    lines += [f"- {row['source']} -> {row['target']}: {row['reliable']} of {row['points']}" for row in wrong]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure(Path(sys.argv[1]), load_model(*sys.argv[2:]))))
