"""A trained head and its file: one safetensors file with everything needed to use and to extend it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.errors import HeadError, ModelError
from Vox2VecCore.fewshot.classes import HeadClass
from Vox2VecCore.fewshot.examples import Examples
from Vox2VecCore.fewshot.fitting import LinearMaps
from Vox2VecCore.paths import replace_file
from Vox2VecCore.pyramid import FeaturePyramid

FORMAT_VERSION = 1
METADATA = "vox2vec_head"
SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class Head:
    """What was learnt from strokes.

    :param classes: background included; in the order of the logits.
    :param maps: from a voxel's vectors to logits.
    :param examples: what it was learnt from, so that strokes in further scans add to it.
    :param method: ``"prototype"``, ``"ridge"``, ``"logistic"`` or ``"mlp"``.
    :param model_name: of the embedding, for people.
    :param model_hash: of the embedding; a head reads no other.
    :param note: why this method.
    """

    classes: tuple[HeadClass, ...]
    maps: LinearMaps
    examples: Examples
    method: str
    model_name: str
    model_hash: str
    note: str = field(default="")

    @property
    def structures(self) -> tuple[HeadClass, ...]:
        """Classes without the background."""
        return tuple(each for each in self.classes if not each.background)

    @property
    def background(self) -> int | None:
        """Place of the background among the classes, and so among the logits; ``None`` without one."""
        return next((n for n, each in enumerate(self.classes) if each.background), None)

    @property
    def scans(self) -> tuple[str, ...]:
        """Names of the scans that it was learnt from."""
        return self.examples.scans

    @property
    def needs_ct(self) -> bool:
        """Whether it reads the CT itself besides the embedding."""
        return self.examples.has_intensity

    @property
    def voxels(self) -> dict[int, int]:
        """Labelled voxels of every class value."""
        values, counts = np.unique(self.examples.values[self.examples.labelled], return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))

    def summary(self) -> str:
        """One line for people: method, classes, voxels, scans."""
        names = ", ".join(each.name for each in self.structures)
        scans = f"{len(self.scans)} scan" + ("s" if len(self.scans) != 1 else "")
        return f"{names}: {self.method} from {sum(self.voxels.values())} voxels of {scans}, model {self.model_name}"

    def check_fits(self, pyramid: FeaturePyramid, has_ct: bool) -> None:
        """Whether it can be used on a scan.

        :raises ModelError: if the scan was embedded by another model.
        :raises HeadError: if the head reads the CT and it is not there.
        """
        if pyramid.model_hash != self.model_hash:
            raise ModelError(
                f"This head was trained on embeddings of model {self.model_name} (hash {self.model_hash[:8]}), the "
                f"scan is embedded by {pyramid.model_name} ({pyramid.model_hash[:8]}); use the same model for both."
            )
        if self.needs_ct and not has_ct:
            raise HeadError("This head reads the CT itself besides its embedding; give the CT volume as well.")

    def save(self, path: str | Path) -> None:
        """Write the head; the file appears complete or not at all.

        :raises HeadError: if it cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        path = Path(path)
        maps, examples = self.maps, self.examples
        tensors = {
            "weight": maps.weight,
            "bias": maps.bias,
            "vectors": examples.vectors.astype(np.float16),
            "values": examples.values,
            "strokes": examples.strokes,
            "weights": examples.weights,
        }
        if maps.out is not None and maps.out_bias is not None:
            tensors |= {"out": maps.out, "out_bias": maps.out_bias}
        described = {
            "format_version": FORMAT_VERSION,
            "method": self.method,
            "note": self.note,
            "model_name": self.model_name,
            "model_hash": self.model_hash,
            "has_intensity": examples.has_intensity,
            "scans": examples.scans,
            "classes": [asdict(each) for each in self.classes],
        }
        try:
            with replace_file(path) as temporary:
                contiguous = {name: np.ascontiguousarray(each) for name, each in tensors.items()}
                save_file(contiguous, temporary, {METADATA: json.dumps(described)})
                temporary.chmod(0o644)  # safetensors keeps files to their owner
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise HeadError(
                f"{path}: the head cannot be written ({reason}); check folder, space and rights."
            ) from error

    @classmethod
    def load(cls, path: str | Path) -> "Head":
        """Read a head file.

        :raises ModelError: if it is missing, damaged, no head, or of another version.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        try:
            with safe_open(path, "np") as file:
                text = (file.metadata() or {}).get(METADATA)
                if text is None:
                    raise ModelError(f"{path}: is no head; 'vox2vec head train' makes one.")
                described = json.loads(text)
                if described.get("format_version") != FORMAT_VERSION:
                    version = described.get("format_version")
                    raise ModelError(f"{path}: head of format {version}, not {FORMAT_VERSION}; update Vox2Vec.")
                return _head(described, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except FileNotFoundError as error:
            raise ModelError(f"{path}: there is no such file.") from error
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path}: no readable head ({error}); copy it again or train it again.") from error


def _head(described: dict[str, Any], tensors: dict[str, NDArray]) -> Head:
    classes = tuple(HeadClass(**(each | {"colour": _colour(each["colour"])})) for each in described["classes"])
    maps = LinearMaps(tensors["weight"], tensors["bias"], tensors.get("out"), tensors.get("out_bias"))
    logits = len(maps.bias) if maps.out_bias is None else len(maps.out_bias)
    if logits != len(classes) or maps.weight.shape != (tensors["vectors"].shape[1], len(maps.bias)):
        raise ValueError("its parts do not fit together")
    examples = Examples(
        tensors["vectors"].astype(np.float32),
        tensors["values"],
        tensors["strokes"],
        tensors["weights"],
        bool(described["has_intensity"]),
        tuple(described["scans"]),
    )
    return Head(
        classes,
        maps,
        examples,
        described["method"],
        described["model_name"],
        described["model_hash"],
        described["note"],
    )


def _colour(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
