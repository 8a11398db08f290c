"""Karpathy et al., Large-scale video classification with convolutional neural networks, CVPR 2014.

One network, AlexNet with smaller steps, and four ways for it to see time: not at all
(`SingleFrame`), at the last moment (`LateFusion`), in the first layer (`EarlyFusion`), little by
little (`SlowFusion`). Each may look through two streams, the whole frame at half the resolution
(context) and its middle at full resolution (fovea). The layers are in `medvid.layers.foveal`.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medvid.layers.anisotropy import ALONE, plan_stages
from medvid.layers.clips import Size, bring_forward, check_clips, refuse_small_size
from medvid.layers.foveal import (
    PAPER_SIDE,
    PLANAR,
    STEMS,
    Head,
    HeadName,
    InitName,
    Layers,
    NormName,
    StemName,
    Streams,
    StreamsName,
    find_smallest_side,
    initialize_streams,
)
from medvid.layers.pooling import MeanPool

EARLY_FRAMES = 10
"""Frames that the first layer of early fusion spans, a third of a second (section 3.1)."""

SLOW_DEPTHS: Layers = (4, 2, 2, 1, 1)
SLOW_STEPS: Layers = (2, 2, 2, 1, 1)
"""Frames that slow fusion's kernels span and move on by: 10 frames become 4, 2 and 1."""

SLOW_TAPS = {"conv1": (1, 2), "conv2": (0, 1), "conv3": (0, 1)}
"""The middle of kernels of an even number of frames without padding: both middle ones."""

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
    looks_at = 1
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
        initialize_streams(self, init)

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
    looks_at = 2
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
        initialize_streams(self, init)

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
        # The frame that the 2D twin looks at: no padding shifts it.
        self.centre_taps = _name_taps(self.streams, {"conv1": (self.exact_frames // 2,)})
        self.head = Head(self.streams.features, width, num_classes, dropout)
        initialize_streams(self, init)

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
        self.through_plane = ALONE if planar else _describe_steps(steps)
        self.streams = Streams(
            in_channels, width, clip_size, streams, norm, stem, head, depths, steps
        )
        self.centre_taps = {} if planar else _name_taps(self.streams, SLOW_TAPS)
        self.pool = MeanPool()
        self.head = Head(self.streams.features, width, num_classes, dropout)
        initialize_streams(self, init)

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


def _name_taps(streams: Streams, taps: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Returns the slices of every trunk's kernels that stand for the middle one, by tensor."""
    return {
        f"streams.trunks.{trunk}.convs.{layer}.weight": own
        for trunk in streams.trunks
        for layer, own in taps.items()
    }


def _plan_steps(stem: StemName, spacing: tuple[float, float, float] | None) -> Layers:
    """Returns slow fusion's steps, with 1 where slices wait for the pixels."""
    _, stride, pool1 = STEMS[stem]
    across = (stride * (1 + pool1), 2, 1, 1, 1)
    wanted = [(step, side, side) for step, side in zip(SLOW_STEPS, across, strict=True)]
    plan = plan_stages(wanted, spacing=spacing, clip_size=None)
    one, two, three, four, five = (stage.stride[0] for stage in plan)
    return one, two, three, four, five


def _describe_steps(steps: Layers) -> str:
    """Says how many slices slow fusion's first three layers mix, at these steps."""
    spans, apart = [1], 1
    for depth, step in zip(SLOW_DEPTHS[:3], steps[:3], strict=True):
        spans.append(spans[-1] + (depth - 1) * apart)
        apart *= step
    _, one, two, three = spans
    return (
        f"Mixes {one} neighbouring slices in the first layer, {two} after two, {three} after three."
    )


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
