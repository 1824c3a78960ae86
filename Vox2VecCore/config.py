"""What a model directory's ``config.json`` says: everything needed to use the weights, and where they are from."""

import json
from dataclasses import asdict, dataclass, field
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from Vox2VecCore.errors import ModelError, SettingsError
from Vox2VecCore.settings import typed
from Vox2VecCore.shapes import ISOTROPIC, Triple, level_strides

FORMAT_VERSION = 1

Norm = Literal["batch", "group"]

T = TypeVar("T")


@dataclass(frozen=True)
class Architecture:
    """Shape of the network (see :class:`~Vox2VecCore.backbone.FPN3d`)."""

    in_channels: int = 1
    base_channels: int = 16
    num_scales: int = 6
    norm: Norm = "batch"
    strides: tuple[Triple, ...] | None = None
    depth: int = 2
    projection_channels: int | None = None
    """Channels of the per-level projection that the loss has seen; ``None`` when levels are used as they are."""

    @property
    def steps(self) -> tuple[Triple, ...]:
        """Strides between neighbouring levels."""
        return self.strides if self.strides is not None else (ISOTROPIC,) * (self.num_scales - 1)

    @property
    def level_strides(self) -> list[Triple]:
        """Stride of every level against the finest."""
        return level_strides(self.steps)

    @property
    def level_channels(self) -> list[int]:
        """Channels of every level of the embedding, finest first."""
        if self.projection_channels is not None:
            return [self.projection_channels] * self.num_scales
        return [self.base_channels * 2**i for i in range(self.num_scales)]


@dataclass(frozen=True)
class LevelStatistics:
    """Mean and standard deviation of every channel of a level over body voxels of the calibration scans."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ModelConfig:
    """A model's ``config.json``. Unknown keys are an error, so that a newer model is not misread.

    :param spacing_mm: voxel spacing of the model's grid along right, front, head.
    :param window_hu: HU that the network sees as 0 and 1; values outside are clipped.
    :param patch_shape: voxels of the patches it was trained on.
    :param tile_shape: voxels of the tiles it is run on; together with ``tile_overlap`` this defines the
        embedding, so both belong to the model.
    :param tile_overlap: voxels shared by neighbouring tiles.
    :param level_statistics: one entry a level, or ``None`` when the levels are used as they are. Mean 0 and one
        deviation for all channels, as ``pretrain`` writes them, scale a level and keep the directions of its vectors.
    :param weights_sha256: hash of ``model.safetensors``.
    :param training: data, licences, command, seed, steps: whatever says where the weights are from.
    """

    name: str
    architecture: Architecture
    spacing_mm: tuple[float, float, float]
    patch_shape: Triple
    tile_shape: Triple
    tile_overlap: Triple
    weights_sha256: str
    window_hu: tuple[float, float] = (-1350.0, 1000.0)
    level_statistics: tuple[LevelStatistics, ...] | None = None
    licence: str = "unknown"
    training: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        shape, (low, high) = self.architecture, self.window_hu
        sizes = (shape.base_channels, shape.depth, shape.projection_channels or 1, *chain(*shape.steps))
        if shape.in_channels != 1 or len(shape.steps) != shape.num_scales - 1 or min(sizes) < 1:
            raise ModelError(f"Model {self.name}: no network for CT can have the architecture {asdict(shape)}.")
        if not all(0 < mm < inf for mm in self.spacing_mm) or not -inf < low < high < inf:
            raise ModelError(
                f"Model {self.name}: spacing_mm must be positive and window_hu rise, got {list(self.spacing_mm)} and "
                f"{list(self.window_hu)}."
            )
        coarsest = shape.level_strides[-1]
        if any(t % s or o % (2 * s) for t, o, s in zip(self.tile_shape, self.tile_overlap, coarsest, strict=True)):
            raise ModelError(
                f"Model {self.name}: tile_shape must be multiples of the coarsest stride {list(coarsest)}, "
                f"tile_overlap of twice that; got {list(self.tile_shape)} and {list(self.tile_overlap)}."
            )
        if any(not 0 <= o < t for o, t in zip(self.tile_overlap, self.tile_shape, strict=True)):
            raise ModelError(f"Model {self.name}: tile_overlap must be at least 0 and smaller than tile_shape.")
        if self.level_statistics is not None:
            got = [len(level.mean) for level in self.level_statistics]
            if got != self.architecture.level_channels:
                raise ModelError(f"Model {self.name}: level_statistics have {got} channels, the levels have others.")

    def to_json(self) -> str:
        """The text of ``config.json``."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: Path) -> "ModelConfig":
        """Read ``config.json``.

        :raises ModelError: if it is not JSON, has unknown or missing keys, or another format version.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModelError(f"{where}: not valid JSON ({error}); fetch or import the model again.") from error
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != FORMAT_VERSION:
            raise ModelError(f"{where}: format_version {version} is not {FORMAT_VERSION}; update Vox2Vec.")
        values["architecture"] = _strict(Architecture, values.get("architecture", {}), where)
        statistics = values.get("level_statistics")
        if isinstance(statistics, list):
            values["level_statistics"] = tuple(_strict(LevelStatistics, level, where) for level in statistics)
        return _strict(cls, values, where)


def _strict(cls: type[T], values: Any, where: Path) -> T:
    hints = get_type_hints(cls)
    if not isinstance(values, dict):
        raise ModelError(f"{where}: {values!r} is not a table of {', '.join(hints)}; fetch or import the model again.")
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ModelError(f"{where}: unknown keys {', '.join(unknown)}; this model needs a newer Vox2Vec.")
    try:
        for key, value in values.items():
            read = isinstance(value, (Architecture, tuple)) or (key == "training" and isinstance(value, dict))
            if not read:
                typed(value, hints[key], key)  # a check only: the hash of a model tells 1 from 1.0
        return cls(**{k: v if k == "training" else _tuples(v) for k, v in values.items()})
    except SettingsError as error:
        raise ModelError(f"{where}: {str(error).rstrip('.')}; fetch or import the model again.") from error
    except TypeError as error:
        raise ModelError(f"{where}: incomplete ({error}); fetch or import the model again.") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
