"""The residual block of 2D networks that look at every slice alone."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al., figure 2); it starts as the shortcut.

    Args:
        before: channels in.
        after: channels out.
        stride: of the first convolution and of the shortcut.
        build_norm: channels -> what stands behind a convolution.

    Shape:
        (N, before, H, W) -> (N, after, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        before: int,
        after: int,
        stride: int,
        build_norm: Callable[[int], nn.BatchNorm2d | nn.GroupNorm],
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = build_norm(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = build_norm(after)
        # A block that starts as its shortcut lets a deep net learn from a few hundred scans.
        nn.init.zeros_(self.norm2.weight)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), build_norm(after)
            )

    def forward(self, maps: Float[Tensor, "n before h w"]) -> Float[Tensor, "n after h2 w2"]:
        """Returns the block's maps."""
        inner = functional.relu(self.norm1(self.conv1(maps)))
        return functional.relu(self.shortcut(maps) + self.norm2(self.conv2(inner)))
