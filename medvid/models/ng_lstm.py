"""Stacked LSTM: Ng et al., Beyond short snippets, CVPR 2015, section 3.2; the poolings are in `ng`.

A 2D network describes every frame, five layers of LSTM read the descriptions in order, and there is
an answer at every frame.
"""

from collections.abc import Callable
from typing import Literal

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medvid.contract import ConfigError
from medvid.layers.clips import AtLeastOne, Size
from medvid.layers.frame_trunks import FrameEncoder, SpaceName, TrunkName, build_trunk
from medvid.layers.fully_connected import build_classifier, connect
from medvid.layers.recurrent import describe_reading, drop_second_bias, read_in_order

PAPER_CLIP: Size = (30, 220, 220)
"""Frames that the LSTM is unrolled over; rows and columns of section 3."""

ALEXNET_UNITS = 8
"""AlexNet's fully connected layers have 4096 units, 8 for each of the 512 cells."""

GainName = Literal["linear", "uniform", "triangular"]
Clips = Float[Tensor, "batch channels t h w"]
Mask = Bool[Tensor, "batch t"]
Frames = Float[Tensor, "batch t features"]
Scores = Float[Tensor, "batch t classes"]


class StackedLSTM(nn.Module):
    """Five layers of LSTM over the frames' descriptions, with an answer at every frame.

    It reads the slices in order and keeps what it needs of them, so the context has no fixed
    length. Training weighs the loss of every frame with a gain that rises from 0 at the first frame
    to 1 at the last one, when everything was seen; the answer of the clip is the mean of the
    frames' probabilities with the same weights.

    A scan has no end that comes last in time: for it take `gain: uniform` (or `triangular`, the
    middle slices most) and `bidirectional`.

    With `average: softmax` the logits are the logarithms of the mean probabilities, so softmax
    gives these back. For several findings an item take `average: logits`.

    Differs from the paper: the weights start at random, not from ImageNet. The loss is divided by
    the sum of the gains, so that its height does not depend on T. Frames of another size than
    `clip_size` are averaged to its grid where positions are kept.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: cells of every layer, in each direction.
        dropout: on the description of every frame, and between AlexNet's fully connected layers;
            the paper has 0.6 there, and names none for GoogLeNet.
        clip_size: (T, H, W) of the clips; None is the paper's 30 x 220 x 220.
        trunk: the 2D network: `googlenet` (1024 features a frame), `alexnet` (its two fully
            connected layers belong to it) or `small`, which learns from scratch on few scans.
        space: what the LSTM sees of the last map: `keep`, `average` or `max`; None is `average` for
            GoogLeNet and `keep` for the others.
        layers: of LSTM, one above the other.
        bidirectional: a second stack of cells reads the frames from the last to the first.
        gain: weights of the frames, in the loss and in the answer: `linear` (the paper), `uniform`
            or `triangular`. A clip of one frame has weight 1.
        predict: the answer of a clip from those of its frames: `weighted` with the gain (the
            paper's results), or its other three, less than 1 % apart: the `last` frame's, the `max`
            over frames, or the `sum`.
        average: what is averaged over frames: `softmax` probabilities (the paper) or `logits`.
        trunk_width: channels of the first stage of `trunk: small`.
        norm: of `trunk: small`: `batch`, or `group` for batches of few frames.
        stem_stride: of `trunk: small`: 1 for patches of 28 to 64 pixels, 2 for 128, 4 for 256.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, width), twice as many when bidirectional: the last layer's outputs, averaged
          with the gain.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is too small for the trunk, or probabilities are to be
            averaged where an item has several findings.
        DataError: when a clip in a batch is too small, or has other channels.

    References:
        Ng et al., CVPR 2015, section 3.2 and figure 4.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Ng et al., CVPR 2015, arXiv 1503.08909, section 3.2"
    through_plane = "Reads the slices' features in order with 5 layers of LSTM."
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 512,
        dropout: float = 0.0,
        clip_size: Size | None = None,
        trunk: TrunkName = "googlenet",
        space: SpaceName | None = None,
        layers: AtLeastOne = 5,
        bidirectional: bool = False,
        gain: GainName = "linear",
        predict: Literal["weighted", "last", "max", "sum"] = "weighted",
        average: Literal["softmax", "logits"] = "softmax",
        trunk_width: AtLeastOne = 16,
        norm: Literal["batch", "group"] = "batch",
        stem_stride: Literal[1, 2, 4] = 1,
    ) -> None:
        super().__init__()
        net = build_trunk(trunk, in_channels, width=trunk_width, norm=norm, stem_stride=stem_stride)
        self.through_plane = describe_reading(layers, bidirectional)
        self.encoder = FrameEncoder("lstm", in_channels, net, clip_size or PAPER_CLIP, space)
        self.smallest = self.encoder.smallest
        self.gain, self.predict, self.average = gain, predict, average
        features = self.encoder.count_features()
        units = ALEXNET_UNITS * width
        self.describe = (
            nn.Sequential(*connect(features, units, dropout), *connect(units, units, dropout))
            if trunk == "alexnet"
            else nn.Sequential(nn.Dropout(dropout))
        )
        self.lstm = nn.LSTM(
            units if trunk == "alexnet" else features,
            width,
            layers,
            batch_first=True,
            bidirectional=bidirectional,
        )
        drop_second_bias(self.lstm)
        self.classifier = build_classifier(width * (2 if bidirectional else 1), num_classes)

    def encode_frames(self, clips: Clips, mask: Mask | None = None) -> Frames:
        """Returns the description of every frame; that of padding means nothing."""
        return self.describe(self.encoder(clips, mask).flatten(2))

    def classify_frames(
        self, frames: Frames, mask: Mask | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Returns the logits of clips from the descriptions of their frames."""
        return self._combine(self.classifier(read_in_order(self.lstm, frames, mask)), mask)

    def forward(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every clip."""
        return self.classify_frames(self.encode_frames(clips, mask), mask)

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns the last layer's outputs, averaged with the gain."""
        outputs = read_in_order(self.lstm, self.encode_frames(clips, mask), mask)
        return torch.einsum("btf,bt->bf", outputs, self._share(outputs, mask).to(outputs.dtype))

    def frame_logits(self, clips: Clips, mask: Mask | None = None) -> Scores:
        """Returns the logits at every frame; those of padding mean nothing."""
        return self.classifier(read_in_order(self.lstm, self.encode_frames(clips, mask), mask))

    def losses(
        self,
        clips: Clips,
        *,
        target: Tensor,
        criterion: Callable[..., Tensor],
        mask: Mask | None = None,
    ) -> dict[str, Tensor]:
        """Returns the loss at every frame, averaged with the gain; every frame has the target.

        A clip counts alike however many frames it has.

        Raises:
            ConfigError: when an item has several findings and softmax is to be averaged.
        """
        if self.average == "softmax" and getattr(criterion, "multilabel", False):
            raise ConfigError(
                "The model `lstm` averages softmax probabilities, which exclude each other, and "
                "the labels are several findings an item. Set `model.average: logits`.",
                code="average_of_findings",
            )
        scores = self.frame_logits(clips, mask)
        targets = repeat(target, "b ... -> b t ...", t=scores.shape[1])
        return {"loss": criterion(scores, targets, weight=self._share(scores, mask))}

    def _share(self, frames: Frames, mask: Mask | None) -> Float[Tensor, "batch t"]:
        weights = weigh_frames(self.gain, frames, mask)
        return weights / weights.sum(dim=1, keepdim=True)

    def _combine(self, scores: Scores, mask: Mask | None) -> Float[Tensor, "batch classes"]:
        if self.average == "softmax":
            scores = scores.log_softmax(dim=2)
        shown = weigh_frames("uniform", scores, mask)
        if self.predict == "max":
            return scores.masked_fill(shown[..., None] == 0, -torch.inf).amax(dim=1)
        if self.predict == "last":
            last = shown.cumsum(dim=1).argmax(dim=1)
            return scores[torch.arange(len(scores), device=scores.device), last]
        share = (
            self._share(scores, mask)
            if self.predict == "weighted"
            else shown / shown.sum(dim=1, keepdim=True)
        )
        if self.average == "softmax":  # the logarithm of the mean probability
            return torch.logsumexp(scores + share.log()[..., None], dim=1)
        return torch.einsum("btc,bt->bc", scores, share.to(scores.dtype))


def weigh_frames(
    gain: GainName, frames: Float[Tensor, "batch t features"], mask: Mask | None
) -> Float[Tensor, "batch t"]:
    """Returns the weight of every frame by its place among those that are not padding.

    `linear` rises from 0 to 1; `triangular` rises to the middle and falls as it rose, and is above
    0 at both ends; `uniform` is 1. Padding has 0, the only frame of a clip 1.
    """
    shown = frames.new_ones(frames.shape[:2], dtype=torch.bool) if mask is None else mask
    place = shown.cumsum(dim=1).float()  # 1 for the first frame that is not padding
    count = shown.sum(dim=1, keepdim=True).float()
    if gain == "linear":
        weights = torch.where(count > 1, (place - 1) / (count - 1).clamp_min(1), 1.0)
    elif gain == "triangular":
        weights = torch.minimum(place, count + 1 - place) / ((count + 1) / 2).floor()
    else:
        weights = torch.ones_like(place)
    return weights * shown
