"""FSTCN: Sun et al., Human action recognition using factorized spatio-temporal networks, 2015."""

import math
from itertools import count
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import ConfigError
from medvid.layers.clips import AtLeastOne, Size, bring_forward, check_clips, refuse_small_size
from medvid.layers.normalization import GROUPS, ImageBatchNorm, zero_padding

SHARED: tuple[tuple[int, int], ...] = ((96, 7), (256, 5), (512, 3), (512, 3))
"""Filters and kernel of SCL1 to SCL4 at the paper's width; a maximum follows the first two."""

PAPER_WIDTH, OWN, TEMPORAL, HIDDEN = 96, 128, 32, (4096, 2048)
"""Filters of SCL1, of either path's SCL5, of each half of the TCL, and units of the paths' layers
at the paper's width. Another width scales all of them alike."""

PAPER_CLIP: Size = (30, 204, 204)
"""4 steps of 5 frames and one of 9 are 30 frames; crops of 204."""

Clips = Float[Tensor, "batch channels t h w"]
Mask = Bool[Tensor, "batch t"]
Cells = Float[Tensor, "batch l f x"]
Norm = Literal["lrn", "batch", "group"]


class FSTCN(nn.Module):
    """A 3D kernel as a 2D one and a 1D one behind it: shared spatial layers, then one over time.

    Two paths through the same four spatial layers. One looks at a single frame V(t); the other at
    differences of frames V(t) - V(t + d), a few of them in a row. Between slices that difference
    is what changes from one to the next: flat where a vessel runs on, a ring where a nodule ends.

    The differences' features are not convolved over (t, x, y) but over (t, f): a learned matrix P
    puts the features into an order in which neighbours belong together, and positions are
    channels. Two kernels, 3 x 3 and 5 x 5, run side by side.

    The defaults are the paper's network as far as it is known: 206,930,469 parameters with 3
    channels and 101 classes, 168 million of them in the layer behind the temporal one. The paper
    prints no number, so that is this reading's. Conv1 and conv2 are not padded, which gives the
    4 x 4 positions of the notes; LRN has Caffe's constants. SCL5 is followed by a maximum and no
    ReLU.

    With `head: pool` the temporal maps are averaged over t: as many differences as fit into a clip
    of any length are looked at, and two thirds of the parameters fall away.

    The mask is honoured: a difference counts when both its frames are no padding.

    Differs from the paper: trained whole and at once, without ImageNet and the stage that trains
    the spatial path as a classifier. Weights start by He's rule, those of the last layer gaussian
    .01, P orthogonal. Clips of more rows and columns than `clip_size` are averaged to its grid of
    positions. The paper's test is the transform `grid_crop` and `evaluate.average: sci_max`.
    Everything that options other than `width`, `dropout` and `clip_size` change.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: filters of SCL1; all other layers keep their proportion to its 96.
        dropout: behind the temporal convolutions and every hidden layer.
        clip_size: (T, H, W) that the network is built for; None is 30 x 204 x 204.
        frames: l_t, frames and differences that are looked at; `head: pool` takes all.
        step: s_t, frames from one to the next of them.
        distance: d_t, frames from V(t) to the one that is subtracted; 1 for slices of 5 mm.
        difference: `absolute`, or `signed`, which tells darker from brighter.
        spatial_frame: which of the frames the spatial path sees in training: a `random` one (the
            paper), or the `centre`, which it always is in testing.
        conv_strides: of SCL1 and SCL2; (1, 1) for patches of 28 to 64 pixels.
        padded: keep the size in SCL1 and SCL2 but for their strides.
        norm: `lrn` behind SCL1 and SCL2 (the paper), or `batch` or `group` in all four. `group`
            brings the difference of two like slices, which is noise, to the size of any other; it
            learned the made-up nodules later (AUC .89 after 12 epochs, one seed and 20 cases;
            `batch` .96).
        head: `paper` (the temporal maps are flattened), or `pool` (averaged over t).

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding. With `head: paper` T is
          (frames - 1) step + distance + 1.
        - features: (B, 64 / 3 width), the layer behind both paths after ReLU.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` has another T, or is too small for the maxima.
        DataError: when a clip in a batch is, or has other channels.

    References:
        Sun et al., ICCV 2015, sections 3.1 to 3.3, figures 2 and 3.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Sun et al., ICCV 2015, arXiv 1510.00562"
    through_plane = (
        "Compares slices a fixed distance apart and convolves the differences over the stack."
    )
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = PAPER_WIDTH,
        dropout: float = 0.5,
        clip_size: Size | None = None,
        frames: AtLeastOne = 5,
        step: AtLeastOne = 5,
        distance: AtLeastOne = 9,
        difference: Literal["absolute", "signed"] = "absolute",
        spatial_frame: Literal["random", "centre"] = "random",
        conv_strides: tuple[AtLeastOne, AtLeastOne] = (2, 2),
        padded: bool = False,
        norm: Norm = "lrn",
        head: Literal["paper", "pool"] = "paper",
    ) -> None:
        super().__init__()
        needed = (frames - 1) * step + distance + 1
        whole = head == "paper"
        if whole and clip_size is not None and clip_size[0] != needed:
            raise ConfigError(
                f"fstcn with frames {frames}, step {step} and distance {distance} looks at clips "
                f"of exactly {needed} frames, and they have {clip_size[0]}. Set "
                f"`data.sampler.frames: {needed}`, other options, or `head: pool`, which takes "
                "any number.",
                code="clip_frames",
            )
        self.shared = SharedLayers(in_channels, width, conv_strides, padded, norm)
        least = self.shared.find_smallest()
        self.exact_frames = needed if whole else None
        self.smallest: Size = (needed if whole else distance + 1, least, least)
        refuse_small_size(clip_size, self.smallest, "fstcn")
        self.in_channels = in_channels
        self.frames = frames if whole else None
        self.step, self.distance = step, distance
        apart = f"slices {distance} apart" if distance > 1 else "neighbouring slices"
        self.through_plane = f"Compares {apart} and convolves the differences over the stack."
        self.absolute = difference == "absolute"
        self.random = spatial_frame == "random"
        _, height, columns = clip_size or PAPER_CLIP
        grid = self.shared.shrink(height), self.shared.shrink(columns)
        own = _scale(OWN, width)
        self.spatial = Positions(self.shared.channels, own, grid)
        self.temporal = Positions(self.shared.channels, own, grid)
        self.convolution = TemporalLayer(grid[0] * grid[1], own, _scale(TEMPORAL, width), dropout)
        maps = 2 * _scale(TEMPORAL, width) * own
        first, second = (_scale(units, width) for units in HIDDEN)
        self.spatial_layers = _build_hidden((own * grid[0] * grid[1], first, second), dropout)
        self.temporal_layers = _build_hidden(
            (maps * frames if whole else maps, first, second), dropout
        )
        self.joined = nn.Linear(2 * second, second)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(second, num_classes)
        _initialize(self)

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns the layer behind both paths, after ReLU."""
        mask = check_clips(
            clips,
            mask,
            in_channels=self.in_channels,
            smallest=self.smallest,
            model="fstcn",
            exact_frames=self.exact_frames,
        )
        if self.exact_frames is None:
            clips, mask = bring_forward(clips, mask)
        clips = zero_padding(clips, mask)
        frame = self.choose_frame(clips, mask)
        changes = self.subtract_frames(clips)
        both = None if mask is None else self.pair_mask(mask)
        known = changes.flatten(0, 1) if both is None else changes[both]
        # One pass for both paths and without padding, which batch statistics must not see.
        still, moving = self.shared(torch.cat([frame, known])).split([len(frame), len(known)])
        cells = self.temporal(moving)
        if both is None:
            cells = rearrange(cells, "(b l) f x -> b l f x", b=len(clips))
        else:
            cells = cells.new_zeros(*both.shape, *cells.shape[1:]).masked_scatter(
                both[..., None, None], cells
            )
        flat = rearrange(self.spatial(still), "b f x -> b (f x)")
        paths = [self.spatial_layers(flat), self._follow(cells, both)]
        return functional.relu(self.joined(torch.cat(paths, dim=1)))

    def forward(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every clip."""
        return self.classifier(self.dropout(self.features(clips, mask)))

    def subtract_frames(self, clips: Clips) -> Float[Tensor, "batch l channels h w"]:
        """Returns V_diff: at every instant V(t) - V(t + d), or how much that is."""
        last = clips.shape[2] - self.distance
        early = clips[:, :, : last : self.step][:, :, : self.frames]
        late = clips[:, :, self.distance :: self.step][:, :, : self.frames]
        change = rearrange(early - late, "b c l h w -> b l c h w")
        return change.abs() if self.absolute else change

    def pair_mask(self, shown: Mask) -> Bool[Tensor, "batch l"]:
        """Returns which differences are between two frames that are no padding."""
        last = shown.shape[1] - self.distance
        early = shown[:, : last : self.step][:, : self.frames]
        return early & shown[:, self.distance :: self.step][:, : self.frames]

    def choose_frame(self, clips: Clips, mask: Mask | None) -> Float[Tensor, "batch channels h w"]:
        """Returns the frame of V that the spatial path looks at."""
        instants = clips[:, :, :: self.step][:, :, : self.frames]
        size = (len(clips), instants.shape[2])
        shown = (
            clips.new_ones(size, dtype=torch.bool)
            if mask is None
            else mask[:, :: self.step][:, : self.frames]
        )
        chosen = (_draw_frame if self.random and self.training else _find_centre)(shown)
        return instants[torch.arange(len(clips), device=clips.device), :, chosen]

    def _follow(
        self, cells: Cells, both: Bool[Tensor, "batch l"] | None
    ) -> Float[Tensor, "batch units"]:
        """Runs the temporal path from the differences' features to its last hidden layer."""
        maps = self.convolution(cells)
        if both is not None:
            maps = maps.masked_fill(~both[:, None, :, None], 0)
        if self.frames is not None:
            return self.temporal_layers(rearrange(maps, "b m l f -> b (m l f)"))
        if both is None:
            mean = maps.mean(dim=2)
        else:  # a clip may have no two frames so far apart: it then says nothing on this path
            pairs = both.sum(dim=1).clamp(min=1).to(maps.dtype)
            mean = maps.sum(dim=2) / pairs[:, None, None]
        return self.temporal_layers(rearrange(mean, "b m f -> b (m f)"))


class SharedLayers(nn.Module):
    """SCL1 to SCL4, the same for frames and for differences of frames.

    Args:
        in_channels: of the frames.
        width: filters of the first.
        strides: of the first two.
        padded: keep the size in the first two but for their strides.
        norm: `lrn` behind the first two, or `batch` or `group` in all four.

    Shape:
        (N, C, H, W) -> (N, 16 / 3 width, h, w).
    """

    def __init__(
        self, in_channels: int, width: int, strides: tuple[int, int], padded: bool, norm: Norm
    ) -> None:
        super().__init__()
        self.steps: list[tuple[int, int, int]] = []
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        for (filters, kernel), stride in zip(SHARED, (*strides, 1, 1), strict=True):
            self.channels = _scale(filters, width)
            padding = kernel // 2 if padded or kernel == 3 else 0
            self.steps.append((kernel, stride, padding))
            # LRN and no norm leave the bias its meaning; the others have one of their own.
            bias = norm == "lrn"
            self.convs.append(
                nn.Conv2d(in_channels, self.channels, kernel, stride, padding, bias=bias)
            )
            self.norms.append(_build_norm(norm, self.channels))
            in_channels = self.channels
        # Caffe's constants, where k is 1.
        self.lrn = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0) if norm == "lrn" else nn.Identity()

    def forward(self, frames: Float[Tensor, "n c h w"]) -> Float[Tensor, "n maps h2 w2"]:
        """Returns the maps of SCL4 after ReLU."""
        maps = frames
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            maps = functional.relu(norm(conv(maps)), inplace=True)
            if number < 2:
                maps = functional.max_pool2d(self.lrn(maps), 3, 2, ceil_mode=True)
        return maps

    def measure(self, length: int) -> int:
        """Returns how many rows of SCL4 are left of `length` rows."""
        for number, (kernel, stride, padding) in enumerate(self.steps):
            length = (length + 2 * padding - kernel) // stride + 1
            if number < 2:
                length = math.ceil((length - 3) / 2) + 1
        return length

    def shrink(self, length: int) -> int:
        """Returns how many positions pool5 leaves of `length` rows."""
        return math.ceil((self.measure(length) - 3) / 3) + 1

    def find_smallest(self) -> int:
        """Returns the least rows with which the last maximum still has a full window."""
        return next(length for length in count(1) if self.measure(length) >= 3)


