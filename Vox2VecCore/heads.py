"""The two published segmentation heads on a vox2vec pyramid, with the published parameter names."""

from collections.abc import Sequence

from torch import Tensor, nn

from Vox2VecCore.backbone import ResidualBlock, add_cropped, up_block, upsample_to
from Vox2VecCore.config import Norm
from Vox2VecCore.shapes import ISOTROPIC, Strides


def _steps(num_scales: int, strides: Strides | None) -> list[tuple[int, int, int]]:
    return [ISOTROPIC] * (num_scales - 1) if strides is None else list(strides)


class LinearHead(nn.Module):
    """A linear map on the concatenated voxel vector (linear probing; Goncharov et al. 2023, section 2.4).

    One 1x1x1 convolution per level; coarse logits are upsampled (nearest) and added, which equals one linear
    map on the vector of every voxel without ever building it.
    """

    def __init__(self, base_channels: int, num_scales: int, num_classes: int, strides: Strides | None = None) -> None:
        super().__init__()
        self.strides = _steps(num_scales, strides)
        self.layers = nn.ModuleList(
            nn.Conv3d(base_channels * 2**i, num_classes, 1, bias=i == 0) for i in range(num_scales)
        )

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Logits (batch, num_classes, X, Y, Z) from the levels of :class:`~Vox2VecCore.backbone.FPN3d`."""
        logits = self.layers[-1](pyramid[-1])
        for layer, level, stride in zip(self.layers[-2::-1], pyramid[-2::-1], self.strides[::-1], strict=True):
            logits = layer(level) + upsample_to(logits, level, stride)
        return logits


class NonLinearHead(nn.Module):
    """A voxel-wise multilayer perceptron on the pyramid (non-linear probing; Goncharov et al. 2023, section 2.4).

    The decoder of :class:`~Vox2VecCore.backbone.FPN3d` with 1x1x1 convolutions only.
    """

    def __init__(
        self,
        base_channels: int,
        num_scales: int,
        num_classes: int,
        norm: Norm = "batch",
        strides: Strides | None = None,
    ) -> None:
        super().__init__()
        widths = [base_channels * 2**i for i in range(num_scales)]
        coarse_to_fine = list(zip(widths[-2::-1], _steps(num_scales, strides)[::-1], strict=True))
        self.bottom_block = ResidualBlock(widths[-1], kernel_size=1, norm=norm)
        self.up_blocks = nn.ModuleList(up_block(2 * c, c, stride) for c, stride in coarse_to_fine)
        self.skip_blocks = nn.ModuleList(nn.Conv3d(c, c, 1) for c, _ in coarse_to_fine)
        self.right_blocks = nn.ModuleList(ResidualBlock(c, kernel_size=1, norm=norm) for c, _ in coarse_to_fine)
        self.final_block = nn.Conv3d(base_channels, num_classes, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Logits (batch, num_classes, X, Y, Z) from the levels of :class:`~Vox2VecCore.backbone.FPN3d`."""
        x = self.bottom_block(pyramid[-1])
        decoder = zip(self.up_blocks, self.skip_blocks, self.right_blocks, pyramid[-2::-1], strict=True)
        for up, skip, right, level in decoder:
            x = right(add_cropped(up(x), skip(level)))
        return self.final_block(x)
