"""The same places in two patients: found when they are there, refused when they are not, and used in views."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from Testing.core.test_pretraining_loop import make_scan, tiny
from Vox2VecCore.config import ModelConfig
from Vox2VecCore.network import EmbeddingNetwork
from Vox2VecCore.pretraining.batches import Batches
from Vox2VecCore.pretraining.correspondence import (
    Candidates,
    Matches,
    agreed_affine,
    load_matches,
    match_candidates,
    mine_matches,
    save_matches,
)
from Vox2VecCore.pretraining.export import model_config
from Vox2VecCore.pretraining.manifest import ScanEntry
from Vox2VecCore.pretraining.objective import Objective
from Vox2VecCore.pretraining.prepare import PreparedScan, prepare_scans
from Vox2VecCore.processes import Share

STRETCH = np.diag([1.15, 0.9, 1.1]).astype(np.float32)
SHIFT = np.array([12.0, -8.0, 40.0], np.float32)


def places(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 200, (count, 3)).astype(np.float32)


def code(anatomy: np.ndarray, noise: float, seed: int) -> torch.Tensor:
    """Vectors whose similarity falls with the distance in a common anatomy."""
    rng = np.random.default_rng(7)
    waves = anatomy @ rng.normal(0, 1 / 15, (3, 64)) + rng.uniform(0, 6, 64)
    vectors = np.cos(waves) + np.random.default_rng(seed).normal(0, noise, waves.shape)
    return F.normalize(torch.from_numpy(vectors.astype(np.float32)), dim=1).half()


def test_same_places_are_found() -> None:
    first = places(6000, 1)
    second = places(6000, 2)
    a = Candidates(torch.from_numpy(first), code(first, 0.4, 3))
    b = Candidates(torch.from_numpy(second @ STRETCH + SHIFT), code(second, 0.4, 4))
    found = match_candidates(a, b, np.random.default_rng(0))
    assert found is not None and found.shape[1] >= 80
    error = np.linalg.norm(found[0] @ STRETCH + SHIFT - found[1], axis=1)
    assert np.median(error) < 10 and (error < 25).mean() > 0.95


def test_different_parts_of_the_body_give_nothing() -> None:
    first, second = places(6000, 1), places(6000, 2) + 1000
    a = Candidates(torch.from_numpy(first), code(first, 0.4, 3))
    b = Candidates(torch.from_numpy(second), code(second, 0.4, 4))
    assert match_candidates(a, b, np.random.default_rng(0)) is None


def test_affine_ignores_outliers_and_refuses_nonsense() -> None:
    x = places(150, 5)
    y = x @ STRETCH + SHIFT
    y[:60] = places(60, 6)
    affine = agreed_affine(x, y)
    assert affine is not None
    np.testing.assert_allclose(x @ affine[:3] + affine[3], x @ STRETCH + SHIFT, atol=12)
    assert agreed_affine(x, places(150, 7)) is None
    assert agreed_affine(x, x * [-1, 1, 1]) is None
    assert agreed_affine(x[:10], x[:10]) is None


def test_written_matches_are_read_back(tmp_path: Path) -> None:
    matches = [Matches(("a", "b"), places(10, 1).reshape(2, 5, 3)), Matches(("a", "c"), places(6, 2).reshape(2, 3, 3))]
    save_matches(matches, tmp_path / "new" / "m.npz")
    for expected, got in zip(matches, load_matches(tmp_path / "new" / "m.npz"), strict=True):
        assert got.scans == expected.scans
        np.testing.assert_array_equal(got.voxels, expected.voxels)
    save_matches([], tmp_path / "none.npz")
    assert load_matches(tmp_path / "none.npz") == []


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[PreparedScan]:
    folder = tmp_path_factory.mktemp("scans")
    entries = [ScanEntry(f"s{n}", f"p{n}", str(make_scan(folder / f"s{n}.nii.gz", 0))) for n in range(2)]
    return prepare_scans(entries, folder / "prepared", (6.0, 6.0, 6.0)).scans


def test_network_finds_a_patient_in_its_twin(scans: list[PreparedScan]) -> None:
    # Two patients with the same image: even a random network knows which places are the same.
    torch.manual_seed(0)
    config = tiny("architecture.base_channels=8", "architecture.projection_channels=32")
    described: ModelConfig = model_config(config, "test", {})
    network = EmbeddingNetwork(config.architecture)
    image = torch.from_numpy(scans[0].hu.astype(np.float32))[None, None] / 1000
    for _ in range(30):  # batch norm takes the image's statistics, or all vectors would look alike
        network(image)
    (found,) = mine_matches(network.eval(), described, scans, np.random.default_rng(0))
    assert found.scans == ("s0", "s1")
    distance = np.linalg.norm(found.voxels[0] - found.voxels[1], axis=1)
    assert (distance == 0).mean() > 0.6


def test_couples_see_the_matched_places(scans: list[PreparedScan]) -> None:
    voxels = np.random.default_rng(0).uniform(6, 20, (300, 3)).astype(np.float32)
    matches = [Matches(("s0", "s1"), np.stack([voxels, voxels]))]
    config = tiny("matching.fraction=1", "spatial.rotation_degrees=20")
    batches = Batches(scans, config, 20, Share(), matches)
    seen = 0
    for n in range(20):
        first, second = batches[n]
        assert {first.scan, second.scan} == {"s0", "s1"} and first.patient != second.patient
        assert len(first.matches) == len(second.matches)
        # The matches of both are the same places, here at the same millimetres.
        torch.testing.assert_close(first.matched_mm, second.matched_mm)
        for pair in (first, second):
            assert ((pair.matches >= 0) & (pair.matches < torch.tensor(pair.images.shape[2:]))).all()
        seen += len(first.matches)
    assert seen > 200
    losses = Objective(config)(batches[0])
    assert losses.match > 0 and torch.isfinite(losses.total)
    again = batches[3]
    assert all(torch.equal(a, b) for a, b in zip(again[0][:3], batches[3][0][:3], strict=True))
