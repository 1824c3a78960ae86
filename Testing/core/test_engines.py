"""Engines: the same numbers from each, a GPU path that does not trust itself, clear words when one is missing."""

import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from Testing.conftest import REPOSITORY
from Testing.support.golden import Golden
from Testing.support.models import random_network
from Testing.support.signal_stack import signal_stack_is_sound
from Vox2VecCore import engines
from Vox2VecCore.config import Architecture, LevelStatistics
from Vox2VecCore.encoding import StoredLevels
from Vox2VecCore.engines import OpenVINOEngine, TorchEngine, agree, choose, make_engine
from Vox2VecCore.errors import EngineError, MissingExtraError


class Levels(nn.Module):
    """Levels of a backbone as a tuple, which is what engines run."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.backbone(x))


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_both_engines_give_the_official_numbers(engine: Any) -> None:
    golden = Golden.load("fpn_c4_s4")
    run = make_engine(Levels(golden.backbone()), "cpu", engine, "single")
    assert run.name == engine
    for i, level in enumerate(run(golden.expected["even_input"][0, 0])):
        assert np.abs(level - golden.expected[f"even_level{i}"]).max() < 1e-4


def test_both_engines_agree_on_six_scales() -> None:
    module = Levels(Golden.load("fpn_c2_s6").backbone())
    image = np.random.default_rng(0).random((64, 32, 32), np.float32)
    for a, b in zip(TorchEngine(module, "cpu")(image), OpenVINOEngine(module)(image), strict=True):
        assert np.abs(a - b).max() < 1e-4


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_engines_that_go_leave_signals_a_stack() -> None:
    module = Levels(Golden.load("fpn_c4_s4").backbone())
    first, second = OpenVINOEngine(module), OpenVINOEngine(module)
    assert signal_stack_is_sound()
    del first
    gc.collect()
    del second
    gc.collect()
    assert signal_stack_is_sound()


def test_engines_take_tiles_of_any_shape_and_agree_on_what_is_stored() -> None:
    architecture = Architecture(base_channels=4, num_scales=3)
    channels = architecture.level_channels
    statistics = [LevelStatistics((0.1,) * c, (0.7,) * c) for c in channels]
    module = StoredLevels(random_network(architecture), channels, statistics).eval()
    torch_engine, openvino_engine = TorchEngine(module, "cpu"), OpenVINOEngine(module)
    assert not {op.get_type_name() for op in openvino_engine._model.get_ops()} & {"Slice", "StridedSlice"}, "copies"
    last: list[tuple[np.ndarray, np.ndarray]] = []
    for n, shape in enumerate([(16, 16, 8), (16, 16, 8), (32, 8, 24), (8, 8, 8), (16, 16, 8)]):
        image = np.random.default_rng(n).random(shape, np.float32)
        outputs = openvino_engine(image)
        assert all(np.array_equal(a, b) for a, b in last)  # they are still in use while the next image is computed
        last = [(output, output.copy()) for output in outputs]
        for a, b in zip(torch_engine(image), outputs, strict=True):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            # One step of the storage format where rounding falls the other way.
            assert np.abs(a.astype(np.float32) - b.astype(np.float32)).max() <= (1 if a.dtype == np.int8 else 4e-3)
            assert np.mean(a != b) < 0.01


class Enough(Exception):
    """Somebody wants an engine to stop."""


@pytest.mark.parametrize(("engine", "side"), [("torch", 32), ("openvino", 96)])
def test_stopped_in_the_middle_of_a_tile(engine: Any, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is not computed, and the engine goes on as if nothing had been."""
    import openvino

    cancelled: list[openvino.InferRequest] = []
    cancel = openvino.InferRequest.cancel
    monkeypatch.setattr(openvino.InferRequest, "cancel", lambda self: (cancelled.append(self), cancel(self)))
    monkeypatch.setattr(engines, "POLL_MS", 1)
    asked: list[bool] = []

    def check(at: int) -> None:
        asked.append(torch.is_inference_mode_enabled())
        if len(asked) == at:
            raise Enough

    run = make_engine(Levels(Golden.load("fpn_c4_s4").backbone()), "cpu", engine, "single")
    image = np.random.default_rng(0).random((side, side, side), np.float32)
    whole = [output.copy() for output in run(image)]
    for at in (2, 8):
        asked.clear()
        with pytest.raises(Enough):
            run(image, lambda at=at: check(at))
        assert asked == [False] * at
    if engine == "openvino":
        for request in cancelled:
            with pytest.raises(RuntimeError, match="cancel"):
                request.wait()
        assert len(cancelled) == 2
    asked.clear()
    assert all(np.array_equal(a, b) for a, b in zip(whole, run(image, lambda: check(0)), strict=True))
    assert len(asked) > 8


