"""The network that a model directory describes: backbone, and the projection that its loss has seen, if any."""

from torch import Tensor, nn

from Vox2VecCore.backbone import FPN3d
from Vox2VecCore.config import Architecture
from Vox2VecCore.projection import LevelProjection


class EmbeddingNetwork(nn.Module):
    """Image to embedding levels.

    State dict keys are ``backbone.*`` (the published names) and, for models with a projection, ``projection.*``.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.backbone = FPN3d(
            architecture.in_channels,
            architecture.base_channels,
            architecture.num_scales,
            architecture.norm,
            architecture.strides,
            architecture.depth,
        )
        self.projection: LevelProjection | None = None
        if architecture.projection_channels is not None:
            self.projection = LevelProjection(self.backbone.channels, architecture.projection_channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Levels (batch, C_i, X_i, Y_i, Z_i), finest first, of images (batch, 1, X, Y, Z) scaled to [0, 1]."""
        levels = self.backbone(x)
        return levels if self.projection is None else self.projection(levels)
