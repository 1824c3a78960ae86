"""Tables of the segmentation protocols: means and spread over folds and seeds, by structure, best and worst."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from Vox2VecCore.evaluation.report import Report, Table
from Vox2VecCore.evaluation.request import EvaluationRequest
from Vox2VecCore.evaluation.scoring import DICE, HD95, MEASURES, NSD
from Vox2VecCore.evaluation.settings import SegmentationSettings
from Vox2VecCore.pretraining.run_directory import environment

Row = Mapping[str, Any]


def make_report(
    request: EvaluationRequest,
    settings: SegmentationSettings,
    title: str,
    classes: Sequence[str],
    identity: Mapping[str, Any],
    unseen: Sequence[str],
    rows: Sequence[Row],
) -> Report:
    """The report of all rows.

    :param unseen: what to say about classes that a training never saw.
    """
    facts = {
        "model": request.model.name,
        "model_hash": request.model.hash,
        "protocols": list(dict.fromkeys(row["protocol"] for row in rows)),
        "scans": identity["scans"],
        "seen_in_pretraining": [id for id in request.seen_in_pretraining if id in identity["scans"]],
        "classes": list(classes),
        "classes_never_seen_in_training": list(unseen),
        "seed": request.seed,
        "settings": {key: identity[key] for key in settings.__dataclass_fields__},
        "versions": environment(),
    }
    tables = [summary(rows)]
    tables += [by_structure(rows, classes, name) for name in MEASURES]
    tables.append(_extremes(rows))
    results = [{key: value for key, value in row.items() if key != "prediction"} for row in rows]
    short = sorted(set(settings.labelled) - {row["labelled"] for row in rows})
    notes = [f"No fold has {', '.join(map(str, short))} scans to train on.\n"] if short else []
    return Report(f"{request.model.name}: {title}", facts, tables, results, [*notes, NOTES])


def summary(rows: Sequence[Row]) -> Table:
    """Mean and standard deviation over folds and seeds of every protocol, for every number of training scans."""
    lines: list[list[str | float]] = []
    for protocol, labelled in _groups(rows):
        own = [row for row in rows if (row["protocol"], row["labelled"]) == (protocol, labelled)]
        line: list[str | float] = [protocol, str(labelled) if labelled else "all"]
        for name in MEASURES:
            line += list(mean_and_spread(own, name))
        seconds = {(row["seed"], row["fold"]): row["training_seconds"] for row in own}
        line += [f"{own[0]['trainable_parameters']:,}", f"{np.mean(list(seconds.values())):.0f}"]
        lines.append(line)
    headings = ["protocol", "training scans", *(h for name in MEASURES for h in (name, f"{name} SD"))]
    return Table("Protocols", (*headings, "trainable parameters", "seconds a training"), lines)


def mean_and_spread(rows: Sequence[Row], name: str) -> tuple[float, float]:
    """Mean and standard deviation, over folds and seeds, of the mean over structures of the mean over scans."""
    runs: dict[tuple[int, int], dict[str, list[float]]] = {}
    for row in rows:
        if row[name] is not None:
            runs.setdefault((row["seed"], row["fold"]), {}).setdefault(row["structure"], []).append(row[name])
    means = [float(np.mean([np.mean(values) for values in run.values()])) for run in runs.values()]
    if not means:
        return float("nan"), float("nan")
    return float(np.mean(means)), float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")


def by_structure(rows: Sequence[Row], classes: Sequence[str], name: str) -> Table:
    """One measure of every structure: mean over scans, folds and seeds."""
    groups = _groups(rows)
    lines: list[list[str | float]] = []
    for structure in classes:
        line: list[str | float] = [structure]
        for group in groups:
            own = [
                row[name]
                for row in rows
                if row["structure"] == structure
                and (row["protocol"], row["labelled"]) == group
                and row[name] is not None
            ]
            line.append(float(np.mean(own)) if own else float("nan"))
        lines.append(line)
    headings = [f"{protocol}, {labelled} scans" if labelled else protocol for protocol, labelled in groups]
    return Table(f"By structure: {name}", ("structure", *headings), lines)


def extremes(rows: Sequence[Row], protocol: str) -> list[tuple[float, Row]]:
    """Mean Dice over structures of the best and of the worst segmented scan, with a row of each."""
    scans: dict[str, list[Row]] = {}
    for row in rows:
        if row["protocol"] == protocol and row[DICE] is not None:
            scans.setdefault(row["prediction"], []).append(row)
    scored = sorted(
        ((float(np.mean([r[DICE] for r in own])), own[0]) for own in scans.values()), key=lambda pair: -pair[0]
    )
    return [scored[0], scored[-1]] if scored else []


def _extremes(rows: Sequence[Row]) -> Table:
    lines: list[list[str | float]] = [
        [protocol, which, row["scan"], str(row["fold"]), str(row["seed"]), score]
        for protocol in dict.fromkeys(row["protocol"] for row in rows)
        for which, (score, row) in zip(("best", "worst"), extremes(rows, protocol), strict=False)
    ]
    return Table("Best and worst scans", ("protocol", "", "scan", "fold", "seed", "mean Dice"), lines)


def _groups(rows: Sequence[Row]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((row["protocol"], row["labelled"]) for row in rows))


NOTES = f"""How to read it: every structure is a yes or no of its own, measured on the scan's own grid. {NSD} is the
share of both surfaces that lies within the tolerance of the other, {HD95} the 95th percentile of the distances between
them. A structure that a scan does not show is left out; one that was missed entirely has {DICE} and {NSD} 0 and no
distance, so distances flatter who misses more. Means are over scans, then over structures; SD is over folds and seeds.
With halves, surfaces are cut where the halves meet, in prediction and reference alike. Nothing is predicted outside
the body, where the loss does not look. Heads read the backbone's own levels; a projection takes no part.
Not for diagnosis.
"""