class Positions(nn.Module):
    """SCL5 of one path: features at a few positions.

    Args:
        before: channels in.
        after: features.
        grid: (H, W) positions that the layers behind are built for; others are averaged to it.

    Shape:
        (N, before, H, W) -> (N, after, positions).
    """

    def __init__(self, before: int, after: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)
        self.grid = nn.AdaptiveAvgPool2d(grid)

    def forward(self, maps: Float[Tensor, "n before h w"]) -> Float[Tensor, "n after x"]:
        """Returns the features of every position."""
        pooled = functional.max_pool2d(self.conv(maps), 3, 3, ceil_mode=True)
        return rearrange(self.grid(pooled), "n f h w -> n f (h w)")


class TemporalLayer(nn.Module):
    """T-P operator and TCL: features put into a learned order, then convolved over (t, feature).

    P is any matrix, not a permutation.

    Args:
        positions: of the maps, the channels of the convolutions.
        features: of a position.
        filters: of either convolution.
        dropout: behind each.

    Shape:
        (B, L, features, positions) -> (B, 2 filters, L, features).
    """

    def __init__(self, positions: int, features: int, filters: int, dropout: float) -> None:
        super().__init__()
        self.order = nn.Parameter(torch.empty(features, features))
        self.short = nn.Conv2d(positions, filters, 3, padding=1)
        self.long = nn.Conv2d(positions, filters, 5, padding=2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, cells: Cells) -> Float[Tensor, "batch maps l f"]:
        """Returns the maps of both convolutions after ReLU and dropout."""
        plane = torch.einsum("blfx,fg->bxlg", cells, self.order)
        both = [self.dropout(functional.relu(conv(plane))) for conv in (self.short, self.long)]
        return torch.cat(both, dim=1)


