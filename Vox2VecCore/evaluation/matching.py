"""Protocols without training: places found again in the same patient, organs found in another one.

``match``: 500 random body points of every scan are looked for in a shifted, resampled, noisier copy of it.
``retrieval``: between patients, the share of an organ's points that are found in the same organ; and segmentation of
both from 100 voxels an organ of the first, by votes and by the head that strokes teach. Points are looked for by the
most similar voxel alone and ("matched") by :func:`~Vox2VecCore.matching.match_points`, whether it calls its answer
reliable or not. Every figure stands beside those of hand-made features, of the same network with random weights, and
of chance, from the same run and voxels.
"""

import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.evaluation.errors import EvaluationError
from Vox2VecCore.evaluation.report import Report, Table, check_new, write_report
from Vox2VecCore.evaluation.request import EvaluationRequest
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.evaluation import (
    NEAR_MM,
    Extract,
    chance_errors,
    chance_overlaps,
    disturbed_copy,
    feature_kinds,
    few_shot_dice,
    head_of_strokes,
    hit_rates,
    labels_of,
    matched_places,
    most_similar_places,
    same_patient_errors,
    shared_organs,
)
from Vox2VecCore.pretraining.features import VoxelFeatures
from Vox2VecCore.pretraining.labels import read_structures, structure_names
from Vox2VecCore.pretraining.manifest import ScanEntry
from Vox2VecCore.pretraining.run_directory import environment
from Vox2VecCore.progress import Progress
from Vox2VecCore.settings import configured
from Vox2VecCore.volume_io import check_ct, read_volume

CHANCE = "chance"
KINDS = ("model", "random weights", "hand-made", CHANCE)
SAME_MEDIAN, SAME_NEAR = "median error (mm)", "within 10 mm"
MATCHED_MEDIAN, MATCHED_NEAR, MATCHED_HIT = "matched: median error (mm)", "matched: within 10 mm", "matched: hit rate"
HIT, DICE_SOURCE, DICE_TARGET = "organ hit rate", "few-shot Dice, source", "few-shot Dice, target"
HEAD_SOURCE, HEAD_TARGET = "few-shot head: Dice, source", "few-shot head: Dice, target"
RETRIEVED = (HIT, MATCHED_HIT, DICE_SOURCE, DICE_TARGET, HEAD_SOURCE, HEAD_TARGET)
KEPT = 3

Row = dict[str, Any]


@dataclass(frozen=True)
class MatchingSettings:
    """How much is evaluated.

    :param most_scans: scans that ``match`` takes, in the manifest's order.
    :param most_pairs: pairs of patients that ``retrieval`` takes, spread over the scans.
    """

    most_scans: int = 20
    most_pairs: int = 20


def run(request: EvaluationRequest, progress: Progress) -> Report:
    """Run ``match``, ``retrieval``, or both, and write the report into ``request.out``.

    :raises EvaluationError: if the folder is taken, or ``retrieval`` has no two labelled patients with an organ in
        common.
    :raises SettingsError: on unknown settings.
    :raises VolumeError: if a scan cannot be read or used.
    """
    check_new(request.out)
    settings = configured(MatchingSettings(), request.config, request.overrides)
    with tempfile.TemporaryDirectory() as folder:
        scans = _Scans(feature_kinds(request.model, Path(folder), request.device, request.engine), progress)
        rows: list[Row] = []
        if "match" in request.protocols:
            for entry in request.entries[: settings.most_scans]:
                rows += _match(entry, scans, request.seed)
        if "retrieval" in request.protocols:
            labelled = [entry for entry in request.entries if entry.labels is not None]
            masks = structure_names(labelled)
            names = {n + 1: name for n, name in enumerate(masks)} or dict(request.names)
            for source, target in _pairs(labelled)[: settings.most_pairs]:
                rows += _retrieve(source, target, scans, masks, names, request.seed)
    report = _report(request, settings, rows)
    write_report(report, request.out)
    return report


