"""The official architecture, bit for bit: golden files load with strict keys and all outputs agree."""

import numpy as np
import pytest
import torch

from Testing.support.golden import NAMES, Golden
from Vox2VecCore.backbone import FPN3d, gather_vectors
from Vox2VecCore.evaluation.segmentation_loss import dice, segmentation_loss
from Vox2VecCore.heads import LinearHead, NonLinearHead
from Vox2VecCore.sliding_window import sliding_window

TOLERANCE = 1e-5


@pytest.fixture(params=NAMES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden.load(request.param)


@pytest.fixture(params=["even", "odd"])
def parity(request: pytest.FixtureRequest) -> str:
    return request.param


def difference(got: torch.Tensor, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    return float(np.abs(got.detach().numpy() - expected).max())


@torch.no_grad()
def test_pyramid_and_heads(golden: Golden, parity: str) -> None:
    levels = golden.backbone()(golden.tensor(f"{parity}_input"))
    assert len(levels) == golden.size[1]
    for i, level in enumerate(levels):
        assert difference(level, golden.expected[f"{parity}_level{i}"]) < TOLERANCE
    assert difference(golden.linear_head()(levels), golden.expected[f"{parity}_linear_logits"]) < TOLERANCE
    assert difference(golden.nonlinear_head()(levels), golden.expected[f"{parity}_nonlinear_logits"]) < TOLERANCE


@torch.no_grad()
def test_vectors_of_voxels(golden: Golden, parity: str) -> None:
    levels = [level[0] for level in golden.backbone()(golden.tensor(f"{parity}_input"))]
    vectors = gather_vectors(levels, golden.tensor(f"{parity}_voxels"))
    assert difference(vectors, golden.expected[f"{parity}_vectors"]) < TOLERANCE


@torch.no_grad()
def test_sliding_window(golden: Golden) -> None:
    backbone, head = golden.backbone(), golden.linear_head()
    x, y, z = (int(v) for v in golden.expected["sw_patch"])
    logits = sliding_window(golden.tensor("sw_image"), lambda patch: head(backbone(patch)), (x, y, z))
    assert difference(logits, golden.expected["sw_logits"]) < TOLERANCE


def test_segmentation_loss_and_dice(golden: Golden) -> None:
    logits, masks, roi = (golden.tensor(f"seg_{name}") for name in ("logits", "masks", "roi"))
    assert abs(float(segmentation_loss(logits, masks)) - float(golden.expected["seg_loss"])) < TOLERANCE
    assert abs(float(segmentation_loss(logits, masks, roi)) - float(golden.expected["seg_loss_roi"])) < TOLERANCE
    assert difference(dice(torch.sigmoid(logits[0]) >= 0.5, masks[0].bool()), golden.expected["seg_dice"]) < TOLERANCE


def test_a_class_that_a_patch_does_not_show_has_no_pull_by_dice() -> None:
    logits = torch.zeros(1, 1, 4, 4, 4, requires_grad=True)
    segmentation_loss(logits, torch.zeros(1, 1, 4, 4, 4)).backward()
    assert torch.allclose(logits.grad, torch.full_like(logits, 0.5 / 64))  # cross-entropy alone


def test_sliding_window_refuses_an_image_smaller_than_the_patch() -> None:
    with pytest.raises(ValueError, match="smaller than the patch"):
        sliding_window(torch.zeros(1, 1, 8, 8, 8), lambda patch: patch, (16, 8, 8))


def test_official_sizes() -> None:
    """Parameter counts of the published configuration (and of its heads for 13 classes)."""

    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(FPN3d(1, 16, 6)) == 47_624_448
    assert count(LinearHead(16, 6, 13)) == 13_117
    assert count(NonLinearHead(16, 6, 13)) == 968_029


@torch.no_grad()
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_strides_and_norm_are_options(norm: str) -> None:
    strides = [(1, 2, 2), (2, 2, 1), (2, 2, 2)]
    network = FPN3d(1, 4, 4, norm=norm, strides=strides).eval()  # type: ignore[arg-type]
    levels = network(torch.rand(1, 1, 11, 13, 9))
    assert [tuple(level.shape[2:]) for level in levels] == [(11, 13, 9), (11, 7, 5), (6, 4, 5), (3, 2, 3)]
    assert LinearHead(4, 4, 3, strides)(levels).shape == (1, 3, 11, 13, 9)
    assert NonLinearHead(4, 4, 3, norm=norm, strides=strides).eval()(levels).shape == (1, 3, 11, 13, 9)  # type: ignore[arg-type]
    voxels = torch.tensor([[10, 12, 8], [0, 0, 0]])
    vectors = gather_vectors([level[0] for level in levels], voxels, strides)
    assert torch.equal(vectors[0, 4:12], levels[1][0, :, 10, 6, 4])


def test_any_width_has_groups() -> None:
    """12 channels, as the shipped model has, are no multiple of 8."""
    assert FPN3d(1, 12, 2, norm="group").left_blocks[0].layers[0].layers[0].num_groups == 6  # type: ignore[index,union-attr]


def test_wrong_number_of_strides_is_refused() -> None:
    with pytest.raises(ValueError, match="need 3 strides"):
        FPN3d(1, 4, 4, strides=[(2, 2, 2)])


def test_linear_head_is_a_linear_map_on_the_voxel_vector() -> None:
    head = LinearHead(4, 3, 5)
    levels = [torch.randn(1, 4 * 2**i, 8 // 2**i, 8 // 2**i, 4 // 2**i) for i in range(3)]
    voxels = torch.tensor([[0, 0, 0], [7, 3, 2], [5, 6, 3]])
    vectors = gather_vectors([level[0] for level in levels], voxels)
    weight = torch.cat([layer.weight.flatten(1) for layer in head.layers], dim=1)  # type: ignore[operator]
    expected = vectors @ weight.T + head.layers[0].bias  # type: ignore[operator]
    logits = head(levels)[0][:, voxels[:, 0], voxels[:, 1], voxels[:, 2]].T
    assert torch.allclose(logits, expected, atol=1e-5)
