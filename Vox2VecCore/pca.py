"""Colours of an embedding: its three principal components as red, green and blue.

The components are found once, over body voxels of one or several scans, and stored. Scans coloured with the same
basis compare: the same colour is the same place in the embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from Vox2VecCore.errors import ModelError
from Vox2VecCore.paths import replace_file
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.separable import map_grid, map_smooth

FORMAT = "vox2vec-pca"
FORMAT_VERSION = "1"
SAMPLE_VOXELS = 20_000
COMPONENTS = 3
RANGE_PERCENT = (1.0, 99.0)
STAGE = "Colours"


@dataclass(frozen=True, eq=False)
class PcaBasis:
    """Three principal components of the concatenated unit vectors of a model, and the range that colours span.

    :param components: (C_l, 3) float32 a level, finest first; stacked, their columns are orthonormal.
    :param lowest: (3,) projection that is colour 0.
    :param highest: (3,) projection that is colour 255.
    :param explained: (3,) share of the variance that each component explains.
    :param model_hash: model that the vectors are from.
    """

    components: tuple[Tensor, ...]
    lowest: Tensor
    highest: Tensor
    explained: Tensor
    model_hash: str = field(repr=False)

    def save(self, path: Path) -> None:
        """Write a safetensors file; nothing half-written stays.

        :raises ModelError: if it cannot be written.
        """
        tensors = {f"components_{i}": matrix.contiguous() for i, matrix in enumerate(self.components)}
        tensors |= {"lowest": self.lowest, "highest": self.highest, "explained": self.explained}
        about = {"format": FORMAT, "format_version": FORMAT_VERSION, "model_hash": self.model_hash}
        try:
            with replace_file(path) as temporary:
                save_file(tensors, temporary, metadata=about)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: the colours cannot be written ({error}); check space and rights.") from error

    @classmethod
    def load(cls, path: Path) -> "PcaBasis":
        """Read what :meth:`save` wrote.

        :raises ModelError: if the file is missing, damaged, or something else.
        """
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: not a readable file of PCA colours ({error}).") from error
        if (about.get("format"), about.get("format_version")) != (FORMAT, FORMAT_VERSION):
            raise ModelError(f"{path}: not a file of PCA colours, or of another version of Vox2Vec.")
        try:
            lowest, highest, explained = (tensors.pop(name) for name in ("lowest", "highest", "explained"))
            components = tuple(tensors.pop(f"components_{i}") for i in range(len(tensors)))
            basis = cls(components, lowest, highest, explained, about["model_hash"])
        except KeyError as error:
            raise ModelError(f"{path}: damaged, {error} is missing; compute the colours again.") from error
        if any(part.shape[-1:] != (COMPONENTS,) for part in (*components, lowest, highest, explained)):
            raise ModelError(f"{path}: damaged, its tensors do not have {COMPONENTS} columns.")
        return basis


def fit_pca(pyramids: Sequence[FeaturePyramid], sample: int = SAMPLE_VOXELS, seed: int = 0) -> PcaBasis:
    """Principal components of the body voxels of scans, every level and every scan counting alike.

    The sign of a component is chosen so that its largest coefficient is positive; colours span the 1st to the 99th
    percentile of the sample.

    :param sample: voxels, in all.
    :raises ModelError: if there is no scan, the scans are embedded by different models, or they have no body.
    """
    if not pyramids:
        raise ModelError("PCA colours need at least one embedded scan.")
    for pyramid in pyramids:
        _check(pyramid, pyramids[0].model_hash)
    vectors = torch.cat([_sample(pyramid, -(-sample // len(pyramids)), seed) for pyramid in pyramids])
    if len(vectors) <= COMPONENTS:
        raise ModelError("PCA colours need scans with a body in them.")
    centred = vectors - vectors.mean(0)
    variance, directions = torch.linalg.eigh((centred.T @ centred).double() / (len(vectors) - 1))
    # From the largest variance down; a model with fewer channels than colours leaves the last ones dark.
    basis = torch.zeros(vectors.shape[1], COMPONENTS)
    top = directions.flip(1)[:, :COMPONENTS].float()
    basis[:, : top.shape[1]] = top * torch.gather(top, 0, top.abs().argmax(0, keepdim=True)).sign()
    explained = torch.zeros(COMPONENTS)
    explained[: top.shape[1]] = variance.flip(0)[:COMPONENTS] / variance.sum().clamp_min(1e-12)
    lowest, highest = np.percentile((vectors @ basis).numpy(), RANGE_PERCENT, axis=0).astype(np.float32)
    return PcaBasis(
        basis.split([level.channels for level in pyramids[0].levels]),
        torch.from_numpy(lowest),
        torch.from_numpy(highest),
        explained,
        pyramids[0].model_hash,
    )


def _sample(pyramid: FeaturePyramid, count: int, seed: int) -> Tensor:
    voxels = pyramid.body_voxels(count, seed)
    return torch.from_numpy(np.concatenate([level.unit_vectors(voxels) for level in pyramid.levels], axis=1))


def pca_colours(
    pyramid: FeaturePyramid, basis: PcaBasis, progress: Progress | None = None, *, smooth: bool = False
) -> NDArray[np.uint8]:
    """Colour of every voxel of the grid: (X, Y, Z, 3) red, green, blue; black outside the body.

    :param smooth: interpolate the coarse levels, for pictures; otherwise colours show their blocks, as the
        embedding has them.
    :raises ModelError: if the basis is from another model.
    :raises Cancelled: when ``progress`` says so.
    """
    _check(pyramid, basis.model_hash)
    out = torch.empty(*pyramid.grid.shape, COMPONENTS, dtype=torch.uint8)
    body = torch.from_numpy(pyramid.body)[..., None]
    if smooth:
        return (_colours(map_smooth(pyramid, basis.components), basis) * body).numpy()

    def use(x: int, slab: Tensor) -> None:
        planes = slice(x, x + slab.shape[1])
        out[planes] = _colours(slab, basis) * body[planes]

    map_grid(pyramid, list(basis.components), use, STAGE, progress)
    return out.numpy()


def _colours(projections: Tensor, basis: PcaBasis) -> Tensor:
    """Projections (3, ...) to colours (..., 3)."""
    scale = 255 / (basis.highest - basis.lowest).clamp_min(1e-6)
    return projections.movedim(0, -1).sub(basis.lowest).mul_(scale).round_().clamp_(0, 255).to(torch.uint8)


def _check(pyramid: FeaturePyramid, model_hash: str) -> None:
    if pyramid.model_hash != model_hash:
        raise ModelError("PCA colours compare only scans embedded by one model; fit them again with this model.")
