"""DenseNet3D: Diba, Fayyaz et al., Temporal 3D ConvNets, 2017: DenseNet with 3D kernels.

The network that the paper compares its T3D with, and T3D's own trunk: a stem, dense blocks, and a
transition with a halving of the grid between two blocks. `medvid.models.t3d` builds on it with
another transition. Names of weights are those of torchvision's DenseNet, below `trunk`.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, Protocol, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from medvid.layers.anisotropy import Stage, describe_mixing, plan_stages
from medvid.layers.clips import AtLeastOne, Size, bring_forward, check_clips, refuse_small_size
from medvid.layers.normalization import NORMS, pool_mask, zero_padding
from medvid.layers.pooling import MeanPool

PAPER_CLIP: Size = (32, 224, 224)
"""Frames, rows, columns of the paper's clips."""

STEMS: dict[str, list[Size]] = {
    "paper": [(2, 2, 2), (1, 2, 2)],
    "half": [(1, 2, 2)],
    "full": [(1, 1, 1)],
}
"""Strides of the stem's convolution and, where there is one, of the maximum behind it. The paper's
maximum leaves T: its table has 16 frames behind it."""

SHRINK: Size = (2, 2, 2)
"""Of the mean behind every transition."""

Clips = Float[Tensor, "batch channels t h w"]
Maps = Float[Tensor, "batch maps t h w"]
Mask = Bool[Tensor, "batch t"]
Norm = Literal["batch", "group", "instance"]
Stem = Literal["paper", "half", "full"]
Strides = Literal["paper", "spacing"]
Blocks = Annotated[tuple[AtLeastOne, ...], Field(min_length=1)]


class Transition(Protocol):
    """What stands between two dense blocks, before the mean that halves the grid."""

    out_channels: int

    def __call__(self, maps: Maps, mask: Mask | None = None) -> Maps:
        """Returns maps of the same grid."""
        ...


