"""The temporal transition layer of T3D: slices mixed over several depths side by side.

A transition of DenseNet has one convolution of a single voxel. Here three stand beside each other,
over 1, 3 and 4 (or 6) frames, and their maps are concatenated: what changes from slice to slice and
what changes over half a scan are seen at once, before the grid is halved.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.layers.normalization import NORMS

Maps = Float[Tensor, "batch channels t h w"]
Mask = Bool[Tensor, "batch t"]
Depths = tuple[int, int, int]
Reading = Literal["A", "B", "C", "D"]

SPATIAL = (1, 3, 3)
"""Rows and columns of the three branches' kernels: the shallowest looks at one position."""


class TemporalTransition(nn.Module):
    """Three branches of norm, ReLU and convolution over different depths, concatenated.

    Every branch has a norm of its own. T, H and W stay as they are: a kernel of depth d has zeros
    (d - 1) // 2 before a clip and the rest behind it, so that an even one looks further ahead than
    back (TensorFlow's SAME). The paper gives no channels; `reading` says which of the four ways to
    fill the gap is taken:

    * `A`: `branch` channels each, and nothing behind them (the paper's figure; 128 channels in the
      authors' code);
    * `B`: A, then norm, ReLU and a convolution of one voxel that keeps the channels (the authors'
      code, which was withdrawn and never ran);
    * `C`: B that halves the channels, as DenseNet's transition does;
    * `D`: the branches share half of the channels that come in, so that the network is as wide as
      DenseNet.

    Args:
        channels: that come in.
        branch: channels of a branch; `D` does not look at it.
        depths: frames that the three kernels span.
        norm: a name of `NORMS`.
        reading: `A`, `B`, `C` or `D`.

    Shape:
        - maps: (B, channels, T, H, W), mask: (B, T); False marks padding.
        - output: (B, out_channels, T, H, W); padding frames mean nothing.

    References:
        Diba, Fayyaz et al., Temporal 3D ConvNets, arXiv 1711.08200, section 3.1, figure 2.
    """

    def __init__(
        self, channels: int, branch: int, depths: Depths, norm: str, reading: Reading = "A"
    ) -> None:
        super().__init__()
        if reading == "D":
            branch = max(channels // 2 // len(depths), 1)
        self.depths = depths
        self.norms = nn.ModuleList(NORMS[norm](channels) for _ in depths)
        self.convs = nn.ModuleList(
            nn.Conv3d(
                channels, branch, (depth, side, side), padding=(0, side // 2, side // 2), bias=False
            )
            for depth, side in zip(depths, SPATIAL, strict=True)
        )
        self.out_channels = len(depths) * branch
        self.mix: nn.ModuleDict | None = None
        if reading in ("B", "C"):
            joined = self.out_channels
            self.out_channels = joined if reading == "B" else joined // 2
            self.mix = nn.ModuleDict(
                {
                    "norm": NORMS[norm](joined),
                    "conv": nn.Conv3d(joined, self.out_channels, 1, bias=False),
                }
            )

    def forward(
        self, maps: Maps, mask: Mask | None = None
    ) -> Float[Tensor, "batch out_channels t h w"]:
        """Returns the branches' maps side by side."""
        branches = []
        for norm, conv, depth in zip(self.norms, self.convs, self.depths, strict=True):
            seen = functional.relu(norm(maps, mask), inplace=True)
            branches.append(conv(_pad_frames(seen, depth)))
        joined = torch.cat(branches, dim=1)
        if self.mix is None:
            return joined
        return self.mix["conv"](functional.relu(self.mix["norm"](joined, mask), inplace=True))


def _pad_frames(maps: Maps, depth: int) -> Float[Tensor, "batch channels t2 h w"]:
    """Pads T with zeros for a kernel of `depth` frames that keeps T."""
    before = (depth - 1) // 2
    return functional.pad(maps, (0, 0, 0, 0, before, depth - 1 - before)) if depth > 1 else maps