def _draw_frame(shown: Bool[Tensor, "batch l"]) -> Int[Tensor, " batch"]:
    """Returns one frame a clip at random, all that are no padding alike."""
    weights = shown.float()
    none = weights.sum(dim=1, keepdim=True) == 0
    return torch.multinomial(weights + none, 1).squeeze(1)


def _find_centre(shown: Bool[Tensor, "batch l"]) -> Int[Tensor, " batch"]:
    """Returns the middle one of the frames that are no padding; of an even number the later."""
    seen = shown.cumsum(dim=1)
    return (seen > seen[:, -1:] // 2).float().argmax(dim=1)


def _scale(channels: int, width: int) -> int:
    return max(1, channels * width // PAPER_WIDTH)


def _build_norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "batch":
        return ImageBatchNorm(channels)
    if norm == "group":
        return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
    return nn.Identity()


def _build_hidden(units: tuple[int, int, int], dropout: float) -> nn.Sequential:
    """Builds the two hidden layers of a path."""
    before, first, second = units
    return nn.Sequential(
        nn.Linear(before, first), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(first, second), nn.ReLU(), nn.Dropout(dropout),
    )  # fmt: skip


def _initialize(model: FSTCN) -> None:
    """Fills the layers by He's rule, the last with gaussian .01 as in Caffe's nets of the time.

    P starts orthogonal, which keeps lengths.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, TemporalLayer):
            nn.init.orthogonal_(layer.order)
    nn.init.normal_(model.classifier.weight, std=0.01)
