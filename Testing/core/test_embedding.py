"""From scan to pyramid: the tile contract in the numbers, storage, and what may go wrong on the way."""

from pathlib import Path

import numpy as np
import pytest
import torch

from Testing.support.models import random_model
from Testing.support.scans import phantom
from Vox2VecCore import engines
from Vox2VecCore.backbone import gather_vectors
from Vox2VecCore.embedding import embed, fill_levels, tile_image
from Vox2VecCore.encoding import StoredLevels
from Vox2VecCore.engines import EngineName, make_engine
from Vox2VecCore.errors import Cancelled, PointError, VolumeError
from Vox2VecCore.grid import grid_scan
from Vox2VecCore.model import Model, load_model
from Vox2VecCore.progress import Progress, ProgressReport
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.pyramid_files import new_levels
from Vox2VecCore.tiles import Tile, plan_tiles
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_volume


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return random_model(tmp_path_factory.mktemp("models"), base_channels=4, statistics=True)


def all_vectors(pyramid: FeaturePyramid) -> np.ndarray:
    return pyramid.vectors(pyramid.grid.to_ras(pyramid.body_voxels(500)))


def test_one_tile_gives_the_vectors_of_the_plain_network(tmp_path: Path) -> None:
    model = random_model(tmp_path, base_channels=4, tile_shape=(64, 64, 64), statistics=True)
    volume = phantom()
    pyramid = embed(volume, model)
    scan = grid_scan(volume, model.config.spacing_mm)
    (tile,) = plan_tiles(scan.body, model.config)
    image = tile_image(scan.hu, tile, model.config.window_hu)
    voxels = pyramid.body_voxels(300)
    with torch.no_grad():
        levels = [level[0] for level in model.network()(torch.from_numpy(image)[None, None])]
        expected = gather_vectors(levels, torch.from_numpy(voxels - np.array(tile.start)))
    got = torch.from_numpy(pyramid.vectors(pyramid.grid.to_ras(voxels)))
    assert got.shape == expected.shape == (300, 4 + 8 + 16)
    assert torch.cosine_similarity(got, expected).min() > 0.999
    assert (got - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("overlap", [(0, 0, 0), (8, 8, 0), (16, 16, 16)])
def test_engines_and_order_do_not_matter(tmp_path: Path, overlap: tuple[int, int, int]) -> None:
    model = random_model(tmp_path, base_channels=4, tile_overlap=overlap, statistics=True)
    volume = phantom()
    a = embed(volume, model, cache=False, engine="torch")
    b = embed(volume, model, cache=False, engine="openvino", precision="single")
    for x, y in zip(a.levels, b.levels, strict=True):
        assert np.mean(x.unit != y.unit) < 0.01
    assert np.allclose(all_vectors(a), all_vectors(b), atol=0.1)


def test_the_order_of_tiles_does_not_matter(model: Model) -> None:
    """Tiles never mix, so any order, and any share of them by different workers, gives the same bytes."""
    scan = grid_scan(phantom((70, 50, 45)), model.config.spacing_mm)
    tiles = plan_tiles(scan.body, model.config)
    assert len(tiles) > 3
    channels = model.config.architecture.level_channels
    run = make_engine(StoredLevels(model.network(), channels, model.config.level_statistics).eval(), "cpu", "torch")
    results = []
    for order in (tiles, tiles[::-1], [*tiles[1::2], *tiles[::2]]):
        levels = new_levels(model.config, scan.grid.shape, None)
        fill_levels(scan, order, model.config, run, levels, Progress())
        results.append(levels)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.array_equal(a.unit, b.unit)
            assert np.array_equal(a.magnitude, b.magnitude)


def test_the_shipped_model_keeps_the_cosine_above_0999_on_a_real_ct(demo_ct: Path) -> None:
    """What is stored against the network in single precision, with whatever engine and precision auto picks here."""
    model = load_model()
    whole = read_volume(demo_ct)
    volume = Volume(np.ascontiguousarray(whole.array[150:350, 120:300, 40:90]), whole.affine)
    pyramid = embed(volume, model, cache=False)
    scan = grid_scan(volume, model.config.spacing_mm)
    (tile,) = plan_tiles(scan.body, model.config)
    image = tile_image(scan.hu, tile, model.config.window_hu)
    voxels = pyramid.body_voxels(2000)
    statistics = model.config.level_statistics
    assert statistics is not None
    with torch.no_grad():
        levels = model.network()(torch.from_numpy(image)[None, None])
    for level, expected, statistic in zip(pyramid.levels, levels, statistics, strict=True):
        i, j, k = ((voxels - np.array(tile.start)) // np.array(level.stride)).T
        vectors = (expected[0, :, i, j, k].T.numpy() - statistic.mean) / statistic.std
        got = level.unit_vectors(voxels)
        cosine = (got * vectors).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(vectors, axis=1)
        assert cosine.min() > 0.999


def test_every_body_voxel_has_a_vector_on_every_level(model: Model) -> None:
    pyramid = embed(phantom((70, 50, 45)), model)
    voxels = np.argwhere(pyramid.body)
    for level in pyramid.levels:
        assert (np.abs(level.unit_vectors(voxels)).sum(axis=1) > 0).all()


def test_a_shift_by_whole_tiles_shifts_the_embedding(model: Model) -> None:
    """The same anatomy one tile further along gives the same vectors: origins are fixed, not fitted."""
    hu = np.random.default_rng(0).normal(40, 200, (32, 32, 32)).clip(-400, 900).astype(np.int16)
    once = embed(Volume(hu, np.diag([3.0, 3, 3, 1])), model, cache=False)
    twice = embed(Volume(np.concatenate([hu, hu], axis=0), np.diag([3.0, 3, 3, 1])), model, cache=False)
    assert once.grid.shape == (32, 32, 32)
    assert twice.grid.shape == (64, 32, 32)
    for a, b in zip(once.levels, twice.levels, strict=True):
        n = a.unit.shape[0]
        # float32 noise of differently sized neighbours may flip a rounding.
        assert np.mean(a.unit != b.unit[:n]) < 1e-3
        assert np.mean(a.unit != b.unit[n:]) < 1e-3


@pytest.mark.parametrize("shape", [(1, 40, 40), (40, 1, 40), (40, 40, 1), (3, 2, 2), (33, 31, 5)])
def test_volumes_smaller_than_a_tile(model: Model, shape: tuple[int, int, int]) -> None:
    volume = Volume(np.random.default_rng(0).integers(-100, 100, shape).astype(np.int16), np.eye(4))
    pyramid = embed(volume, model, cache=False)
    centre = volume.to_ras((np.array(shape) - 1) / 2)
    assert np.isfinite(pyramid.vectors(centre)).all()


def test_air_beyond_the_grid_and_the_window() -> None:
    hu = np.full((2, 2, 2), 5000, np.float32)
    image = tile_image(hu, Tile((0, 0, 0), (4, 4, 4), (0, 0, 0), (2, 2, 2)), (-1350.0, 1000.0))
    assert (image[:2, :2, :2] == 1).all()
    assert np.allclose(image[2:], (1350 - 1024) / 2350)


def test_a_point_outside_the_scan(model: Model) -> None:
    pyramid = embed(phantom(), model)
    with pytest.raises(PointError, match="outside"):
        pyramid.vectors([(500, 0, 0)])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scans_that_are_no_ct(model: Model, bad: float) -> None:
    array = phantom().array.astype(np.float32)
    array[3, 3, 3] = bad
    with pytest.raises(VolumeError, match=r"(?i)nan|inf"):
        embed(Volume(array, np.eye(4)), model)
    with pytest.raises(VolumeError, match="every voxel has the value 0"):
        embed(Volume(np.zeros((9, 9, 9), np.int16), np.eye(4)), model)
    noise = np.random.default_rng(0).integers(-1010, -990, (20, 20, 20)).astype(np.int16)
    with pytest.raises(VolumeError, match="air"):
        embed(Volume(noise, np.eye(4)), model)


def test_progress_and_cancellation(model: Model, private_cache: Path) -> None:
    reports: list[ProgressReport] = []
    embed(phantom((70, 50, 45)), model, progress=Progress(reports.append))
    embedding = [report for report in reports if report.stage == "Embedding"]
    assert embedding[0].done == 0
    assert embedding[-1].fraction == 1
    assert embedding[-1].seconds_left == 0
    assert len(embedding) > 3

    seen: list[ProgressReport] = []
    stop = Progress(seen.append, lambda: sum(r.stage == "Embedding" for r in seen) >= 3)
    with pytest.raises(Cancelled):
        embed(phantom((70, 50, 45), seed=1), model, progress=stop)
    assert sum(r.stage == "Embedding" for r in seen) == 3
    assert len(list((private_cache / "pyramids").iterdir())) == 1


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_cancelled_in_the_middle_of_the_only_tile(
    tmp_path: Path, private_cache: Path, monkeypatch: pytest.MonkeyPatch, engine: EngineName
) -> None:
    monkeypatch.setattr(engines, "POLL_MS", 1)
    model = random_model(tmp_path, base_channels=4, tile_shape=(64, 64, 64))
    seen: list[ProgressReport] = []
    asked: list[None] = []

    def enough() -> bool:
        asked.extend([None] * any(report.stage == "Embedding" for report in seen))
        return len(asked) == 3

    with pytest.raises(Cancelled):
        embed(phantom(), model, engine=engine, progress=Progress(seen.append, enough))
    assert [report.done for report in seen if report.stage == "Embedding"] == [0]
    assert list((private_cache / "pyramids").iterdir()) == []


def test_storage_is_small(model: Model, private_cache: Path) -> None:
    pyramid = embed(phantom((64, 64, 64)), model)
    assert len(repr(pyramid)) < 2000, "for people, without the numbers"
    assert pyramid.path is not None
    stored = sum(path.stat().st_size for path in pyramid.path.glob("level*.npy"))
    voxels = np.prod(pyramid.grid.shape)
    assert stored / voxels < 4 + 2 + (8 + 2) / 8 * 1.2 + (16 + 2) / 64 * 1.4 + 0.5


@pytest.mark.parametrize(
    "name", ["lidc/lidc_0001", "totalsegmentator/ts_abdomen_pelvis", "sts/sts_002", "elastix/elx_lung_baseline"]
)
def test_real_scans(shared_ct: Path, model: Model, name: str) -> None:
    volume = read_volume(shared_ct / f"{name}.nii.gz")
    pyramid = embed(volume, model, cache=False)
    vectors = all_vectors(pyramid)
    assert np.isfinite(vectors).all()
    assert vectors.std(axis=0).min() > 0
