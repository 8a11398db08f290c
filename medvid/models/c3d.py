"""C3D: Tran et al., Learning spatiotemporal features with 3D convolutional networks, ICCV 2015.

Two networks of the paper: `C3D`, trained on Sports-1M, and `C3DStudy`, the smaller one of the
search for the best kernel depth. Both are a stack of 3D convolutions, each stage closed by a
maximum, and fully connected layers.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import ConfigError
from medvid.layers.anisotropy import Stage, describe_mixing, plan_stages, shrink_size
from medvid.layers.clips import Size, bring_forward, check_clips, refuse_small_size
from medvid.layers.normalization import NORMS, NormName, pool_mask, zero_padding
from medvid.layers.pool_head import PoolHead

POOLS: tuple[Size, ...] = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
"""Kernels and strides of pool1 to pool5. pool1 leaves T: "not to merge the temporal signal too
early" (section 3.1)."""

PAPER_CLIP: Size = (16, 112, 112)
"""Frames, rows, columns of the paper's crops."""

SMALLEST: Size = (1, 17, 17)
"""17 -> 9 -> 5 -> 3 -> 2 -> 1: every one of the five maxima still has two pixels to choose from.
Ceil mode lets a single slice through."""

Clips = Float[Tensor, "batch channels t h w"]
Mask = Bool[Tensor, "batch t"]


