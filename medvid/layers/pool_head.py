"""The end of a stack of 3D convolutions that takes clips of any size."""

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medvid.layers.pooling import MeanPool

Mask = Bool[Tensor, "batch t"]


class PoolHead(nn.Module):
    """The mean over rows, columns and the frames that are not padding, and a linear layer.

    Args:
        channels: of the maps.
        num_classes: logits.
        dropout: on the mean.
    """

    def __init__(self, channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.pool = MeanPool()
        self.dropout = nn.Dropout(dropout)
        self.fc8 = nn.Linear(channels, num_classes)

    def describe(
        self, maps: Float[Tensor, "batch maps t h w"], mask: Mask | None
    ) -> Float[Tensor, "batch maps"]:
        """Returns the mean."""
        return self.pool(rearrange(maps.mean(dim=(3, 4)), "b c t -> b t c"), mask)

    def forward(self, features: Float[Tensor, "batch maps"]) -> Float[Tensor, "batch classes"]:
        """Returns the logits."""
        return self.fc8(self.dropout(features))
