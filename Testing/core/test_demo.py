"""The demo: it does the whole job, its simulated second scan is where it says, and it fails in one sentence."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from Testing.support.models import random_model
from Testing.support.scans import phantom
from Vox2VecCore.cli import console
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import write_volume

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "Resources" / "demo.py"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vox2vec_demo", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    return random_model(folder, base_channels=4, tile_shape=(64, 64, 64), statistics=True).directory


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(demo: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the demo: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["demo.py", *map(str, arguments)])
        monkeypatch.setattr(console, "LOG_EVERY_S", np.inf)  # on a slow machine a line may be due
        capsys.readouterr()
        code = demo.main()
        return code, *capsys.readouterr()

    return run


def scan(folder: Path) -> Path:
    write_volume(phantom((60, 50, 40)), folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


def name_structures(folder: Path) -> None:
    """Labels beside the scan: a "liver" of 20 x 10 x 10 voxels."""
    labels = np.zeros((60, 50, 40), np.int16)
    labels[10:30, 20:30, 20:30] = 5
    write_volume(phantom((60, 50, 40)).with_array(labels), folder / "scan_labels.nii.gz")
    (folder / "structures.csv").write_text("group,original_idx,structure,id\norgans,5,liver,5\norgans,52,aorta,52\n")


def test_any_scan_without_labels(tmp_path: Path, model: Path) -> None:
    pictures = tmp_path / "new" / "pictures"
    command = [sys.executable, SCRIPT, scan(tmp_path), "--out", pictures, "--model", model]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in pictures.iterdir()}
    assert names == {*(f"similarity_point_{i}.png" for i in range(1, 5)), "embedding_in_colours.png", "matches.png"}
    assert all(name in done.stdout for name in names)
    assert "28 numbers for every voxel, on cpu with openvino" in done.stdout
    assert "mm off" in done.stdout


def test_named_structures(run: Run, tmp_path: Path, model: Path) -> None:
    name_structures(tmp_path)
    code, out, err = run(scan(tmp_path), "--out", tmp_path / "pictures", "--model", model)
    assert (code, err) == (0, "")
    assert "half of the liver looks more like it than" in out
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"similarity_liver.png", "embedding_in_colours.png", "segmentation.png", "matches.png"}
    assert "Dice with the labels: liver" in out


def test_a_single_slice(run: Run, tmp_path: Path, model: Path) -> None:
    whole = phantom((60, 50, 40))
    write_volume(Volume(whole.array[:, :, 20:21], whole.affine), tmp_path / "slice.nii.gz")
    code, out, err = run(tmp_path / "slice.nii.gz", "--out", tmp_path / "pictures", "--model", model)
    assert (code, err) == (0, "")
    assert "left out: the scan is too small to be shifted" in out and "matches.png" not in out
    assert "embedding_in_colours.png" in {path.name for path in (tmp_path / "pictures").iterdir()}


def test_what_is_wrong_takes_one_sentence(run: Run, tmp_path: Path, model: Path) -> None:
    ct = scan(tmp_path)
    (tmp_path / "file").write_text("")
    for arguments, sentence in (
        ((tmp_path / "none.nii.gz", "--model", model), "no such file"),
        ((ct, "--model", "nobody"), "Unknown model"),
        ((ct, "--model", model, "--out", tmp_path / "file" / "pictures"), "cannot be made"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert sentence in err
        assert err.count("\n") == 1


def test_without_matplotlib_nothing_is_begun(
    run: Run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = run(scan(tmp_path), "--model", model, "--out", tmp_path / "pictures")
    assert (code, out) == (2, "")
    assert "vox2vec-slicer[cli]" in err and err.count("\n") == 1
    assert not (tmp_path / "pictures").exists()


def test_labels_of_another_scan(demo: ModuleType, tmp_path: Path) -> None:
    name_structures(tmp_path)
    write_volume(phantom((30, 30, 30)), tmp_path / "scan.nii.gz")
    with pytest.raises(demo.VolumeError, match="shape"):
        demo.read_structures(tmp_path / "scan.nii.gz", phantom((30, 30, 30)), {"liver": ("liver",)})


@pytest.mark.parametrize("text", ["name,number\nliver,5\n", "structure,id\nliver\n", "structure,id\nliver,five\n"])
def test_names_of_another_kind(demo: ModuleType, tmp_path: Path, text: str) -> None:
    name_structures(tmp_path)
    (tmp_path / "structures.csv").write_text(text)
    with pytest.raises(demo.VolumeError, match="no columns 'structure' and 'id'"):
        demo.read_structures(scan(tmp_path), phantom((60, 50, 40)), {"liver": ("liver",)})


def test_offline_without_a_scan(tmp_path: Path) -> None:
    command = [sys.executable, REPOSITORY / "Resources" / "Build" / "fetch_demo_ct.py", tmp_path / "data"]
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | offline
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The demo CT could not be downloaded (is this computer offline? pip: ")
    assert done.stderr.endswith("use your own: make demo CT=scan.nii.gz\n") and done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_the_deepest_point_of_a_structure(demo: ModuleType) -> None:
    index = np.stack(np.meshgrid(*map(np.arange, (20, 30, 40)), indexing="ij"), axis=-1)
    inside = np.linalg.norm((index - (9, 13, 22)) * (2, 1, 1), axis=-1) < 7.5
    inside[0:2] = True
    volume = Volume(np.zeros(inside.shape, np.int16), np.diag([2.0, 1.0, 1.0, 1.0]))
    assert demo.deepest(inside, volume) == (18.0, 13.0, 22.0)


def test_the_simulated_scan_is_where_it_says(demo: ModuleType) -> None:
    """Bright balls of the scan are found in the copy at the places that the movement tells."""
    affine = np.diag([-1.5, 1.5, 2.0, 1.0])
    affine[:3, 3] = (120.0, -70.0, -300.0)
    places = np.array([[40, 40, 30], [60, 55, 35], [50, 30, 45]])
    index = np.stack(np.meshgrid(*map(np.arange, (100, 90, 70)), indexing="ij"), axis=-1)
    hu = np.zeros((100, 90, 70), np.int16)
    for place in places:
        hu[np.linalg.norm((index - place) * (1.5, 1.5, 2.0), axis=-1) < 6] = 2000
    volume = Volume(hu, affine)
    copy, movement = demo.moved_copy(volume)
    assert np.allclose(copy.spacing_mm, demo.COPY_SPACING_MM)
    points = volume.to_ras(places)
    true = movement(points)
    assert (np.linalg.norm(true - points, axis=1) > 10).all()
    grid = np.stack(np.meshgrid(*map(np.arange, copy.shape), indexing="ij"), axis=-1)[copy.array > 1000]
    bright = copy.to_ras(grid)
    for point in true:
        ball = bright[np.linalg.norm(bright - point, axis=1) < 12]
        assert np.linalg.norm(ball.mean(axis=0) - point) < 0.5
    assert np.allclose(np.linalg.norm(np.diff(true, axis=0), axis=1), np.linalg.norm(np.diff(points, axis=0), axis=1))
    assert copy.array[copy.array > 1500].std() > 25
