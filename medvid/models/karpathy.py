"""Karpathy et al., Large-scale video classification with convolutional neural networks, CVPR 2014.

One network, AlexNet with smaller steps, and four ways for it to see time: not at all
(`SingleFrame`), at the last moment (`LateFusion`), in the first layer (`EarlyFusion`), little by
little (`SlowFusion`). Each may look through two streams, the whole frame at half the resolution
(context) and its middle at full resolution (fovea).
"""

import math
from itertools import count
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import ConfigError
from medvid.layers.anisotropy import plan_stages
from medvid.layers.clips import Size, bring_forward, check_clips, refuse_small_size
from medvid.layers.normalization import NORMS, zero_padding
from medvid.layers.pooling import MeanPool

Layers = tuple[int, int, int, int, int]
"""A number for each of conv1 to conv5."""

PAPER_SIDE = 170
"""Rows and columns of the paper's random crops; for two streams 178, which gives the same grid."""

EARLY_FRAMES = 10
"""Frames that the first layer of early fusion spans, a third of a second (section 3.1)."""

SLOW_DEPTHS: Layers = (4, 2, 2, 1, 1)
SLOW_STEPS: Layers = (2, 2, 2, 1, 1)
"""Frames that slow fusion's kernels span and move on by: 10 frames become 4, 2 and 1."""

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
Frames = Float[Tensor, "batch t features"]
Features = Float[Tensor, "batch hidden"]
Logits = Float[Tensor, "batch classes"]


