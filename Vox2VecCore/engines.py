"""What runs the network on one tile: PyTorch on a GPU or CPU, OpenVINO on a CPU."""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.overrides import TorchFunctionMode

from Vox2VecCore.errors import DeviceMemoryError, EngineError, MissingExtraError

if TYPE_CHECKING:
    import openvino

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
EngineName = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "single", "half"]

SELF_CHECK_COSINE = 0.999
"""Half precision is used only if its first tile agrees this well with single precision."""
SELF_CHECK_SHARE = 0.001
"""Of the vectors in that tile, this share may agree less well."""
POLL_MS = 50
"""How often OpenVINO, while it computes, is left for a look at whether to stop."""


def go_on() -> None:
    """What engines ask when nobody wants them to stop."""


class Engine(Protocol):
    """Runs a module (one image in, a tuple of tensors out) on tiles of any shape."""

    name: str
    device: str

    def __call__(self, image: NDArray[np.float32], check: Callable[[], None] = go_on) -> list[NDArray]:
        """Outputs of the module for an image (X, Y, Z) scaled to [0, 1], its sides multiples of the coarsest stride.

        They stay as they are while the next image is computed, and no longer.

        :param check: called again and again while the image is computed; what it raises stops that within one
            operation of the network, and the engine can be used afterwards as if nothing had been.
        """
        ...


def make_engine(
    module: nn.Module, device: DeviceName = "auto", engine: EngineName = "auto", precision: Precision = "auto"
) -> Engine:
    """Engine for a module in evaluation mode; device, engine and their errors as in :func:`choose`.

    :param precision: ``half`` is float16 on CUDA and bfloat16 by OpenVINO on a CPU that computes with it; either is
        used only if the first tile agrees with single precision. ``auto`` is half where it can be had.
    :raises EngineError: if half precision is asked for where it would be slower or is not there.
    """
    device, engine = choose(device, engine)
    half = precision != "single" and (device == "cuda" or (engine == "openvino" and cpu_computes_bfloat16()))
    if precision == "half" and not half:
        raise EngineError("Half precision needs CUDA, or OpenVINO on a CPU with bfloat16 arithmetic: choose single.")
    return OpenVINOEngine(module, half) if engine == "openvino" else TorchEngine(module, device, half)


def choose(device: DeviceName, engine: EngineName) -> tuple[DeviceName, EngineName]:
    """What the names stand for on this computer.

    ``auto`` takes a GPU when PyTorch sees one; on a CPU OpenVINO when it is installed, else PyTorch.

    :raises EngineError: if the device or engine is not available here or the two do not go together.
    :raises MissingExtraError: if OpenVINO is asked for and not installed.
    """
    available = available_devices()
    if device not in ("auto", *available):
        raise EngineError(f"Device {device} is not available to PyTorch here; available: {', '.join(available)}.")
    if engine == "openvino":
        if device not in ("auto", "cpu"):
            raise EngineError(f"OpenVINO runs on the CPU here, not on {device}: choose device cpu or engine torch.")
        if not openvino_installed():
            raise MissingExtraError("The OpenVINO engine", "openvino")
        return "cpu", "openvino"
    chosen = available[0] if device == "auto" else device
    if engine == "auto" and chosen == "cpu" and openvino_installed():
        return chosen, "openvino"
    return chosen, "torch"


def available_devices() -> list[DeviceName]:
    """Devices that PyTorch can use here, fastest first."""
    gpus: list[tuple[DeviceName, bool]] = [
        ("cuda", torch.cuda.is_available()),
        ("mps", torch.backends.mps.is_available()),
    ]
    return [*(name for name, there in gpus if there), "cpu"]


def openvino_installed() -> bool:
    """Whether OpenVINO can be imported."""
    return importlib.util.find_spec("openvino") is not None


def cpu_computes_bfloat16() -> bool:
    """Whether OpenVINO is here and finds bfloat16 arithmetic in this CPU; without it, it is slower than single."""
    return openvino_installed() and "BF16" in _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@lru_cache(maxsize=1)
def _openvino_core() -> "openvino.Core":
    """The one core of this process, never let go of.

    OpenVINO's CPU plugin gives the calling thread a stack for signals and frees it with the last user of its core.
    When a second core is there by then, the thread is left with a freed stack, and the next signal overwrites
    whatever memory has taken its place (seen with OpenVINO 2026.4).
    """
    return openvino_module().Core()


def openvino_module() -> Any:
    """OpenVINO, without the package by which it reports to the network that it was imported.

    :raises ImportError: if it is not installed.
    """
    name = "openvino_telemetry"
    known = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # OpenVINO has a stand-in for when it cannot be imported
    try:
        return importlib.import_module("openvino")
    finally:
        sys.modules.pop(name, None)
        if known is not None:
            sys.modules[name] = known