class C3D(nn.Module):
    """3D convolutions from the first layer to the last: eight of them, 3 x 3 x 3, five maxima.

    Through-plane neighbours are mixed by every kernel, so it sees what appears, grows and vanishes
    from slice to slice: a vessel runs on, a nodule ends.

    The defaults are the paper's network for 16 x 112 x 112: 78,409,573 parameters with 3 channels
    and 101 classes, 50 million of them between pool5 and fc7. On a thousand scans that over-fits,
    and bias 1 without normalisation is hard to train on z-scored voxels; the config `c3d_scan` is
    the same stack with `norm: batch, head: pool, strides: spacing, init: he`.

    All maxima are in ceil mode without padding, as in Caffe: pool5's windows on 7 pixels are
    [0,1], [2,3], [4,5], [6]. At the paper's size only pool5 has an odd axis.

    The mask is honoured: padding frames are zeroed after every layer, as if the clip ended there,
    and no statistic and no average sees them: the answer is that of the clip alone.

    Differs from the paper: a clip of another size than `clip_size` is averaged to the grid that
    fc6 was built for. Everything that the options other than `width`, `dropout` change.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: channels of conv1a; the others have 2, 4, 8, 8 times as many, fc6 and fc7 64 times.
        dropout: after fc6 and fc7, or on the pooled features.
        clip_size: (T, H, W) that fc6 and the strides are built for; None is the paper's.
        norm: behind every convolution, whose bias then falls away: `none` (the paper), `batch`,
            `group` or `instance`.
        head: `paper` (fc6, fc7, fc8), or `pool`: the mean over T, H, W and one linear layer.
        strides: `paper`, or `spacing`: kernels and strides along T wait while slices lie more than
            twice as far apart as pixels, and no axis is halved below two positions.
        spacing: of (T, H, W) in mm, for `strides: spacing`; None, as for videos, is isotropic.
        init: `paper` (gaussian, bias 1), or `he`.
        planar: the 2D twin with the same names, whose kernels `init` inflates: no kernel and no
            maximum spans slices; they meet in the mean of `head: pool`, or are averaged to the
            grid of fc6, which at the paper's size is one frame deep.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, 64 width), fc6 after ReLU; with `head: pool` (B, 8 width).
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is below 1 x 17 x 17.
        DataError: when a clip in a batch is, or has other channels.

    References:
        Tran et al., ICCV 2015, section 3.3 and figure 3; the released prototxt for initialisation
        and Caffe's rounding. Isensee et al., nnU-Net, 2021, for the rule on spacing.
    """

    modalities = ("clip",)
    smallest: Size = SMALLEST
    honours_mask = True
    paper = "Tran et al., ICCV 2015, arXiv 1412.0767"
    through_plane = "Mixes neighbouring slices in every layer with kernels of three slices."
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 64,
        dropout: float = 0.5,
        clip_size: Size | None = None,
        norm: NormName = "none",
        head: Literal["paper", "pool"] = "paper",
        strides: Literal["paper", "spacing"] = "paper",
        spacing: tuple[float, float, float] | None = None,
        init: Literal["paper", "he"] = "paper",
        planar: bool = False,
    ) -> None:
        super().__init__()
        refuse_small_size(clip_size, SMALLEST, "c3d")
        self.in_channels = in_channels
        plan = (
            plan_stages(POOLS, spacing=spacing, clip_size=clip_size)
            if strides == "spacing"
            else [Stage(mixes_slices=True, stride=pool) for pool in POOLS]
        )
        grid = shrink_size(clip_size or PAPER_CLIP, [stage.stride for stage in plan])
        if planar:
            plan = [Stage(False, (1, *stage.stride[1:])) for stage in plan]
        self.through_plane = describe_mixing(plan, C3D.through_plane)
        if planar and head == "paper" and grid[0] > 1:
            self.through_plane = f"Looks at every slice alone, averaged in {grid[0]} pieces."
        layers = {
            "conv1a": (width, 0), "conv2a": (2 * width, 1),
            "conv3a": (4 * width, 2), "conv3b": (4 * width, 2),
            "conv4a": (8 * width, 3), "conv4b": (8 * width, 3),
            "conv5a": (8 * width, 4), "conv5b": (8 * width, 4),
        }  # fmt: skip
        kernels = [stage.kernel((3, 3, 3)) for stage in plan]
        self.trunk = Trunk(in_channels, layers, kernels, [stage.stride for stage in plan], norm)
        self.head: PaperHead | PoolHead = (
            PaperHead(8 * width, grid, 64 * width, num_classes, dropout)
            if head == "paper"
            else PoolHead(8 * width, num_classes, dropout)
        )
        _initialize(self, init)

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns fc6 after ReLU, the paper's descriptor before its L2 norm, or the pooled maps."""
        mask = check_clips(
            clips, mask, in_channels=self.in_channels, smallest=SMALLEST, model="c3d"
        )
        clips, mask = bring_forward(clips, mask)
        return self.head.describe(*self.trunk(clips, mask))

    def forward(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every clip."""
        return self.head(self.features(clips, mask))


class C3DStudy(nn.Module):
    """The network with which the paper found that kernels of depth 3 are best: five convolutions.

    For a scan it asks how many slices a kernel should span. Depth 1 everywhere is a 2D network
    with maxima over slices between its layers.

    The paper states that the depths differ by 17 and 51 thousand parameters; the input channels
    were forgotten there. At 3 channels and 101 classes depth 1 has 14,344,933, 3 has 17,444,965
    (the paper's "17.5 million"), 5 has 20,544,997 and 7 has 23,645,029.

    Differs from the paper: clips of another size are averaged to fc6's grid, and the mask is
    honoured, as in `C3D`.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: channels of conv1; the others have 2, 4, 4, 4 times as many, fc6 and fc7 32 times.
        dropout: after fc6 and fc7.
        clip_size: (T, H, W) that fc6 is built for; None is the paper's 16 x 112 x 112.
        kernel_depths: slices that the kernels of the five stages span, odd. The paper's: 1, 3, 5 or
            7 everywhere, 3-3-5-5-7 and 7-5-5-3-3.
        norm: behind every convolution: `none` (the paper), `batch`, `group` or `instance`.
        init: `paper` (gaussian, bias 1), or `he`.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, 32 width), fc6 after ReLU.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is below 1 x 17 x 17 or a depth is even.
        DataError: when a clip in a batch is too small, or has other channels.

    References:
        Tran et al., ICCV 2015, sections 3.1 and 3.2, figure 2.
    """

    modalities = ("clip",)
    smallest: Size = SMALLEST
    honours_mask = True
    paper = "Tran et al., ICCV 2015, arXiv 1412.0767, section 3.2"
    through_plane = "Mixes as many slices in each of its five layers as `kernel_depths` says."
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 64,
        dropout: float = 0.5,
        clip_size: Size | None = None,
        kernel_depths: tuple[int, int, int, int, int] = (3, 3, 3, 3, 3),
        norm: NormName = "none",
        init: Literal["paper", "he"] = "paper",
    ) -> None:
        super().__init__()
        refuse_small_size(clip_size, SMALLEST, "c3d_study")
        if any(depth < 1 or depth % 2 == 0 for depth in kernel_depths):
            raise ConfigError(
                f"The model `c3d_study` was given kernel_depths {list(kernel_depths)}; each must "
                "be odd, so that a kernel has a middle slice.",
                code="kernel_depths",
            )
        self.in_channels = in_channels
        factors = (1, 2, 4, 4, 4)
        layers = {f"conv{i + 1}": (width * factor, i) for i, factor in enumerate(factors)}
        self.trunk = Trunk(in_channels, layers, [(d, 3, 3) for d in kernel_depths], POOLS, norm)
        grid = shrink_size(clip_size or PAPER_CLIP, POOLS)
        self.head = PaperHead(4 * width, grid, 32 * width, num_classes, dropout)
        _initialize(self, init)

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns fc6 after ReLU."""
        mask = check_clips(
            clips, mask, in_channels=self.in_channels, smallest=SMALLEST, model="c3d_study"
        )
        clips, mask = bring_forward(clips, mask)
        return self.head.describe(*self.trunk(clips, mask))

    def forward(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every clip."""
        return self.head(self.features(clips, mask))


class Trunk(nn.Module):
    """Stages of convolution, normalisation and ReLU, each closed by a ceil-mode maximum.

    Args:
        in_channels: of the clips.
        layers: name -> channels and stage (from 0) of every convolution, in order.
        kernels: of every stage's convolutions.
        pools: kernel and stride of the maximum behind every stage.
        norm: a name of `NORMS`.
    """

    def __init__(
        self,
        in_channels: int,
        layers: dict[str, tuple[int, int]],
        kernels: Sequence[Size],
        pools: Sequence[Size],
        norm: NormName,
    ) -> None:
        super().__init__()
        self.stages = [[name for name in layers if layers[name][1] == i] for i in range(len(pools))]
        self.pools = list(pools)
        self.convs = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        for name, (channels, stage) in layers.items():
            t, h, w = kernel = kernels[stage]
            self.convs[name] = nn.Conv3d(
                in_channels,
                channels,
                kernel,
                padding=(t // 2, h // 2, w // 2),
                bias=norm == "none",  # a normalisation has its own
            )
            self.norms[name] = NORMS[norm](channels)
            in_channels = channels

    def forward(
        self, clips: Clips, mask: Mask | None
    ) -> tuple[Float[Tensor, "batch maps t2 h2 w2"], Bool[Tensor, "batch t2"] | None]:
        """Returns the maps behind the last maximum, and which of their frames are not padding."""
        maps = zero_padding(clips, mask)
        for names, pool in zip(self.stages, self.pools, strict=True):
            for name in names:
                maps = self.norms[name](self.convs[name](maps), mask)
                maps = functional.relu(maps, inplace=True)
            # After ReLU nothing is below the zeros of padding: they never win over a frame.
            maps = functional.max_pool3d(maps, pool, pool, ceil_mode=True)
            mask = pool_mask(mask, pool[0])
        return maps, mask


class PaperHead(nn.Module):
    """fc6, fc7, fc8 with ReLU and dropout between.

    Args:
        channels: of the maps.
        grid: (T, H, W) of the maps that fc6 is built for; others are averaged to it.
        hidden: units of fc6 and fc7.
        num_classes: logits.
        dropout: after fc6 and fc7.
    """

    def __init__(
        self, channels: int, grid: Size, hidden: int, num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.grid = nn.AdaptiveAvgPool3d(grid)
        t, h, w = grid
        self.fc6 = nn.Linear(channels * t * h * w, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, num_classes)
        self.dropout = nn.Dropout(dropout)

    def describe(
        self, maps: Float[Tensor, "batch maps t h w"], mask: Mask | None
    ) -> Float[Tensor, "batch hidden"]:
        """Returns fc6 after ReLU; a clip's grid is laid over its own frames, without padding."""
        # Over all T the share of a short clip in the grid would depend on the longest beside it.
        grid = (
            self.grid(maps)
            if mask is None
            else torch.stack(
                [self.grid(own[:, shown]) for own, shown in zip(maps, mask, strict=True)]
            )
        )
        return functional.relu(self.fc6(rearrange(grid, "b c t h w -> b (c t h w)")))

    def forward(self, features: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch classes"]:
        """Returns the logits."""
        hidden = functional.relu(self.fc7(self.dropout(features)))
        return self.fc8(self.dropout(hidden))


def _initialize(model: nn.Module, init: Literal["paper", "he"]) -> None:
    """Fills convolutions and linear layers, the paper's way (released prototxt) or He's.

    The paper: convolutions gaussian .01, fc6 and fc7 .005, fc8 .01; biases 1, but 0 in the first
    convolution and in fc8.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Conv3d | nn.Linear)]
    for layer in layers:
        ends = layer is layers[0] or layer is layers[-1]
        if init == "he":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        else:
            hidden = isinstance(layer, nn.Linear) and not ends
            nn.init.normal_(layer.weight, std=0.005 if hidden else 0.01)
        if layer.bias is not None:
            nn.init.constant_(layer.bias, 0.0 if ends or init == "he" else 1.0)
