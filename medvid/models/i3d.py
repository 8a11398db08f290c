"""I3D: Carreira and Zisserman, Quo vadis, action recognition?, CVPR 2017: Inception-V1 inflated."""

from itertools import pairwise
from typing import Literal, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import ConfigError
from medvid.layers.anisotropy import Stage, describe_mixing, plan_stages
from medvid.layers.clips import Size, Steps, bring_forward, check_clips, refuse_small_size
from medvid.layers.normalization import NORMS, pool_mask, zero_padding
from medvid.layers.same_padding import pad_same, pool_same

PAPER_CLIP: Size = (64, 224, 224)
"""Frames, rows, columns of the paper's training clips."""

PAPER_WIDTH = 64
"""Channels of the stem, to which those of the table below belong."""

WIDTH_STEP = 8
"""All channels of the table are multiples of 8, so such widths keep their proportions exactly."""

MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of the four branches of every block: 1^3 | 1^3, 3^3 | 1^3, 3^3 | pool, 1^3."""

POOLS: dict[str, tuple[Size, Size]] = {
    "2a": ((1, 3, 3), (1, 2, 2)),
    "3a": ((1, 3, 3), (1, 2, 2)),
    "4a": ((3, 3, 3), (2, 2, 2)),
    "5a": ((2, 2, 2), (2, 2, 2)),
}
"""Kernel and stride of the maxima between the stages. The first two leave T alone."""

EPS = 1e-3
"""Added to variances, as in TensorFlow; with torch's 1e-5 released weights answer differently."""

Clips = Float[Tensor, "batch channels t h w"]
Maps = Float[Tensor, "batch maps t h w"]
MaybeMask = Bool[Tensor, "batch t"] | None
Behind = tuple[Float[Tensor, "batch maps2 t2 h2 w2"], Bool[Tensor, "batch t2"] | None]
"""What a layer hands on: maps, and which of their frames are not padding."""


