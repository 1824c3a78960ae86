"""The command line: what it answers, what it says when something is wrong, and what it leaves behind."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from Testing.support.commands import Run, answer, runner
from Testing.support.dicom_series import write_series
from Testing.support.models import random_model
from Testing.support.scans import phantom
from Vox2VecCore import volume_io
from Vox2VecCore.cli import console, options
from Vox2VecCore.cli.guard import guarded
from Vox2VecCore.engines import DeviceName, EngineName, Precision
from Vox2VecCore.model import DEFAULT_MODEL, file_sha256, load_model
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_volume, write_volume

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "Vox2VecCore.cli"]
CANCELLED = "Cancelled; nothing was left half done.\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a quick model ("rough") and one with more tiles and more work ("slow")."""
    folder = tmp_path_factory.mktemp("models")
    random_model(folder, base_channels=4, tile_shape=(64, 64, 64), statistics=True, name="rough")
    random_model(folder, base_channels=24, spacing_mm=(2.0, 2.0, 2.0), name="slow")
    return folder


@pytest.fixture(autouse=True)
def only_these_models(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOX2VEC_MODELS_DIR", str(models))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small scan, ``scan.nii.gz``, and the same one shifted by 6 mm, ``other.nii.gz``."""
    write_volume(phantom(), tmp_path / "scan.nii.gz")
    shifted = phantom()
    affine = shifted.affine.copy()
    affine[0, 3] += 6
    write_volume(Volume(shifted.array, affine), tmp_path / "other.nii.gz")
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in the folder: exit code, stdout, stderr."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(console, "LOG_EVERY_S", np.inf)  # on a slow machine a line may be due

    return runner(capsys)


# --- what there is ---


def test_help_lists_the_commands_and_no_others(run: Run) -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    listed = re.findall(r"^│ ([a-z]+) {2,}", out.split("Commands")[1], re.MULTILINE)
    assert sorted(listed) == [
        "cache", "doctor", "embed", "evaluate", "head", "manifest", "match", "models", "pretrain", "similarity",
        "view",
    ]  # fmt: skip
    for command in listed:
        assert run(command, "--help")[0] == 0


def test_help_does_not_wait_for_heavy_imports() -> None:
    code = (
        "import sys; from Vox2VecCore.cli import main; code = main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'scipy', 'SimpleITK', 'nibabel', 'matplotlib', 'openvino'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_imports_nothing_until_asked() -> None:
    code = (
        "import sys, Vox2VecCore; assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "from Vox2VecCore import *; from Vox2VecCore import Vox2VecError, read_volume\n"
        "assert embed and issubclass(Vox2VecError, Exception) and 'embed' in dir(Vox2VecCore)\n"
        "try: Vox2VecCore.nothing\nexcept AttributeError: pass\nelse: raise SystemExit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


def test_options_repeat_what_the_core_knows() -> None:
    assert get_args(options.Device) == get_args(DeviceName)
    assert get_args(options.Engine) == get_args(EngineName)
    assert get_args(options.Precision) == get_args(Precision)
    assert options.DEFAULT_MODEL == DEFAULT_MODEL


# --- embed ---


def test_embed(run: Run, private_cache: Path) -> None:
    first = answer(run, "embed", "scan.nii.gz", "--model", "rough")
    assert set(first) == {
        "model", "device", "engine", "cached", "seconds", "shape", "spacing_mm", "channels", "bytes", "path",
    }  # fmt: skip
    assert (first["model"], first["device"], first["engine"], first["cached"]) == ("rough", "cpu", "openvino", False)
    assert first["channels"] == 4 + 8 + 16
    assert first["spacing_mm"] == [3, 3, 3]
    assert Path(first["path"]).parent == private_cache / "pyramids"
    assert first["bytes"] == sum(file.stat().st_size for file in Path(first["path"]).iterdir())
    second = answer(run, "embed", "scan.nii.gz", "-m", "rough", "--engine", "torch")
    assert second["cached"]
    assert second["seconds"] < 1
    assert {k: second[k] for k in ("shape", "path", "bytes")} == {k: first[k] for k in ("shape", "path", "bytes")}


def test_embed_for_people(run: Run, models: Path) -> None:
    code, out, err = run("embed", "scan.nii.gz", "--model", models / "rough", "--engine", "torch", "--device", "cpu")
    assert (code, err) == (0, "")
    assert "on cpu with torch" in out
    assert "28" in out


def test_a_frame_of_a_4d_file(run: Run, folder: Path) -> None:
    volume = phantom()
    stack = np.stack([volume.array, volume.array[::-1]], axis=3)
    nibabel.save(nibabel.Nifti1Image(stack, volume.affine), folder / "4d.nii.gz")
    code, out, err = run("embed", "4d.nii.gz", "-m", "rough", "--json")
    assert (code, out) == (2, "")
    assert "frame" in err
    first = answer(run, "embed", "4d.nii.gz", "-m", "rough", "--frame", 0)
    assert not answer(run, "embed", "4d.nii.gz", "-m", "rough", "--frame", 1)["cached"]
    assert answer(run, "embed", "scan.nii.gz", "-m", "rough")["path"] == first["path"]


def test_frames_and_series_reach_the_reader(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int | None, str | None]] = []

    def read(path: Path, *, frame: int | None, series_uid: str | None) -> Volume:
        asked.append((str(path), frame, series_uid))
        return phantom()

    monkeypatch.setattr(volume_io, "read_volume", read)
    answer(run, "embed", "a", "-m", "rough", "--frame", 3, "--series", "1.2.3")
    answer(run, "similarity", "b", "-m", "rough", "-p", 0, 0, 0, "-o", "m.nii", "--frame", 4, "--series", "4.5")
    which = ("--source-frame", 1, "--target-frame", 2, "--source-series", "1.1", "--target-series", "2.2")
    answer(run, "match", "c", "d", "-m", "rough", "-p", 0, 0, 0, *which)
    assert asked == [("a", 3, "1.2.3"), ("b", 4, "4.5"), ("c", 1, "1.1"), ("d", 2, "2.2")]


# --- similarity ---


def test_similarity_map_lies_on_the_scan(run: Run, folder: Path) -> None:
    result = answer(
        run, "similarity", "scan.nii.gz", "-m", "rough", "--point", -12.5, 20, -10.25, "--point", 3, 4, 5,
        "--negative", -30, 0, 0, "--out", "map.nii.gz", "--picture", "figure.png",
    )  # fmt: skip
    assert result["positive_ras"] == [[-12.5, 20, -10.25], [3, 4, 5]]
    assert result["negative_ras"] == [[-30, 0, 0]]
    assert (result["map"], result["picture"]) == ("map.nii.gz", "figure.png")
    assert result["unit"] == "percentile"
    scan, heat = read_volume(folder / "scan.nii.gz"), read_volume(folder / "map.nii.gz")
    assert heat.shape == scan.shape
    assert np.array_equal(heat.affine, scan.affine)
    assert 0 <= heat.array.min() < 50
    assert 99 < heat.array.max() <= 100
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in folder.iterdir()) == ["figure.png", "map.nii.gz", "other.nii.gz", "scan.nii.gz"]


def test_spaces_are_the_same_point(run: Run, folder: Path) -> None:
    ijk = (30, 12, 9)
    x, y, z = read_volume(folder / "scan.nii.gz").to_ras(ijk)[0]
    maps = []
    for space, point in (("ras", (x, y, z)), ("lps", (-x, -y, z)), ("ijk", ijk)):
        result = answer(
            run, "similarity", "scan.nii.gz", "-m", "rough", "-p", *point, "--space", space, "-o", f"{space}.nrrd"
        )
        assert result["positive_ras"] == [[x, y, z]]
        maps.append(read_volume(folder / f"{space}.nrrd").array)
    assert np.array_equal(maps[0], maps[1])
    assert np.array_equal(maps[0], maps[2])
    assert maps[0][ijk] > 99


def test_similarity_is_that_of_the_library(run: Run, folder: Path) -> None:
    from Vox2VecCore import embed, similarity_map

    answer(run, "similarity", "scan.nii.gz", "-m", "rough", "-p", 5, 5, 5, "--balance", 0.2, "--cosine", "-o", "a.nii")
    pyramid = embed(read_volume(folder / "scan.nii.gz"), "rough")
    expected = similarity_map(pyramid, [(5, 5, 5)], balance=0.2, calibrated=False)
    assert np.array_equal(read_volume(folder / "a.nii").array, expected.array)


def test_without_a_cache(run: Run, private_cache: Path) -> None:
    answer(run, "similarity", "scan.nii.gz", "-m", "rough", "-p", 0, 0, 0, "-o", "a.nii.gz", "--no-cache")
    assert not list(private_cache.rglob("*.npy"))


# --- match ---


def test_match(run: Run, folder: Path) -> None:
    from Vox2VecCore import embed, match_points

    points = [(30.0, 0.0, 3.0), (-12.0, -6.0, 0.5)]
    flags = [part for point in points for part in ("--point", *point)]
    found = answer(run, "match", "scan.nii.gz", "other.nii.gz", "-m", "rough", *flags, "--picture", "match.png")
    keys = {"source_ras", "target_ras", "similarity", "cycle_error_mm", "reliable"}
    assert [set(match) for match in found] == [keys] * 2
    pyramids = [embed(read_volume(folder / name), "rough") for name in ("scan.nii.gz", "other.nii.gz")]
    assert found == [match.as_dict() for match in match_points(*pyramids, points)]
    assert [tuple(match["source_ras"]) for match in found] == points
    assert (folder / "match.png").is_file()


def test_match_for_people_in_their_space(run: Run) -> None:
    code, out, _ = run("match", "scan.nii.gz", "other.nii.gz", "-m", "rough", "--space", "lps", "-p", -30, 0, 3)
    assert code == 0
    assert "mm LPS" in out
    assert "-30.0" in out.splitlines()[1]
    code, out, _ = run("match", "scan.nii.gz", "scan.nii.gz", "-m", "rough", "--space", "ijk", "-p", 30, 20, 10)
    assert code == 0
    assert re.search(r"30\.0 +20\.0 +10\.0", out)


# --- models ---


def test_models_list_and_info(run: Run, models: Path) -> None:
    names = {row["name"]: row for row in answer(run, "models", "list")}
    assert {"rough", "slow"} <= set(names)
    rough = answer(run, "models", "info", "rough")
    assert rough["hash"] == names["rough"]["hash"] == load_model("rough").hash
    assert (rough["spacing_mm"], rough["tile_shape"]) == ([3, 3, 3], [64, 64, 64])
    assert rough["parameters"] == sum(p.numel() for p in load_model("rough").network().parameters())
    assert rough["architecture"]["base_channels"] == 4
    for command in (("list",), ("info", "rough")):
        code, out, err = run("models", *command)
        assert (code, err) == (0, "")
        assert "rough" in out


def test_models_info_finds_a_flipped_byte(run: Run, folder: Path) -> None:
    model = random_model(folder)
    weights = model.directory / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, out, err = run("models", "info", "random")
    assert (code, out) == (2, "")
    assert "damaged" in err


def test_models_import_and_calibrate(run: Run, folder: Path) -> None:
    golden = REPOSITORY / "Testing" / "golden" / "fpn_c2_s6"
    checkpoint = next(golden.glob("*.pt"))
    made = answer(run, "models", "import", checkpoint, "--out", "official", "--licence", "MIT")
    assert made["licence"] == "MIT"
    assert not made["calibrated"]
    assert load_model(folder / "official").hash == made["hash"]
    calibrated = answer(run, "models", "calibrate", "official", "scan.nii.gz")
    assert calibrated["calibrated"]
    assert load_model(folder / "official").hash == calibrated["hash"] != made["hash"]
    assert "official" in run("models", "import", checkpoint, "--out", "official")[2], "does not overwrite"


def test_models_fetch_without_a_network(run: Run, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    before = sorted(models.iterdir())
    code, out, err = run("models", "fetch", "vox2vec")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "vox2vec models import" in err
    assert sorted(models.iterdir()) == before


# --- cache, doctor ---


def test_cache(run: Run, private_cache: Path) -> None:
    assert answer(run, "cache", "list")["entries"] == []
    entry = answer(run, "embed", "scan.nii.gz", "-m", "rough")
    listed = answer(run, "cache", "list")
    assert [(e["model"], e["bytes"], e["path"]) for e in listed["entries"]] == [
        ("rough", entry["bytes"], entry["path"])
    ]
    assert listed["bytes"] == entry["bytes"]
    assert listed["max_bytes"] == 20_000_000_000
    assert "rough" in run("cache", "list")[1]
    assert answer(run, "cache", "clear")["freed_bytes"] == entry["bytes"]
    assert answer(run, "cache", "list")["entries"] == []
    assert run("cache", "clear")[0] == 0
    assert not list((private_cache / "pyramids").iterdir())


def test_doctor(run: Run, private_cache: Path) -> None:
    found = answer(run, "doctor")
    assert found["versions"]["python"] == sys.version.split()[0]
    assert torch.__version__.startswith(found["versions"]["torch"])  # PyPI's build names its CUDA here only
    assert found["auto"] == {"device": "cpu", "engine": "openvino"}
    assert found["devices"][-1] == "cpu"
    assert found["cpu_threads"] >= 1
    assert found["memory_bytes"] > 1e9
    assert found["cache"]["folder"] == str(private_cache / "pyramids")
    assert found["cache"]["writable"]
    assert {"rough", "slow"} <= {model["name"] for model in found["models"]}
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert "openvino on cpu" in out


def test_doctor_names_what_an_extra_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    from Vox2VecCore.cli import doctor

    stated = [
        'rich>=13; extra == "cli"',
        'typer>=0.15,<1; extra == "cli"',
        'vox2vec-slicer[cli]; extra == "train"',
        'no-such-package>=2; extra == "train"',
        'for-old-pythons; python_version < "3.10" and extra == "train"',
        'openvino>=2025.0; extra == "openvino"',
        "torch>=2.4",
    ]
    monkeypatch.setattr(doctor, "requirements", lambda: list(map(doctor.Requirement, stated)))
    monkeypatch.setattr(doctor, "extra_names", lambda: ["cli", "openvino", "train"])
    assert doctor.extras() == {
        "cli": {"missing": [], "install": None},
        "openvino": {"missing": [], "install": None},
        "train": {"missing": ["no-such-package"], "install": "pip install 'vox2vec-slicer[train]'"},
    }


def test_doctor_reads_the_extras_of_this_distribution() -> None:
    """The metadata that pip wrote, when the package is installed, is understood."""
    from Vox2VecCore.cli import doctor

    if doctor.installed_version(doctor.DISTRIBUTION) is None:
        assert doctor.extras() == {}
    else:
        assert {"typer", "lightning-fabric"} <= doctor.packages("train", doctor.requirements())
        assert all(state == {"missing": [], "install": None} for state in doctor.extras().values())


# --- what is wrong ---

SIMILAR = ("similarity", "scan.nii.gz", "-m", "rough")


def bad_scans(folder: Path) -> None:
    """Scans that are not one, beside ``scan.nii.gz`` in the folder."""
    whole = (folder / "scan.nii.gz").read_bytes()
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "half.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "scan.nrrd").write_bytes(whole)
    (folder / "dir.nii.gz").mkdir()
    (folder / "empty").mkdir()
    air = np.random.default_rng(0).integers(-1010, -990, (20, 20, 20)).astype(np.int16)
    nan = np.zeros((9, 9, 9), np.float32)
    nan[3, 4, 5] = np.nan
    for name, array in {"air": air, "nan": nan, "flat": np.full((9, 9, 9), 7, np.int16)}.items():
        write_volume(Volume(array, np.eye(4)), folder / f"{name}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.stack([air, air], axis=3), np.eye(4)), folder / "4d.nii.gz")
    lps = np.diag([1.0, 1.0, 3.0, 1.0])
    lps[2, 3] = -9
    write_series(folder / "gap", np.zeros((8, 8, 6), np.uint16), lps)[2].unlink()
    write_series(folder / "mixed", np.zeros((8, 8, 6), np.uint16), lps)
    write_series(folder / "mixed" / "thin", np.zeros((8, 8, 9), np.uint16), lps, uid="1.2.4")


def bad_models(folder: Path) -> None:
    """Model directories ``flipped`` (a byte) and ``incomplete`` (a tensor) in the folder."""
    flipped = random_model(folder, name="flipped").directory / "model.safetensors"
    content = bytearray(flipped.read_bytes())
    content[-1] ^= 1
    flipped.write_bytes(content)
    incomplete = random_model(folder, name="incomplete").directory
    tensors = load_file(incomplete / "model.safetensors")
    tensors.pop("backbone.first_conv.bias")
    save_file(tensors, incomplete / "model.safetensors")
    config = json.loads((incomplete / "config.json").read_text())
    config["weights_sha256"] = file_sha256(incomplete / "model.safetensors")
    (incomplete / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["embed"], "Missing argument 'CT'"),
        (["embed", "scan.nii.gz", "--modell", "rough"], "No such option"),
        (["embed", "scan.nii.gz", "--device", "gpu"], "'gpu' is not one of"),
        (["embed", "scan.nii.gz", "-m", "rough", "--device", "cuda"], "cuda is not available"),
        (["embed", "scan.nii.gz", "-m", "nobody"], "Unknown model 'nobody'"),
        (["embed", "none.nii.gz", "-m", "rough"], "none.nii.gz: there is no such file"),
        (["embed", "empty.nii.gz", "-m", "rough"], "is empty"),
        (["embed", "half.nii.gz", "-m", "rough"], "half.nii.gz"),
        (["embed", "air.nii.gz", "-m", "rough"], "air"),
        (["embed", "nan.nii.gz", "-m", "rough"], r"nan.nii.gz: the value at voxel \(3, 4, 5\) is nan"),
        (["embed", "flat.nii.gz", "-m", "rough"], "every voxel has the value 7"),
        (["embed", "4d.nii.gz", "-m", "rough"], "4D with 2 frames"),
        (["embed", "scan.nrrd", "-m", "rough"], "the name says .nrrd but the content is gzip"),
        (["embed", "gap", "-m", "rough"], r"missing slices between -6.00 and 0.00 mm"),
        (["embed", "mixed", "-m", "rough", "--series", "9"], r"no series 9 here; there are: 1.2.4 \(CT, 9 slices"),
        (["embed", "scan.nii.gz", "-m", "flipped"], "model.safetensors: damaged"),
        (["embed", "scan.nii.gz", "-m", "incomplete"], "1 tensors are missing"),
        (["embed", "empty", "-m", "rough"], "no DICOM"),
        (["embed", "scan.nii.gz", "-m", "rough", "--frame", "3"], "frame"),
        (["embed", "scan.nii.gz", "-m", "rough", "--series", "1.2"], "series"),
        ([*SIMILAR, "--out", "a.nii.gz"], "--point X Y Z"),
        ([*SIMILAR, "--point", "1", "2", "3"], "Nothing would be written"),
        ([*SIMILAR, "--point", "1", "2", "--out", "a.nii.gz"], "not a valid float|requires 3"),
        ([*SIMILAR, "--point", "1", "2", "x", "--out", "a.nii.gz"], "'x' is not a valid float"),
        ([*SIMILAR, "--point", "1", "2", "nan", "--out", "a.nii.gz"], "outside the scan"),
        ([*SIMILAR, "--point", "1", "2", "900", "--out", "a.nii.gz"], "outside the scan"),
        ([*SIMILAR, "--point", "1", "2", "3", "--negative", "0", "0", "1e9", "--out", "a.nii"], "outside the scan"),
        ([*SIMILAR, "--point", "1", "2", "3", "--space", "xyz", "--out", "a.nii.gz"], "'xyz' is not one of"),
        ([*SIMILAR, "--point", "1", "2", "3", "--balance", "2", "--out", "a.nii.gz"], "not in the range"),
        ([*SIMILAR, "--point", "1", "2", "3", "--out", "a.jpg"], r"must end in \.nii\.gz"),
        ([*SIMILAR, "--point", "1", "2", "3", "--picture", "a.bmp"], r"must end in \.png"),
        ([*SIMILAR, "--point", "1", "2", "3", "--out", "no/a.nii.gz"], "no: no such folder"),
        ([*SIMILAR, "--point", "1", "2", "3", "--out", "dir.nii.gz"], "is a folder"),
        ([*SIMILAR, "--point", "1", "2", "3", "--out", "scan.nii.gz"], "is the scan itself"),
        (["match", "scan.nii.gz", "-m", "rough", "--point", "1", "2", "3"], "Missing argument 'TARGET'"),
        (["match", "scan.nii.gz", "none.mha", "-m", "rough", "--point", "1", "2", "3"], "none.mha"),
        (["match", "scan.nii.gz", "other.nii.gz", "-m", "rough"], "--point X Y Z"),
        (["models", "info", "nobody"], "Unknown model"),
        (["models", "import", "scan.nii.gz", "--out", "new"], "not a PyTorch file"),
        (["models", "import", "none.pt", "--out", "new"], "no such checkpoint"),
        (["models", "fetch", "nobody"], "to be fetched are"),
    ],
)
def test_one_sentence_and_nothing_left(run: Run, folder: Path, arguments: list[str], sentence: str) -> None:
    bad_scans(folder)
    bad_models(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert re.search(sentence, err)
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_outputs_are_checked_before_the_work(run: Run, private_cache: Path) -> None:
    assert run(*SIMILAR, "-p", 0, 0, 0, "--out", "a.txt")[0] == 2
    assert run(*SIMILAR, "-p", 0, 0, 999, "--out", "a.nii.gz")[0] == 2
    assert not private_cache.exists() or not list(private_cache.rglob("*.npy"))


def test_no_arguments_show_the_help(run: Run) -> None:
    code, out, err = run()
    assert code == 2
    assert "similarity" in out
    assert err == ""


def test_a_doubtful_scan_is_embedded_with_a_warning(run: Run, folder: Path) -> None:
    volume = phantom()
    write_volume(volume.with_array((volume.array + 1200).clip(0).astype(np.int16)), folder / "mr.nii.gz")
    code, out, err = run("embed", "mr.nii.gz", "-m", "rough", "--json")
    assert code == 0
    assert json.loads(out)["channels"] == 28
    assert err.count("\n") == 1
    assert err.startswith("Warning: ")
    assert "Hounsfield" in err


def test_warnings_of_other_libraries_are_not_for_users(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def job() -> int:
        for category in (volume_io.NotCTWarning, UserWarning, DeprecationWarning, volume_io.NotCTWarning):
            warnings.warn("a doubt" if category is volume_io.NotCTWarning else "an array", category, stacklevel=1)
        return 0

    monkeypatch.setattr(sys, "warnoptions", [])
    assert guarded(job) == 0
    assert capsys.readouterr().err == "Warning: a doubt\n"


def test_a_full_disk(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from Vox2VecCore import nifti

    def full(*arguments: Any) -> None:
        Path(arguments[-1]).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nifti, "write_nifti", full)
    before = sorted(folder.iterdir())
    code, out, err = run(*SIMILAR, "-p", 0, 0, 0, "--out", "a.nii.gz", "--json")
    assert (code, out) == (2, "")
    assert "No space left" in err
    assert err.count("\n") == 1
    assert sorted(folder.iterdir()) == before


def test_out_of_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(volume_io, "read_volume", no_memory)
    code, _, err = run("embed", "scan.nii.gz", "-m", "rough")
    assert code == 2
    assert "memory" in err


def test_a_defect_of_ours_is_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(volume_io, "read_volume", defect)
    with pytest.raises(ZeroDivisionError):
        run("embed", "scan.nii.gz", "-m", "rough")


def test_without_typer() -> None:
    code = "import sys; sys.modules['typer'] = None; from Vox2VecCore.cli import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pip install 'vox2vec-slicer[cli]'" in done.stderr


# --- as a process: signals, pipes, terminals ---


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan that the slow model takes minutes for."""
    path = tmp_path_factory.mktemp("large") / "large.nii"
    write_volume(phantom((130, 110, 110)), path)
    return path


@pytest.fixture
def slow(private_cache: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command line that takes long; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [*COMMAND, *map(str, arguments)]
        started.append(subprocess.Popen(command, cwd=REPOSITORY, env=environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "times", "code"), [(signal.SIGINT, 1, 130), (signal.SIGTERM, 1, 143), (signal.SIGINT, 2, 130)]
)
def test_stopped_in_the_middle_of_embedding(
    slow: Callable[..., subprocess.Popen[str]], large: Path, private_cache: Path, number: int, times: int, code: int
) -> None:
    process = slow("embed", large, "--model", "slow", "--engine", "torch", "--json")
    wait_for(lambda: list(private_cache.glob("pyramids/.*.tmp/level*")), process)
    time.sleep(0.5)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.05)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert err.endswith(CANCELLED)
    assert "Traceback" not in err
    assert list(private_cache.glob("pyramids/*")) == list(private_cache.glob("pyramids/.*")) == []


def test_stopped_while_starting(slow: Callable[..., subprocess.Popen[str]], demo_ct: Path, tmp_path: Path) -> None:
    process = slow("similarity", demo_ct, "-m", "slow", "-p", 0, 0, -150, "--out", tmp_path / "a.nii.gz")
    wait_for(lambda: "libtorch" in Path(f"/proc/{process.pid}/maps").read_text(), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.splitlines()[-1:]) == (130, "", [CANCELLED.strip()])
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_stopped_while_writing(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from Vox2VecCore import nifti

    def interrupted(*arguments: Any) -> None:
        Path(arguments[-1]).write_bytes(b"half a file")
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(nifti, "write_nifti", interrupted)
    before, handler = sorted(folder.iterdir()), signal.getsignal(signal.SIGINT)
    assert run(*SIMILAR, "-p", 0, 0, 0, "--out", "a.nii.gz", "--json") == (130, "", CANCELLED)
    assert sorted(folder.iterdir()) == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_background_job_ignores_what_its_shell_told_it_to(
    slow: Callable[..., subprocess.Popen[str]], private_cache: Path, folder: Path
) -> None:
    ignoring = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = slow("embed", folder / "scan.nii.gz", "--model", "slow", "--engine", "torch", "--json")
    finally:
        signal.signal(signal.SIGINT, ignoring)
    wait_for(lambda: list(private_cache.glob("pyramids/.*.tmp/level*")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "Cancelled" not in err
    assert json.loads(out)["model"] == "slow"


def test_a_log_gets_a_line_now_and_then(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOG_EVERY_S", 0)
    code, out, err = run("embed", "scan.nii.gz", "-m", "slow", "--engine", "torch", "--json")
    assert code == 0
    assert json.loads(out)["model"] == "slow"
    assert re.search(r"^Embedding \d+% \d+ s left$", err, re.MULTILINE)
    assert "100%" not in err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.2, "1 s left"), (59.5, "60 s left"), (61, "2 min left"), (5000, "1 h 24 min left")],
)
def test_time_left(seconds: float | None, text: str) -> None:
    assert console._time_left(seconds) == text


def test_a_terminal_sees_a_bar_with_the_time_left(
    slow: Callable[..., subprocess.Popen[str]], large: Path, private_cache: Path
) -> None:
    terminal, child = pty.openpty()
    process = slow("embed", large, "--model", "slow", "--engine", "torch", "--json", stderr=child)
    os.close(child)
    seen = ""
    end = time.monotonic() + 120
    while not re.search(r"Embedding.*\d+%.*\d+ (s|min) left", seen):
        assert time.monotonic() < end, seen
        seen += os.read(terminal, 1 << 16).decode(errors="replace")
    process.send_signal(signal.SIGINT)
    with pytest.raises(OSError, match="Input/output"):
        while True:
            seen += os.read(terminal, 1 << 16).decode(errors="replace")
    assert process.wait(60) == 130
    assert "Cancelled; nothing was left half done." in seen
    os.close(terminal)


def test_a_reader_that_has_seen_enough(models: Path) -> None:
    shell = f"'{sys.executable}' -m Vox2VecCore.cli models info rough | head -c 5; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


# --- a real CT ---


def test_the_main_job_on_a_real_ct(run: Run, demo_ct: Path, folder: Path) -> None:
    """With the model that is shipped and every option left as it is."""
    liver, vertebra = (54.0, 19.0, -218.0), (2.0, -79.0, -162.0)
    embedded = answer(run, "embed", demo_ct)
    assert embedded["model"] == "vox2vec-small"
    assert embedded["bytes"] > 1e6
    result = answer(run, "similarity", demo_ct, "-p", *liver, "-o", "map.nii", "--picture", "figure.jpg")
    assert result["cached"]
    scan, heat = read_volume(demo_ct), read_volume(folder / "map.nii")
    assert heat.shape == scan.shape
    assert np.array_equal(heat.affine, scan.affine)
    at = {name: tuple(np.round(scan.to_ijk(p)[0]).astype(int)) for name, p in (("liver", liver), ("bone", vertebra))}
    assert heat.array[at["liver"]] > 99
    assert heat.array[at["bone"]] < 90
    (match,) = answer(run, "match", demo_ct, demo_ct, "-p", *liver)
    assert np.linalg.norm(np.subtract(match["target_ras"], liver)) < 3
    assert match["reliable"]
