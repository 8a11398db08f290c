"""LRCN: Donahue et al., Long-term recurrent convolutional networks, CVPR 2015 and TPAMI 2016.

The part on recognising activities: a 2D network and one fully connected layer describe every frame,
one layer of LSTM reads the descriptions in order, and there is an answer at every frame.
"""

from collections.abc import Callable
from typing import Literal

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import ConfigError
from medvid.layers.anisotropy import ALONE
from medvid.layers.clips import AtLeastOne, Share, Size
from medvid.layers.frame_trunks import (
    FrameEncoder,
    SmallTrunk,
    SpaceName,
    halve,
    initialize_relu,
    normalize_locally,
)
from medvid.layers.recurrent import describe_reading, drop_second_bias, read_in_order

PAPER_CLIP: Size = (16, 227, 227)
"""Frames, rows, columns of the paper's crops."""

Clips = Float[Tensor, "batch channels t h w"]
Mask = Bool[Tensor, "batch t"]
Frames = Float[Tensor, "batch t features"]
Scores = Float[Tensor, "batch t classes"]


class LRCN(nn.Module):
    """A 2D network per frame, an LSTM over the frames, and the mean of their answers.

    On a scan: what a slice shows is read in the light of all slices below it, or with
    `bidirectional` of all others. Every frame has the clip's label in training, and the clip's
    answer is the mean of the frames' probabilities. The paper's 16 frames span half a second, and
    the state is not carried from clip to clip; 16 slices of 5 mm span a head's half.

    With `average: softmax` the logits are the logarithms of the mean probabilities, so softmax
    gives these back. For several findings an item take `average: logits`.

    Differs from the paper: the weights start at random, not from ImageNet. Every clip is cropped;
    the released loader squashes whole frames to 227 x 227 unless it mirrors them. Frames of another
    size than `clip_size` are averaged to the grid of its last map. That fc8 learns at ten times the
    rate of the others is said to the optimizer (`rates`, see run/ucf101_lrcn).

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: cells of the LSTM, in each direction; the paper has 256 for colour frames and 1024
            for flow.
        dropout: behind fc6.
        clip_size: (T, H, W) that fc6 is built for; None is the paper's 16 x 227 x 227.
        trunk: the 2D network: `hybrid` (the paper's, between CaffeNet and Zeiler and Fergus's) or
            `small`, which learns from scratch on few scans.
        space: what fc6 sees of the last map: `keep` (the paper), `average` or `max`.
        fc6: units of the fully connected layer below the LSTM.
        lstm: False is the paper's single-frame network, fc7 in the place of the LSTM, with which
            its training begins; `width` and `bidirectional` then mean nothing.
        lstm_dropout: behind the LSTM, or behind fc7.
        bidirectional: a second set of cells reads the frames from the last to the first.
        average: what is averaged over frames: `softmax` probabilities (the paper) or `logits`.
        init: `paper` (gaussian .01 and bias .1; LSTM uniform in .01), which needs colours from 0 to
            255, or `he`.
        trunk_width: channels of the first stage of `trunk: small`.
        norm: of `trunk: small`: `batch`, or `group` for batches of few frames.
        stem_stride: of `trunk: small`: 1 for patches of 28 to 64 pixels, 2 for 128, 4 for 256.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, width), twice as many when bidirectional: the LSTM's outputs, averaged over
          frames; with `lstm: False` (B, fc6), fc7.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is too small for the trunk, or probabilities are to be
            averaged where an item has several findings.
        DataError: when a clip in a batch is too small, or has other channels.

    References:
        Donahue et al., CVPR 2015 and arXiv 1411.4389v4, sections 3 and 4; the released prototxt for
        the layers, Caffe's rounding, initialisation and the two dropouts.
    """

    modalities = ("clip",)
    smallest: Size = (1, 49, 49)
    honours_mask = True
    paper = "Donahue et al., CVPR 2015, arXiv 1411.4389"
    through_plane = "Reads the slices' features in order with 1 layer of LSTM."
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 256,
        dropout: float = 0.9,
        clip_size: Size | None = None,
        trunk: Literal["hybrid", "small"] = "hybrid",
        space: SpaceName = "keep",
        fc6: AtLeastOne = 4096,
        lstm: bool = True,
        lstm_dropout: Share = 0.5,
        bidirectional: bool = False,
        average: Literal["softmax", "logits"] = "softmax",
        init: Literal["paper", "he"] = "paper",
        trunk_width: AtLeastOne = 16,
        norm: Literal["batch", "group"] = "batch",
        stem_stride: Literal[1, 2, 4] = 1,
    ) -> None:
        super().__init__()
        net: nn.Module = (
            HybridTrunk(in_channels)
            if trunk == "hybrid"
            else SmallTrunk(in_channels, trunk_width, norm, stem_stride)
        )
        self.through_plane = describe_reading(1, bidirectional) if lstm else ALONE
        self.encoder = FrameEncoder("lrcn", in_channels, net, clip_size or PAPER_CLIP, space)
        self.smallest = self.encoder.smallest
        self.average = average
        self.fc6 = nn.Linear(self.encoder.count_features(), fc6)
        self.dropout = nn.Dropout(dropout)
        if lstm:
            cells = nn.LSTM(fc6, width, batch_first=True, bidirectional=bidirectional)
            drop_second_bias(cells)
            self.mix: nn.Module = cells
            outputs = width * (2 if bidirectional else 1)
        else:
            self.mix = nn.Linear(fc6, fc6)  # fc7
            outputs = fc6
        self.lstm_dropout = nn.Dropout(lstm_dropout)
        self.fc8 = nn.Linear(outputs, num_classes)
        _initialize(self, init)

    def encode_frames(self, clips: Clips, mask: Mask | None = None) -> Frames:
        """Returns fc6 of every frame after ReLU; that of padding means nothing."""
        return functional.relu(self.fc6(self.encoder(clips, mask).flatten(2)))

    def classify_frames(
        self, frames: Frames, mask: Mask | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Returns the logits of clips from fc6 of their frames."""
        scores = self.fc8(self.lstm_dropout(self._mix_frames(frames, mask)))
        share = _share_evenly(scores, mask)
        if self.average == "logits":
            return torch.einsum("btc,bt->bc", scores, share.to(scores.dtype))
        # The logarithm of the mean probability.
        return torch.logsumexp(scores.log_softmax(dim=2) + share.log()[..., None], dim=1)

    def forward(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every clip."""
        return self.classify_frames(self.encode_frames(clips, mask), mask)

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns the LSTM's outputs, or fc7, averaged over frames."""
        outputs = self._mix_frames(self.encode_frames(clips, mask), mask)
        share = _share_evenly(outputs, mask).to(outputs.dtype)
        return torch.einsum("btf,bt->bf", outputs, share)

    def frame_logits(self, clips: Clips, mask: Mask | None = None) -> Scores:
        """Returns the logits at every frame; those of padding mean nothing."""
        outputs = self._mix_frames(self.encode_frames(clips, mask), mask)
        return self.fc8(self.lstm_dropout(outputs))

    def losses(
        self,
        clips: Clips,
        *,
        target: Tensor,
        criterion: Callable[..., Tensor],
        mask: Mask | None = None,
    ) -> dict[str, Tensor]:
        """Returns the mean of the loss at every frame; every frame has the clip's target.

        Raises:
            ConfigError: when an item has several findings and softmax is to be averaged.
        """
        if self.average == "softmax" and getattr(criterion, "multilabel", False):
            raise ConfigError(
                "The model `lrcn` averages softmax probabilities, which exclude each other, and "
                "the labels are several findings an item. Set `model.average: logits`.",
                code="average_of_findings",
            )
        scores = self.frame_logits(clips, mask)
        targets = repeat(target, "b ... -> b t ...", t=scores.shape[1])
        # A clip counts alike however many frames it has.
        weight = None if mask is None else mask / mask.sum(dim=1, keepdim=True)
        return {"loss": criterion(scores, targets, weight=weight)}

    def _mix_frames(self, frames: Frames, mask: Mask | None) -> Float[Tensor, "batch t outputs"]:
        dropped = self.dropout(frames)
        if isinstance(self.mix, nn.LSTM):
            return read_in_order(self.mix, dropped, mask)
        return functional.relu(self.mix(dropped))


class HybridTrunk(nn.Module):
    """The five convolutions between CaffeNet and Zeiler and Fergus's network.

    Wider than CaffeNet's, without padding in the first two, each of which ends in a maximum and a
    local normalisation. 4,310,656 parameters with 3 channels.

    Args:
        in_channels: of a frame.

    Shape:
        (N, in_channels, H, W) -> (N, 384, h, w); 227 pixels leave 111, 55, 26, 13 and 6.
    """

    channels = 384
    smallest = 49  # -> 22 -> 11 -> 4 -> 2 -> 1
    end: SpaceName = "keep"

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 96, 7, 2)
        self.conv2 = nn.Conv2d(96, 384, 5, 2, groups=2)
        self.conv3 = nn.Conv2d(384, 512, 3, padding=1)
        self.conv4 = nn.Conv2d(512, 512, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(512, 384, 3, padding=1, groups=2)

    def forward(self, images: Float[Tensor, "n channels h w"]) -> Float[Tensor, "n maps h2 w2"]:
        """Returns the maps behind pool5."""
        maps = images
        for conv in (self.conv1, self.conv2):
            maps = normalize_locally(halve(functional.relu(conv(maps))))
        for conv in (self.conv3, self.conv4, self.conv5):
            maps = functional.relu(conv(maps))
        return halve(maps)

    def shrink(self, side: int) -> int:
        """Returns how many rows a frame of `side` rows leaves."""
        conv1 = (side - 7) // 2 + 1
        conv2 = (conv1 // 2 - 5) // 2 + 1  # a maximum in ceil mode leaves n // 2
        return conv2 // 4


def _share_evenly(
    frames: Float[Tensor, "batch t features"], mask: Mask | None
) -> Float[Tensor, "batch t"]:
    """Returns one over the number of frames that are not padding, and 0 for padding."""
    shown = frames.new_ones(frames.shape[:2], dtype=torch.float32) if mask is None else mask.float()
    return shown / shown.sum(dim=1, keepdim=True)


def _initialize(model: LRCN, init: Literal["paper", "he"]) -> None:
    """Fills the layers the paper's way (released prototxt), or He's and torch's own for the LSTM.

    The paper: convolutions and fully connected layers gaussian .01 with bias .1, fc8 with bias 0;
    LSTM uniform from -.01 to .01 with bias 0. The small trunk keeps its own start.
    """
    if init == "he":
        initialize_relu(model)
        return
    if isinstance(model.mix, nn.LSTM):
        for name, parameter in model.mix.named_parameters():
            spread = 0.01 if name.startswith("weight") else 0.0
            nn.init.uniform_(parameter, -spread, spread)
    kinds = (nn.Linear, nn.Conv2d) if isinstance(model.encoder.trunk, HybridTrunk) else nn.Linear
    for layer in model.modules():
        if isinstance(layer, kinds):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, 0.0 if layer is model.fc8 else 0.1)
