"""Pictures: every plane shows the right voxels the right way round, and what is drawn says what it should."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Testing.support.scans import phantom
from Testing.support.volume_files import disk_of, refused
from Vox2VecCore.drawing import DPI
from Vox2VecCore.errors import MissingExtraError
from Vox2VecCore.figures import (
    LUNG,
    PICTURES,
    SOFT,
    colours_figure,
    match_figure,
    need_matplotlib,
    save,
    similarity_figure,
    window_hu,
)
from Vox2VecCore.planes import ORIENTATIONS, Orientation, Plane, distance_mm, on_plane, plane
from Vox2VecCore.volume import Volume

REPOSITORY = Path(__file__).parents[2]


def affine(order: tuple[int, ...], flips: tuple[bool, ...], spacing: tuple[float, ...], tilt: float) -> np.ndarray:
    """Axes permuted, flipped, of any spacing, and turned a little."""
    matrix = np.zeros((3, 3))
    for stored, world in enumerate(order):
        matrix[world, stored] = (-1 if flips[stored] else 1) * spacing[stored]
    c, s = np.cos(tilt), np.sin(tilt)
    result = np.eye(4)
    result[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ matrix
    result[:3, 3] = (17.0, -40.0, 300.0)
    return result


geometries = st.builds(
    affine,
    st.permutations((0, 1, 2)).map(tuple),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.tuples(*[st.floats(0.4, 5.0)] * 3),
    st.floats(-0.4, 0.4),
)


def pixel(shown: Plane, place: tuple[float, float]) -> tuple[int, int]:
    """Row and column of the picture that a place in millimetres lies in."""
    rows, columns = shown.image.shape[:2]
    left, right, bottom, top = shown.extent
    return int((place[1] - top) / (bottom - top) * rows), int((place[0] - left) / (right - left) * columns)


@settings(max_examples=60)
@given(geometries, st.tuples(st.integers(0, 6), st.integers(0, 8), st.integers(0, 10)), st.sampled_from(ORIENTATIONS))
def test_a_voxel_is_where_its_point_is_marked(
    geometry: np.ndarray, voxel: tuple[int, int, int], orientation: Orientation
) -> None:
    array = np.zeros((7, 9, 11), np.int16)
    array[voxel] = 100
    volume = Volume(array, geometry)
    point = volume.to_ras(voxel)[0]
    shown = plane(volume, point, orientation)
    place = on_plane(volume, point, orientation)
    assert shown.image[pixel(shown, place)] == 100
    assert (shown.image == 100).sum() == 1
    colours = plane(volume, point, orientation, np.repeat(array[..., None], 3, axis=3))
    assert np.array_equal(colours.image[..., 1], shown.image)


@settings(max_examples=40)
@given(geometries)
def test_letters_are_true(geometry: np.ndarray) -> None:
    """Going 1 mm towards the letter's side of the patient moves towards that side of the picture."""
    volume = Volume(np.zeros((7, 9, 11), np.int16), geometry)
    centre = volume.to_ras([3, 4, 5])[0]
    towards = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    for orientation in ORIENTATIONS:
        shown = plane(volume, centre, orientation)
        left, right, bottom, top = shown.extent
        x, y = on_plane(volume, centre, orientation)
        for letter, (dx, dy) in zip(
            shown.letters, ((left - right, 0), (right - left, 0), (0, 1), (0, -1)), strict=True
        ):
            to_x, to_y = on_plane(volume, centre + np.array(towards[letter]), orientation)
            assert (to_x - x) * np.sign(dx) > 0.9 if dx else (to_y - y) * dy > 0.9
        assert abs(left - right) == pytest.approx(
            volume.spacing_mm[_axis(volume, orientation, 0)] * shown.image.shape[1]
        )
        assert top - bottom == pytest.approx(volume.spacing_mm[_axis(volume, orientation, 1)] * shown.image.shape[0])


def _axis(volume: Volume, orientation: Orientation, which: int) -> int:
    """Stored axis that is closest to the one across (0) or up (1) in a plane."""
    world = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[orientation][which]
    order = max(
        ((a, b, c) for a in range(3) for b in range(3) for c in range(3) if {a, b, c} == {0, 1, 2}),
        key=lambda p: sum(abs(volume.affine[w, p[w]]) / volume.spacing_mm[p[w]] for w in range(3)),
    )
    return order[world]


def test_points_of_other_planes() -> None:
    volume = phantom()
    assert distance_mm(volume, (0, 0, 0), (5, 7, 12), "axial") == pytest.approx(12)
    assert distance_mm(volume, (0, 0, 0), (5, 7, 12), "coronal") == pytest.approx(7)
    assert distance_mm(volume, (0, 0, 0), (5, 7, 12), "sagittal") == pytest.approx(5)


def test_the_window_suits_the_tissue() -> None:
    volume = phantom((60, 50, 40), (4.0, 4.0, 4.0))
    lung = volume.to_ras([[42, 25, 20]])[0]
    muscle = volume.to_ras([[30, 35, 20]])[0]
    assert window_hu(volume, lung) == LUNG
    assert window_hu(volume, muscle) == SOFT