class _Scans:
    """Features of scans and of their copies; the latest few are kept, for a scan is used several times in a row."""

    def __init__(self, kinds: Mapping[str, Extract], progress: Progress) -> None:
        self.kinds, self._progress = kinds, progress
        self._kept: dict[tuple[str, str, int | None], VoxelFeatures] = {}

    def features(self, kind: str, entry: ScanEntry, copy_seed: int | None = None) -> VoxelFeatures:
        """Features of one kind of a scan, or of its disturbed copy."""
        key = (kind, entry.id, copy_seed)
        if key not in self._kept:
            volume = read_volume(entry.image)
            check_ct(volume)
            if copy_seed is not None:
                volume = disturbed_copy(volume, copy_seed)
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._progress.check()
            self._kept[key] = self.kinds[kind](volume, self._progress.within(f"{entry.id}, {kind}"))
        return self._kept[key]


def _match(entry: ScanEntry, scans: _Scans, seed: int) -> list[Row]:
    errors: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for kind in scans.kinds:
        here, copy = scans.features(kind, entry), scans.features(kind, entry, seed)
        most_similar, matched = (
            same_patient_errors(here, copy, np.random.default_rng(seed), find)
            for find in (most_similar_places, matched_places)
        )
        errors[kind] = most_similar, matched
    errors[CHANCE] = (chance_errors(here, np.random.default_rng(seed)),) * 2
    return [
        {"protocol": "match", "features": kind, "source": entry.id, "target": entry.id, "structure": "", **measured}
        for kind, both in errors.items()
        for error, median, near in zip(both, (SAME_MEDIAN, MATCHED_MEDIAN), (SAME_NEAR, MATCHED_NEAR), strict=True)
        for measured in (
            {"measure": median, "value": float(np.median(error))},
            {"measure": near, "value": float((error < NEAR_MM).mean())},
        )
    ]


def _retrieve(
    source: ScanEntry,
    target: ScanEntry,
    scans: _Scans,
    masks: Sequence[str],
    names: Mapping[int, str],
    seed: int,
) -> list[Row]:
    labels = [read_structures(entry, masks) for entry in (source, target)]
    measured: dict[str, dict[str, dict[int, float]]] = {}
    for kind in scans.kinds:
        here, other = scans.features(kind, source), scans.features(kind, target)
        rng = np.random.default_rng(seed)
        same_voxels = deepcopy(rng)
        own, others = labels_of(here, labels[0]), labels_of(other, labels[1])
        organs = _shared(source, target, own, others)
        both = [(here, own), (other, others)]
        voted = few_shot_dice(here, own, both, organs, rng)
        by_head = few_shot_dice(here, own, both, organs, same_voxels, head_of_strokes)
        same_points = deepcopy(rng)
        hits = hit_rates(here, own, other, others, organs, rng)
        matched = hit_rates(here, own, other, others, organs, same_points, matched_places)
        measured[kind] = dict(zip(RETRIEVED, (hits, matched, *voted, *by_head), strict=True))
    hits, dice = chance_overlaps(own, others, organs, np.random.default_rng(seed))
    measured[CHANCE] = dict(zip(RETRIEVED, (hits, hits, *dice, *dice), strict=True))
    return [
        {
            "protocol": "retrieval",
            "features": kind,
            "source": source.id,
            "target": target.id,
            "structure": names.get(organ, str(organ)),
            "measure": measure,
            "value": value,
        }
        for kind, measures in measured.items()
        for measure, of_organs in measures.items()
        for organ, value in of_organs.items()
    ]


def _shared(source: ScanEntry, target: ScanEntry, own: NDArray[np.int64], others: NDArray[np.int64]) -> list[int]:
    try:
        return shared_organs(own, others)
    except PretrainingError as error:
        raise EvaluationError(f"{source.id} and {target.id}: {error}") from error


