"""The four segmentation protocols: linear and non-linear probing, fine-tuning, training from scratch.

Every training (protocols that share one, fold, seed, number of scans) is a job of its own. Finished jobs are files
in the report's folder, and an interrupted one has a checkpoint there, so that ``resume`` goes on where it stopped.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.engines import choose
from Vox2VecCore.evaluation.cases import Case, class_sizes, make_folds, no_masks, pack, read_case, read_cases
from Vox2VecCore.evaluation.errors import EvaluationError
from Vox2VecCore.evaluation.report import JSON, Report, check_new, write_files
from Vox2VecCore.evaluation.request import EvaluationRequest
from Vox2VecCore.evaluation.scoring import measure, need_monai
from Vox2VecCore.evaluation.segmentation_figures import draw_figures
from Vox2VecCore.evaluation.segmentation_report import make_report
from Vox2VecCore.evaluation.settings import SegmentationSettings
from Vox2VecCore.evaluation.tasks import TaskClass, load_task, task_of_labels
from Vox2VecCore.evaluation.training import (
    FINETUNE,
    LINEAR,
    NONLINEAR,
    SCRATCH,
    Job,
    predict,
    train,
    trainable_parameters,
)
from Vox2VecCore.paths import replace_file
from Vox2VecCore.progress import Progress
from Vox2VecCore.settings import configured

RUNS, REQUEST = "runs", "request.json"


def run(request: EvaluationRequest, progress: Progress) -> Report:
    """Train and measure everything that is asked for, and write report, figures and pictures into ``request.out``.

    :raises EvaluationError: if scans, labels or classes cannot be used, the folder is taken, another evaluation is to
        be gone on with, or a loss is no number any more.
    :raises SettingsError: on unknown settings.
    :raises VolumeError: if a scan cannot be read or used.
    :raises MissingExtraError: if MONAI is not installed.
    :raises Cancelled: when ``progress`` says so; ``resume`` goes on from there.
    """
    need_monai()
    settings = configured(SegmentationSettings(), request.config, request.overrides)
    settings.check()
    _check_out(request.out, request.resume)
    model = request.model
    labelled = [entry for entry in request.entries if entry.labels is not None]
    if not labelled:
        raise EvaluationError("None of the scans has labels; name label maps in the manifest.")
    task = task_of_labels(labelled, request.names) if request.task is None else load_task(request.task)
    named = request.task is not None
    cases, classes = read_cases(labelled, task, settings, model.config.spacing_mm, named, progress)
    folds = make_folds(cases, settings)
    device = choose(request.device, "torch")[0]  # type: ignore[arg-type]
    groups = [tuple(p for p in (LINEAR, NONLINEAR) if p in request.protocols)]
    groups += [(protocol,) for protocol in (FINETUNE, SCRATCH) if protocol in request.protocols]
    seeds = range(request.seed, request.seed + settings.seeds)
    jobs = [
        Job(group, fold, seed, count)
        for seed, count, fold, group in product(seeds, settings.labelled, folds, [g for g in groups if g])
        if count <= len(fold.train)
    ]
    if not jobs:
        raise EvaluationError(f"No fold has as many training scans as {list(settings.labelled)}; give more scans.")
    identity = _identity(request, settings, cases, classes)
    _claim(request.out, identity, request.resume)
    rows: list[dict[str, Any]] = []
    for job in jobs:
        rows += _job(job, cases, classes, request, settings, device, progress)
    report = make_report(
        request,
        settings,
        task.title,
        [one.name for one in classes],
        identity,
        _unseen(jobs, cases, classes, settings),
        rows,
    )
    _write(report, request.out, rows, cases, classes, settings, progress)
    return report


def _job(
    job: Job,
    cases: Sequence[Case],
    classes: Sequence[TaskClass],
    request: EvaluationRequest,
    settings: SegmentationSettings,
    device: str,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Results of a job, from its file if it was finished before."""
    runs = request.out / RUNS
    done, checkpoint = runs / f"{job.key}.json", runs / f"{job.key}.pt"
    if done.is_file():
        found: list[dict[str, Any]] = json.loads(done.read_text(encoding="utf-8"))
        return found
    learner, seconds = train(job, cases, len(classes), request.model, settings, device, checkpoint, progress)
    rows: list[dict[str, Any]] = []
    for n, index in enumerate(job.fold.test):
        progress.step(f"Measuring {job.key}", n, len(job.fold.test))
        rows += _measured(job, index, learner, cases[index], classes, request, settings, device, seconds)
    with replace_file(done) as temporary:
        temporary.write_text(json.dumps(rows), encoding="utf-8")
    checkpoint.unlink(missing_ok=True)
    return rows