class SingleFrame(nn.Module):
    """AlexNet with smaller steps on one frame: what can be known without time.

    Of a scan it sees the centre slice of the clip. That is the control of every question about
    slice context: put it beside `slow_fusion`, the same network with neighbours. The paper's test
    averages the answers for 20 clips of one frame; so does medvid with a sampler of one frame and
    `test_clips: 20`. On a scan such a mean dilutes a finding in a single slice.

    The centre is the middle one of the frames that are not padding, of an even number the first
    of the second half. A window that hangs over the end of a scan has another middle than its
    target: take windows of one frame for labels of single slices.

    Differs from the paper: convolutions are padded to ceil(n / stride), which the paper does not
    say but without which its two streams do not end on the stated 7 x 7. Alpha of the response
    normalisation is not divided by the number of channels (the text's formula, not torch's).
    Initialisation and dropout are AlexNet's, as the paper names no others. A crop of another size
    than `clip_size` is averaged to the grid that fc6 was built for.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: channels of conv1, a multiple of 3; all others follow in the paper's proportion.
        dropout: before fc7 and before fc8.
        clip_size: (T, H, W) that fc6 is built for; None is the paper's 170 x 170.
        streams: `single` (the whole frame), `multiresolution` (context and fovea, joined at fc6,
            without pool5), or one of the two alone: `context`, `fovea`.
        norm: `lrn` behind conv1 and conv2 (the paper), `none`, or behind every convolution
            `batch`, `group` or `instance`.
        stem: `paper` (11 x 11, stride 3, pool1) or `small` (5 x 5, stride 1, no pool1) for
            patches.
        head: what fc6 sees of each stream: `paper`, every position of its last maps, or `pool`,
            their mean.
        init: `paper` (AlexNet's: gaussian .01, bias 1 in conv2, conv4, conv5, fc6, fc7), or `he`.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, 128 width / 3), fc7 after ReLU.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is too small for the stem or `width` is no multiple of 3.
        DataError: when a clip in a batch is too small, or has other channels.

    References:
        Karpathy et al., CVPR 2014, sections 3.1 (single frame), 3.2 (streams), 4.1 (training).
        Krizhevsky et al., NIPS 2012, sections 3.3 (normalisation) and 5 (initialisation).
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Karpathy et al., CVPR 2014, section 3.1, single frame"
    through_plane = "Looks at the centre slice alone."
    paper_clip: Size = (1, PAPER_SIDE, PAPER_SIDE)

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 96,
        dropout: float = 0.5,
        clip_size: Size | None = None,
        streams: StreamsName = "single",
        norm: NormName = "lrn",
        stem: StemName = "paper",
        head: HeadName = "paper",
        init: InitName = "paper",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        side = find_smallest_side(stem, streams)
        self.smallest: Size = (1, side, side)
        refuse_small_size(clip_size, self.smallest, "single_frame")
        self.streams = Streams(in_channels, width, clip_size, streams, norm, stem, head)
        self.head = Head(self.streams.features, width, num_classes, dropout)
        _initialize(self, init)

    def features(self, clips: Clips, mask: Mask | None = None) -> Features:
        """Returns fc7 of the centre frame after ReLU."""
        mask = self._check(clips, mask)
        centre = _see_alone(self.streams, _pick_centre(clips, 2, mask), None)
        return self.head.describe(centre[:, 0])

    def forward(self, clips: Clips, mask: Mask | None = None) -> Logits:
        """Returns the logits of every clip."""
        return self.head(self.features(clips, mask))

    def encode_frames(self, clips: Clips, mask: Mask | None = None) -> Frames:
        """Returns what fc6 would see of every frame, zeros of padding.

        `forward` computes only the centre one.
        """
        return _see_alone(self.streams, clips, self._check(clips, mask))

    def classify_frames(self, frames: Frames, mask: Mask | None = None) -> Logits:
        """Returns the logits of the centre frames."""
        centre = _pick_centre(frames, 1, mask)
        return self.head(self.head.describe(centre[:, 0]))

    def frame_logits(
        self, clips: Clips, mask: Mask | None = None
    ) -> Float[Tensor, "batch t classes"]:
        """Returns the logits of every frame alone; those of padding mean nothing."""
        frames = self.encode_frames(clips, mask)
        logits = self.head(self.head.describe(rearrange(frames, "b t f -> (b t) f")))
        return rearrange(logits, "(b t) k -> b t k", b=len(clips))

    def _check(self, clips: Clips, mask: Mask | None) -> Mask | None:
        return check_clips(
            clips, mask, in_channels=self.in_channels, smallest=self.smallest, model="single_frame"
        )


class LateFusion(nn.Module):
    """Two single-frame networks with shared weights, joined at fc6: time is seen by fc6 alone.

    Of a scan it sees the first and the last slice of the clip and nothing between: whether
    something is still there k slices on. The paper's frames are 15 apart; for slices of 5 mm, 2 or
    3 are sensible (`sampler: {name: dense, frames: 2, stride: 3}`).

    Two frames, not the mean of many: late fusion is often told otherwise. The first and the last
    are those of the frames that are not padding; a clip of one frame is joined with itself.

    Differs from the paper: as `SingleFrame`.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: channels of conv1, a multiple of 3; all others follow in the paper's proportion.
        dropout: before fc7 and before fc8.
        clip_size: (T, H, W) that fc6 is built for; None is the paper's 170 x 170.
        streams: `single`, `multiresolution`, `fovea` or `context`, as in `single_frame`.
        norm: `lrn` (the paper), `none`, `batch`, `group` or `instance`.
        stem: `paper`, or `small` for patches.
        head: `paper` (fc6 sees every position), or `pool` (their mean).
        init: `paper` (AlexNet's), or `he`.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, 128 width / 3), fc7 after ReLU.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is too small for the stem or `width` is no multiple of 3.
        DataError: when a clip in a batch is too small, or has other channels.

    References:
        Karpathy et al., CVPR 2014, section 3.1 and figure 1, late fusion.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Karpathy et al., CVPR 2014, section 3.1, late fusion"
    through_plane = "Compares the first and the last slice of the clip, and sees none between."
    paper_clip: Size = (2, PAPER_SIDE, PAPER_SIDE)

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 96,
        dropout: float = 0.5,
        clip_size: Size | None = None,
        streams: StreamsName = "single",
        norm: NormName = "lrn",
        stem: StemName = "paper",
        head: HeadName = "paper",
        init: InitName = "paper",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        side = find_smallest_side(stem, streams)
        self.smallest: Size = (1, side, side)
        refuse_small_size(clip_size, self.smallest, "late_fusion")
        self.streams = Streams(in_channels, width, clip_size, streams, norm, stem, head)
        self.head = Head(2 * self.streams.features, width, num_classes, dropout)
        _initialize(self, init)

    def features(self, clips: Clips, mask: Mask | None = None) -> Features:
        """Returns fc7 of the first and the last frame after ReLU."""
        mask = self._check(clips, mask)
        ends = _see_alone(self.streams, _pick_ends(clips, 2, mask), None)
        return self.head.describe(rearrange(ends, "b two f -> b (two f)"))

    def forward(self, clips: Clips, mask: Mask | None = None) -> Logits:
        """Returns the logits of every clip."""
        return self.head(self.features(clips, mask))

    def encode_frames(self, clips: Clips, mask: Mask | None = None) -> Frames:
        """Returns what fc6 would see of every frame, zeros of padding.

        `forward` computes only the two.
        """
        return _see_alone(self.streams, clips, self._check(clips, mask))

    def classify_frames(self, frames: Frames, mask: Mask | None = None) -> Logits:
        """Returns the logits of clips from the first and the last of their frames."""
        ends = _pick_ends(frames, 1, mask)
        return self.head(self.head.describe(rearrange(ends, "b two f -> b (two f)")))

    def _check(self, clips: Clips, mask: Mask | None) -> Mask | None:
        return check_clips(
            clips, mask, in_channels=self.in_channels, smallest=self.smallest, model="late_fusion"
        )


class EarlyFusion(nn.Module):
    """The first layer sees all frames of the clip at once and leaves one; the rest is 2D.

    On scans it is known as 2.5D: T neighbouring slices as channels (T = 3, 5, 9). Its kernels are
    as deep as the clip, so T is exact: that of `clip_size`, in the paper 10.

    The paper found it worse than the single frame on Sports-1M (38.9 against 41.1 % of clips).
    Padding counts as slices of zeros. The 2D twin is `single_frame`: its parameters have the same
    names and, but for T in conv1, the same shapes.

    Differs from the paper: as `SingleFrame`.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: channels of conv1, a multiple of 3; all others follow in the paper's proportion.
        dropout: before fc7 and before fc8.
        clip_size: (T, H, W) that conv1 and fc6 are built for; None is the paper's 10 x 170 x 170.
        streams: `single`, `multiresolution`, `fovea` or `context`, as in `single_frame`.
        norm: `lrn` (the paper), `none`, `batch`, `group` or `instance`.
        stem: `paper`, or `small` for patches.
        head: `paper` (fc6 sees every position), or `pool` (their mean).
        init: `paper` (AlexNet's), or `he`.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, 128 width / 3), fc7 after ReLU.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is too small for the stem or `width` is no multiple of 3.
        DataError: when a clip in a batch has another T, is too small, or has other channels.

    References:
        Karpathy et al., CVPR 2014, section 3.1 and figure 1, early fusion.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Karpathy et al., CVPR 2014, section 3.1, early fusion"
    through_plane = "Mixes all slices of the clip in the first layer, and none later."
    paper_clip: Size = (EARLY_FRAMES, PAPER_SIDE, PAPER_SIDE)

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 96,
        dropout: float = 0.5,
        clip_size: Size | None = None,
        streams: StreamsName = "single",
        norm: NormName = "lrn",
        stem: StemName = "paper",
        head: HeadName = "paper",
        init: InitName = "paper",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.exact_frames = clip_size[0] if clip_size else EARLY_FRAMES
        side = find_smallest_side(stem, streams)
        self.smallest: Size = (self.exact_frames, side, side)
        refuse_small_size(clip_size, self.smallest, "early_fusion")
        depths = (self.exact_frames, 1, 1, 1, 1)
        self.streams = Streams(in_channels, width, clip_size, streams, norm, stem, head, depths)
        self.head = Head(self.streams.features, width, num_classes, dropout)
        _initialize(self, init)

    def features(self, clips: Clips, mask: Mask | None = None) -> Features:
        """Returns fc7 after ReLU."""
        mask = check_clips(
            clips, mask, in_channels=self.in_channels, smallest=self.smallest,
            model="early_fusion", exact_frames=self.exact_frames,
        )  # fmt: skip
        frames, _ = self.streams(clips, mask)
        return self.head.describe(frames[:, 0])

    def forward(self, clips: Clips, mask: Mask | None = None) -> Logits:
        """Returns the logits of every clip."""
        return self.head(self.features(clips, mask))


class SlowFusion(nn.Module):
    """The first three layers mix more and more frames: 4, 6, 10. The paper's best.

    On a scan 10 slices of 5 mm span 50 mm, of 1 mm a lesion. Any T is taken: 10 frames leave one
    map, the paper's network without a rest; of longer clips several maps are left, and fc6 sees
    their mean; the last kernel of a shorter clip reaches over its end into zeros. Padding is
    zeroed before every layer, as if the clip ended there.

    Differs from the paper: as `SingleFrame`, and in what becomes of clips that have not 10 frames.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: channels of conv1, a multiple of 3; all others follow in the paper's proportion.
        dropout: before fc7 and before fc8.
        clip_size: (T, H, W) that fc6 is built for; None is the paper's 10 x 170 x 170.
        streams: `single`, `multiresolution`, `fovea` or `context`, as in `single_frame`.
        norm: `lrn` (the paper), `none`, `batch`, `group` or `instance`.
        stem: `paper`, or `small` for patches.
        head: `paper` (fc6 sees every position), or `pool` (their mean).
        init: `paper` (AlexNet's), or `he`.
        strides: `paper` (every second frame), or `spacing`: kernels do not skip slices while they
            lie more than twice as far apart as pixels; they span as many all the same.
        spacing: of (T, H, W) in mm, for `strides: spacing`; None, as for videos, is isotropic.
        planar: the 2D twin, whose kernels see one frame and whose maps are averaged over T. Its
            parameters have the names of the others.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, 128 width / 3), fc7 after ReLU.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is too small for the stem or `width` is no multiple of 3.
        DataError: when a clip in a batch is too small, or has other channels.

    References:
        Karpathy et al., CVPR 2014, section 3.1 and figure 1, slow fusion.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Karpathy et al., CVPR 2014, section 3.1, slow fusion"
    through_plane = "Mixes 4 neighbouring slices in the first layer, 6 after two, 10 after three."
    paper_clip: Size = (10, PAPER_SIDE, PAPER_SIDE)

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 96,
        dropout: float = 0.5,
        clip_size: Size | None = None,
        streams: StreamsName = "single",
        norm: NormName = "lrn",
        stem: StemName = "paper",
        head: HeadName = "paper",
        init: InitName = "paper",
        strides: Literal["paper", "spacing"] = "paper",
        spacing: tuple[float, float, float] | None = None,
        planar: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        side = find_smallest_side(stem, streams)
        self.smallest: Size = (1, side, side)
        refuse_small_size(clip_size, self.smallest, "slow_fusion")
        depths = PLANAR if planar else SLOW_DEPTHS
        steps = PLANAR if planar else SLOW_STEPS
        if strides == "spacing" and not planar:
            steps = _plan_steps(stem, spacing)
        self.streams = Streams(
            in_channels, width, clip_size, streams, norm, stem, head, depths, steps
        )
        self.pool = MeanPool()
        self.head = Head(self.streams.features, width, num_classes, dropout)
        _initialize(self, init)

    def features(self, clips: Clips, mask: Mask | None = None) -> Features:
        """Returns fc7 after ReLU."""
        mask = check_clips(
            clips, mask, in_channels=self.in_channels, smallest=self.smallest, model="slow_fusion"
        )
        clips, mask = bring_forward(clips, mask)
        return self.head.describe(self.pool(*self.streams(clips, mask)))

    def forward(self, clips: Clips, mask: Mask | None = None) -> Logits:
        """Returns the logits of every clip."""
        return self.head(self.features(clips, mask))


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


def _plan_steps(stem: StemName, spacing: tuple[float, float, float] | None) -> Layers:
    """Returns slow fusion's steps, with 1 where slices wait for the pixels."""
    _, stride, pool1 = STEMS[stem]
    across = (stride * (1 + pool1), 2, 1, 1, 1)
    wanted = [(step, side, side) for step, side in zip(SLOW_STEPS, across, strict=True)]
    plan = plan_stages(wanted, spacing=spacing, clip_size=None)
    one, two, three, four, five = (stage.stride[0] for stage in plan)
    return one, two, three, four, five


def _see_alone(streams: Streams, clips: Clips, mask: Mask | None) -> Frames:
    """Returns what fc6 would see of every frame; normalisation sees no frame beside it."""
    frames = rearrange(clips, "b c t h w -> b t c 1 h w")
    seen, _ = streams(frames.flatten(0, 1) if mask is None else frames[mask], None)
    if mask is None:
        return rearrange(seen, "(b t) 1 f -> b t f", b=len(clips))
    every = seen.new_zeros(*mask.shape, seen.shape[2])
    every[mask] = seen[:, 0]
    return every


def _pick_centre(frames: Float[Tensor, "..."], axis: int, mask: Mask | None) -> Tensor:
    """Returns of every clip the middle one of the frames that are not padding; T is `axis`."""
    if mask is None:
        return frames.narrow(axis, frames.shape[axis] // 2, 1)
    rank, middle = mask.long().cumsum(dim=1), mask.sum(dim=1, keepdim=True) // 2 + 1
    return _pick(frames, axis, (mask & (rank == middle)).long().argmax(dim=1, keepdim=True))


def _pick_ends(frames: Float[Tensor, "..."], axis: int, mask: Mask | None) -> Tensor:
    """Returns of every clip the first and the last of the frames that are not padding."""
    last = frames.shape[axis] - 1
    if mask is None:
        return torch.cat([frames.narrow(axis, 0, 1), frames.narrow(axis, last, 1)], dim=axis)
    shown = mask.long()
    ends = [shown.argmax(dim=1), last - shown.flip(1).argmax(dim=1)]
    return _pick(frames, axis, torch.stack(ends, dim=1))


def _pick(frames: Float[Tensor, "..."], axis: int, index: Int[Tensor, "batch picked"]) -> Tensor:
    """Returns frames index[b] of clip b; T is `axis`."""
    moved = frames.movedim(axis, 1)
    rows = torch.arange(len(moved), device=moved.device)[:, None]
    return moved[rows, index].movedim(1, axis)


def _initialize(model: nn.Module, init: InitName) -> None:
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
