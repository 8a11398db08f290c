"""Res3D: Tran et al., ConvNet architecture search for spatiotemporal feature learning, 2017.

With `factorised: true` every 3D convolution falls into a 2D one and a 1D one: the R(2+1)D of the
same authors' later paper, which is why both are in one file.
"""

from collections.abc import Sequence
from typing import Literal

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import ConfigError
from medvid.layers.anisotropy import Stage, describe_mixing, plan_stages
from medvid.layers.clips import Size, Steps, bring_forward, check_clips, refuse_small_size
from medvid.layers.normalization import NORMS, NormName, pool_mask, zero_padding
from medvid.layers.pooling import MeanPool

PAPER_CLIP: Size = (8, 112, 112)
"""Every second one of 16 frames, rows, columns."""

STRIDES: tuple[Size, ...] = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
"""Of res2 to res5."""

STEM_MIDDLE = 45 / 64
"""Channels between the 2D and the 1D half of a factorised stem, per channel of the stem: 45 in the
released R(2+1)D. The formula of the blocks would give 83."""

KERNEL = 3
"""Frames, rows and columns of the blocks' kernels."""

Clips = Float[Tensor, "batch channels t h w"]
Maps = Float[Tensor, "batch maps t h w"]
Mask = Bool[Tensor, "batch t"]
MaybeMask = Mask | None


