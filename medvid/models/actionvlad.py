"""ActionVLAD: Girdhar et al., Learning spatio-temporal aggregation for action classification, 2017.

A 2D network describes every position of every frame; the descriptors of the whole clip, or scan,
fall into one bag, which a vocabulary of anchors turns into one vector.
"""

import math
from collections.abc import Sequence
from typing import Literal

from einops import rearrange
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import ConfigError
from medvid.layers.clips import Size, check_clips, refuse_small_size
from medvid.layers.normalization import ImageBatchNorm
from medvid.layers.vlad import VLAD, describe_bag, fit_anchors, normalize_length, share_frames

VGG16 = (2, 2, 3, 3, 3)
"""Convolutions of VGG-16's stages. A maximum lies between two stages; pool5 is left out."""

WIDEST = 8
"""Times `width`: VGG-16's stages have 64, 128, 256, 512 and again 512 channels."""

GROUPS = 8
"""Of group normalisation; fewer where the channels do not divide."""

Clips = Shaped[Tensor, "batch ..."]
Mask = Shaped[Tensor, "batch ..."]
Frames = Float[Tensor, "batch t anchors features"]


class ActionVLAD(nn.Module):
    """VLAD over all frames and positions behind a 2D network: what there is, and how much like it.

    The anchors become words for how tissue looks, and the vector says how the words of this scan
    differ from the usual ones, wherever they stand. It suits what is a matter of texture and kind
    (emphysema, fibrosis) and takes any number of slices of any size; where position or the order
    of slices decides, look elsewhere.

    Several clips of an item, or several crops of its frames, fall into one bag too, as in the
    paper's test (25 frames, five crops, one vector), so it takes the clips axis N.

    Training finds the first anchors itself, by k-means in descriptors of the fold's training cases
    (`local_descriptors`, `initialize_from`). At the paper's alpha of 1000 an anchor learns little
    afterwards; with a network that starts from random weights the anchors must be able to follow
    it, so the config `actionvlad_scan` has an alpha of 10, few anchors and norms.

    The paper trains in two stages: the config `ucf101_actionvlad_stage1` trains the classifier
    alone, `ucf101_actionvlad_stage2` also the anchors and the last stage of convolutions. From
    random weights there is nothing worth freezing: one stage, end to end.

    Differs from the paper: weights start by He's rule, not from ImageNet (`init: {from: ...}`
    brings others). One stream: for optical flow build another one with 20 channels and average the
    logits, flow twice as heavy (.667 and .333). Dropout .5 was meant in the released code and never
    active, so the default is none. A frame with odd sides loses its last row or column in a
    maximum; at 224 pixels all sides are even.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: channels of the first stage; the others have 2, 4, 8, 8, ... times as many.
        dropout: on the vector.
        clip_size: (T, H, W) of the clips, to refuse an impossible size at once.
        anchors: K, words of the vocabulary.
        alpha: how sharp descriptors are assigned at the start; 1000 means to one anchor alone.
        depths: convolutions of every stage, VGG-16's; a stage less halves the frames once less.
        norm: behind every convolution, whose bias then falls away: `none` (the paper), `batch` or
            `group`.

    Shape:
        - clips: (B, C, T, H, W) or (B, N, C, T, H, W), mask: (B, T) or (B, N, T); False marks
          padding.
        - features: (B, anchors x channels of the last stage), of unit length; 32,768 in the paper.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is smaller than the maxima allow.
        DataError: when a clip in a batch is, or has other channels.

    References:
        Girdhar et al., CVPR 2017, sections 3 and 4; the released code for what is started how.
        Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015, table 1, column D.
    """

    modalities = ("clip",)
    honours_mask = True
    takes_segments = True
    paper = "Girdhar et al., CVPR 2017, arXiv 1704.02895"
    through_plane = "Adds up local descriptors of all slices in one bag; their order is lost."
    paper_clip: Size = (25, 224, 224)

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 64,
        dropout: float = 0.0,
        clip_size: Size | None = None,
        anchors: int = 64,
        alpha: float = 1000.0,
        depths: Sequence[int] = VGG16,
        norm: Literal["none", "batch", "group"] = "none",
    ) -> None:
        super().__init__()
        if not depths or min(depths) < 1 or anchors < 1 or not alpha > 0:
            raise ConfigError(
                f"The model `actionvlad` was given depths {list(depths)}, {anchors} anchors and "
                f"alpha {alpha}; it needs a stage, and all of them above 0.",
                code="vlad_options",
            )
        least = 2 ** (len(depths) - 1)  # one position is left: a bag can be small
        self.smallest: Size = (1, least, least)
        refuse_small_size(clip_size, self.smallest, "actionvlad")
        self.in_channels = in_channels
        self.trunk = Trunk(in_channels, width, depths, norm)
        self.vlad = VLAD(self.trunk.channels, anchors, alpha)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(anchors * self.trunk.channels, num_classes)
        # The released code. The vector has length 1: its 32,768 numbers are small, so are logits.
        nn.init.trunc_normal_(self.classifier.weight, std=0.01, a=-0.02, b=0.02)
        nn.init.zeros_(self.classifier.bias)

    @property
    def awaits_descriptors(self) -> bool:
        """Whether the anchors are still random: neither found in data nor loaded."""
        return not bool(self.vlad.fitted)

    def local_descriptors(
        self, clips: Clips, mask: Mask | None = None
    ) -> Float[Tensor, "frames positions features"]:
        """Returns what the anchors are found in: the last maps, of all frames but padding.

        They are those of the layer itself: before ReLU, of unit length.
        """
        clips, shown = self._join_clips(clips, mask)
        return normalize_length(self._see_frames(clips, shown))

    def initialize_from(self, descriptors: Float[Tensor, "n features"], seed: int) -> None:
        """Starts the anchors at the k-means centres of descriptors.

        Raises:
            ConfigError: when there are fewer descriptors than anchors.
        """
        self.vlad.set_anchors(fit_anchors(descriptors, len(self.vlad.anchors), seed))

    def encode_frames(self, clips: Clips, mask: Mask | None = None) -> Frames:
        """Returns every frame's sums of residuals, before any norm; those of padding are zeros."""
        clips, shown = self._join_clips(clips, mask)
        sums = self.vlad.aggregate(self._see_frames(clips, shown))
        if shown is None:
            return rearrange(sums, "(b t) k d -> b t k d", b=len(clips))
        frames = sums.new_zeros(*shown.shape, *sums.shape[1:])
        frames[shown] = sums
        return frames

    def classify_frames(
        self, frames: Frames, mask: Bool[Tensor, "batch t"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Returns the logits of bags from their frames' sums."""
        return self.classifier(self.dropout(self._fill_bags(frames, mask)))

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch vector"]:
        """Returns the vector of every bag."""
        return self._fill_bags(self.encode_frames(clips, mask), _flatten_mask(mask))

    def forward(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every bag."""
        return self.classify_frames(self.encode_frames(clips, mask), _flatten_mask(mask))

    def frame_weights(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch t"]:
        """Returns the share that every frame has in the answer; 1 in sum, 0 for padding.

        It is the frame's share in the lengths of the residuals of an anchor, mean over anchors.
        """
        return share_frames(self.encode_frames(clips, mask))

    def _fill_bags(
        self, frames: Frames, mask: Bool[Tensor, "batch t"] | None
    ) -> Float[Tensor, "batch vector"]:
        if mask is not None:
            frames = frames.masked_fill(~mask[..., None, None], 0)
        return describe_bag(frames.sum(dim=1))

    def _join_clips(
        self, clips: Clips, mask: Mask | None
    ) -> tuple[Float[Tensor, "batch channels t h w"], Bool[Tensor, "batch t"] | None]:
        """Lays the clips of an item behind one another; the mask is None without padding."""
        if clips.ndim == 6:
            clips = rearrange(clips, "b n c t h w -> b c (n t) h w")
        shown = check_clips(
            clips,
            _flatten_mask(mask),
            in_channels=self.in_channels,
            smallest=self.smallest,
            model="actionvlad",
        )
        return clips, shown

    def _see_frames(
        self,
        clips: Float[Tensor, "batch channels t h w"],
        shown: Bool[Tensor, "batch t"] | None,
    ) -> Float[Tensor, "frames positions features"]:
        """Runs the 2D network on the frames that are not padding."""
        images = rearrange(clips, "b c t h w -> b t c h w")
        maps = self.trunk(images.flatten(0, 1) if shown is None else images[shown])
        return rearrange(maps, "n d h w -> n (h w) d")


class Trunk(nn.Module):
    """Stages of 3 x 3 convolutions with maxima between them; the last map is not rectified.

    VLAD on rectified maps is less accurate (the released code): half of what tells a descriptor
    from its anchor is below zero.

    Args:
        in_channels: of a frame.
        width: channels of the first stage.
        depths: convolutions of every stage.
        norm: `none`, `batch` or `group`.

    Shape:
        (N, in_channels, H, W) -> (N, channels, h, w); VGG-16 makes 14 of 224 pixels.
    """

    def __init__(self, in_channels: int, width: int, depths: Sequence[int], norm: str) -> None:
        super().__init__()
        self.convs = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        for stage, depth in enumerate(depths, start=1):
            channels = width * min(2 ** (stage - 1), WIDEST)
            for number in range(1, depth + 1):
                name = f"conv{stage}_{number}"
                conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=norm == "none")
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
                self.convs[name] = conv
                self.norms[name] = _build_norm(norm, channels)
                in_channels = channels
        self.channels = in_channels
        self.halves = {f"conv{stage}_1" for stage in range(2, len(depths) + 1)}
        self.first = "conv1_1"

    def forward(self, images: Float[Tensor, "n channels h w"]) -> Float[Tensor, "n maps h2 w2"]:
        """Returns the last maps before their ReLU."""
        maps = images
        for name, conv in self.convs.items():
            if name != self.first:
                maps = functional.relu(maps, inplace=True)
            if name in self.halves:
                maps = functional.max_pool2d(maps, 2, 2)
            maps = self.norms[name](conv(maps))
        return maps


def _build_norm(norm: str, channels: int) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    if norm == "batch":
        return ImageBatchNorm(channels)
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def _flatten_mask(mask: Mask | None) -> Mask | None:
    return mask if mask is None or mask.ndim == 2 else mask.flatten(1)
