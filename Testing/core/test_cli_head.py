"""``vox2vec head``: strokes to a head, a head to label maps, and what is said when something is wrong."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import nibabel
import numpy as np
import pytest

from Testing.support.commands import Run, answer, runner
from Testing.support.models import random_model
from Testing.support.scans import phantom
from Testing.support.tables import rows
from Vox2VecCore.cli import console, head
from Vox2VecCore.embedding import embed
from Vox2VecCore.fewshot import postprocessing
from Vox2VecCore.fewshot.classes import HeadClass
from Vox2VecCore.fewshot.head import Head
from Vox2VecCore.fewshot.segmenting import segment
from Vox2VecCore.model import load_model
from Vox2VecCore.processes import Share, own_share
from Vox2VecCore.slicer_segments import FileSegment, read_segments, write_segments
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_labels, read_volume, write_volume

LUNG, BLOCK = 2, 5


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    random_model(folder, tile_shape=(64, 64, 64), statistics=True, name="vox2vec-small")
    random_model(folder, base_channels=3, tile_shape=(64, 64, 64), statistics=True, name="other")
    return folder


def strokes(ct: Volume) -> Volume:
    """Lines in the phantom's lung (2), in its dense organ (5), and around them (1)."""
    array = np.zeros(ct.shape, np.int16)
    array[33, 17:23, 14], array[30:37, 20, 16] = LUNG, LUNG
    array[12:17, 21, 17], array[14, 19:24, 18] = BLOCK, BLOCK
    array[20:28, 30, 15], array[23, 24:34, 10] = 1, 1
    return Volume(array, ct.affine, "strokes")


