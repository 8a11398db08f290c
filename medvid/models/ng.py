"""Pooling over all frames: Ng et al., Beyond short snippets, CVPR 2015, section 3.1.

A 2D network sees every frame alone; then comes the maximum over frames. On a scan many published
readers are built so: MRNet is AlexNet and a maximum over slices. The paper's pooling over windows
is in `ng_windows`, its LSTM in `ng_lstm`.
"""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from medvid.layers.clips import AtLeastOne, Size
from medvid.layers.frame_trunks import (
    FrameEncoder,
    SpaceName,
    TrunkName,
    build_trunk,
)
from medvid.layers.fully_connected import build_classifier, connect
from medvid.layers.pooling import MaxPool

PAPER_CLIP: Size = (120, 220, 220)
"""Two minutes at one frame a second; rows and columns of section 3."""

Clips = Float[Tensor, "batch channels t h w"]
Mask = Bool[Tensor, "batch t"]
FrameMaps = Float[Tensor, "batch t maps rows columns"]
Logits = Float[Tensor, "batch classes"]


class ConvPooling(nn.Module):
    """The maximum over frames of every position of the last map, then fully connected layers.

    The paper's best pooling. Where in the slice something shows is kept, in which slice is not: it
    is the control of models that see the order of slices.

    Pooling has no parameters, so a network trained on single frames runs on any number of them:
    the paper goes from 1 to 30 to 120 frames with the same weights.

    Differs from the paper: the weights start at random (He et al.), not from ImageNet. Whether
    fully connected layers stand behind GoogLeNet is open in the text; the two of the paper's figure
    stand behind every trunk here. Frames of another size than `clip_size` are averaged to its grid.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: units of the two fully connected layers.
        dropout: behind each of them.
        clip_size: (T, H, W) that they are built for; None is the paper's 120 x 220 x 220.
        trunk: the 2D network: `alexnet`, `googlenet` (both the paper's, for 220 pixels) or `small`,
            which learns from scratch on few scans and on patches.
        space: what is pooled over frames: `keep` (every position of the last map), its `average` or
            its `max`, for a finding that may lie anywhere. None is `average` for GoogLeNet, whose
            own end it is (the text allows the 7 x 7 map as well), and `keep` for the others.
        trunk_width: channels of the first stage of `trunk: small`.
        norm: of `trunk: small`: `batch`, or `group` for batches of few frames.
        stem_stride: of `trunk: small`: 1 for patches of 28 to 64 pixels, 2 for 128, 4 for 256.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, width), the second fully connected layer.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is too small for the trunk.
        DataError: when a clip in a batch is, or has other channels.

    References:
        Ng et al., CVPR 2015, section 3.1 ("Conv Pooling") and figure 2a.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Ng et al., CVPR 2015, arXiv 1503.08909"
    through_plane = "Takes the maximum over slices of every feature and place; their order is lost."
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 4096,
        dropout: float = 0.6,
        clip_size: Size | None = None,
        trunk: TrunkName = "googlenet",
        space: SpaceName | None = None,
        trunk_width: AtLeastOne = 16,
        norm: Literal["batch", "group"] = "batch",
        stem_stride: Literal[1, 2, 4] = 1,
    ) -> None:
        super().__init__()
        net = build_trunk(trunk, in_channels, width=trunk_width, norm=norm, stem_stride=stem_stride)
        self.encoder = FrameEncoder(
            "conv_pooling", in_channels, net, clip_size or PAPER_CLIP, space
        )
        self.smallest = self.encoder.smallest
        self.pool = MaxPool()
        self.hidden = nn.Sequential(
            *connect(self.encoder.count_features(), width, dropout),
            *connect(width, width, dropout),
        )
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

    def frame_logits(
        self, clips: Clips, mask: Mask | None = None
    ) -> Float[Tensor, "batch t classes"]:
        """Returns the logits of every frame as a clip of its own; those of padding mean nothing."""
        return self.classifier(self.hidden(self.encoder(clips, mask).flatten(2)))

    def frame_weights(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch t"]:
        """Returns the share of features in which a frame is the strongest; 0 for padding."""
        return self.pool.weights(self.encoder(clips, mask).flatten(2), mask)

    def _describe(self, frames: FrameMaps, mask: Mask | None) -> Float[Tensor, "batch features"]:
        return self.hidden(self.pool(frames.flatten(2), mask))


class LatePooling(nn.Module):
    """Two fully connected layers on every frame, then the maximum over frames.

    Where in the slice something showed is lost before slices are compared; what is pooled is what
    each slice says by itself.

    Differs from the paper: the weights start at random (He et al.), not from ImageNet. Frames of
    another size than `clip_size` are averaged to its grid.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: units of the two fully connected layers.
        dropout: behind each of them.
        clip_size: (T, H, W) that they are built for; None is the paper's 120 x 220 x 220.
        trunk: the 2D network: `alexnet` (the paper's here), `googlenet` or `small`.
        space: what the layers see of the last map: `keep`, `average` or `max`; None is `average`
            for GoogLeNet and `keep` for the others.
        trunk_width: channels of the first stage of `trunk: small`.
        norm: of `trunk: small`: `batch`, or `group` for batches of few frames.
        stem_stride: of `trunk: small`: 1 for patches of 28 to 64 pixels, 2 for 128, 4 for 256.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, width), the maximum.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is too small for the trunk.
        DataError: when a clip in a batch is, or has other channels.

    References:
        Ng et al., CVPR 2015, section 3.1 ("Late Pooling") and figure 2b.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Ng et al., CVPR 2015, arXiv 1503.08909"
    through_plane = (
        "Looks at every slice alone and takes the maximum of what they say; their order is lost."
    )
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
        trunk_width: AtLeastOne = 16,
        norm: Literal["batch", "group"] = "batch",
        stem_stride: Literal[1, 2, 4] = 1,
    ) -> None:
        super().__init__()
        net = build_trunk(trunk, in_channels, width=trunk_width, norm=norm, stem_stride=stem_stride)
        self.encoder = FrameEncoder(
            "late_pooling", in_channels, net, clip_size or PAPER_CLIP, space
        )
        self.smallest = self.encoder.smallest
        self.hidden = nn.Sequential(
            *connect(self.encoder.count_features(), width, dropout),
            *connect(width, width, dropout),
        )
        self.pool = MaxPool()
        self.classifier = build_classifier(width, num_classes)

    def encode_frames(
        self, clips: Clips, mask: Mask | None = None
    ) -> Float[Tensor, "batch t features"]:
        """Returns the second fully connected layer of every frame; padding's means nothing."""
        return self.hidden(self.encoder(clips, mask).flatten(2))

    def classify_frames(
        self, frames: Float[Tensor, "batch t features"], mask: Mask | None = None
    ) -> Logits:
        """Returns the logits of clips from the features of their frames."""
        return self.classifier(self.pool(frames, mask))

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns the maximum over frames."""
        return self.pool(self.encode_frames(clips, mask), mask)

    def forward(self, clips: Clips, mask: Mask | None = None) -> Logits:
        """Returns the logits of every clip."""
        return self.classify_frames(self.encode_frames(clips, mask), mask)

    def frame_logits(
        self, clips: Clips, mask: Mask | None = None
    ) -> Float[Tensor, "batch t classes"]:
        """Returns the logits of every frame as a clip of its own; those of padding mean nothing."""
        return self.classifier(self.encode_frames(clips, mask))

    def frame_weights(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch t"]:
        """Returns the share of features in which a frame is the strongest; 0 for padding."""
        return self.pool.weights(self.encode_frames(clips, mask), mask)