def _measured(
    job: Job,
    index: int,
    learner: Any,
    case: Case,
    classes: Sequence[TaskClass],
    request: EvaluationRequest,
    settings: SegmentationSettings,
    device: str,
    seconds: float,
) -> list[dict[str, Any]]:
    config = request.model.config
    _, volume, truth = read_case(case.entry, classes, config.spacing_mm, Progress())
    ml = float(np.prod(volume.spacing_mm)) / 1000
    counted: NDArray[np.bool_] = np.ones(volume.shape, bool)
    if job.fold.test_half is not None:
        half = np.broadcast_to(case.half(job.fold.test_half, settings.slab_mm), case.grid.shape)
        counted = case.grid.to_source(half.astype(np.uint8), nearest=True) > 0
    rows = []
    for protocol, probability in predict(learner, case, config, settings, device).items():
        kept = no_masks(volume.shape, len(classes))
        for c, one in enumerate(classes):
            mask = (case.grid.to_source(np.ascontiguousarray(probability[c])) >= settings.threshold) & counted
            pack(kept, c, mask)
            here = truth[c] & counted
            found = measure(mask, here, volume.spacing_mm, settings.tolerance_mm)
            rows.append(
                {
                    "protocol": protocol,
                    "training_scans": len(job.training_scans()),
                    "labelled": job.labelled,
                    "seed": job.seed,
                    "fold": job.fold.number + 1,
                    "scan": case.entry.id,
                    "structure": one.name,
                    **{name: None if np.isnan(value) else value for name, value in found.items()},
                    "truth_ml": float(here.sum()) * ml,
                    "predicted_ml": float(mask.sum()) * ml,
                    "trainable_parameters": trainable_parameters(learner, protocol),
                    "training_seconds": seconds,
                }
            )
        path = request.out / RUNS / f"{job.key}-{protocol}-{index}.npz"
        with replace_file(path) as temporary:
            np.savez_compressed(temporary, packed=kept)
        for row in rows[-len(classes) :]:
            row["prediction"] = path.name
    return rows


def _unseen(
    jobs: Sequence[Job], cases: Sequence[Case], classes: Sequence[TaskClass], settings: SegmentationSettings
) -> list[str]:
    """Classes that a training never saw, so that their figures there say nothing about the protocol."""
    found: dict[str, None] = {}
    for job in jobs:
        shown = np.zeros(len(classes), np.int64)
        for i in job.training_scans():
            half = job.fold.train_half
            region = None if half is None else np.broadcast_to(cases[i].half(half, settings.slab_mm), cases[i].hu.shape)
            shown += class_sizes(cases[i], len(classes), region)
        scans = f", {job.labelled} scans" if job.labelled else ""
        for c in np.flatnonzero(shown == 0):
            found[f"{classes[c].name} (fold {job.fold.number + 1}, seed {job.seed}{scans})"] = None
    return list(found)


def _identity(
    request: EvaluationRequest, settings: SegmentationSettings, cases: Sequence[Case], classes: Sequence[TaskClass]
) -> dict[str, Any]:
    """Everything that decides the results, flat, so that changes can be named."""
    found: dict[str, Any] = {
        "model": request.model.hash,
        "scans": [case.entry.id for case in cases],
        "task": [[one.name, list(one.values), list(one.masks)] for one in classes],
        "seed": request.seed,
        **asdict(settings),
    }
    return dict(json.loads(json.dumps(found)))


def _check_out(out: Path, resume: bool) -> None:
    if not out.exists():
        return
    if (out / JSON).is_file() or not (out / REQUEST).is_file():
        check_new(out)
    if not resume:
        raise EvaluationError(f"{out} holds an interrupted evaluation; add --resume to go on with it, or remove it.")


def _claim(out: Path, identity: dict[str, Any], resume: bool) -> None:
    path = out / REQUEST
    if resume and path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if changed := [key for key in identity if before.get(key) != identity[key]]:
            raise EvaluationError(
                f"{out} was started with other {', '.join(changed)}; resume with the same, or choose a new folder."
            )
        return
    try:
        (out / RUNS).mkdir(parents=True)
        with replace_file(path) as temporary:
            temporary.write_text(json.dumps(identity, indent=1), encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"{out}: cannot be written ({error.strerror}); check space and rights.") from error


def _write(
    report: Report,
    out: Path,
    rows: Sequence[dict[str, Any]],
    cases: Sequence[Case],
    classes: Sequence[TaskClass],
    settings: SegmentationSettings,
    progress: Progress,
) -> None:
    """Figures first and the report last, for its presence says that all is done; then what was only kept to resume."""
    progress.step("Writing the report", 0, 1)
    try:
        draw_figures(rows, cases, classes, out, out / RUNS)
        write_files(report, out)
        shutil.rmtree(out / RUNS)
        (out / REQUEST).unlink()
    except OSError as error:
        raise EvaluationError(f"{out}: cannot be written ({error.strerror}); free space and resume.") from error
