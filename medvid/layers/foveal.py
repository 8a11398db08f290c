"""The layers of Karpathy et al., CVPR 2014: AlexNet with smaller steps, in one or two streams.

`medvid.models.karpathy` makes four networks of them. The whole frame, or two halves of its pixels:
its context at half the resolution, and its fovea, the middle at full resolution.
"""

import math
from itertools import count
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import ConfigError
from medvid.layers.clips import Size
from medvid.layers.normalization import NORMS, zero_padding

Layers = tuple[int, int, int, int, int]
"""A number for each of conv1 to conv5."""

PAPER_SIDE = 170
"""Rows and columns of the paper's random crops; for two streams 178, which gives the same grid."""

PLANAR: Layers = (1, 1, 1, 1, 1)
"""The same of kernels that see one frame."""

STEMS = {"paper": (11, 3, True), "small": (5, 1, False)}
"""Kernel and stride of conv1, and whether pool1 is there. `small` is for patches: 28 pixels stay 28
and reach fc6 as the paper's 7 x 7; a kernel of 11 would see a third of such a patch at once."""

KERNELS = (5, 3, 3, 3)
"""Rows and columns of conv2 to conv5."""

THIRDS = (3, 8, 12, 12, 8, 128)
"""Channels of conv1 to conv5 and units of fc6 and fc7 where conv1 has 3: 96, 256, 384, 384, 256 and
4,096 at the paper's width of 96."""

LRN_SIZE, LRN_ALPHA, LRN_BETA, LRN_K = 5, 1e-4, 0.5, 2.0
"""k + alpha * (sum over 5 channels), to the power beta: alpha is not divided by 5, as in the text
of AlexNet; torch divides."""

StreamsName = Literal["single", "multiresolution", "fovea", "context"]
NormName = Literal["lrn", "none", "batch", "group", "instance"]
StemName = Literal["paper", "small"]
HeadName = Literal["paper", "pool"]
InitName = Literal["paper", "he"]

Clips = Float[Tensor, "batch channels t h w"]
Mask = Bool[Tensor, "batch t"]