class DenseNet3D(nn.Module):
    """Dense blocks of 3D convolutions: every layer sees the maps of all layers before it.

    Through-plane neighbours are mixed by every kernel of a block. Few of its weights stand in any
    one layer and all are close to the loss, so it trains from scratch on fewer scans than its
    depth suggests.

    The defaults are DenseNet3D-121 for 32 x 224 x 224: 11,352,421 parameters with 3 channels and
    101 classes. `blocks` makes the others: (6, 12, 32, 32) is 169, (6, 12, 48, 32) is 201, and
    (6, 12, 36, 24) with `width: 96, growth: 48` is 161. The stem and the three means divide rows
    and columns by 32, which leaves nothing of a patch of 28 pixels; `stem: half` divides by 2 and
    `stem: full` by 1 before the blocks, with kernels of 3 and without the maximum.

    The mask is honoured: padding is zero after every norm, means over frames count the others only,
    and batch statistics do not see it.

    Differs from the paper: the means behind the transitions keep an odd last row, column or frame
    (ceil mode; nothing is odd at the paper's size), and the last mean is over whatever is left, so
    that any T and any size from `smallest` on works. The released code halves T in the maximum of
    the stem too, against the paper's own table, and cannot take 16 frames; here the table counts.
    The paper names no initialisation; it is He's.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: channels of the stem.
        dropout: on the pooled features; the paper has none.
        clip_size: (T, H, W) that `strides: spacing` plans for; None does not limit it.
        blocks: layers of every dense block.
        growth: channels that a layer adds.
        bottleneck: a layer's first convolution has so many times `growth` channels.
        norm: before every convolution: `batch` (the paper), `group` or `instance`.
        stem: `paper` (3 x 7 x 7 with stride 2, maximum of 3 with stride 1 x 2 x 2), `half` or
            `full`.
        strides: `paper`, or `spacing`: kernels and strides along T wait while slices lie more than
            twice as far apart as pixels, and no axis is halved below two positions.
        spacing: of (T, H, W) in mm, for `strides: spacing`; None, as for videos, is isotropic.
        planar: the 2D twin with the same names: no kernel and no stride spans slices, and T is
            only averaged at the end.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, F), the mean of the last maps; F is 1,024 for the defaults.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is smaller than the strides of the stem allow.
        DataError: when a clip in a batch is, or has other channels.

    References:
        Diba et al., arXiv 1711.08200, section 3.2, table 1.
        Huang et al., Densely connected convolutional networks, CVPR 2017, section 3.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Diba, Fayyaz et al., 2017, arXiv 1711.08200 (DenseNet3D)"
    through_plane = "Mixes neighbouring slices in every dense layer with kernels of three slices."
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 64,
        dropout: float = 0.0,
        clip_size: Size | None = None,
        blocks: Blocks = (6, 12, 24, 16),
        growth: AtLeastOne = 32,
        bottleneck: AtLeastOne = 4,
        norm: Norm = "batch",
        stem: Stem = "paper",
        strides: Strides = "paper",
        spacing: tuple[float, float, float] | None = None,
        planar: bool = False,
    ) -> None:
        super().__init__()
        self.smallest: Size = find_smallest(stem, len(blocks))
        refuse_small_size(clip_size, self.smallest, "densenet3d")
        self.in_channels = in_channels
        plan = plan_dense(stem, len(blocks), strides, spacing, clip_size, planar)
        self.through_plane = describe_mixing(plan, DenseNet3D.through_plane)
        self.trunk = DenseTrunk(
            in_channels, width, blocks, growth, bottleneck, norm, stem, plan,
            lambda channels, _: HalvingTransition(channels, norm),
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.trunk.out_channels, num_classes)
        initialize_dense(self)

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns the last maps' mean over rows, columns and the frames that are not padding."""
        mask = check_clips(
            clips, mask, in_channels=self.in_channels, smallest=self.smallest, model="densenet3d"
        )
        clips, mask = bring_forward(clips, mask)
        return self.trunk.describe(clips, mask)

    def forward(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every clip."""
        return self.classifier(self.dropout(self.features(clips, mask)))


class DenseTrunk(nn.Module):
    """Stem, dense blocks with transitions between them, and the norm behind the last one.

    Args:
        in_channels: of the clips.
        width: channels of the stem.
        blocks: layers of every dense block.
        growth: channels that a layer adds.
        bottleneck: a layer's first convolution has so many times `growth` channels.
        norm: a name of `NORMS`.
        stem: a name of `STEMS`.
        plan: of `plan_dense`.
        build_transition: channels and number (from 0) -> what stands behind that block.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        blocks: Sequence[int],
        growth: int,
        bottleneck: int,
        norm: str,
        stem: Stem,
        plan: Sequence[Stage],
        build_transition: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__()
        steps = len(STEMS[stem])
        self.pools = list(plan[1:steps])  # the stem's maximum, where there is one
        self.shrinks = [stage.stride for stage in plan[steps:-1]]
        kernel = plan[0].kernel((3, 7, 7) if stem == "paper" else (3, 3, 3))
        self.conv0 = nn.Conv3d(
            in_channels, width, kernel, plan[0].stride, _half(kernel), bias=False
        )
        self.norm0 = NORMS[norm](width)
        self.names = [f"denseblock{number}" for number in range(1, len(blocks) + 1)]
        channels = width
        for number, (name, layers) in enumerate(zip(self.names, blocks, strict=True)):
            kernel = plan[steps + number].kernel((3, 3, 3))
            block = DenseBlock(channels, layers, growth, bottleneck, kernel, norm)
            self.add_module(name, block)
            channels += layers * growth
            if number < len(blocks) - 1:
                transition = build_transition(channels, number)
                self.add_module(f"transition{number + 1}", transition)
                channels = cast("Transition", transition).out_channels
        self.norm5 = NORMS[norm](channels)
        self.pool = MeanPool()
        self.out_channels = channels

    def forward(
        self, clips: Clips, mask: Mask | None
    ) -> tuple[Float[Tensor, "batch maps t2 h2 w2"], Bool[Tensor, "batch t2"] | None]:
        """Returns the maps behind the last ReLU, and which of their frames are not padding."""
        maps = self.conv0(zero_padding(clips, mask))
        mask = pool_mask(mask, self.conv0.stride[0])
        maps = functional.relu(self.norm0(maps, mask), inplace=True)
        for stage in self.pools:
            kernel = stage.kernel((3, 3, 3))
            # After ReLU nothing is below the zeros of padding: they never win over a frame.
            maps = functional.max_pool3d(maps, kernel, stage.stride, _half(kernel))
            mask = pool_mask(mask, stage.stride[0])
        for number, name in enumerate(self.names):
            maps = self.get_submodule(name)(maps, mask)
            if number < len(self.shrinks):
                maps = self.get_submodule(f"transition{number + 1}")(maps, mask)
                maps, mask = shrink_maps(maps, mask, self.shrinks[number])
        return functional.relu(self.norm5(maps, mask), inplace=True), mask

    def describe(self, clips: Clips, mask: Mask | None) -> Float[Tensor, "batch maps"]:
        """Returns the mean over rows, columns and the frames that are not padding."""
        maps, mask = self(clips, mask)
        return self.pool(rearrange(maps.mean(dim=(3, 4)), "b c t -> b t c"), mask)


class DenseBlock(nn.Module):
    """Layers that each add `growth` channels to all that came before them.

    Args:
        channels: that come in.
        layers: how many.
        growth: channels that a layer adds.
        bottleneck: a layer's first convolution has so many times `growth` channels.
        kernel: (T, H, W) of a layer's second convolution.
        norm: a name of `NORMS`.

    Shape:
        (B, channels, T, H, W) -> (B, channels + layers growth, T, H, W).
    """

    def __init__(
        self, channels: int, layers: int, growth: int, bottleneck: int, kernel: Size, norm: str
    ) -> None:
        super().__init__()
        for number in range(layers):
            layer = DenseLayer(channels + number * growth, growth, bottleneck, kernel, norm)
            self.add_module(f"denselayer{number + 1}", layer)

    def forward(self, maps: Maps, mask: Mask | None) -> Float[Tensor, "batch more t h w"]:
        """Returns the maps that came in, and those of every layer."""
        for layer in self.children():
            maps = torch.cat([maps, layer(maps, mask)], dim=1)
        return maps


class DenseLayer(nn.Module):
    """Norm, ReLU, a convolution of one voxel; norm, ReLU, a convolution of `kernel`.

    Args:
        channels: that come in.
        growth: that go out.
        bottleneck: so many times `growth` channels between.
        kernel: (T, H, W) of the second convolution.
        norm: a name of `NORMS`.
    """

    def __init__(
        self, channels: int, growth: int, bottleneck: int, kernel: Size, norm: str
    ) -> None:
        super().__init__()
        self.norm1 = NORMS[norm](channels)
        self.conv1 = nn.Conv3d(channels, bottleneck * growth, 1, bias=False)
        self.norm2 = NORMS[norm](bottleneck * growth)
        self.conv2 = nn.Conv3d(
            bottleneck * growth, growth, kernel, padding=_half(kernel), bias=False
        )

    def forward(self, maps: Maps, mask: Mask | None) -> Float[Tensor, "batch growth t h w"]:
        """Returns the layer's own maps."""
        inner = self.conv1(functional.relu(self.norm1(maps, mask), inplace=True))
        return self.conv2(functional.relu(self.norm2(inner, mask), inplace=True))


class HalvingTransition(nn.Module):
    """Norm, ReLU and a convolution of one voxel that halves the channels.

    Args:
        channels: that come in.
        norm: a name of `NORMS`.
    """

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.out_channels = channels // 2
        self.norm = NORMS[norm](channels)
        self.conv = nn.Conv3d(channels, self.out_channels, 1, bias=False)

    def forward(self, maps: Maps, mask: Mask | None = None) -> Float[Tensor, "batch half t h w"]:
        """Returns maps of the same grid."""
        return self.conv(functional.relu(self.norm(maps, mask), inplace=True))


def find_smallest(stem: Stem, blocks: int) -> Size:
    """Returns the smallest (T, H, W): every halving still has two pixels to choose from.

    Ceil mode lets a single slice through.
    """
    halvings = blocks - 1 + sum(stride[1] == 2 for stride in STEMS[stem])
    side = 2 ** (halvings - 1) + 1 if halvings else 1
    return 1, side, side


def plan_dense(
    stem: Stem,
    blocks: int,
    strides: Strides,
    spacing: tuple[float, float, float] | None,
    clip_size: Size | None,
    planar: bool,
) -> list[Stage]:
    """Returns the stages of stem, blocks (each with the mean behind it) and the last block."""
    wanted: list[Size] = [*STEMS[stem], *[SHRINK] * (blocks - 1), (1, 1, 1)]
    plan = (
        plan_stages(wanted, spacing=spacing, clip_size=clip_size)
        if strides == "spacing"
        else [Stage(mixes_slices=True, stride=stride) for stride in wanted]
    )
    if planar:
        return [Stage(mixes_slices=False, stride=(1, *stage.stride[1:])) for stage in plan]
    return plan


def shrink_maps(
    maps: Maps, mask: Mask | None, stride: Size
) -> tuple[Float[Tensor, "batch maps t2 h2 w2"], Bool[Tensor, "batch t2"] | None]:
    """Averages windows of `stride`; windows at the end have what is left, and padding no part."""
    # torch refuses a kernel longer than its axis, also where ceil mode would cut it.
    t, h, w = (min(step, n) for step, n in zip(stride, maps.shape[2:], strict=True))
    sums = functional.avg_pool3d(zero_padding(maps, mask), (t, h, w), stride, ceil_mode=True)
    if mask is None:
        return sums, None
    shown = functional.avg_pool1d(mask.to(maps.dtype), t, stride[0], ceil_mode=True)
    # A window of padding alone has a share of 0 and a sum of 0; it stays 0.
    shares = rearrange(shown.masked_fill(shown == 0, 1), "b t -> b 1 t 1 1")
    return sums / shares, pool_mask(mask, stride[0])


def initialize_dense(model: nn.Module) -> None:
    """Fills convolutions as He does and puts the classifier's bias to 0; norms start at 1 and 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def _half(kernel: Size) -> Size:
    """Returns the zeros that keep an axis under a kernel with a middle."""
    t, h, w = kernel
    return t // 2, h // 2, w // 2
