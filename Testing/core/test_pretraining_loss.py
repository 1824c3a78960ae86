"""The contrastive loss: the published value, the chunked form, and what is left out of the negatives."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from Vox2VecCore.pretraining.loss import Exclusion, info_nce, vicreg

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def unit(count: int, channels: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, channels, generator=generator, dtype=torch.float64), dim=1)


def scattered(count: int, seed: int = 0) -> Exclusion:
    generator = torch.Generator().manual_seed(seed)
    position = torch.rand(count, 3, generator=generator, dtype=torch.float64) * 40
    return Exclusion(position, torch.arange(count) % 3, radius_mm=12.0, across_patients=False)


@pytest.mark.parametrize("name", ["fpn_c2_s6", "fpn_c4_s4"])
@pytest.mark.parametrize("chunk", [None, 7, 1000])
def test_equals_the_published_loss(name: str, chunk: int | None) -> None:
    expected = np.load(GOLDEN / name / "expected.npz")
    first, second = (torch.from_numpy(expected[f"nce_embeds_{i}"]) for i in (1, 2))
    loss = info_nce(first, second, float(expected["nce_temperature"]), chunk=chunk)
    assert loss.item() == pytest.approx(float(expected["nce_loss"]), rel=1e-6)


@pytest.mark.parametrize("excluded", [False, True])
def test_chunks_change_neither_value_nor_gradients(excluded: bool) -> None:
    exclusion = scattered(50) if excluded else None
    results = []
    for chunk in (None, 16):
        first, second = unit(50, seed=1).requires_grad_(), unit(50, seed=2).requires_grad_()
        loss = info_nce(first, second, exclusion=exclusion, chunk=chunk)
        loss.backward()
        results.append((loss.detach(), first.grad, second.grad))
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(whole, chunked, rtol=1e-10, atol=1e-12)


def test_chunks_do_not_hold_the_whole_matrix() -> None:
    class Watch(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = function(*args, **(kwargs or {}))
            made = [x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
            self.largest = max([self.largest, *made])
            return out

    for chunk, expected in ((None, 200 * 200), (16, 16 * 200)):
        first, second = unit(100, seed=1).requires_grad_(), unit(100, seed=2).requires_grad_()
        with Watch() as watch:
            info_nce(first, second, exclusion=scattered(100), chunk=chunk).backward()
        assert watch.largest == expected


def test_vicreg_equals_its_definition() -> None:
    """Invariance, variance hinge and covariance of Bardes et al. 2022, equations 1 to 6, written out."""
    first, second = 0.5 * unit(40, 6, seed=8), 0.2 * unit(40, 6, seed=9)
    expected = 25 * np.mean((first - second).numpy() ** 2)
    for view in (first.numpy(), second.numpy()):
        covariance = np.cov(view, rowvar=False)
        expected += 25 / 2 * np.mean(np.maximum(0, 1 - np.sqrt(np.diag(covariance) + 1e-4)))
        expected += (np.sum(covariance**2) - np.sum(np.diag(covariance) ** 2)) / 6
    assert vicreg(first, second).item() == pytest.approx(expected, rel=1e-6)


def test_excluded_voxels_leave_the_denominator() -> None:
    first, second = unit(30, seed=3), unit(30, seed=4)
    exclusion = scattered(30)
    expected = []
    for anchors, others in ((first, second), (second, first)):
        for i in range(30):
            distance = torch.linalg.norm(exclusion.position_mm - exclusion.position_mm[i], dim=1)
            kept = (exclusion.patient == exclusion.patient[i]) & (distance >= 12.0)
            logits = torch.cat([others[kept] @ anchors[i], anchors[kept] @ anchors[i], (anchors[i] @ others[i])[None]])
            expected.append(torch.logsumexp(logits / 0.1, 0) - anchors[i] @ others[i] / 0.1)
    torch.testing.assert_close(info_nce(first, second, exclusion=exclusion), torch.stack(expected).mean())


def test_patients_apart_are_negatives_only_when_asked() -> None:
    first, second = unit(20, seed=5), unit(20, seed=6)
    position, patient = torch.zeros(20, 3), torch.arange(20)
    alone = info_nce(first, second, exclusion=Exclusion(position, patient, across_patients=False))
    together = info_nce(first, second, exclusion=Exclusion(position, patient, across_patients=True))
    torch.testing.assert_close(alone, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(together, info_nce(first, second))