class TorchEngine:
    """PyTorch in single precision; on CUDA in half precision once the first tile has shown that it can be trusted.

    Some cuDNN releases return wrong 3D convolutions in half precision (PyTorch issue 163539), hence the check.
    """

    name = "torch"

    def __init__(self, module: nn.Module, device: str, half: bool = False) -> None:
        self.device = device
        self._module = module.to(device)
        self._half: bool | None = None if half else False
        if device == "cuda":
            self._module = self._module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.float32], check: Callable[[], None] = go_on) -> list[NDArray]:
        try:
            with _BetweenOperations(check):
                return self._outputs(image)
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(
                f"Out of memory on {self.device} for a tile of {' x '.join(map(str, image.shape))} voxels: close "
                "other programs that use it, or choose device cpu."
            ) from error

    def _outputs(self, image: NDArray[np.float32]) -> list[NDArray]:
        tensor = torch.from_numpy(np.ascontiguousarray(image))[None, None].to(self.device)
        if self._half is None:
            single, half = self._run(tensor, half=False), self._run(tensor, half=True)
            self._half = agree(single, half)
            outputs = half if self._half else single
        else:
            outputs = self._run(tensor, half=self._half)
        return [output.cpu().numpy() for output in outputs]

    def _run(self, tensor: torch.Tensor, half: bool) -> tuple[torch.Tensor, ...]:
        with torch.autocast(self.device, torch.float16, enabled=half):
            return self._module(tensor)


class _BetweenOperations(TorchFunctionMode):
    """Asks before every operation of PyTorch whether to go on.

    Whoever is asked may compute something else meanwhile, so that happens outside inference mode.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        with torch.inference_mode(False):
            self._check()
        return func(*args, **(kwargs or {}))


def agree(expected: tuple[torch.Tensor, ...], got: tuple[torch.Tensor, ...]) -> bool:
    """Whether all outputs point the same way, and nothing is infinite.

    The cosine has to be above the limit over each whole tensor, and, in a tensor (X, Y, Z, C) of vectors, for all but
    a thousandth of them. The second matters with trained weights: in bfloat16 the vectors of the shipped model agree
    to 0.9996 on average, but those that are short before they are made unit vectors only to 0.985 (measured).
    """
    for a, b in zip(expected, got, strict=True):
        a, b = a.float(), b.float()
        # In float32 the sums of millions of terms are off by more than what is looked for.
        dot, aa, bb = (float((x * y).sum(dtype=torch.float64)) for x, y in ((a, b), (a, a), (b, b)))
        if not bool(torch.isfinite(b).all()) or (aa > 0 and dot < SELF_CHECK_COSINE * (aa * bb) ** 0.5):
            return False
        if a.ndim == 4:
            lengths = a.norm(dim=-1) * b.norm(dim=-1)
            astray = (a * b).sum(-1) < SELF_CHECK_COSINE * lengths
            if float(astray.sum()) > SELF_CHECK_SHARE * astray.numel():
                return False
    return True


class OpenVINOEngine:
    """OpenVINO on the CPU: in single precision the same numbers as PyTorch, about twice as fast or more."""

    name = "openvino"
    device = "cpu"

    def __init__(self, module: nn.Module, half: bool = False) -> None:
        try:
            openvino = openvino_module()
            from openvino.frontend import FrontEndManager
            from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
        except ImportError as error:
            raise MissingExtraError("The OpenVINO engine", "openvino") from error
        example = torch.zeros(1, 1, 32, 32, 32)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # tracing; OpenVINO knows no other way for a module
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # nothing is cut off tiles of whole strides
            traced = torch.jit.trace(module, example, check_trace=False)
        # The front end itself, not openvino.convert_model: that one reports its use over the network, runs the
        # module twice more, and takes three times as long.
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=(example,))  # must outlive the conversion
        model = frontend.convert(frontend.load(decoder))
        (image,) = model.get_parameters()
        image.set_element_type(openvino.Type.f32)
        image.set_partial_shape(openvino.PartialShape([1, 1, -1, -1, -1]))
        model.validate_nodes_and_infer_types()

        self._model = model
        self._half: bool | None = None if half else False
        self._compile(half=False)

    def _compile(self, half: bool) -> None:
        """For one precision in place of the other: both would take twice the memory."""
        options = {"INFERENCE_PRECISION_HINT": "bf16" if half else "f32", "PERFORMANCE_HINT": "LATENCY"}
        compiled = _openvino_core().compile_model(self._model, "CPU", options)
        # Two requests in turn, because the outputs of one are in use while the next image is computed.
        self._requests: Iterator[openvino.InferRequest] = cycle([compiled.create_infer_request() for _ in range(2)])
        self._compiled_half = half

    def __call__(self, image: NDArray[np.float32], check: Callable[[], None] = go_on) -> list[NDArray]:
        inputs = [np.ascontiguousarray(image)[None, None]]
        if self._half is None:
            single = [output.copy() for output in self._infer(inputs, False, check)]
            half = self._infer(inputs, True, check)
            self._half = agree(*(tuple(map(torch.from_numpy, outputs)) for outputs in (single, half)))
            return half if self._half else single
        return self._infer(inputs, self._half, check)

    def _infer(self, inputs: list[NDArray], half: bool, check: Callable[[], None]) -> list[NDArray]:
        if half != self._compiled_half:
            self._compile(half)
        request = next(self._requests)
        request.start_async(inputs, share_inputs=True)
        try:
            while not request.wait_for(POLL_MS):
                check()
        except BaseException:
            request.cancel()
            with suppress(RuntimeError):  # of having been cancelled
                request.wait()  # until then it reads the inputs
            raise
        return [output.data for output in request.output_tensors]
