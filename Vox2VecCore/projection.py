"""The per-level projection whose unit vectors are the space that the contrastive loss has seen."""

from collections.abc import Sequence

from torch import Tensor, nn


class LevelProjection(nn.Module):
    """A voxel-wise two-layer perceptron for every level of the pyramid.

    The published projector reads the concatenation of all levels, so its space exists only for vectors that
    were built voxel by voxel. One projector per level keeps similarity a sum over levels that are each
    computed and cached at their own resolution.

    :param level_channels: channels of the backbone's levels, finest first.
    :param out_channels: channels of every projected level.
    """

    def __init__(self, level_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(channels, hidden, 1),
                nn.BatchNorm3d(hidden),
                nn.ReLU(),
                nn.Conv3d(hidden, out_channels, 1),
            )
            for channels in level_channels
            for hidden in (max(channels, 2 * out_channels),)
        )

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Projected levels (batch, out_channels, X_i, Y_i, Z_i), not normalised, from the backbone's levels."""
        return [layer(level) for layer, level in zip(self.layers, pyramid, strict=True)]
