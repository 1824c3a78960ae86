"""Small models with random weights."""

from pathlib import Path

import torch

from Vox2VecCore.config import Architecture, LevelStatistics, ModelConfig
from Vox2VecCore.model import Model, save_model
from Vox2VecCore.network import EmbeddingNetwork


def random_network(architecture: Architecture, seed: int = 0) -> EmbeddingNetwork:
    """Random weights, with batch-norm statistics that are not the identity."""
    torch.manual_seed(seed)
    network = EmbeddingNetwork(architecture).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return network


def random_model(
    folder: Path,
    *,
    base_channels: int = 2,
    num_scales: int = 3,
    projection_channels: int | None = None,
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0),
    tile_shape: tuple[int, int, int] = (32, 32, 32),
    tile_overlap: tuple[int, int, int] = (0, 0, 0),
    statistics: bool = False,
    name: str = "random",
) -> Model:
    """A model directory of a tiny random network."""
    architecture = Architecture(
        base_channels=base_channels, num_scales=num_scales, projection_channels=projection_channels
    )
    levels = None
    if statistics:
        generator = torch.Generator().manual_seed(1)
        levels = tuple(
            LevelStatistics(
                tuple(torch.randn(c, generator=generator).tolist()),
                tuple((0.5 + torch.rand(c, generator=generator)).tolist()),
            )
            for c in architecture.level_channels
        )
    config = ModelConfig(
        name=name,
        architecture=architecture,
        spacing_mm=spacing_mm,
        patch_shape=tile_shape,
        tile_shape=tile_shape,
        tile_overlap=tile_overlap,
        weights_sha256="",
        level_statistics=levels,
    )
    return save_model(random_network(architecture), config, folder / name)
