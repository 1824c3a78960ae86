"""The commands: what they answer."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import nibabel
import numpy as np
import pytest
import torch

from Testing.support.commands import Run, answer
from Testing.support.models import random_model
from Testing.support.scans import phantom
from Vox2VecCore import volume_io
from Vox2VecCore.cli import options
from Vox2VecCore.engines import DeviceName, EngineName, Precision
from Vox2VecCore.model import DEFAULT_MODEL, load_model
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_volume

REPOSITORY = Path(__file__).parents[2]


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
        assert set(doctor.extras()) == {"cli", "dicom", "evaluate", "openvino", "train", "web"}  # no tests'


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