class I3D(nn.Module):
    """Inception-V1 whose kernels were given a third axis: wide, deep, and light in parameters.

    Every block looks at four scales at once, and from the stem on kernels span slices. It is the
    network that inflation was invented for: `planar: true` is its 2D twin with the same parameter
    names, which learns on the user's own slices; `init: {from: RUN}` then starts the 3D network
    from it.

    The defaults are the paper's network for 64 x 224 x 224: 12,697,264 parameters with 3 channels
    and 400 classes. The released weights have no scale in their norms (`gamma: false`, 7,280
    fewer); an Inception-V1 to start from usually has.

    Padding is TensorFlow's SAME, from the size at hand: the stem has two zeros before an even axis
    and three behind it. The mask is honoured: along T every clip is padded by its own length, and
    padding frames are zeroed after every layer, unseen by statistics and averages. The paper loops
    videos of fewer than 64 frames; medvid pads and marks them.

    For 16 to 40 slices take `stem_stride: [1, 2, 2]` and `stem_kernel: [3, 7, 7]`; for patches of
    28 pixels `stem_stride: [1, 1, 1]` and `pool_2a: false`: 28, 28, 14, 7, 4.

    Differs from the paper: maps of any size are averaged, where the paper's 2 x 7 x 7 window fits
    one size; on that size the answer is the same. Dropout acts on this average, not on each window.
    Kernels start by He's rule, which the norms behind them make nearly irrelevant, and running
    statistics move by a tenth a step, so that short trainings settle them. Two streams are two
    trainings, the second with `in_channels: 2`. Whatever the other options change.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: channels of the stem, in multiples of 8; all others keep their proportion to it.
        dropout: on the average before the classifier.
        clip_size: (T, H, W) of the clips, to refuse an impossible size and to plan strides.
        stem_kernel: (T, H, W) of the first convolution.
        stem_stride: (T, H, W) of the first convolution.
        pool_2a: the maximum behind it, which halves rows and columns.
        planar: the 2D twin: kernels and strides of 1 along T, and a plain mean over T at the end.
        norm: behind every convolution: `batch` (the paper), or `group`.
        gamma: whether norms have a scale.
        strides: `paper`, or `spacing`: kernels and strides along T wait while slices lie more than
            twice as far apart as pixels, and no axis is halved below two positions.
        spacing: of (T, H, W) in mm, for `strides: spacing`; None, as for videos, is isotropic.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, 16 width), the average of Mixed_5c.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is smaller than the strides allow, or `width` is no multiple
            of 8.
        DataError: when a clip in a batch is too small, or has other channels.

    References:
        Carreira and Zisserman, CVPR 2017, arXiv 1705.07750v3, sections 2.4 and 2.5, figure 3; the
        released code for norms and padding. Isensee et al., nnU-Net, 2021, for the rule on spacing.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Carreira and Zisserman, CVPR 2017, arXiv 1705.07750"
    through_plane = "Mixes neighbouring slices from the stem on, at four scales in every block."
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = PAPER_WIDTH,
        dropout: float = 0.5,
        clip_size: Size | None = None,
        stem_kernel: Steps = (7, 7, 7),
        stem_stride: Steps = (2, 2, 2),
        pool_2a: bool = True,
        planar: bool = False,
        norm: Literal["batch", "group"] = "batch",
        gamma: bool = True,
        strides: Literal["paper", "spacing"] = "paper",
        spacing: tuple[float, float, float] | None = None,
    ) -> None:
        super().__init__()
        _refuse_width(width)
        pools = {name: pool for name, pool in POOLS.items() if name != "2a" or pool_2a}
        wanted = [stem_stride, *(stride for _, stride in pools.values())]
        self.smallest = _find_smallest(wanted)
        refuse_small_size(clip_size, self.smallest, "i3d")
        self.in_channels = in_channels
        stages = _plan(wanted, strides, spacing, clip_size, planar)
        later = "Mixes neighbouring slices at four scales in every block."
        self.through_plane = describe_mixing(
            stages, I3D.through_plane if stages[0].mixes_slices else later
        )
        plan = dict(zip(("1a", *pools), pairwise(stages), strict=True))
        after = {name: behind for name, (_, behind) in plan.items()}
        mixing = {"2": after.get("2a", after["1a"]), "3": after["3a"], "4": after["4a"]}
        mixing["5"] = after["5a"]

        def unit(before: int, channels: int, kernel: Size, stage: Stage, stride: Size) -> Unit3D:
            return Unit3D(before, channels, stage.kernel(kernel), stride, norm, gamma)

        stem = stages[0]
        self.Conv3d_1a_7x7 = unit(in_channels, width, stem_kernel, stem, stem.stride)
        self.Conv3d_2b_1x1 = unit(width, width, (1, 1, 1), mixing["2"], (1, 1, 1))
        self.Conv3d_2c_3x3 = unit(width, 3 * width, (3, 3, 3), mixing["2"], (1, 1, 1))
        self.pools = {
            name: (plan[name][0].kernel(kernel), plan[name][0].stride)
            for name, (kernel, _) in pools.items()
        }
        before = 3 * width
        for name, paper_channels in MIXED.items():
            channels = [n * width // PAPER_WIDTH for n in paper_channels]
            kernel = mixing[name[0]].kernel((3, 3, 3))
            block = Mixed(before, channels, kernel, norm, gamma)
            self.add_module(f"Mixed_{name}", block)
            before = block.channels
        self.planar = planar
        self.dropout = nn.Dropout(dropout)
        self.Conv3d_0c_1x1 = nn.Linear(before, num_classes)
        _initialize(self)

    def features(self, clips: Clips, mask: MaybeMask = None) -> Float[Tensor, "batch features"]:
        """Returns the average of Mixed_5c over rows, columns and frames."""
        mask = check_clips(
            clips, mask, in_channels=self.in_channels, smallest=self.smallest, model="i3d"
        )
        clips, mask = bring_forward(clips, mask)
        maps, mask = self.trunk(clips, mask)
        frames = rearrange(maps.mean(dim=(3, 4)), "b c t -> b t c")
        shares = weigh_frames(frames, mask, window=1 if self.planar else 2)
        return torch.einsum("btc,bt->bc", frames, shares)

    def forward(self, clips: Clips, mask: MaybeMask = None) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every clip."""
        return self.Conv3d_0c_1x1(self.dropout(self.features(clips, mask)))

    def trunk(self, clips: Clips, mask: MaybeMask = None) -> Behind:
        """Returns the maps of Mixed_5c, and which of their frames are not padding."""
        maps, mask = self.Conv3d_1a_7x7(zero_padding(clips, mask), mask)
        if "2a" in self.pools:
            maps, mask = pool_same(maps, mask, *self.pools["2a"])
        maps, mask = self.Conv3d_2b_1x1(maps, mask)
        maps, mask = self.Conv3d_2c_3x3(maps, mask)
        for name in MIXED:
            if name[1] == "b":
                maps, mask = pool_same(maps, mask, *self.pools[f"{name[0]}a"])
            maps, mask = self.get_submodule(f"Mixed_{name}")(maps, mask)
        return maps, mask