@pytest.fixture(scope="module")
def trained(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``scan.nii.gz``, ``strokes.nii.gz`` and ``head.safetensors``."""
    folder = tmp_path_factory.mktemp("trained")
    ct = phantom()
    write_volume(ct, folder / "scan.nii.gz")
    write_volume(strokes(ct), folder / "strokes.nii.gz")
    return folder


@pytest.fixture
def run(
    models: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command line in a folder with a scan, its strokes, and a head learnt from them."""
    monkeypatch.setenv("VOX2VEC_MODELS_DIR", str(models))
    monkeypatch.setenv("VOX2VEC_CACHE_DIR", str(trained / "cache"))
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(console, "LOG_EVERY_S", np.inf)
    monkeypatch.setitem(sys.modules, "openvino", None)  # compiling takes longer than embedding these scans
    monkeypatch.chdir(tmp_path)
    run = runner(capsys)
    if not (trained / "head.safetensors").exists():
        code, _, err = run(
            "head",
            "train",
            trained / "scan.nii.gz",
            trained / "strokes.nii.gz",
            "--out",
            trained / "head.safetensors",
            "--names",
            _names(tmp_path),
        )
        assert (code, err) == (0, "")
    for name in ("scan.nii.gz", "strokes.nii.gz", "head.safetensors"):
        (tmp_path / name).symlink_to(trained / name)
    return run


def _names(folder: Path) -> Path:
    path = folder / "names.json"
    path.write_text(json.dumps({"2": "lung", "5": "dense organ"}), encoding="utf-8")
    return path


def refused(run: Run, *arguments: object) -> str:
    """The one sentence of a command that must fail and leave nothing new behind."""
    before = sorted(Path().rglob("*"))
    code, out, err = run(*arguments)
    assert code == 2 and out == "", (code, out, err)
    assert err.startswith("Error: ") and err.count("\n") == 1 and "Traceback" not in err
    assert sorted(Path().rglob("*")) == before
    return err


def three_scans(folder: Path) -> Path:
    """Two good scans and a broken one in between."""
    scans = folder / "scans"
    (scans / "deep").mkdir(parents=True)
    write_volume(phantom(seed=1), scans / "a.nii.gz")
    (scans / "b.nii.gz").write_bytes(b"no scan")
    write_volume(phantom(seed=2), scans / "deep" / "c.nii.gz")
    return scans


def test_the_command_line_names_what_there_is() -> None:
    assert get_args(head.Method) == ("auto", "prototype", "ridge", "logistic", "mlp")
    assert get_args(head.Keep) == get_args(postprocessing.Keep)


# --- training ---


def test_training_says_what_was_learnt(run: Run) -> None:
    found = answer(
        run, "head", "train", "scan.nii.gz", "strokes.nii.gz", "-o", "new.safetensors", "--names", _names(Path())
    )
    assert [(each["value"], each["name"], each["background"]) for each in found["classes"]] == [
        (1, "Background", True), (LUNG, "lung", False), (BLOCK, "dense organ", False),
    ]  # fmt: skip
    assert all(each["voxels"] > 3 for each in found["classes"])
    made = Head.load("new.safetensors")
    assert (made.method, made.note, made.needs_ct) == (found["method"], found["note"], True)
    code, out, err = run("head", "train", "scan.nii.gz", "strokes.nii.gz", "-o", "new.safetensors")
    assert (code, err) == (0, "") and "Structure 5" in out and found["note"] in out


def test_a_head_without_hu_knows_its_scan_and_needs_no_ct(run: Run) -> None:
    found = answer(run, "head", "train", "scan.nii.gz", "strokes.nii.gz", "-o", "new.safetensors", "--no-intensity")
    assert found["scans"] == ["scan.nii.gz"] and not Head.load("new.safetensors").needs_ct
    assert Head.load("head.safetensors").needs_ct


def test_base_adds_its_strokes(run: Run) -> None:
    found = answer(
        run, "head", "train", "scan.nii.gz", "strokes.nii.gz", "-o", "new.safetensors", "--base", "head.safetensors"
    )
    assert {each["name"] for each in found["classes"]} == {"Background", "lung", "dense organ"}
    before = Head.load("head.safetensors").voxels
    assert found["classes"][1]["voxels"] == 2 * before[LUNG]


def test_strokes_on_another_grid_are_brought_over_with_a_note(run: Run) -> None:
    ct = read_volume("scan.nii.gz")
    own = strokes(ct)
    part = Volume(
        own.array[8:40, 10:36, 5:25],
        own.affine @ np.array([[1, 0, 0, 8], [0, 1, 0, 10], [0, 0, 1, 5], [0, 0, 0, 1.0]]),
        "part",
    )
    write_volume(part, Path("part.nrrd"))
    code, _, err = run("head", "train", "scan.nii.gz", "part.nrrd", "-o", "new.safetensors")
    assert code == 0 and err.startswith("Note: part.nrrd") and "another grid" in err
    assert Head.load("new.safetensors").voxels == Head.load("head.safetensors").voxels

    affine = own.affine.copy()
    affine[2, 3] += 1000
    write_volume(Volume(own.array, affine), Path("far.nii.gz"))
    assert "do not overlap" in refused(run, "head", "train", "scan.nii.gz", "far.nii.gz", "-o", "far.safetensors")


def test_names_and_colours_come_from_segments_of_slicer(run: Run) -> None:
    segments = [
        FileSegment(1, "rest", (0, 0, 0)),
        FileSegment(LUNG, "Lunge é", (0.1, 0.2, 0.3), "a~b"),
        FileSegment(BLOCK, "organ", (1, 0, 0)),
    ]
    write_segments(read_labels("strokes.nii.gz"), segments, Path("strokes.seg.nrrd"))
    assert read_segments(Path("strokes.seg.nrrd")) == segments
    code, _, err = run("head", "train", "scan.nii.gz", "strokes.seg.nrrd", "-o", "new.safetensors")
    assert (code, err) == (0, "")
    found = {each.value: each for each in Head.load("new.safetensors").classes}
    assert found[1].background
    assert (found[LUNG].name, found[LUNG].colour, found[LUNG].terminology) == ("Lunge é", (0.1, 0.2, 0.3), "a~b")

    # A file of names has the last word on what it says, and leaves the rest as it is.
    named = {"2": "lung", "5": {"name": "liver", "colour": [0.5, 0, 1], "terminology": "c~d"}}
    Path("names.json").write_text(json.dumps(named), encoding="utf-8")
    pair = ("head", "train", "scan.nii.gz", "strokes.seg.nrrd", "--names", "names.json", "-o", "new.safetensors")
    answer(run, *pair, "--base", "head.safetensors")
    assert Head.load("new.safetensors").classes[1:] == (
        HeadClass(LUNG, "lung", (0.1, 0.2, 0.3), "a~b"), HeadClass(BLOCK, "liver", (0.5, 0, 1), "c~d"),
    )  # fmt: skip


def test_bad_strokes_are_refused(run: Run) -> None:
    ct, good = read_volume("scan.nii.gz"), read_labels("strokes.nii.gz")
    one, half = np.where(good.array == LUNG, good.array, 0), good.array * np.float32(0.5)
    air = np.zeros_like(one)
    air[0, 0, :], air[1, 1, :] = 1, 2
    for name, array in (("empty", one * 0), ("one", one), ("half", half), ("air", air)):
        write_volume(ct.with_array(array), Path(f"{name}.nii.gz"))

    def said(*arguments: object) -> str:
        return refused(run, "head", "train", *arguments, "-o", "new.safetensors")

    assert "holds no strokes" in said("scan.nii.gz", "empty.nii.gz")
    assert "one class only" in said("scan.nii.gz", "one.nii.gz")
    assert "is not a label map" in said("scan.nii.gz", "half.nii.gz")
    assert "outside the body" in said("scan.nii.gz", "air.nii.gz")
    assert "no such file" in said("scan.nii.gz", "absent.nii.gz")
    assert "no such file" in said("absent.nii.gz", "strokes.nii.gz")
    assert "has no strokes" in said("scan.nii.gz")
    for text in (
        *("[", "[1]", '{"two": "liver"}', '{"2": 3}', '{"2": {"colour": [0, 0, 0]}}', '{"2": {"name": "a", "x": 1}}'),
        *('{"2": {"name": "a", "colour": [0, 2, 0]}}', '{"2": {"name": "a", "colour": [0, 0]}}'),
        '{"2": {"name": "a", "terminology": 1}}',
    ):
        Path("names.json").write_text(text, encoding="utf-8")
        assert "names.json" in said("scan.nii.gz", "strokes.nii.gz", "--names", "names.json")


def test_a_head_that_could_not_be_written_is_refused_at_once(run: Run) -> None:
    pair = ("head", "train", "scan.nii.gz", "strokes.nii.gz", "--out")
    assert "no such folder" in refused(run, *pair, "absent/head.safetensors")
    assert "must end in .safetensors" in refused(run, *pair, "head.txt")


# --- applying ---


def test_one_scan_to_one_file(run: Run) -> None:
    found = answer(
        run, "head", "apply", "scan.nii.gz", "--head", "head.safetensors", "-o", "labels.nii.gz", "--probabilities"
    )
    ct, labels = nibabel.load("scan.nii.gz"), nibabel.load("labels.nii.gz")
    array = np.asarray(labels.dataobj)
    assert labels.shape == ct.shape and np.array_equal(labels.affine, ct.affine)
    assert set(np.unique(array)) == {0, LUNG, BLOCK}
    ml = {"lung": (array == LUNG).sum() * 0.027, "dense organ": (array == BLOCK).sum() * 0.027}
    assert found["scans"][0]["ml"] == pytest.approx(ml, abs=1e-3)
    lung = phantom().array < -800
    lung[:, :, :] &= np.indices(lung.shape)[0] > 24
    both = ((array == LUNG) & lung).sum()
    probability = np.asarray(nibabel.load("labels_probability_2.nii.gz").dataobj)
    assert probability.dtype == np.float32 and probability.min() >= 0 and probability.max() <= 1
    assert both > 0 and probability[array == LUNG].mean() > probability[array == 0].mean()
    assert not list(Path().glob("volumes*"))


def test_structures_of_one_name_are_told_apart_in_volumes(run: Run) -> None:
    named = Head.load("head.safetensors")
    replace(named, classes=tuple(replace(each, name="organ") for each in named.classes)).save("same.safetensors")
    ml = [
        answer(run, "head", "apply", "scan.nii.gz", "--head", f"{which}.safetensors", "-o", "out")["scans"][0]["ml"]
        for which in ("head", "same")
    ]
    assert list(ml[1]) == ["organ (2)", "organ (5)"] and list(ml[1].values()) == list(ml[0].values())
    assert [row[1] for row in rows(Path("out/volumes.csv"))[1:]] == ["organ (2)", "organ (5)"]


def test_a_folder_of_scans_goes_on_after_a_bad_one(run: Run) -> None:
    scans = three_scans(Path())
    arguments = ("head", "apply", scans, "--head", "head.safetensors", "--out", "out/new", "--format", "seg.nrrd")
    code, out, err = run(*arguments, "--json")
    result = json.loads(out)
    assert code == 2 and [each["scan"] for each in result["failed"]] == ["scans/b.nii.gz"]
    assert err.count("Error: ") == 2 and "1 of 3 scans failed" in err.splitlines()[-1]
    assert sorted(path.name for path in Path("out/new").iterdir()) == ["a.seg.nrrd", "deep_c.seg.nrrd", "volumes.csv"]
    assert rows(Path("out/new/volumes.csv"))[:2] == [
        ["scan", "structure", "ml"], ["a", "lung", f"{result['scans'][0]['ml']['lung']:.3f}"],
    ]  # fmt: skip
    assert [each.name for each in read_segments(Path("out/new/a.seg.nrrd"))] == ["lung", "dense organ"]

    # Only what is missing is done again, and the table is complete all the same.
    Path("out/new/deep_c.seg.nrrd").unlink()
    (scans / "b.nii.gz").unlink()
    table = rows(Path("out/new/volumes.csv"))
    stamp = Path("out/new/a.seg.nrrd").stat().st_mtime_ns
    code, out, err = run(*arguments, "--resume", "--json")
    assert code == 0 and [each["seconds"] is None for each in json.loads(out)["scans"]] == [True, False]
    assert Path("out/new/a.seg.nrrd").stat().st_mtime_ns == stamp and "was done before" in err
    assert rows(Path("out/new/volumes.csv")) == table

    # A head that is newer than the results makes them anew.
    os.utime("out/new/a.seg.nrrd", (1, 1))
    code, out, _ = run(*arguments, "--resume", "--json")
    assert code == 0 and [each["seconds"] is None for each in json.loads(out)["scans"]] == [False, True]


def test_processes_share_the_scans(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under srun, one after the other; whoever comes first, the table is in the order of the scans."""
    scans = three_scans(Path())
    (scans / "b.nii.gz").unlink()
    apply = ("head", "apply", scans, "--head", "head.safetensors", "--out", "out")
    Path("out").mkdir()
    Path("out/volumes.csv").write_text("scan,structure,ml\na,lung,9\na,gone,9\nz,lung,9\n", encoding="utf-8")
    tables = []
    for rank, rank_name, count_name in (("1", "SLURM_PROCID", "SLURM_NTASKS"), ("0", "RANK", "WORLD_SIZE")):
        monkeypatch.setenv(rank_name, rank)
        monkeypatch.setenv(count_name, "2")
        assert run(*apply)[0] == 0
        monkeypatch.delenv(rank_name)
        tables.append([row[:2] for row in rows(Path("out/volumes.csv"))[1:]])
    structures = ("lung", "dense organ")
    # The first process knows nothing better than an earlier run about the scans of the second.
    assert tables[0] == [["a", "lung"], ["a", "gone"], *(["deep_c", name] for name in structures)]
    assert tables[1] == [[scan, name] for scan in ("a", "deep_c") for name in structures]
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.nii.gz", "deep_c.nii.gz", "volumes.csv"]
    monkeypatch.setenv("RANK", "2")
    assert "RANK=2" in refused(run, *apply[:-1], "other")
    monkeypatch.delenv("RANK")
    assert own_share().count == 1
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_share() == Share(1, 2)


def test_a_bad_scan_of_one_process_does_not_stop_the_other(run: Run) -> None:
    """torchrun stops all processes as soon as one fails, and the one with the bad scan is through long before."""
    scans = three_scans(Path())
    write_volume(phantom(seed=3), scans / "d.nii.gz")  # a, b (bad), d, deep_c: the second process has b and deep_c
    (scans / "deep" / "c.nii.gz").write_bytes(b"no scan either")
    root = str(Path(head.__file__).parents[2])
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *("-m", "Vox2VecCore.cli", "head", "apply", "scans", "--head", "head.safetensors", "--out", "out"),
        *("--engine", "torch"),
    ]
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if "scans failed" in line]
    assert len(said) == 1 and said[0].endswith(
        "Error: 2 of 4 scans failed, the others are done: scans/b.nii.gz, scans/deep/c.nii.gz."
    )
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.nii.gz", "d.nii.gz", "volumes.csv"]
    assert [row[0] for row in rows(Path("out/volumes.csv"))[1:]] == ["a", "a", "d", "d"]


def test_strokes_of_the_scan_hold(run: Run) -> None:
    """The same as in the library, and refused where they cannot mean anything."""
    ct, array = read_volume("scan.nii.gz"), np.zeros(phantom().shape, np.int16)
    array[20:26, 28, 12], array[4:7, 4, 4] = LUNG, BLOCK
    write_volume(ct.with_array(array), "own.nii.gz")
    apply = ("head", "apply", "scan.nii.gz", "--head", "head.safetensors", "--smallest", 0, "--keep", "all", "-o")
    answer(run, *apply, "without.nii.gz")
    answer(run, *apply, "with.nii.gz", "--strokes", "own.nii.gz")
    without, found = (read_labels(f"{name}.nii.gz").array for name in ("without", "with"))
    assert (found[array > 0] == array[array > 0]).all() and (without[array > 0] != array[array > 0]).any()
    pyramid = embed(ct, load_model("vox2vec-small"), cache=False)
    processing = postprocessing.PostProcessing(keep="all", smallest_mm3=0)
    expected = segment(
        pyramid, Head.load("head.safetensors"), volume=ct, strokes=ct.with_array(array), processing=processing
    )
    np.testing.assert_array_equal(found, expected.labels.array)

    write_volume(ct.with_array(np.where(array == LUNG, 9, array)), "unknown.nii.gz")
    said = refused(run, *apply, "new.nii.gz", "--strokes", "unknown.nii.gz")
    assert "strokes of the value 9, but the head was trained on 1 (Background), 2 (lung)" in said
    write_volume(phantom(seed=1), "other.nii.gz")
    both = ("head", "apply", "scan.nii.gz", "other.nii.gz", "--head", "head.safetensors", "-o", "out")
    assert "but there are 2; give that one alone" in refused(run, *both, "--strokes", "own.nii.gz")
    write_volume(ct.with_array(array * 0), "empty.nii.gz")
    assert "holds no strokes" in refused(run, *apply, "new.nii.gz", "--strokes", "empty.nii.gz")


def test_a_manifest_lists_scans(run: Run) -> None:
    three_scans(Path())
    line = {"id": "case/1", "subject": "1", "image": "scans/a.nii.gz"}
    Path("data.jsonl").write_text(json.dumps(line), encoding="utf-8")
    found = answer(run, "head", "apply", "--data", "data.jsonl", "--head", "head.safetensors", "--out", "out")
    assert [each["labels"] for each in found["scans"]] == ["out/case_1.nii.gz"]


def test_bad_heads_scans_and_outputs_are_refused(run: Run) -> None:
    whole = Path("head.safetensors").read_bytes()
    Path("cut.safetensors").write_bytes(whole[: len(whole) // 2])
    three_scans(Path())
    Path("empty").mkdir()

    def said(*arguments: object, head: str = "head.safetensors", out: str = "labels.nii.gz") -> str:
        return refused(run, "head", "apply", *arguments, "--head", head, "--out", out)

    assert "no readable head" in said("scan.nii.gz", head="cut.safetensors")
    assert "no such file" in said("scan.nii.gz", head="absent.safetensors")
    assert "is no head" in said("scan.nii.gz", head=os.environ["VOX2VEC_MODELS_DIR"] + "/other/model.safetensors")
    assert "was trained with model vox2vec-small" in said("scan.nii.gz", "--model", "other")
    assert "no such file" in said("absent.nii.gz")
    assert "no such file" in said("absent.nii.gz", out="fresh")
    assert not Path("fresh").exists()
    assert "b.nii.gz" in said("scans/b.nii.gz")
    assert "No scans were found" in said("empty")
    assert "No scans were found" in said()
    assert "one file, but there are 2 scans" in said("scan.nii.gz", "scans/a.nii.gz")
    assert "no such folder" in said("scan.nii.gz", out="absent/labels.nii.gz")
    assert "cannot be written to" in said("scan.nii.gz", out="strokes.nii.gz/out")
    assert "is read by this command" in said("scan.nii.gz", out="scan.nii.gz")
    assert "label maps are written as" in said("scan.nii.gz", out="labels.txt")
    assert not Path("labels.txt").exists()
    assert "holds the scan" in said("scans/a.nii.gz", out="scans")
