"""PCA colours: components against numpy, whole scan against slices, a stored basis, and refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from Testing.support.pyramids import concatenation, pyramid_of, random_levels
from Vox2VecCore.errors import Cancelled, ModelError
from Vox2VecCore.pca import PcaBasis, fit_pca, pca_colours
from Vox2VecCore.progress import Progress

SHAPE = (24, 17, 13)


@pytest.fixture
def pyramid():
    body = np.random.default_rng(5).random(SHAPE) > 0.2
    return pyramid_of(random_levels(SHAPE, smooth=2), body=body)


def stacked(basis: PcaBasis) -> np.ndarray:
    return torch.cat(list(basis.components)).numpy()


def test_components_are_those_of_a_singular_value_decomposition(pyramid):
    vectors = concatenation(pyramid)[pyramid.body].astype(np.float64)
    _, singular, expected = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    basis = fit_pca([pyramid])
    agreement = np.abs(np.sum(stacked(basis) * expected[:3].T, axis=0))
    np.testing.assert_allclose(agreement, 1, atol=1e-3)
    np.testing.assert_allclose(basis.explained, (singular**2 / (singular**2).sum())[:3], rtol=1e-2)


def test_signs_do_not_depend_on_the_sample(pyramid):
    assert (stacked(fit_pca([pyramid])) * stacked(fit_pca([pyramid], sample=2000, seed=9))).sum(axis=0).min() > 0.9


def test_colours_are_the_projections(pyramid):
    basis = fit_pca([pyramid])
    projections = concatenation(pyramid) @ stacked(basis)
    low, high = np.percentile(projections[pyramid.body], (1, 99), axis=0)
    expected = np.clip((projections - low) / (high - low), 0, 1) * 255
    colours = pca_colours(pyramid, basis)
    assert colours.dtype == np.uint8
    assert colours.shape == (*SHAPE, 3)
    assert np.abs(colours[pyramid.body] - expected[pyramid.body]).max() <= 1
    assert (colours[~pyramid.body] == 0).all()
    for channel in range(3):
        assert (colours[pyramid.body][:, channel] == 0).mean() == pytest.approx(0.01, abs=0.003)
        assert (colours[pyramid.body][:, channel] == 255).mean() == pytest.approx(0.01, abs=0.003)


def test_smooth_colours_have_no_blocks_but_the_same_trend(pyramid):
    basis = fit_pca([pyramid])
    plain, smooth = (pca_colours(pyramid, basis, smooth=s).astype(float) for s in (False, True))
    assert smooth.shape == plain.shape
    assert (smooth[~pyramid.body] == 0).all()
    inside = pyramid.body
    assert np.corrcoef(plain[inside].ravel(), smooth[inside].ravel())[0, 1] > 0.8
    both = inside[1:] & inside[:-1]
    assert np.abs(np.diff(smooth, axis=0))[both].mean() < np.abs(np.diff(plain, axis=0))[both].mean()


def test_a_shared_basis_gives_the_same_voxel_the_same_colour(pyramid):
    levels = random_levels(SHAPE, smooth=2)
    moved = pyramid_of([np.roll(level, 8 // stride, axis=0) for level, stride in zip(levels, (1, 2, 4), strict=True)])
    basis = fit_pca([pyramid, moved])
    one, other = pca_colours(pyramid, basis).astype(int), pca_colours(moved, basis).astype(int)
    both = pyramid.body[:-8]
    assert np.abs(one[:-8][both] - other[8:][both]).max() <= 1


def test_a_basis_survives_being_saved(pyramid, tmp_path: Path):
    basis = fit_pca([pyramid])
    basis.save(tmp_path / "colours.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["colours.safetensors"]
    loaded = PcaBasis.load(tmp_path / "colours.safetensors")
    np.testing.assert_array_equal(pca_colours(pyramid, loaded), pca_colours(pyramid, basis))
    assert loaded.model_hash == basis.model_hash
    with pytest.raises(ModelError, match="cannot be written"):
        basis.save(tmp_path / "gone" / "colours.safetensors")


def test_files_that_are_no_basis_are_refused(pyramid, tmp_path: Path):
    path = tmp_path / "colours.safetensors"
    with pytest.raises(ModelError, match="not a readable"):
        PcaBasis.load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="not a readable"):
        PcaBasis.load(path)
    save_file({"lowest": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="not a file of PCA colours"):
        PcaBasis.load(path)
    about = {"format": "vox2vec-pca", "format_version": "1", "model_hash": "test"}
    save_file({"lowest": torch.zeros(3)}, path, metadata=about)
    with pytest.raises(ModelError, match="'highest' is missing"):
        PcaBasis.load(path)


def test_another_model_is_refused(pyramid):
    other = pyramid_of(random_levels(SHAPE), model_hash="another")
    basis = fit_pca([pyramid])
    for use in (lambda: fit_pca([pyramid, other]), lambda: pca_colours(other, basis)):
        with pytest.raises(ModelError, match="one model"):
            use()


def test_nothing_to_fit_is_refused():
    with pytest.raises(ModelError, match="at least one"):
        fit_pca([])
    with pytest.raises(ModelError, match="body"):
        fit_pca([pyramid_of(random_levels(SHAPE), body=np.zeros(SHAPE, bool))])


def test_cancelled(pyramid):
    basis = fit_pca([pyramid])
    with pytest.raises(Cancelled):
        pca_colours(pyramid, basis, Progress(is_cancelled=lambda: True))


def test_a_model_with_two_channels_has_two_colours():
    pyramid = pyramid_of([np.random.default_rng(0).standard_normal((6, 6, 6, 2))], [(1, 1, 1)])
    colours = pca_colours(pyramid, fit_pca([pyramid]))
    assert colours[..., :2].std() > 10
    assert (colours[..., 2] == 0).all()
