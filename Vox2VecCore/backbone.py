"""The vox2vec backbone: a 3D feature pyramid network whose decoder levels are the voxel embedding.

Architecture and parameter names are those of the published code (Goncharov et al., MICCAI 2023; GitHub
mishgon/vox2vec), so that official state dicts load with strict keys. Group norm, pooling strides per
level and the number of blocks are options that the published network does not have.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from Vox2VecCore.config import Norm
from Vox2VecCore.shapes import ISOTROPIC, Strides, Triple, level_strides


def _norm(kind: Norm, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm3d(channels)
    if kind == "group":
        groups = next(n for n in range(min(8, channels), 0, -1) if channels % n == 0)
        return nn.GroupNorm(num_groups=groups, num_channels=channels)
    raise ValueError(f"norm is 'batch' or 'group', not {kind!r}")


class ResidualBlock(nn.Module):
    """Pre-activation residual block: norm, ReLU, conv, norm, ReLU, conv, plus the identity."""

    def __init__(self, channels: int, kernel_size: int = 3, norm: Norm = "batch") -> None:
        super().__init__()
        padding = kernel_size // 2
        self.layers = nn.Sequential(
            _norm(norm, channels),
            nn.ReLU(),
            nn.Conv3d(channels, channels, kernel_size, padding=padding),
            _norm(norm, channels),
            nn.ReLU(),
            nn.Conv3d(channels, channels, kernel_size, padding=padding),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ResidualStack(nn.Module):
    """Residual blocks in a row."""

    def __init__(self, channels: int, depth: int, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(ResidualBlock(channels, norm=norm) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def up_block(in_channels: int, out_channels: int, stride: Triple) -> nn.Sequential:
    """1x1x1 convolution, then nearest-neighbour upsampling by ``stride``."""
    scale = tuple(float(s) for s in stride)
    return nn.Sequential(nn.Conv3d(in_channels, out_channels, 1), nn.Upsample(scale_factor=scale, mode="nearest"))


def add_cropped(x: Tensor, skip: Tensor) -> Tensor:
    """``x`` cut to the size of ``skip`` (pooling rounds up, so upsampling may overshoot), plus ``skip``."""
    if x.shape != skip.shape:  # not left to slicing alone, which costs OpenVINO a copy even where nothing is cut
        depth, height, width = skip.shape[2:]
        x = x[:, :, :depth, :height, :width]
    return x + skip


class FPN3d(nn.Module):
    """Feature pyramid network of vox2vec (Goncharov et al. 2023, section 2.1).

    :param in_channels: channels of the input, 1 for CT.
    :param base_channels: channels of the finest level; level ``i`` has ``base_channels * 2**i``.
    :param num_scales: number of levels.
    :param norm: ``"batch"`` as published, or ``"group"``.
    :param strides: pooling factor (x, y, z) between neighbouring levels, ``num_scales - 1`` of them; two
        along every axis as published when left out.
    :param depth: residual blocks per level, two as published.
    """

    def __init__(
        self,
        in_channels: int = 1,
        base_channels: int = 16,
        num_scales: int = 6,
        norm: Norm = "batch",
        strides: Strides | None = None,
        depth: int = 2,
    ) -> None:
        super().__init__()
        steps = [ISOTROPIC] * (num_scales - 1) if strides is None else list(strides)
        if len(steps) != num_scales - 1:
            raise ValueError(f"{num_scales} scales need {num_scales - 1} strides, got {len(steps)}")
        widths = [base_channels * 2**i for i in range(num_scales)]

        self.channels = tuple(widths)
        self.first_conv = nn.Conv3d(in_channels, base_channels, 3, padding=1)
        self.left_blocks = nn.ModuleList(ResidualStack(c, depth, norm) for c in widths[:-1])
        self.down_blocks = nn.ModuleList(
            nn.Sequential(nn.MaxPool3d(stride, stride, ceil_mode=True), nn.Conv3d(c, 2 * c, 1))
            for c, stride in zip(widths[:-1], steps, strict=True)
        )
        self.bottom_block = ResidualStack(widths[-1], depth, norm)
        # Decoder lists run from the deepest level up, as in the published state dict.
        coarse_to_fine = list(zip(widths[-2::-1], steps[::-1], strict=True))
        self.up_blocks = nn.ModuleList(up_block(2 * c, c, stride) for c, stride in coarse_to_fine)
        self.skip_blocks = nn.ModuleList(nn.Conv3d(c, c, 1) for c, _ in coarse_to_fine)
        self.right_blocks = nn.ModuleList(ResidualStack(c, depth, norm) for c, _ in coarse_to_fine)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Pyramid of an image.

        :param x: (batch, in_channels, X, Y, Z), HU window scaled to [0, 1]; axes run to the patient's right,
            front and head (RAS).
        :return: levels, finest first: level ``i`` is (batch, base_channels * 2**i, ceil(X / stride_i), ...).
        """
        x = self.first_conv(x)
        skips = []
        for left, down in zip(self.left_blocks, self.down_blocks, strict=True):
            x = left(x)
            skips.append(x)
            x = down(x)
        x = self.bottom_block(x)
        pyramid = [x]
        for up, skip, right in zip(self.up_blocks, self.skip_blocks, self.right_blocks, strict=True):
            x = right(add_cropped(up(x), skip(skips.pop())))
            pyramid.append(x)
        return pyramid[::-1]


def gather_vectors(pyramid: Sequence[Tensor], voxels: Tensor, strides: Strides | None = None) -> Tensor:
    """Embedding vectors of voxels: every level read at ``voxel // stride``, concatenated finest first.

    :param pyramid: levels (C_i, X_i, Y_i, Z_i) of one image.
    :param voxels: (n, 3) integer voxel indices on the finest level.
    :param strides: strides between neighbouring levels, two along every axis when left out.
    :return: (n, sum of C_i).
    """
    steps = [ISOTROPIC] * (len(pyramid) - 1) if strides is None else strides
    columns = []
    for level, stride in zip(pyramid, level_strides(steps), strict=True):
        i, j, k = (voxels // torch.tensor(stride, device=voxels.device)).unbind(1)
        columns.append(level[:, i, j, k].T)
    return torch.cat(columns, dim=1)


def upsample_to(x: Tensor, like: Tensor, stride: Triple) -> Tensor:
    """Nearest-neighbour upsampling by ``stride``, cut to the size of ``like``."""
    x = F.interpolate(x, scale_factor=[float(s) for s in stride], mode="nearest")
    return x[:, :, : like.shape[2], : like.shape[3], : like.shape[4]]