class Res3D(nn.Module):
    """A residual network of 18 layers, every kernel of which spans three frames.

    The shortcuts make a 3D network trainable from scratch that a plain stack of its depth is not,
    at less than half of C3D's parameters; every block mixes a slice with its neighbours, and there
    is no maximum on the way, so a small finding is weighed and not just found.

    The defaults are the authors' released network for 8 x 112 x 112: 33,222,309 parameters with 3
    channels and 101 classes. There the shortcut of res2a is a convolution, though it changes
    neither size nor channels; without it (33,218,085) it is the R3D-18 of the later paper and of
    most libraries. There is no maximum behind the stem: nets that have one are other nets.

    `planar: true` is the 2D twin: kernels and strides along T are 1 and the frames meet in the
    last mean only. It has the same parameter names, so that its kernels can be inflated.

    The mask is honoured: padding frames are zeroed after every layer, as if the clip ended there,
    and no statistic and no average sees them.

    Differs from the paper: the mean at the end takes maps of any size. Batch statistics move by a
    tenth a step, as usual in torch, and not by Caffe's thousandth, which a short training never
    settles. Everything that options other than `width` and `dropout` change.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: channels of the stem and of res2; res3, res4, res5 have 2, 4, 8 times as many.
        dropout: on the mean; the paper has none.
        clip_size: (T, H, W) of the clips, to refuse an impossible size and to plan strides.
        stem_kernel: (T, H, W) of conv1, odd; 3 x 3 x 3 suits patches of 28 to 64 pixels.
        stem_stride: (T, H, W) of conv1; 1 x 1 x 1 suits them too.
        project_res2a: a convolution in the shortcut of res2a. None is the papers': yes, but not
            where `factorised`.
        factorised: R(2+1)D: a convolution of t x d x d becomes 1 x d x d, norm, ReLU, t x 1 x 1,
            with as many channels between them as keep its number of parameters.
        planar: kernels and strides of 1 along T.
        norm: behind every convolution: `batch` (the paper), `group` or `instance`; `none` gives
            the convolutions biases.
        strides: `paper`; `search`, the smaller net of the architecture search for 4 frames, whose
            res5 keeps T; or `spacing`: kernels and strides along T wait while slices lie more than
            twice as far apart as pixels, and no axis is halved below two positions.
        spacing: of (T, H, W) in mm, for `strides: spacing`; None, as for videos, is isotropic.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, 8 width), the mean of res5b over T, H, W.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is smaller than the strides allow, or a side of `stem_kernel`
            is even.
        DataError: when a clip in a batch is too small, or has other channels.

    References:
        Tran et al., arXiv 1708.05038, sections 3 and 4 (SR18 and Res3D); the released prototxt.
        Tran et al., A closer look at spatiotemporal convolutions, CVPR 2018, section 3.5 (M).
        Isensee et al., nnU-Net, 2021, for the rule on spacing.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Tran et al., 2017, arXiv 1708.05038; R(2+1)D: CVPR 2018, arXiv 1711.11248"
    through_plane = "Mixes neighbouring slices in every block, then averages over all of them."
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 64,
        dropout: float = 0.0,
        clip_size: Size | None = None,
        stem_kernel: Steps = (3, 7, 7),
        stem_stride: Steps = (1, 2, 2),
        project_res2a: bool | None = None,
        factorised: bool = False,
        planar: bool = False,
        norm: NormName = "batch",
        strides: Literal["paper", "search", "spacing"] = "paper",
        spacing: tuple[float, float, float] | None = None,
    ) -> None:
        super().__init__()
        _refuse_even_kernel(stem_kernel)
        self.smallest: Size = (1, 8 * stem_stride[1] + 1, 8 * stem_stride[2] + 1)
        refuse_small_size(clip_size, self.smallest, "res3d")
        self.in_channels = in_channels
        plan = _plan_strides((stem_stride, *STRIDES), strides, spacing, clip_size)
        if planar:
            plan = [Stage(False, (1, *stage.stride[1:])) for stage in plan]
        self.through_plane = describe_mixing(plan, Res3D.through_plane)
        build = FactorisedConv if factorised else FullConv
        self.stem = build(
            norm, in_channels, width, stem_kernel, plan[0], middle=round(STEM_MIDDLE * width)
        )
        self.stem_norm = NORMS[norm](width)
        self.blocks = nn.ModuleDict()
        before = width
        for number, stage in enumerate(plan[1:], start=2):
            after = width * 2 ** (number - 2)
            project = number > 2 or (not factorised if project_res2a is None else project_res2a)
            rest = Stage(stage.mixes_slices, (1, 1, 1))
            self.blocks[f"res{number}a"] = Block(build, norm, before, after, stage, project)
            self.blocks[f"res{number}b"] = Block(build, norm, after, after, rest, False)
            before = after
        self.pool = MeanPool()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(before, num_classes)
        _initialize(self)

    def features(self, clips: Clips, mask: MaybeMask = None) -> Float[Tensor, "batch features"]:
        """Returns the mean of res5b over rows, columns and the frames that are not padding."""
        mask = check_clips(
            clips, mask, in_channels=self.in_channels, smallest=self.smallest, model="res3d"
        )
        clips, mask = bring_forward(clips, mask)
        maps, mask = self.trunk(clips, mask)
        return self.pool(rearrange(maps.mean(dim=(3, 4)), "b c t -> b t c"), mask)

    def forward(self, clips: Clips, mask: MaybeMask = None) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every clip."""
        return self.classifier(self.dropout(self.features(clips, mask)))

    def trunk(
        self, clips: Clips, mask: MaybeMask
    ) -> tuple[Float[Tensor, "batch maps t2 h2 w2"], Bool[Tensor, "batch t2"] | None]:
        """Returns the maps of res5b, and which of their frames are not padding."""
        maps = self.stem(zero_padding(clips, mask), mask)
        mask = pool_mask(mask, self.stem.stride_t)
        maps = functional.relu(self.stem_norm(maps, mask), inplace=True)
        for block in self.blocks.values():
            maps, mask = block(maps, mask)
        return maps, mask


