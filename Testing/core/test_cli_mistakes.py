"""The command line when something is wrong: one sentence, exit code 2, and nothing half done."""

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from Testing.support.cli_fixtures import SIMILAR
from Testing.support.commands import Run
from Testing.support.dicom_series import write_series
from Testing.support.models import random_model
from Testing.support.scans import phantom
from Vox2VecCore import volume_io
from Vox2VecCore.cli.guard import guarded
from Vox2VecCore.model import file_sha256
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import write_volume

REPOSITORY = Path(__file__).parents[2]


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
        (["embed", "scan.nii.gz", "more"], r"extra argument\(s\) \(more\)\. See 'vox2vec embed --help'\."),
        (["embed"], "Missing argument 'CT'"),
        (["embed", "scan.nii.gz", "--modell", "rough"], "No such option"),
        (["embed", "scan.nii.gz", "--device", "gpu"], "'gpu' is not one of"),
        (["embed", "scan.nii.gz", "-m", "rough", "--device", "cuda"], "cuda is not available"),
        (["embed", "scan.nii.gz", "-m", "nobody"], "Unknown model 'nobody'"),
        (["embed", "none.nii.gz", "-m", "rough"], "none.nii.gz: there is no such file"),
        (["embed", "empty.nii.gz", "-m", "rough"], "is empty"),
        (["embed", "half.nii.gz", "-m", "rough"], "half.nii.gz: is cut off"),
        (["embed", "air.nii.gz", "-m", "rough"], "air.nii.gz: holds nothing but air"),
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
        ([*SIMILAR, "--point", "1", "2", "3", "--out", "scan.nii.gz"], "is read by this command"),
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
