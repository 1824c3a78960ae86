"""Official vox2vec checkpoints (plain PyTorch state dicts) into model directories."""

import re
from pathlib import Path

import torch
from torch import Tensor

from Vox2VecCore.config import Architecture, ModelConfig
from Vox2VecCore.errors import ModelError
from Vox2VecCore.model import Model, load_strictly, save_model
from Vox2VecCore.network import EmbeddingNetwork
from Vox2VecCore.shapes import ceil_divide, triple

OFFICIAL_SPACING_MM = (1.0, 1.0, 2.0)
OFFICIAL_PATCH = (128, 128, 32)
OFFICIAL_TILE = (192, 192, 32)
"""Larger than the patch in plane, where the weights are trained for any size, instead of overlap: with the shipped
model, tiles larger than its patch matched as well as half-overlapping ones at a third of the arithmetic
(Testing/benchmarks/tile_overlap.py). The depth is the patch's."""
OFFICIAL_OVERLAP = (0, 0, 0)
CITATION = "Goncharov et al., vox2vec, MICCAI 2023"


def import_official(
    checkpoint: Path, directory: Path, *, name: str | None = None, licence: str = "unknown", source: str | None = None
) -> Model:
    """Turn an official checkpoint into a model directory.

    Base channels, scales and depth are inferred. Kernel planes that patches of the published depth (32 slices)
    never touch are set to zero: training left them at their random start, and with them at zero the outputs at
    that depth stay the same while deeper tiles are not fed noise.

    :param checkpoint: ``.pt`` file with the backbone's state dict; read with ``weights_only``, so no code in it runs.
    :param source: where the checkpoint is from, for the model card; its file name when left out.
    :raises ModelError: if the file is not such a checkpoint or the directory exists.
    """
    tensors = _read_state_dict(checkpoint)
    architecture = infer_architecture(tensors, checkpoint)
    strides = architecture.level_strides
    cells = ceil_divide(OFFICIAL_TILE, strides[-1])
    tile = triple(n * s for n, s in zip(cells, strides[-1], strict=True))
    network = EmbeddingNetwork(architecture)
    load_strictly(network, {f"backbone.{key}": value for key, value in tensors.items()}, checkpoint)
    zeroed = zero_untrained_planes(network, depths=[-(-OFFICIAL_PATCH[2] // stride[2]) for stride in strides])
    config = ModelConfig(
        name=name or directory.name,
        architecture=architecture,
        spacing_mm=OFFICIAL_SPACING_MM,
        patch_shape=OFFICIAL_PATCH,
        tile_shape=tile,
        tile_overlap=OFFICIAL_OVERLAP,
        weights_sha256="",
        licence=licence,
        training={"imported_from": source or checkpoint.name, "zeroed_parameters": zeroed, "citation": CITATION},
    )
    return save_model(network, config, directory, card=_card(config))


def infer_architecture(tensors: dict[str, Tensor], where: Path) -> Architecture:
    """Architecture of an official state dict, from its names and shapes."""
    first = tensors.get("first_conv.weight")
    lefts = {int(m[1]): 0 for key in tensors if (m := re.match(r"left_blocks\.(\d+)\.", key))}
    blocks = {int(m[1]) for key in tensors if (m := re.match(r"bottom_block\.layers\.(\d+)\.", key))}
    if first is None or first.ndim != 5 or not lefts or not blocks:
        raise ModelError(f"{where}: not a vox2vec backbone (no first_conv, left_blocks and bottom_block tensors).")
    return Architecture(
        in_channels=first.shape[1], base_channels=first.shape[0], num_scales=len(lefts) + 1, depth=len(blocks)
    )


@torch.no_grad()
def zero_untrained_planes(network: EmbeddingNetwork, depths: list[int]) -> int:
    """Zero the outer kernel planes of 3x3x3 convolutions whose feature map was one slice deep in training.

    On a map of depth one these planes only ever met zero padding, so their gradient was exactly zero.

    :param depths: depth in slices of every level's map, finest first, for the trained patch.
    :return: how many parameters were set to zero.
    """
    backbone, scales = network.backbone, len(depths)
    stacks = [*backbone.left_blocks, backbone.bottom_block]
    by_level = [[stack] for stack in stacks]
    for level, stack in zip(range(scales - 2, -1, -1), backbone.right_blocks, strict=True):
        by_level[level].append(stack)
    zeroed = 0
    for depth, level_stacks in zip(depths, by_level, strict=True):
        if depth > 1:
            continue
        for stack in level_stacks:
            for module in stack.modules():
                if isinstance(module, torch.nn.Conv3d) and module.kernel_size[2] == 3:
                    module.weight[..., [0, 2]] = 0
                    zeroed += module.weight[..., [0, 2]].numel()
    return zeroed


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such checkpoint.") from error
    except Exception as error:  # of damaged pickles PyTorch raises whatever comes up (measured)
        raise ModelError(f"{path}: not a PyTorch file of plain tensors, or damaged; nothing was imported.") from error
    pairs = content.items() if isinstance(content, dict) else [(None, None)]
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in pairs):
        raise ModelError(f"{path}: expected a state dict (names to tensors) of the vox2vec backbone.")
    return content


def _card(config: ModelConfig) -> str:
    return (
        f"# {config.name}\n\n"
        f"vox2vec backbone imported from {config.training['imported_from']}; licence: {config.licence}.\n\n"
        f"- Method: {CITATION} (GitHub mishgon/vox2vec).\n"
        f"- Grid: {' x '.join(f'{s:g}' for s in config.spacing_mm)} mm, HU window "
        f"{config.window_hu[0]:g} to {config.window_hu[1]:g}, axes right, front, head.\n"
        f"- {config.training['zeroed_parameters']:,} kernel weights that depth-{OFFICIAL_PATCH[2]} training never "
        "touched are zero.\n- Research software; not a diagnostic device.\n"
    )