def picture(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return np.asarray(imread(path))[..., :3]


def near(image: np.ndarray, colour: tuple[float, float, float], tolerance: float = 0.12) -> int:
    return int((np.abs(image - np.array(colour)).max(axis=2) < tolerance).sum())


def test_similarity_picture(tmp_path: Path) -> None:
    ct = phantom()
    heat = np.zeros(ct.shape, np.float32)
    heat[10:14, 18:22, 13:17] = 99.95
    bright = ct.to_ras([[12, 20, 15]])[0].tolist()
    plain = similarity_figure(ct, ct.with_array(np.zeros_like(heat)), [bright])
    save(plain, tmp_path / "plain.png")
    save(
        similarity_figure(ct, ct.with_array(heat), [bright], [ct.to_ras([[30, 20, 15]])[0].tolist()]),
        tmp_path / "a.png",
    )
    without, shown = picture(tmp_path / "plain.png"), picture(tmp_path / "a.png")
    assert shown.shape == without.shape
    width, height = plain.get_size_inches()
    assert shown.shape[:2] == (pytest.approx(height * DPI, abs=2), pytest.approx(width * DPI, abs=2))
    assert near(shown, (0.34, 0.83, 1.0)) > 50, "the clicked point is marked"
    overlay = np.abs(shown - without).max(axis=2) > 0.2
    assert overlay.sum() > 3 * 100
    save(similarity_figure(ct, ct.with_array(heat / 100), [bright], percentiles=False), tmp_path / "cosine.pdf")
    assert (tmp_path / "cosine.pdf").read_bytes().startswith(b"%PDF")


def test_the_overlay_lies_over_its_voxels() -> None:
    """The overlay of a map that is the CT's own bright organ covers that organ, in a left-handed, permuted scan."""
    base = phantom((40, 36, 30), (2.0, 3.0, 4.0))
    geometry = affine((2, 0, 1), (True, False, True), (2.0, 3.0, 4.0), 0.1)
    ct = Volume(base.array, geometry)
    heat = ct.with_array(np.where(base.array > 300, 100, 0).astype(np.float32))
    point = ct.to_ras(np.argwhere(base.array > 300)[:1])[0]
    figure = similarity_figure(ct, heat, [point])
    for axis in figure.axes[:3]:
        ground, overlay = (np.asarray(image.get_array()) for image in axis.images)
        assert np.array_equal(ground > 300, overlay[..., 3] > 0)
        assert axis.images[0].get_extent() == axis.images[1].get_extent()
        assert axis.get_aspect() == 1.0


def match(source: Any, target: Any, reliable: bool = True) -> Any:
    return SimpleNamespace(
        source_ras=tuple(source), target_ras=tuple(target), similarity=0.9, cycle_error_mm=1.0, reliable=reliable
    )


def test_match_picture(tmp_path: Path) -> None:
    ct = phantom()
    matches = [match((0, 0, 0), (3, 0, 0)), match((10, 0, 0), (10, 9, 12), reliable=False)] * 4
    figure = match_figure(ct, ct, matches, names=list("abcdefgh"), truth=[(0, 0, 0), (10, 0, 0)] * 4)
    texts = {text.get_text() for axis in figure.axes for text in axis.texts}
    assert {"3.0 mm off, similarity 0.90", "15.0 mm off, not reliable", "a", "f"} <= texts
    assert "g" not in texts
    assert any("first 6 of 8" in text.get_text() for text in figure.texts)
    save(figure, tmp_path / "match.png")
    assert near(picture(tmp_path / "match.png"), (1.0, 0.71, 0.33)) > 50, "an unreliable match is marked as such"


def test_colours_picture() -> None:
    ct = phantom()
    colours = np.zeros((*ct.shape, 3), np.uint8)
    colours[..., 0] = 255
    figure = colours_figure(ct, {"red": colours, "green": np.roll(colours, 1, axis=3)}, (0, 0, 0))
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    assert [image.ndim for image in shown] == [2] * 3 + [3] * 6
    assert all((image == (255, 0, 0)).all() for image in shown[3:6])
    assert all((image == (0, 255, 0)).all() for image in shown[6:])
    assert {"CT", "red", "green"} <= {text.get_text() for text in figure.texts}


@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 30, 1), (1, 30, 20)])
def test_thin_scans(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    ct = Volume(np.full(shape, 40, np.int16), np.eye(4))
    heat = ct.with_array(np.zeros(shape, np.float32))
    save(similarity_figure(ct, heat, [(0, 0, 0)]), tmp_path / "thin.png")
    save(similarity_figure(ct, heat, [(0, 0, 0)], percentiles=False), tmp_path / "thin2.png")


@pytest.mark.parametrize("suffix", PICTURES)
def test_nothing_half_written(tmp_path: Path, suffix: str) -> None:
    figure = similarity_figure(phantom(), phantom(), [(0, 0, 0)])
    with disk_of(100), refused("a" + suffix, "the picture cannot be written"):
        save(figure, tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with refused("a.bmp", "endings"):
        save(similarity_figure(phantom(), phantom(), [(0, 0, 0)]), tmp_path / "a.bmp")


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"vox2vec-slicer\[cli\]"):
        need_matplotlib()


def test_matplotlib_is_imported_late() -> None:
    code = "import sys, Vox2VecCore.figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0
