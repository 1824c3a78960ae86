"""The four segmentation protocols on tiny scans: figures that are right, runs that go on, faults in one sentence."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from Testing.core.test_pretraining_run import labelled
from Testing.support.models import random_model
from Vox2VecCore.drawing import save
from Vox2VecCore.errors import Cancelled, MissingExtraError, SettingsError, Vox2VecError
from Vox2VecCore.evaluation import scoring, segmentation, training
from Vox2VecCore.evaluation.cases import Case, make_folds, read_case
from Vox2VecCore.evaluation.errors import EvaluationError
from Vox2VecCore.evaluation.protocols import evaluate
from Vox2VecCore.evaluation.request import EvaluationRequest
from Vox2VecCore.evaluation.segmentation_figures import curves_figure
from Vox2VecCore.evaluation.settings import SegmentationSettings
from Vox2VecCore.evaluation.tasks import TaskClass, class_masks, list_tasks, load_task
from Vox2VecCore.model import load_model
from Vox2VecCore.pretraining.manifest import ScanEntry
from Vox2VecCore.progress import Progress, ProgressReport
from Vox2VecCore.volume_io import read_volume

TINY = ("patch=[16,16,16]", "batch=2", "steps=2", "epochs=2", "warmup=1", "folds=2", "validation=0", "overlap=0.0")
ALL = ("linear", "nonlinear", "finetune", "scratch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    for n, name in enumerate("abc"):
        labelled(folder, name, n)
    random_model(folder, spacing_mm=(6.0, 6.0, 6.0), name="plain")
    random_model(folder, spacing_mm=(6.0, 6.0, 6.0), name="projected", projection_channels=4)
    return folder


def entries(folder: Path, names: str = "abc") -> list[ScanEntry]:
    return [ScanEntry(n, n, str(folder / f"{n}.nii.gz"), str(folder / f"{n}_labels.nii.gz")) for n in names]


def request(folder: Path, out: Path, *overrides: str, **changes: Any) -> EvaluationRequest:
    base = EvaluationRequest(
        load_model(folder / "plain"), entries(folder), ("linear",), out, {1: "liver", 2: "spleen"},
        overrides=[*TINY, *overrides], device="cpu",
    )  # fmt: skip
    return replace(base, **changes)


def figures(results: Any) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "training_seconds"} for row in results]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Drawing takes most of the time; one test does it."""
    if "real_pictures" not in request.fixturenames:
        monkeypatch.setattr(segmentation, "draw_figures", lambda *_: None)


@pytest.fixture
def real_pictures() -> None:
    """A test with this one draws."""


def test_a_projection_takes_no_part(folder: Path, tmp_path: Path) -> None:
    report = evaluate(request(folder, tmp_path / "out", model=load_model(folder / "projected"), protocols=ALL[:2]))
    assert {row["trainable_parameters"] for row in report.results if row["protocol"] == "linear"} == {30}
    assert all(row["Dice"] is not None for row in report.results)