class Unit3D(nn.Module):
    """Convolution with SAME padding and no bias, norm, ReLU.

    Args:
        before: channels in.
        after: channels out.
        kernel: (T, H, W).
        stride: (T, H, W).
        norm: `batch` or `group`.
        gamma: whether the norm has a scale; without, it is a buffer of ones.
    """

    def __init__(
        self, before: int, after: int, kernel: Size, stride: Size, norm: str, gamma: bool
    ) -> None:
        super().__init__()
        self.conv = SameConv3d(before, after, kernel, stride, bias=False)
        self.norm = cast("nn.BatchNorm3d | nn.GroupNorm", NORMS[norm](after))
        self.norm.eps = EPS
        if not gamma:
            del self.norm.weight
            self.norm.register_buffer("weight", torch.ones(after))

    def forward(self, maps: Maps, mask: MaybeMask) -> Behind:
        """Returns the maps and their mask."""
        maps = self.conv(maps, mask)
        mask = pool_mask(mask, self.conv.stride[0])
        return functional.relu(self.norm(maps, mask), inplace=True), mask


class SameConv3d(nn.Conv3d):
    """Convolution that pads as TensorFlow does, by the size at hand: `padding` plays no part."""

    def forward(self, maps: Maps, mask: MaybeMask = None) -> Float[Tensor, "batch maps2 t2 h2 w2"]:
        """Returns the maps, of which padding frames are not zeroed yet."""
        kernel, stride = cast("Size", self.kernel_size), cast("Size", self.stride)
        maps, padding = pad_same(maps, mask, kernel, stride)
        return functional.conv3d(maps, self.weight, self.bias, stride, padding)


class Mixed(nn.Module):
    """Four branches side by side, their maps one behind the other.

    Args:
        before: channels in.
        channels: of the branches, a row of `MIXED`.
        kernel: of the two larger convolutions and the maximum.
        norm: `batch` or `group`.
        gamma: whether norms have a scale.
    """

    def __init__(
        self, before: int, channels: list[int], kernel: Size, norm: str, gamma: bool
    ) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3 = channels
        self.kernel = kernel
        self.channels = b0 + b1b + b2b + b3

        def unit(before: int, after: int, kernel: Size = (1, 1, 1)) -> Unit3D:
            return Unit3D(before, after, kernel, (1, 1, 1), norm, gamma)

        self.b0 = unit(before, b0)
        self.b1 = nn.ModuleList([unit(before, b1a), unit(b1a, b1b, kernel)])
        # Not 5 x 5 as in the 2D paper: the released 2D network has 3 x 3 here as well.
        self.b2 = nn.ModuleList([unit(before, b2a), unit(b2a, b2b, kernel)])
        self.b3 = unit(before, b3)

    def forward(self, maps: Maps, mask: MaybeMask) -> Behind:
        """Returns the maps of all branches and their mask, which stays as it was."""
        pooled, _ = pool_same(maps, mask, self.kernel, (1, 1, 1))
        outs = [self.b0(maps, mask)[0]]
        for branch in (self.b1, self.b2):
            inner = maps
            for unit in branch:
                inner, _ = unit(inner, mask)
            outs.append(inner)
        outs.append(self.b3(pooled, mask)[0])
        return torch.cat(outs, dim=1), mask


def weigh_frames(
    frames: Float[Tensor, "batch t maps"], mask: MaybeMask, window: int
) -> Float[Tensor, "batch t"]:
    """Returns each frame's share in the average.

    The paper averages windows of two frames and then these: all frames count alike but the first
    and the last, which lie in one window only and count half.
    """
    shown = frames.new_ones(frames.shape[:2]) if mask is None else mask.to(frames.dtype)
    shares = shown
    if window > 1 and frames.shape[1] > 1:
        pairs = shown[:, 1:] * shown[:, :-1]
        paired = functional.pad(pairs, (0, 1)) + functional.pad(pairs, (1, 0))
        alone = pairs.sum(dim=1, keepdim=True) == 0  # a clip of one frame has no window
        shares = torch.where(alone, shown, paired)
    return shares / shares.sum(dim=1, keepdim=True)


def _plan(
    wanted: list[Size],
    strides: str,
    spacing: tuple[float, float, float] | None,
    clip_size: Size | None,
    planar: bool,
) -> list[Stage]:
    """Returns a stage for the stem, one for each maximum, and one for what follows the last."""
    ends: list[Size] = [*wanted, (1, 1, 1)]
    if strides == "spacing":
        plan = plan_stages(ends, spacing=spacing, clip_size=clip_size)
    else:
        plan = [Stage(mixes_slices=True, stride=stride) for stride in ends]
    if planar:
        plan = [Stage(False, (1, *stage.stride[1:])) for stage in plan]
    return plan


def _find_smallest(strides: list[Size]) -> Size:
    """Returns the clip of which the last maximum still has two rows and columns to choose from."""
    height = width = 1
    for _, step_h, step_w in strides[:-1]:
        height, width = height * step_h, width * step_w
    return 1, height + 1, width + 1


def _refuse_width(width: int) -> None:
    if width < 1 or width % WIDTH_STEP:
        raise ConfigError(
            f"The model `i3d` needs a width in multiples of {WIDTH_STEP}, so that all blocks keep "
            f"their proportions; it is {width}.",
            code="width",
        )


def _initialize(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