class Streams(nn.Module):
    """What fc6 sees: the last maps of the whole frame, of its context, its fovea, or of the last.

    Args:
        in_channels: of the clips.
        width: channels of conv1.
        clip_size: (T, H, W) that the grid is made for; others are averaged to it.
        streams: `single`, `multiresolution`, `fovea` or `context`.
        norm: as in the models.
        stem: a name of `STEMS`.
        head: `paper` keeps the grid, `pool` its mean.
        depths: frames that the kernels of conv1 to conv5 span.
        steps: frames that they move on by.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        clip_size: Size | None,
        streams: StreamsName,
        norm: NormName,
        stem: StemName,
        head: HeadName,
        depths: Layers = PLANAR,
        steps: Layers = PLANAR,
    ) -> None:
        super().__init__()
        if width % 3 or width < 3:
            raise ConfigError(
                f"The networks of Karpathy et al. need a width in multiples of 3, as conv2 has 8/3 "
                f"of it; it is {width}.",
                code="width_of_three",
            )
        names = {"single": ["whole"], "multiresolution": ["context", "fovea"]}
        self.trunks = nn.ModuleDict(
            {
                name: Trunk(in_channels, width, norm, stem, depths, steps, pool5=name == "whole")
                for name in names.get(streams, [streams])
            }
        )
        _, high, wide = clip_size or (0, PAPER_SIDE, PAPER_SIDE)
        grid = [shrink_side(side, stem, streams) for side in (high, wide)]
        self.grid = (1, 1) if head == "pool" else (grid[0], grid[1])
        self.features = len(self.trunks) * width // 3 * THIRDS[4] * self.grid[0] * self.grid[1]

    def forward(
        self, clips: Clips, mask: Mask | None
    ) -> tuple[Float[Tensor, "batch t2 features"], Bool[Tensor, "batch t2"] | None]:
        """Returns a vector for every frame that is left, and which of them are not padding."""
        frames, left = [], mask
        for name, trunk in self.trunks.items():
            maps, left = trunk(cut_stream(clips, name), mask)
            maps = functional.adaptive_avg_pool3d(maps, (maps.shape[2], *self.grid))
            frames.append(rearrange(maps, "b c t h w -> b t (c h w)"))
        return torch.cat(frames, dim=2), left


class Trunk(nn.Module):
    """conv1 to conv5 with ReLU, normalisation and maxima over 2 x 2 pixels.

    Args:
        in_channels: of the clips.
        width: channels of conv1.
        norm: `lrn` behind conv1 and conv2, or a name of `NORMS` behind every convolution.
        stem: a name of `STEMS`.
        depths: frames that the kernels span.
        steps: frames that they move on by.
        pool5: whether conv5 is followed by a maximum; with two streams it is not.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        norm: NormName,
        stem: StemName,
        depths: Layers,
        steps: Layers,
        pool5: bool,
    ) -> None:
        super().__init__()
        kernel, stride, pool1 = STEMS[stem]
        self.depths, self.steps = depths, steps
        self.pools = (pool1, True, False, False, pool5)
        self.convs = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        for i, (side, depth, step) in enumerate(
            zip((kernel, *KERNELS), depths, steps, strict=True)
        ):
            channels, across = width // 3 * THIRDS[i], 1 if i else stride
            self.convs[f"conv{i + 1}"] = nn.Conv3d(
                in_channels,
                channels,
                (depth, side, side),
                (step, across, across),
                (0, side // 2, side // 2),
                bias=norm in ("lrn", "none"),  # the other normalisations have their own
            )
            self.norms[f"conv{i + 1}"] = NORMS["none" if norm == "lrn" else norm](channels)
            in_channels = channels
        # torch divides alpha by the number of channels.
        self.response = (
            nn.LocalResponseNorm(LRN_SIZE, LRN_SIZE * LRN_ALPHA, LRN_BETA, LRN_K)
            if norm == "lrn"
            else None
        )

    def forward(
        self, clips: Clips, mask: Mask | None
    ) -> tuple[Float[Tensor, "batch maps t2 h2 w2"], Bool[Tensor, "batch t2"] | None]:
        """Returns the last maps, and which of their frames are not padding."""
        maps = zero_padding(clips, mask)
        for i, (name, conv) in enumerate(self.convs.items()):
            beyond = measure_overhang(maps.shape[2], self.depths[i], self.steps[i])
            if beyond:
                maps = functional.pad(maps, (0, 0, 0, 0, 0, beyond))
            mask = fuse_mask(mask, self.depths[i], self.steps[i])
            maps = functional.relu(self.norms[name](conv(maps), mask), inplace=True)
            if self.response is not None and i < 2:
                maps = self.response(maps)
            if self.pools[i]:
                maps = functional.max_pool3d(maps, (1, 2, 2))
        return maps, mask


class Head(nn.Module):
    """fc6, fc7, fc8 with ReLU and dropout between.

    Args:
        features: that fc6 sees.
        width: of conv1.
        num_classes: logits.
        dropout: before fc7 and before fc8.
    """

    def __init__(self, features: int, width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        hidden = width // 3 * THIRDS[5]
        self.fc6 = nn.Linear(features, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, num_classes)
        self.dropout = nn.Dropout(dropout)

    def describe(self, seen: Float[Tensor, "n features"]) -> Float[Tensor, "n hidden"]:
        """Returns fc7 after ReLU."""
        return functional.relu(self.fc7(self.dropout(functional.relu(self.fc6(seen)))))

    def forward(self, features: Float[Tensor, "n hidden"]) -> Float[Tensor, "n classes"]:
        """Returns the logits."""
        return self.fc8(self.dropout(features))


def cut_stream(clips: Clips, stream: str) -> Float[Tensor, "batch channels t high wide"]:
    """Returns the `whole` frames, their `fovea` or their `context`, both of half the size.

    The fovea is the middle at full resolution, the context the mean over 2 x 2 pixels.
    """
    if stream == "whole":
        return clips
    if stream == "context":
        return functional.avg_pool3d(clips, (1, 2, 2))
    high, wide = clips.shape[3] // 2, clips.shape[4] // 2
    top, left = (clips.shape[3] - high) // 2, (clips.shape[4] - wide) // 2
    return clips[:, :, :, top : top + high, left : left + wide]


def shrink_side(side: int, stem: StemName, streams: StreamsName) -> int:
    """Returns the rows that the last maps have of `side` rows."""
    _, stride, pool1 = STEMS[stem]
    # A stream has half the pixels and one maximum less.
    halved = side if streams == "single" else side // 2
    pools = 1 + pool1 + (streams == "single")
    return math.ceil(halved / stride) // 2**pools


def find_smallest_side(stem: StemName, streams: StreamsName) -> int:
    """Returns the fewest rows of which the last maps have one."""
    return next(side for side in count(1) if shrink_side(side, stem, streams))


def measure_overhang(frames: int, depth: int, step: int) -> int:
    """Returns the zeros behind the last frame with which kernels of `depth` reach all frames."""
    windows = max(math.ceil((frames - depth) / step), 0) + 1
    return (windows - 1) * step + depth - frames


def fuse_mask(mask: Mask | None, depth: int, step: int) -> Bool[Tensor, "batch t2"] | None:
    """Returns the mask behind kernels that span `depth` frames and move on by `step`.

    A window counts where it brings a frame that no window before it held: as many windows as the
    clip alone would have.
    """
    if mask is None or depth == 1:
        return mask
    overlap = depth - step
    if mask.shape[1] <= overlap:
        return mask.any(dim=1, keepdim=True)
    fresh = functional.max_pool1d(mask[:, overlap:].float(), step, step, ceil_mode=True).bool()
    first = fresh[:, :1] | mask[:, :overlap].any(dim=1, keepdim=True)
    return torch.cat([first, fresh[:, 1:]], dim=1)


def initialize_streams(model: nn.Module, init: InitName) -> None:
    """Fills convolutions and linear layers AlexNet's way (gaussian .01) or He's."""
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Conv3d | nn.Linear):
            continue
        if init == "he":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        else:
            nn.init.normal_(layer.weight, std=0.01)
        if layer.bias is not None:
            ones = name.rpartition(".")[2] in ("conv2", "conv4", "conv5", "fc6", "fc7")
            nn.init.constant_(layer.bias, float(ones and init == "paper"))