def test_all_protocols_and_their_report(
    folder: Path, tmp_path: Path, real_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report"
    model = load_model(folder / "plain")
    evaluate(request(folder, tmp_path / "1"))
    files = {path.name for path in (tmp_path / "1").iterdir()}
    written = {"report.md", "report.csv", "report.json"}
    assert files == written | {"linear_best.png", "linear_worst.png", "structures.png"}
    monkeypatch.setattr(segmentation, "draw_figures", lambda *_: None)
    report = evaluate(request(folder, out, model=model, protocols=ALL))
    assert len(report.results) == 4 * 3 * 2  # protocols, scans (each tested once), structures
    assert {row["structure"] for row in report.results} == {"liver", "spleen"}
    assert sorted(row["scan"] for row in report.results if row["protocol"] == "scratch") == list("aabbcc")
    # Side by side or alone makes no difference to the linear head.
    alone = json.loads((tmp_path / "1" / "report.json").read_text())["results"]
    assert figures(alone) == figures(
        r for r in json.loads((out / "report.json").read_text())["results"] if r["protocol"] == "linear"
    )
    sizes = {row["protocol"]: row["trainable_parameters"] for row in report.results}
    backbone = sum(p.numel() for p in model.network().backbone.parameters())
    assert sizes["linear"] == (2 + 4 + 8) * 2 + 2
    assert sizes["finetune"] == sizes["scratch"] == sizes["linear"] + backbone
    assert {path.name for path in out.iterdir()} == written
    assert "| finetune | all |" in (out / "report.md").read_text()


def test_what_is_trained(folder: Path) -> None:
    """Probing never touches the backbone, fine-tuning does after the warm-up, scratch starts from other weights."""
    model = load_model(folder / "plain")
    settings = SegmentationSettings((16,) * 3, 2, 1, 1, warmup=1, validation=0, folds=2)
    classes = [TaskClass("liver", (1,)), TaskClass("spleen", (2,))]
    cases = [read_case(e, classes, model.config.spacing_mm, Progress())[0] for e in entries(folder)]
    fold = make_folds(cases, settings)[0]

    def trained(protocol: str, **changes: int) -> dict[str, torch.Tensor]:
        path = folder / f"{protocol}{changes}.pt"
        job = training.Job((protocol,), fold, 1, 0)
        learner, _ = training.train(job, cases, 2, model, replace(settings, **changes), "cpu", path, Progress())
        return learner.backbone.state_dict()

    before = model.network().backbone.state_dict()
    for protocol in ("linear", "nonlinear", "finetune"):
        after = trained(protocol)
        assert all(torch.equal(after[key], before[key]) for key in before), protocol
    tuned = trained("finetune", epochs=2)
    assert not torch.equal(tuned["first_conv.weight"], before["first_conv.weight"])
    assert (tuned["first_conv.weight"] - before["first_conv.weight"]).abs().max() < 1e-3
    assert (trained("scratch")["first_conv.weight"] - before["first_conv.weight"]).abs().max() > 0.01


def test_nothing_is_predicted_outside_the_body(folder: Path) -> None:
    model = load_model(folder / "plain")
    case = read_case(entries(folder, "a")[0], [TaskClass("liver", (1,))], (6.0, 6.0, 6.0), Progress())[0]
    body = case.body.copy()
    body[:4] = False
    learner = training.Learner(model, ("linear",), 1, 0).eval()
    settings = SegmentationSettings((16,) * 3)
    probability = training.predict(learner, replace(case, body=body), model.config, settings, "cpu")["linear"][0]
    assert (probability[~body] == 0).all() and (probability[body] > 0).all()


def test_learns_what_can_be_seen(folder: Path, tmp_path: Path) -> None:
    """Bright blocks of a scan are found by training from scratch, and the figures say so."""
    for n in range(2):
        image = np.full((40, 36, 32), -1000, np.int16)
        image[4:36, 4:32] = 0
        labels = np.zeros(image.shape, np.uint8)
        labels[10 + 3 * n : 24, 10:22, 8:20] = 1
        image[labels > 0] = 500
        for array, end in ((image, ""), (labels, "_labels")):
            nib.save(nib.Nifti1Image(array, np.diag([5.0, 5, 5, 1])), tmp_path / f"{n}{end}.nii.gz")
    more = ("batch=4", "steps=50", "epochs=1", "learning_rate=0.02")
    report = evaluate(request(folder, tmp_path / "out", *more, entries=entries(tmp_path, "01"), protocols=("scratch",)))
    assert min(row["Dice"] for row in report.results) > 0.7
    assert min(row["truth_ml"] for row in report.results) == pytest.approx(11 * 12 * 12 * 0.125)


def test_validation_curves_and_seeds(folder: Path, tmp_path: Path) -> None:
    changes = ("folds=3", "validation=1", "labelled=[1,0,5]", "seeds=2", "epochs=1", "steps=1")
    report = evaluate(request(folder, tmp_path / "out", *changes))
    save(curves_figure(report.results), tmp_path / "curves.png")
    assert {(row["labelled"], row["seed"], row["fold"]) for row in report.results} == {
        (labelled, seed, fold) for labelled in (0, 1) for seed in (0, 1) for fold in (1, 2, 3)
    }
    assert [row[1] for row in report.tables[0].rows] == ["1", "all"]
    assert report.notes[0] == "No fold has 5 scans to train on.\n"


def test_halves_measure_the_other_half(folder: Path, tmp_path: Path) -> None:
    report = evaluate(request(folder, tmp_path / "out", "split=halves", "slab_mm=0"))
    volume = read_volume(folder / "a.nii.gz")
    whole = class_masks(entries(folder, "a")[0], [TaskClass("liver", (1,))], volume)[0].sum() * 0.125
    parts = [row["truth_ml"] for row in report.results if (row["scan"], row["structure"]) == ("a", "liver")]
    assert len(parts) == 2 and sum(parts) == pytest.approx(whole) and min(parts) < whole


def test_folds_are_those_of_scikit_learn(folder: Path) -> None:
    """KFold(5, shuffle=True, random_state=42) on ten; patients are kept together."""
    array = np.zeros((1, 1, 1), np.int16)
    cases = [Case(ScanEntry(f"{n}", f"{n // 2:02d}", ""), None, array, array > 0, array) for n in range(20)]  # type: ignore[arg-type]
    folds = make_folds(cases, SegmentationSettings())
    assert [{i // 2 for i in fold.test} for fold in folds] == [{1, 8}, {0, 5}, {2, 7}, {4, 9}, {3, 6}]
    for fold in folds:
        assert len(fold.validation) == 2 and sorted(fold.train + fold.validation + fold.test) == list(range(20))
        assert all(i ^ 1 in part for part in (fold.train, fold.validation, fold.test) for i in part)


class _Stop:
    """Cancels at the n-th report of a stage."""

    def __init__(self, stage: str, count: int) -> None:
        self.left, self.stage = count, stage

    def told(self, moment: ProgressReport) -> None:
        self.left -= moment.stage.startswith(self.stage)

    def now(self) -> bool:
        return self.left <= 0


def test_interrupted_and_resumed_is_the_same(folder: Path, tmp_path: Path) -> None:
    whole = evaluate(request(folder, tmp_path / "whole", protocols=("finetune",)))
    out = tmp_path / "out"
    for count in (3, 3):  # within the second epoch, then within the second fold
        stop = _Stop("Training", count)
        with pytest.raises(Cancelled):
            evaluate(request(folder, out, protocols=("finetune",), resume=out.exists()), Progress(stop.told, stop.now))
    with pytest.raises(EvaluationError, match="holds an interrupted evaluation; add --resume"):
        evaluate(request(folder, out, protocols=("finetune",)))
    with pytest.raises(EvaluationError, match="started with other seed, steps"):
        evaluate(request(folder, out, "steps=3", protocols=("finetune",), resume=True, seed=1))
    again = evaluate(request(folder, out, protocols=("finetune",), resume=True))
    assert figures(again.results) == figures(whole.results)
    assert not (out / "runs").exists() and not (out / "request.json").exists()
    with pytest.raises(EvaluationError, match="exists already"):
        evaluate(request(folder, out, protocols=("finetune",), resume=True))


def test_damaged_checkpoint_starts_anew(folder: Path, tmp_path: Path) -> None:
    out, stop = tmp_path / "out", _Stop("Training", 3)
    with pytest.raises(Cancelled):
        evaluate(request(folder, out), Progress(stop.told, stop.now))
    (checkpoint,) = (out / "runs").glob("*.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    assert len(evaluate(request(folder, out, resume=True)).results) == 6


def _changed(folder: Path, tmp_path: Path, change: Any) -> list[ScanEntry]:
    """The scans with other labels for the first."""
    image = nib.load(folder / "a_labels.nii.gz")
    array, affine = change(np.asarray(image.dataobj), image.affine.copy())
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "changed.nii.gz")
    return [replace(entries(folder)[0], labels=str(tmp_path / "changed.nii.gz")), *entries(folder)[1:]]


def test_labels_stored_as_floats(folder: Path, tmp_path: Path) -> None:
    same = _changed(folder, tmp_path, lambda a, m: (a.astype(np.float32), m))
    assert figures(evaluate(request(folder, tmp_path / "f", entries=same)).results) == figures(
        evaluate(request(folder, tmp_path / "i")).results
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a, m: (a.astype(np.float32) / 2, m), "is not a label map, it holds the value 0.5"),
        (lambda a, m: (a[1:], m), "another grid than its scan"),
        (lambda a, m: (a, m + np.eye(4, k=3)), "another grid than its scan"),
    ],
)
def test_labels_that_cannot_be_used(folder: Path, tmp_path: Path, change: Any, sentence: str) -> None:
    with pytest.raises(Vox2VecError, match=sentence):
        evaluate(request(folder, tmp_path / "out", entries=_changed(folder, tmp_path, change)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "changes", "error", "sentence"),
    [
        (["steps=0"], {}, SettingsError, "steps must be at least 1"),
        (["step=1"], {}, SettingsError, "Unknown setting 'step'"),
        (["labelled=[]"], {}, SettingsError, "labelled needs"),
        (["labelled=[9]"], {}, EvaluationError, "No fold has as many training scans"),
        (["folds=5"], {}, EvaluationError, "5 folds need as many patients, and the manifest has 3"),
        (["validation=2"], {}, EvaluationError, "set validation=0"),
        (["classes=['heart']"], {}, EvaluationError, "Class 'heart' is unknown"),
        (["smallest=100000"], {}, EvaluationError, "mark no structure"),
        ([], {"task": "btcv"}, EvaluationError, "Class 'left_kidney' is in none of the scans"),
        ([], {"task": "nothing"}, EvaluationError, "Unknown task 'nothing'; there are btcv, msd_task03_liver"),
        ([], {"entries": []}, EvaluationError, "None of the scans has labels"),
        ([], {"protocols": ("linear", "match")}, EvaluationError, "go together"),
    ],
)
def test_one_sentence_and_nothing_left(
    folder: Path, tmp_path: Path, overrides: list[str], changes: dict[str, Any], error: type, sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        evaluate(request(folder, tmp_path / "out", *overrides, **changes))
    assert not (tmp_path / "out").exists()


def test_a_fold_without_a_class_is_told(folder: Path, tmp_path: Path) -> None:
    only = _changed(folder, tmp_path, lambda a, m: (np.where(a == 2, 3, a).astype(np.uint8), m))
    report = evaluate(request(folder, tmp_path / "out", entries=only, names={3: "heart"}))
    (told,) = report.facts["classes_never_seen_in_training"]
    assert told.startswith("heart (fold ")
    hearts = {row["scan"]: row["Dice"] for row in report.results if row["structure"] == "heart"}
    assert hearts["a"] is not None and hearts["b"] is None and hearts["c"] is None


def test_a_loss_that_is_no_number(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "segmentation_loss", lambda logits, masks, roi: logits.sum() * float("nan"))
    with pytest.raises(EvaluationError, match=r"the loss is nan in epoch 1; .* lower learning_rate"):
        evaluate(request(folder, tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("*.json.tmp*")) and not (tmp_path / "out" / "report.json").exists()


def test_probabilities_that_are_no_numbers(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights can be lost in the very last step, of which the loss says nothing any more."""
    step = training._step

    def last(learner: training.Learner, *rest: Any) -> float:
        loss = step(learner, *rest)
        torch.nn.init.constant_(learner.heads["linear"].layers[0].weight, float("nan"))
        return loss

    monkeypatch.setattr(training, "_step", last)
    with pytest.raises(EvaluationError, match=r"the probabilities of linear are not numbers; .* lower learning_rate"):
        evaluate(request(folder, tmp_path / "out", "steps=1", "epochs=1"))
    assert not (tmp_path / "out" / "report.json").exists() and not list((tmp_path / "out").rglob("*.npz"))


def test_without_monai(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "monai.metrics", None)
    with pytest.raises(MissingExtraError, match=r"vox2vec-slicer\[evaluate\]"):
        evaluate(request(folder, tmp_path / "out"))


def test_measures_of_a_known_shift() -> None:
    """A cube moved by two voxels of 1.5 mm: all measures are known."""
    truth = np.zeros((30, 30, 30), bool)
    truth[5:15, 5:15, 5:15] = True
    spacing = np.array([1.5, 1.0, 1.0])
    assert scoring.measure(truth, truth, spacing, 2.0) == {"Dice": 1.0, "NSD": 1.0, "HD95 (mm)": 0.0}
    moved = scoring.measure(np.roll(truth, 2, axis=0), truth, spacing, 2.0)
    assert moved["Dice"] == pytest.approx(0.8) and moved["HD95 (mm)"] == pytest.approx(3.0)
    assert 0.5 < moved["NSD"] < 1.0
    assert scoring.measure(np.roll(truth, 2, axis=0), truth, spacing, 3.0)["NSD"] == pytest.approx(1.0)
    nothing = scoring.measure(~truth & truth, truth, spacing, 2.0)
    assert (nothing["Dice"], nothing["NSD"]) == (0.0, 0.0) and np.isnan(nothing["HD95 (mm)"])
    assert np.isnan(list(scoring.measure(truth, truth & ~truth, spacing, 2.0).values())).all()


def test_masks_of_a_folder_may_overlap(folder: Path, tmp_path: Path) -> None:
    volume = read_volume(folder / "a.nii.gz")
    for name, end in (("liver", 20), ("tumour", 12)):
        mask = np.zeros(volume.shape, np.uint8)
        mask[8:end, 8:18, 4:16] = 1
        nib.save(nib.Nifti1Image(mask, volume.affine), tmp_path / f"{name}.nii.gz")
    entry = replace(entries(folder, "a")[0], labels=str(tmp_path))
    liver, tumour = (TaskClass(name, (), (name,)) for name in ("liver", "tumour"))
    case, _, stored = read_case(entry, [liver, tumour], (6.0, 6.0, 6.0), Progress())
    assert (stored[0] & stored[1]).sum() == stored[1].sum() > 0
    whole, part = case.masks((slice(None),) * 3, 2)
    assert part.any() and (whole | ~part).all() and whole.sum() > part.sum()


def test_ready_made_tasks_are_the_22_of_the_paper() -> None:
    tasks = {name: load_task(name) for name in list_tasks()}
    assert sum(len(task.classes) for task in tasks.values()) == 22
    assert len(tasks["btcv"].classes) == 13 and tasks["btcv"].classes[5] == TaskClass("liver", (6,), ("liver",))
    for name, task in tasks.items():
        values = sorted(value for one in task.classes for value in one.values)
        assert values == list(range(1, len(values) + 1))
        assert f"--task {name} " in list_tasks()[name].read_text()
