"""Pooling over windows of frames: Ng et al., Beyond short snippets, CVPR 2015, section 3.1.

A 2D network sees every frame alone; ten neighbouring frames at a time are joined, five apart.
"""

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import ConfigError, DataError
from medvid.layers.clips import AtLeastOne, Size, check_clips
from medvid.layers.frame_trunks import (
    FrameEncoder,
    SpaceName,
    TrunkName,
    build_trunk,
    initialize_relu,
    reduce_space,
)
from medvid.layers.fully_connected import build_classifier, connect
from medvid.layers.pooling import MaxPool

PAPER_CLIP: Size = (120, 220, 220)
"""Two minutes at one frame a second; rows and columns of section 3."""

Clips = Float[Tensor, "batch channels t h w"]
Mask = Bool[Tensor, "batch t"]
FrameMaps = Float[Tensor, "batch t maps rows columns"]
Logits = Float[Tensor, "batch classes"]


class SlowPooling(nn.Module):
    """Maxima over windows of ten frames, a layer on each, the maximum over windows, a layer.

    What lies near each other is joined first. At 5 mm a window spans 50 mm; `window: 7, stride: 3`
    suits patches of 28 slices.

    Differs from the paper: the weights start at random (He et al.), not from ImageNet. Where the
    windows do not end with the last frame, one more begins, so that no slice is left out; on 30
    and on 120 frames, 5 and 23 windows, nothing changes. A clip shorter than a window is one. The
    paper states the number of frames; here it is free. Frames of another size than `clip_size` are
    averaged to its grid. Windows begin at the first frame that is not padding.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: units of the two fully connected layers.
        dropout: behind each of them.
        clip_size: (T, H, W) that they are built for; None is the paper's 120 x 220 x 220.
        trunk: the 2D network: `alexnet` (the paper's here), `googlenet` or `small`.
        space: what is pooled of the last map: `keep`, `average` or `max`; None is `average` for
            GoogLeNet and `keep` for the others.
        window: frames of a window.
        stride: frames from one window to the next.
        trunk_width: channels of the first stage of `trunk: small`.
        norm: of `trunk: small`: `batch`, or `group` for batches of few frames.
        stem_stride: of `trunk: small`: 1 for patches of 28 to 64 pixels, 2 for 128, 4 for 256.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, width), the second fully connected layer.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is too small for the trunk, or `stride` leaves frames out.
        DataError: when a clip in a batch is too small, or has other channels.

    References:
        Ng et al., CVPR 2015, section 3.1 ("Slow Pooling") and figure 2c.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Ng et al., CVPR 2015, arXiv 1503.08909"
    through_plane = "Takes maxima over windows of slices, then over windows; order is lost."
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 4096,
        dropout: float = 0.6,
        clip_size: Size | None = None,
        trunk: TrunkName = "alexnet",
        space: SpaceName | None = None,
        window: int = 10,
        stride: int = 5,
        trunk_width: AtLeastOne = 16,
        norm: Literal["batch", "group"] = "batch",
        stem_stride: Literal[1, 2, 4] = 1,
    ) -> None:
        super().__init__()
        _refuse_gaps(window, stride, "slow_pooling")
        net = build_trunk(trunk, in_channels, width=trunk_width, norm=norm, stem_stride=stem_stride)
        self.encoder = FrameEncoder(
            "slow_pooling", in_channels, net, clip_size or PAPER_CLIP, space
        )
        self.smallest = self.encoder.smallest
        self.window, self.stride = window, stride
        features = self.encoder.count_features()
        self.hidden1 = nn.Sequential(*connect(features, width, dropout))
        self.pool = MaxPool()
        self.hidden2 = nn.Sequential(*connect(width, width, dropout))
        self.classifier = build_classifier(width, num_classes)

    def encode_frames(self, clips: Clips, mask: Mask | None = None) -> FrameMaps:
        """Returns the last maps of every frame; those of padding are zeros."""
        return self.encoder(clips, mask)

    def classify_frames(self, frames: FrameMaps, mask: Mask | None = None) -> Logits:
        """Returns the logits of clips from the maps of their frames."""
        return self.classifier(self._describe(frames, mask))

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns the second fully connected layer."""
        return self._describe(self.encoder(clips, mask), mask)

    def forward(self, clips: Clips, mask: Mask | None = None) -> Logits:
        """Returns the logits of every clip."""
        return self.classify_frames(self.encode_frames(clips, mask), mask)

    def _describe(self, frames: FrameMaps, mask: Mask | None) -> Float[Tensor, "batch features"]:
        windows, full = _pool_windows(frames.flatten(2), mask, self.window, self.stride)
        return self.hidden2(self.pool(self.hidden1(windows), full))