def test_stopped_in_the_check_of_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither precision is taken for the other by the next tile."""
    monkeypatch.setattr(engines, "cpu_computes_bfloat16", lambda: True)
    monkeypatch.setattr(engines, "agree", lambda *_: False)
    monkeypatch.setattr(engines, "POLL_MS", 1)
    module = Levels(Golden.load("fpn_c4_s4").backbone())
    image = np.random.default_rng(0).random((64, 64, 64), np.float32)
    single, run = (make_engine(module, "cpu", "openvino", precision) for precision in ("single", "half"))
    assert isinstance(run, OpenVINOEngine)

    def check() -> None:
        if run._compiled_half:
            raise Enough

    with pytest.raises(Enough):
        run(image, check)
    for _ in range(2):
        assert all(np.array_equal(a, b) for a, b in zip(single(image), run(image), strict=True))


def test_stored_levels_are_standardised_unit_vectors() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [torch.tensor([3.0, 6.0]).view(1, 2, 1, 1, 1).expand(1, 2, 2, 1, 1)]

    module = StoredLevels(Fixed(), [2], [LevelStatistics((0.0, 2.0), (1.0, 1.0))])
    unit, magnitude = module(torch.zeros(1))
    assert unit.shape == (2, 1, 1, 2)
    assert unit[0, 0, 0].tolist() == [round(127 * 0.6), round(127 * 0.8)]
    assert magnitude[0, 0, 0].item() == 5.0


def test_storage_keeps_the_cosine_above_0999() -> None:
    generator = torch.Generator().manual_seed(0)

    class Random(nn.Module):
        def __init__(self, channels: Sequence[int]) -> None:
            super().__init__()
            self.levels = [torch.randn(1, c, 10, 10, 10, generator=generator) for c in channels]

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return self.levels

    channels = [16, 32, 64, 128, 512]
    network = Random(channels)
    stored = StoredLevels(network, channels, None)(torch.zeros(1))
    for level, unit, magnitude in zip(network.levels, stored[::2], stored[1::2], strict=True):
        back = unit.float() * magnitude.float()[..., None]
        cosine = torch.cosine_similarity(back, level[0].permute(1, 2, 3, 0), dim=-1)
        assert cosine.min() > 0.999


def test_auto_picks_openvino_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Levels(Golden.load("fpn_c4_s4").backbone())
    monkeypatch.setattr(engines, "available_devices", lambda: ["cpu"])
    assert make_engine(module).name == "openvino"
    monkeypatch.setattr(engines, "openvino_installed", lambda: False)
    assert make_engine(module).name == "torch"


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(EngineError, match=r"Device cuda is not available.*available: cpu"):
        make_engine(nn.Identity(), "cuda")


def test_openvino_does_not_go_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "available_devices", lambda: ["cuda", "cpu"])
    with pytest.raises(EngineError, match="OpenVINO runs on the CPU"):
        make_engine(nn.Identity(), "cuda", "openvino")


def test_openvino_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "openvino_installed", lambda: False)
    with pytest.raises(MissingExtraError, match=r"vox2vec-slicer\[openvino\]"):
        make_engine(nn.Identity(), "cpu", "openvino")


def test_what_the_names_stand_for_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "available_devices", lambda: ["cuda", "cpu"])
    assert choose("auto", "auto") == ("cuda", "torch")
    assert choose("auto", "openvino") == ("cpu", "openvino")
    assert choose("cpu", "auto") == ("cpu", "openvino")
    assert choose("cpu", "torch") == ("cpu", "torch")


def test_out_of_memory_is_one_sentence() -> None:
    class Hungry(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(EngineError, match=r"Out of memory on cpu for a tile of 4 x 4 x 4 voxels.*device cpu"):
        TorchEngine(Hungry(), "cpu")(np.zeros((4, 4, 4), np.float32))


@pytest.mark.parametrize(("wrong", "half_used"), [(0.0, True), (0.5, False)])
def test_half_precision_is_used_only_when_the_first_tile_agrees(wrong: float, half_used: bool) -> None:
    """The CUDA path on the CPU: the run in half precision is replaced by one with an error of known size."""

    class Checked(TorchEngine):
        def __init__(self) -> None:
            super().__init__(nn.Identity(), "cpu")
            self._half = None
            self.calls: list[bool] = []

        def _run(self, tensor: torch.Tensor, half: bool) -> tuple[torch.Tensor, ...]:
            self.calls.append(half)
            noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
            return (tensor + wrong * noise if half else tensor,)

    engine = Checked()
    image = np.random.default_rng(0).random((8, 8, 8), np.float32)
    first, second = engine(image), engine(image)
    assert engine.calls == [False, True, half_used]
    assert np.array_equal(first[0], second[0])


def test_half_precision_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Levels(Golden.load("fpn_c4_s4").backbone())
    if not engines.cpu_computes_bfloat16():
        with pytest.raises(EngineError, match="Half precision needs CUDA, or OpenVINO on a CPU with bfloat16"):
            make_engine(module, "cpu", "auto", "half")
        monkeypatch.setattr(engines, "cpu_computes_bfloat16", lambda: True)
    with pytest.raises(EngineError, match="Half precision needs"):
        make_engine(module, "cpu", "torch", "half")
    image = np.random.default_rng(0).random((16, 16, 16), np.float32)
    single, half = (make_engine(module, "cpu", "openvino", precision) for precision in ("single", "half"))
    for a, b in zip(single(image), half(image), strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.999

    monkeypatch.setattr(engines, "agree", lambda *_: False)  # a first tile that looks wrong: single from then on
    distrusted = make_engine(module, "cpu", "openvino", "half")
    for _ in range(2):
        for a, b in zip(single(image), distrusted(image), strict=True):
            assert np.abs(a - b).max() < 1e-6


def test_agreement_is_exact_for_millions_of_values() -> None:
    values = torch.from_numpy(np.random.default_rng(0).integers(0, 127, 20_000_000, dtype=np.int8))
    nearly = values.clone()
    nearly[::1000] += 1
    assert agree((values,), (nearly,))


@pytest.mark.parametrize(("astray", "fine"), [(0, True), (5, True), (50, False)])
def test_agreement_looks_at_single_vectors(astray: int, fine: bool) -> None:
    """Ten thousand vectors, some of them turned by 8 degrees: over the whole tensor that is nothing."""
    vectors = torch.nn.functional.normalize(
        torch.randn(10, 10, 100, 2, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    turned = vectors.clone()
    angle = torch.tensor(np.radians(8.0))
    turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]], dtype=torch.float32)
    turned.view(-1, 2)[:astray] = turned.view(-1, 2)[:astray] @ turn
    assert agree((vectors,), (turned,)) is fine
    assert agree((vectors.flatten(),), (turned.flatten(),))


def test_agreement_refuses_infinities() -> None:
    ones = (torch.ones(10),)
    assert agree(ones, ones)
    assert agree((torch.zeros(10),), (torch.zeros(10),))
    assert not agree(ones, (torch.full((10,), torch.inf),))
    assert not agree(ones, (-torch.ones(10),))


def test_nothing_is_reported_over_the_network() -> None:
    """OpenVINO would report that it is imported, and in most ways of using it, that it is used."""
    work = (
        "from Testing.core.test_engines import Golden, Levels, OpenVINOEngine\n"
        "OpenVINOEngine(Levels(Golden.load('fpn_c4_s4').backbone()))\n"
    )
    paths = [REPOSITORY / "Testing" / "support" / "offline", REPOSITORY]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run([sys.executable, "-c", work], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "would have left this computer" not in done.stderr
