"""A 2D residual network that looks at every slice alone, and a pooling over the slices.

The plain baseline of the field, and the first arm of any question about slice context: MRNet has
an AlexNet and the maximum, Ng et al. an AlexNet or GoogLeNet and "late pooling".
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, cast

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medvid.contract import ConfigError
from medvid.layers.clips import Size, check_clips, refuse_small_size
from medvid.layers.normalization import ImageBatchNorm
from medvid.layers.pooling import FRAME_POOLS, FramePool
from medvid.layers.residual import ResidualBlock

LAST_MAP = 2
"""Rows and columns of the last map at least: on a single position a 3 x 3 kernel would see nothing
but its own zero padding."""

GROUPS = 8
"""Of group normalisation; every stage's channels are a multiple of `width`, and `width` of this."""


class Slicewise(nn.Module):
    """Scores a stack slice by slice with one 2D network and pools the slices' features.

    It is the control for all models that mix slices: with the same data and training, what they
    gain over it is what slice context is worth. Padding is never looked at: the 2D network runs on
    the other slices only, so batch statistics do not see it either.

    What is pooled are features, not logits: a maximum or log-sum-exp of logits would take every
    class from another slice, and softmax then compares what never stood beside each other. The
    classifier is one linear layer, so mean and attention pooling of features are the same as of
    logits, and `frame_logits` uses the same classifier.

    Differs from the paper: there is no single one. The trunk is He et al.'s CIFAR network with
    identity shortcuts widened by 1 x 1 convolutions and residual branches that start at zero;
    a slice's features are the maximum over its last map, not the mean, because a finding is small
    beside the slice. Gated attention is Ilse et al.'s, the pooling over frames Ng et al.'s "late
    pooling".

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: channels of the first stage; every stage doubles them.
        dropout: on the pooled features.
        clip_size: (T, H, W) of the clips, to refuse an impossible size at once.
        pool: how slices are pooled: `mean`, `max`, `lse` (log-sum-exp) or `attention`.
        depths: residual blocks of every stage; from the second stage on the first block halves.
        norm: `batch`, or `group` for batches of few slices; `group` needs `width` in multiples
            of 8.
        stem_stride: of the first convolution: 1 for patches of 28 to 64 pixels, 2 for 128, 4 for
            256 and more.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is smaller than the network's strides allow, or `width` does
            not suit `norm`.
        DataError: when a clip in a batch is, or has other channels.

    References:
        He et al., Deep residual learning, CVPR 2016, section 4.2 (CIFAR network).
        Goyal et al., Accurate, large minibatch SGD, 2017, section 5.1 (zero-initialised branches).
        Ng et al., Beyond short snippets, CVPR 2015, section 3.1 (late pooling).
        Bien et al., MRNet, PLoS Medicine 2018 (a network per slice, maximum over slices).
        Ilse et al., Attention-based deep multiple instance learning, ICML 2018, equation 9.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "He et al., CVPR 2016 (trunk); Ng et al., CVPR 2015 (late pooling)"
    through_plane = (
        "Looks at every slice alone and pools the slices' features; their order is lost."
    )
    paper_clip: Size = (5, 32, 32)

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 16,
        dropout: float = 0.2,
        clip_size: Size | None = None,
        pool: Literal["mean", "max", "lse", "attention"] = "max",
        depths: Sequence[int] = (1, 1, 1, 1),
        norm: Literal["batch", "group"] = "batch",
        stem_stride: Literal[1, 2, 4] = 1,
    ) -> None:
        super().__init__()
        if norm == "group" and width % GROUPS:
            raise ConfigError(
                f"The model `slicewise` with `norm: group` needs a width in multiples of {GROUPS}; "
                f"it is {width}.",
                code="width_and_norm",
            )
        least = LAST_MAP * stem_stride * 2 ** (len(depths) - 1)
        self.smallest: Size = (1, least, least)
        refuse_small_size(clip_size, self.smallest, "slicewise")
        self.in_channels = in_channels
        widths = [width * 2**stage for stage in range(len(depths))]
        self.stem = nn.Sequential(
            # The kernel grows with the stride so that neighbouring windows overlap.
            nn.Conv2d(
                in_channels, width, 2 * stem_stride + 1, stem_stride, stem_stride, bias=False
            ),
            _build_norm(norm, width),
            nn.ReLU(inplace=True),
        )
        strides = [1] + [2] * (len(depths) - 1)
        self.stages = nn.Sequential(
            *(
                _build_stage(norm, before, after, depth, stride)
                for (before, after), depth, stride in zip(
                    pairwise([width, *widths]), depths, strides, strict=True
                )
            )
        )
        self.pool = FRAME_POOLS[pool](widths[-1])
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def features(
        self,
        clips: Float[Tensor, "batch channels t h w"],
        mask: Bool[Tensor, "batch t"] | None = None,
    ) -> Float[Tensor, "batch features"]:
        """Returns the pooled features of every clip."""
        frames, mask = self._see_frames(clips, mask)
        return self.pool(frames, mask)

    def forward(
        self,
        clips: Float[Tensor, "batch channels t h w"],
        mask: Bool[Tensor, "batch t"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every clip."""
        return self.classifier(self.dropout(self.features(clips, mask)))

    def encode_frames(
        self,
        clips: Float[Tensor, "batch channels t h w"],
        mask: Bool[Tensor, "batch t"] | None = None,
    ) -> Float[Tensor, "batch t features"]:
        """Returns the features of every slice; those of padding are zeros."""
        return self._see_frames(clips, mask)[0]

    def classify_frames(
        self,
        frames: Float[Tensor, "batch t features"],
        mask: Bool[Tensor, "batch t"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Returns the logits of clips from the features of their slices."""
        return self.classifier(self.dropout(self.pool(frames, mask)))

    def frame_logits(
        self,
        clips: Float[Tensor, "batch channels t h w"],
        mask: Bool[Tensor, "batch t"] | None = None,
    ) -> Float[Tensor, "batch t classes"]:
        """Returns the logits of every slice alone; those of padding mean nothing."""
        frames, _ = self._see_frames(clips, mask)
        return self.classifier(self.dropout(frames))

    def frame_weights(
        self,
        clips: Float[Tensor, "batch channels t h w"],
        mask: Bool[Tensor, "batch t"] | None = None,
    ) -> Float[Tensor, "batch t"]:
        """Returns the share that every slice has in the answer; 1 in sum, 0 for padding.

        Attention pooling gives its attention, `max` the share of features in which the slice is
        the strongest, `lse` its softmax, `mean` the same for all.
        """
        return cast("FramePool", self.pool).weights(*self._see_frames(clips, mask))

    def _see_frames(
        self, clips: Float[Tensor, "batch channels t h w"], mask: Bool[Tensor, "batch t"] | None
    ) -> tuple[Float[Tensor, "batch t features"], Bool[Tensor, "batch t"] | None]:
        """Runs the 2D network on the slices that are not padding; others have zeros."""
        mask = check_clips(
            clips, mask, in_channels=self.in_channels, smallest=self.smallest, model="slicewise"
        )
        slices = rearrange(clips, "b c t h w -> b t c h w")
        shown = slices.flatten(0, 1) if mask is None else slices[mask]
        seen = self.stages(self.stem(shown)).amax(dim=(2, 3))
        if mask is None:
            return rearrange(seen, "(b t) f -> b t f", b=len(clips)), None
        frames = seen.new_zeros(*mask.shape, seen.shape[1])
        frames[mask] = seen
        return frames, mask


def _build_stage(norm: str, before: int, after: int, depth: int, stride: int) -> nn.Sequential:
    norms = partial(_build_norm, norm)
    first = ResidualBlock(before, after, stride, norms)
    return nn.Sequential(first, *(ResidualBlock(after, after, 1, norms) for _ in range(depth - 1)))


def _build_norm(norm: str, channels: int) -> nn.BatchNorm2d | nn.GroupNorm:
    return ImageBatchNorm(channels) if norm == "batch" else nn.GroupNorm(GROUPS, channels)