class LocalPooling(nn.Module):
    """Maxima over windows of ten frames, two layers on each, and one classifier over all windows.

    The only pooling of the five that knows where along the stack something was; for that it must
    be built for one number of frames.

    Differs from the paper: the weights start at random (He et al.), not from ImageNet. Where the
    windows do not end with the last frame, one more begins; on 120 frames, 23 windows, nothing
    changes. Windows begin at the first frame that is not padding, and those that hold nothing but
    padding give zeros to the classifier. Frames of another size than `clip_size` are averaged to
    its grid.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: units of the two fully connected layers.
        dropout: behind each of them.
        clip_size: (T, H, W) that the layers are built for, T exactly; None is the paper's
            120 x 220 x 220.
        trunk: the 2D network: `alexnet` (the paper's here), `googlenet` or `small`.
        space: what is pooled of the last map: `keep`, `average` or `max`; None is `average` for
            GoogLeNet and `keep` for the others.
        window: frames of a window.
        stride: frames from one window to the next.
        trunk_width: channels of the first stage of `trunk: small`.
        norm: of `trunk: small`: `batch`, or `group` for batches of few frames.
        stem_stride: of `trunk: small`: 1 for patches of 28 to 64 pixels, 2 for 128, 4 for 256.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, windows x width), what the classifier sees.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is too small for the trunk, or `stride` leaves frames out.
        DataError: when a clip in a batch has another T or other channels, or is too small.

    References:
        Ng et al., CVPR 2015, section 3.1 ("Local Pooling") and figure 2d.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Ng et al., CVPR 2015, arXiv 1503.08909"
    through_plane = "Takes maxima over windows of slices and weighs the windows by their place."
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 4096,
        dropout: float = 0.6,
        clip_size: Size | None = None,
        trunk: TrunkName = "alexnet",
        space: SpaceName | None = None,
        window: int = 10,
        stride: int = 5,
        trunk_width: AtLeastOne = 16,
        norm: Literal["batch", "group"] = "batch",
        stem_stride: Literal[1, 2, 4] = 1,
    ) -> None:
        super().__init__()
        _refuse_gaps(window, stride, "local_pooling")
        net = build_trunk(trunk, in_channels, width=trunk_width, norm=norm, stem_stride=stem_stride)
        clip_size = clip_size or PAPER_CLIP
        self.exact_frames = clip_size[0]
        self.encoder = FrameEncoder(
            "local_pooling", in_channels, net, clip_size, space, self.exact_frames
        )
        self.smallest: Size = (self.exact_frames, *self.encoder.smallest[1:])
        self.window, self.stride = window, stride
        self.hidden = nn.Sequential(
            *connect(self.encoder.count_features(), width, dropout),
            *connect(width, width, dropout),
        )
        windows = count_windows(self.exact_frames, window, stride)
        self.classifier = build_classifier(windows * width, num_classes)

    def encode_frames(self, clips: Clips, mask: Mask | None = None) -> FrameMaps:
        """Returns the last maps of every frame, of any number; those of padding are zeros."""
        return self.encoder(clips, mask)

    def classify_frames(self, frames: FrameMaps, mask: Mask | None = None) -> Logits:
        """Returns the logits of clips from the maps of their frames.

        Raises:
            DataError: when they are not `exact_frames`.
        """
        if frames.shape[1] != self.exact_frames:
            raise DataError(
                f"local_pooling was built for clips of exactly {self.exact_frames} frames, and was "
                f"given the maps of {frames.shape[1]}. Slide windows of {self.exact_frames}.",
                code="clip_frames",
            )
        return self.classifier(self._describe(frames, mask))

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns what the classifier sees: the windows' features one behind the other."""
        return self._describe(self._encode_all(clips, mask), mask)

    def forward(self, clips: Clips, mask: Mask | None = None) -> Logits:
        """Returns the logits of every clip."""
        return self.classify_frames(self._encode_all(clips, mask), mask)

    def _encode_all(self, clips: Clips, mask: Mask | None) -> FrameMaps:
        check_clips(
            clips,
            mask,
            in_channels=self.encoder.in_channels,
            smallest=self.smallest,
            model="local_pooling",
            exact_frames=self.exact_frames,
        )
        return self.encoder(clips, mask)

    def _describe(self, frames: FrameMaps, mask: Mask | None) -> Float[Tensor, "batch features"]:
        windows, full = _pool_windows(frames.flatten(2), mask, self.window, self.stride)
        hidden = self.hidden(windows)
        if full is not None:
            hidden = hidden.masked_fill(~full[..., None], 0)
        return hidden.flatten(1)