class FullConv(nn.Conv3d):
    """A 3D convolution that keeps the size, up to its stride.

    Args:
        norm: what stands behind it; `none` leaves it a bias.
        before: channels in.
        after: channels out.
        kernel: (T, H, W), odd; where the stage mixes no slices, 1 along T.
        stage: stride, and whether slices are mixed.
        middle: only for a factorised one.
    """

    def __init__(
        self,
        norm: NormName,
        before: int,
        after: int,
        kernel: Size,
        stage: Stage,
        middle: int | None = None,
    ) -> None:
        t, h, w = kernel = stage.kernel(kernel)
        padding = (t // 2, h // 2, w // 2)
        super().__init__(before, after, kernel, stage.stride, padding, bias=norm == "none")
        self.stride_t = stage.stride[0]

    def forward(self, maps: Maps, mask: MaybeMask = None) -> Float[Tensor, "batch after t2 h2 w2"]:
        """Returns the maps; those of padding are not zeros any more."""
        return super().forward(maps)


class FactorisedConv(nn.Module):
    """A 2D convolution in the frame, norm, ReLU, and a 1D convolution along T: (2+1)D.

    Args:
        norm: between and behind them; `none` leaves them biases.
        before: channels in.
        after: channels out.
        kernel: (T, H, W), odd; where the stage mixes no slices, 1 along T.
        stage: stride, and whether slices are mixed.
        middle: channels between; None as many as keep the parameters of the full convolution.
            Every convolution has its own number, also the second of a block that halves.
    """

    def __init__(
        self,
        norm: NormName,
        before: int,
        after: int,
        kernel: Size,
        stage: Stage,
        middle: int | None = None,
    ) -> None:
        super().__init__()
        self.stride_t, *stride = stage.stride
        middle = middle or count_middle(kernel, before, after)
        plane = Stage(True, (1, stride[0], stride[1]))
        through = Stage(stage.mixes_slices, (self.stride_t, 1, 1))
        self.spatial = FullConv(norm, before, middle, (1, *kernel[1:]), plane)
        self.norm = NORMS[norm](middle)
        self.temporal = FullConv(norm, middle, after, (kernel[0], 1, 1), through)

    def forward(self, maps: Maps, mask: MaybeMask = None) -> Float[Tensor, "batch after t2 h2 w2"]:
        """Returns the maps; those of padding are not zeros any more."""
        inner = functional.relu(self.norm(self.spatial(maps), mask), inplace=True)
        return self.temporal(inner)


class Block(nn.Module):
    """Two convolutions beside a shortcut; the sum is rectified, the two summands are not.

    Args:
        build: `FullConv` or `FactorisedConv`.
        norm: a name of `NORMS`.
        before: channels in.
        after: channels out.
        stage: stride of the first convolution and of the shortcut, and whether slices are mixed.
        project: a convolution in the shortcut.
    """

    def __init__(
        self,
        build: type[FullConv] | type[FactorisedConv],
        norm: NormName,
        before: int,
        after: int,
        stage: Stage,
        project: bool,
    ) -> None:
        super().__init__()
        kernel = (KERNEL, KERNEL, KERNEL)
        self.conv1 = build(norm, before, after, kernel, stage)
        self.norm1 = NORMS[norm](after)
        self.conv2 = build(norm, after, after, kernel, Stage(stage.mixes_slices, (1, 1, 1)))
        self.norm2 = NORMS[norm](after)
        self.project = project
        if project:
            self.shortcut = FullConv(norm, before, after, (1, 1, 1), stage)
            self.shortcut_norm = NORMS[norm](after)

    def forward(
        self, maps: Maps, mask: MaybeMask
    ) -> tuple[Float[Tensor, "batch after t2 h2 w2"], Bool[Tensor, "batch t2"] | None]:
        """Returns the block's maps, and which of their frames are not padding."""
        behind = pool_mask(mask, self.conv1.stride_t)
        inner = functional.relu(self.norm1(self.conv1(maps, mask), behind), inplace=True)
        inner = self.norm2(self.conv2(inner, behind), behind)
        short = self.shortcut_norm(self.shortcut(maps), behind) if self.project else maps
        return functional.relu(inner.add_(short), inplace=True), behind


def count_middle(kernel: Size, before: int, after: int) -> int:
    """Returns M: the channels with which (2+1)D has the parameters of t x d x d, biases aside."""
    t, h, w = kernel
    return t * h * w * before * after // (h * w * before + t * after)


def _plan_strides(
    paper: Sequence[Size],
    strides: Literal["paper", "search", "spacing"],
    spacing: tuple[float, float, float] | None,
    clip_size: Size | None,
) -> list[Stage]:
    if strides == "spacing":
        return plan_stages(paper, spacing=spacing, clip_size=clip_size)
    plan = [Stage(mixes_slices=True, stride=stride) for stride in paper]
    if strides == "search":  # 4 frames are 2 behind res3 and 1 behind res4
        plan[-1] = Stage(mixes_slices=True, stride=(1, 2, 2))
    return plan


def _refuse_even_kernel(kernel: Size) -> None:
    if any(side < 1 or side % 2 == 0 for side in kernel):
        raise ConfigError(
            f"The model `res3d` was given stem_kernel {list(kernel)}; each side must be odd, so "
            "that a kernel has a middle.",
            code="stem_kernel",
        )


def _initialize(model: nn.Module) -> None:
    """Fills convolutions by He's rule with fan-out and the classifier with gaussian .01."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
        if isinstance(layer, nn.Conv3d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