def _pairs(labelled: Sequence[ScanEntry]) -> list[tuple[ScanEntry, ScanEntry]]:
    """Ordered pairs of different patients: each scan with the next one first, then with the one after that."""
    count = len(labelled)
    pairs = [(labelled[n], labelled[(n + step) % count]) for step in range(1, count) for n in range(count)]
    pairs = [(a, b) for a, b in pairs if a.subject != b.subject]
    if not pairs:
        raise EvaluationError("Retrieval needs labelled scans of two patients; name label maps in the manifest.")
    return pairs


def _report(request: EvaluationRequest, settings: MatchingSettings, rows: Sequence[Row]) -> Report:
    model = request.model
    used = {row[side] for row in rows for side in ("source", "target")}
    facts = {
        "model": model.name,
        "model_hash": model.hash,
        "protocols": list(request.protocols),
        "scans": [entry.id for entry in request.entries if entry.id in used],
        "seen_in_pretraining": [id for id in request.seen_in_pretraining if id in used],
        "seed": request.seed,
        "settings": asdict(settings),
        "versions": environment(),
    }
    tables = [_means(rows, protocol) for protocol in ("match", "retrieval") if protocol in request.protocols]
    if "match" in request.protocols:
        tables.append(_by(rows, "match", "scan", ("source",), SAME_NEAR))
    if "retrieval" in request.protocols:
        for measure in (HIT, MATCHED_HIT, DICE_TARGET, HEAD_TARGET):
            tables.append(_by(rows, "retrieval", "pair", ("source", "target"), measure))
            tables.append(_by(rows, "retrieval", "structure", ("structure",), measure))
    return Report(f"{model.name}: matching and retrieval", facts, tables, rows, [NOTES])


def _means(rows: Sequence[Row], protocol: str) -> Table:
    """Every measure of every kind of features: mean over structures, then over scans or pairs of patients."""
    measures = {
        "match": (SAME_MEDIAN, SAME_NEAR, MATCHED_MEDIAN, MATCHED_NEAR),
        "retrieval": RETRIEVED,
    }[protocol]
    lines: list[list[str | float]] = [
        [kind, *(_mean(rows, protocol, measure, features=kind) for measure in measures)] for kind in KINDS
    ]
    title = "Same patient" if protocol == "match" else "Between patients"
    return Table(title, ("features", *measures), lines)


def _by(rows: Sequence[Row], protocol: str, what: str, keys: Sequence[str], measure: str) -> Table:
    """One measure for every value of some keys."""
    groups = list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows if row["protocol"] == protocol))
    lines: list[list[str | float]] = []
    for group in groups:
        own = dict(zip(keys, group, strict=True))
        lines.append([*group, *(_mean(rows, protocol, measure, features=kind, **own) for kind in KINDS)])
    return Table(f"By {what}: {measure}", (*keys, *KINDS), lines)


def _mean(rows: Sequence[Row], protocol: str, measure: str, **wanted: str) -> float:
    """Mean over pairs of patients of the mean over structures."""
    pairs: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["protocol"] == protocol and row["measure"] == measure and all(row[k] == v for k, v in wanted.items()):
            pairs.setdefault((row["source"], row["target"]), []).append(row["value"])
    return float(np.mean([np.mean(values) for values in pairs.values()])) if pairs else float("nan")


NOTES = """How to read it: *same patient* looks for 500 random body points in a copy of the scan that is shifted by
(7.3, -5.1, 11.7) mm, resampled to 1.15 times its voxel size and has 20 HU more noise. *Organ hit rate* is the share of
30 points an organ whose most similar voxel in the other patient lies in the same organ. *Matched* figures are of the
first 100 and 10 of the same points looked up by `match_points` (`vox2vec match`); all its answers count, those it calls
unreliable too. *Few-shot Dice* comes from votes, weighted by similarity, of 100 voxels an organ and 2000 of the rest of
the source's body, measured on 150,000 voxels; *few-shot head* is the same by the head that `train_head` learns from
these voxels, without the CT's intensities and without post-processing. Means are over structures first, then over
scans or pairs of patients. The references are of the same run: the same network before training, Gaussian, gradient and
Laplacian features at 3 to 24 mm, and chance. Not for diagnosis.
"""