class TimeConv(nn.Module):
    """256 convolution kernels over ten frames, then the maximum over time.

    The only one of the five that sees how a shape changes from slice to slice, inside windows of
    ten (50 mm at 5 mm); `window: 7, stride: 3` suits patches of 28 slices.

    Differs from the paper: the weights start at random (He et al.), not from ImageNet. Zeros stand
    around the last map, and behind the last frame where the windows do not end with it; on 120
    frames, 23 windows, they do. The fully connected layers are the two of the other models. Frames
    of another size than `clip_size` are averaged to its grid. Windows begin at the first frame that
    is not padding.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: units of the two fully connected layers.
        dropout: behind each of them.
        clip_size: (T, H, W) that they are built for; None is the paper's 120 x 220 x 220.
        trunk: the 2D network: `alexnet` (the paper's here), `googlenet` or `small`.
        space: what becomes of the positions behind the convolution over time: `keep` (the paper),
            `average` or `max`.
        window: frames that a kernel spans.
        stride: frames from one window to the next.
        kernels: of the convolution over time, each 3 x 3 in the plane.
        trunk_width: channels of the first stage of `trunk: small`.
        norm: of `trunk: small`: `batch`, or `group` for batches of few frames.
        stem_stride: of `trunk: small`: 1 for patches of 28 to 64 pixels, 2 for 128, 4 for 256.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, width), the second fully connected layer.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is too small for the trunk, or `stride` leaves frames out.
        DataError: when a clip in a batch is too small, or has other channels.

    References:
        Ng et al., CVPR 2015, section 3.1 ("Time-Domain Convolution") and figure 2e.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Ng et al., CVPR 2015, arXiv 1503.08909"
    through_plane = "Convolves windows of neighbouring slices once, behind the 2D network."
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 4096,
        dropout: float = 0.6,
        clip_size: Size | None = None,
        trunk: TrunkName = "alexnet",
        space: SpaceName = "keep",
        window: int = 10,
        stride: int = 5,
        kernels: AtLeastOne = 256,
        trunk_width: AtLeastOne = 16,
        norm: Literal["batch", "group"] = "batch",
        stem_stride: Literal[1, 2, 4] = 1,
    ) -> None:
        super().__init__()
        _refuse_gaps(window, stride, "time_conv")
        net = build_trunk(trunk, in_channels, width=trunk_width, norm=norm, stem_stride=stem_stride)
        self.encoder = FrameEncoder(
            "time_conv", in_channels, net, clip_size or PAPER_CLIP, space="keep"
        )
        self.smallest = self.encoder.smallest
        self.space, self.window, self.stride = space, window, stride
        self.conv = nn.Conv3d(
            self.encoder.channels, kernels, (window, 3, 3), (stride, 1, 1), (0, 1, 1)
        )
        self.pool = MaxPool()
        rows, columns = self.encoder.grid if space == "keep" else (1, 1)
        self.hidden = nn.Sequential(
            *connect(kernels * rows * columns, width, dropout), *connect(width, width, dropout)
        )
        self.classifier = build_classifier(width, num_classes)
        initialize_relu(self.conv)

    def encode_frames(self, clips: Clips, mask: Mask | None = None) -> FrameMaps:
        """Returns the last maps of every frame; those of padding are zeros."""
        return self.encoder(clips, mask)

    def classify_frames(self, frames: FrameMaps, mask: Mask | None = None) -> Logits:
        """Returns the logits of clips from the maps of their frames."""
        return self.classifier(self._describe(frames, mask))

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns the second fully connected layer."""
        return self._describe(self.encoder(clips, mask), mask)

    def forward(self, clips: Clips, mask: Mask | None = None) -> Logits:
        """Returns the logits of every clip."""
        return self.classify_frames(self.encode_frames(clips, mask), mask)

    def _describe(self, frames: FrameMaps, mask: Mask | None) -> Float[Tensor, "batch features"]:
        frames, mask = _bring_forward(frames, mask)
        count = count_windows(frames.shape[1], self.window, self.stride)
        behind = self.window + (count - 1) * self.stride - frames.shape[1]
        whole = functional.pad(rearrange(frames, "b t c h w -> b c t h w"), (0, 0, 0, 0, 0, behind))
        maps = rearrange(functional.relu(self.conv(whole)), "b c n h w -> b n c h w")
        full = _find_full(mask, count, self.window, self.stride)
        pooled = self.pool(maps.flatten(2), full).unflatten(1, maps.shape[2:])
        reduced = reduce_space(pooled, self.space, self.encoder.grid)
        return self.hidden(reduced.flatten(1))


def count_windows(frames: int, window: int, stride: int) -> int:
    """Returns how many windows it takes to see all frames: 5 for the paper's 30, 23 for its 120."""
    return max(0, -(-(frames - window) // stride)) + 1


def _pool_windows(
    frames: Float[Tensor, "batch t features"], mask: Mask | None, window: int, stride: int
) -> tuple[Float[Tensor, "batch windows features"], Bool[Tensor, "batch windows"] | None]:
    """Returns the maximum of every window, and which windows hold a frame."""
    frames, mask = _bring_forward(frames, mask)
    length = frames.shape[1]
    # Frames are not negative, so the zeros of padding never win a window that holds a frame.
    pooled = functional.max_pool1d(
        rearrange(frames, "b t f -> b f t"), min(window, length), stride, ceil_mode=True
    )
    full = _find_full(mask, count_windows(length, window, stride), window, stride)
    return rearrange(pooled, "b f n -> b n f"), full


def _bring_forward(frames: Tensor, mask: Mask | None) -> tuple[Tensor, Mask | None]:
    """Lays padding, as zeros, behind all other frames, whose order stays.

    Windows then begin with these. A caller that encoded frames without a mask has given padding
    the features of a frame, so the zeros are made here.
    """
    if mask is None or bool(mask.all()):
        return frames, None
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    clips = torch.arange(len(mask), device=mask.device)[:, None]
    shown = mask[clips, order]
    hidden = (~shown).reshape(*shown.shape, *[1] * (frames.ndim - 2))
    return frames[clips, order].masked_fill(hidden, 0), shown


def _find_full(
    mask: Mask | None, count: int, window: int, stride: int
) -> Bool[Tensor, "batch windows"] | None:
    """Tells which windows a clip of its own length would have; padding lies behind."""
    if mask is None:
        return None
    # A window follows as long as the one before it did not reach the last frame.
    reached = window + stride * (torch.arange(count, device=mask.device) - 1)
    reached[0] = 0
    return reached[None, :] < mask.sum(dim=1, keepdim=True)


def _refuse_gaps(window: int, stride: int, model: str) -> None:
    if not 1 <= stride <= window:
        raise ConfigError(
            f"The model `{model}` was given windows of {window} frames, {stride} apart; `stride` "
            "must be from 1 to `window`, so that no frame lies between two windows.",
            code="window_stride",
        )
