"""Ji, Xu, Yang and Yu, 3D convolutional neural networks for human action recognition, ICML 2010.

The first 3D network for actions: small, and told by hand what to look at. A first layer without
weights turns the frames into grey values, gradients and motion; two layers of 3D convolutions work
on each of them apart; one layer joins all.
"""

import math
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.layers.clips import AtLeastOne, Size, check_clips, refuse_small_size
from medvid.layers.normalization import NORMS, NormName, zero_padding

PAPER_CLIP: Size = (7, 60, 40)
"""Frames, rows and columns of the paper's TRECVID network: an upright person."""

CHANNELS = ("gray", "gradient_x", "gradient_y", "motion_x", "motion_y")
"""Of the hardwired layer, in its order: f, f, f, f - 1 and f - 1 maps of f frames."""

DEPTH = 3
"""Frames that the paper's kernels span, in both layers."""

WINDOW = 7
"""Pixels across which flow is taken to be the same. Displacements beyond half of it are cut off:
the two frames then show different things in the window."""

SOFTNESS = 0.01
"""Added to the squared gradients, as a share of their mean over the frame: where a frame is flat,
noise is not read as motion. A share, so that contrast does not change the flow."""

TINY = 1e-12
"""Keeps the division for frames that are flat everywhere."""

LECUN = 2.4
"""Weights start between -2.4 and 2.4 over the number of inputs of their unit, as LeNet's did; the
paper says no more than that they are random and trained as LeNet."""

Clips = Float[Tensor, "batch channels t h w"]
Mask = Bool[Tensor, "batch t"]
Frames = Float[Tensor, "batch t h w"]
Maps = Float[Tensor, "batch sets t h w"]
Pair = tuple[AtLeastOne, AtLeastOne]


class Ji3DCNN(nn.Module):
    """Grey values, gradients and motion by hand; 3D convolutions on each; one layer joins them.

    A network of 0.3 million parameters that need not find edges and changes from slice to slice
    by itself. On scans `motion: difference` takes the place of flow: what appears and what vanishes
    from one slice to the next. Flow between thick slices is no motion.

    Its kernels are built for one T, that of `clip_size`: 7 frames in the paper, two apart (sampler
    `{frames: 7, stride: 2}`), and neighbouring slices of a scan. f frames make 5 f - 2 maps. For
    fewer than 6 frames the kernels shrink along T to what the maps of motion hold: 5 frames have
    kernels of 3 and 2.

    Padding frames are zeroed, and so are gradients and motion that would touch them.

    Differs from the paper: gradients are central differences, flow is Lucas and Kanade's in windows
    of 7 pixels; the paper fixes neither. C6 has one bias a map, not one a connection, unless
    `paper_bias`: 285,602 parameters in place of 295,458 for TRECVID's three classes. Of a clip
    with several channels each has its own hardwired layer. C6's kernel is what the layers leave of
    `clip_size`, and larger clips are averaged to it. TPAMI's auxiliary outputs and the averaging of
    several nets are left out.

    Args:
        in_channels: channels of a clip; the paper's has one, grey.
        num_classes: logits.
        width: features, maps of C6.
        dropout: on the features; the paper has none.
        clip_size: (T, H, W) that the network is built for; None is the paper's 7 x 60 x 40.
        motion: `flow` along x and y, or `difference` of neighbouring frames, its positive and its
            negative part, for scans.
        kernels: rows and columns of C2 and C4. KTH's network, for 9 x 80 x 60, has 9 x 7 and 7 x 7.
        pools: rows and columns that S3 and S5 average; KTH's network has 3 and 3.
        sets: kernels of C2 for each hardwired channel, and of C4 for each of those.
        norm: between a convolution and its tanh: `none` (the paper), `batch`, `group`, `instance`.
        init: `lenet` (uniform, 2.4 over the number of inputs), from which logits start near .0001
            and plain SGD with rate .01 hardly leaves for epochs, or `xavier` with sub-sampling
            that starts as the mean.
        paper_bias: give C6 a bias for each of its connections, as the paper counts.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, width), C6 after tanh.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` leaves no pixel to C6, or is a single frame.
        DataError: when a clip in a batch has another T, is too small, or has other channels.

    References:
        Ji et al., ICML 2010, section 3 and figure 3; IEEE TPAMI 35, 2013, for KTH's network.
        LeCun et al., Neural Computation 1, 1989 (initialisation); Proceedings of the IEEE 86,
        1998, section 2.B (trainable sub-sampling).
        Lucas and Kanade, IJCAI 1981 (flow).
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Ji et al., ICML 2010 and IEEE TPAMI 2013"
    through_plane = (
        "Is given the change from slice to slice, and mixes 5 slices in two layers and all in "
        "the third."
    )
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 128,
        dropout: float = 0.0,
        clip_size: Size | None = None,
        motion: Literal["flow", "difference"] = "flow",
        kernels: tuple[Pair, Pair] = ((7, 7), (7, 6)),
        pools: Pair = (2, 3),
        sets: Pair = (2, 3),
        norm: NormName = "none",
        init: Literal["lenet", "xavier"] = "lenet",
        paper_bias: bool = False,
    ) -> None:
        super().__init__()
        t, h, w = clip_size or PAPER_CLIP
        rows, columns = ([kernel[axis] for kernel in kernels] for axis in (0, 1))
        least = find_smallest_side(rows, pools), find_smallest_side(columns, pools)
        self.smallest: Size = (max(t, 2), *least)  # of one frame there is no motion
        refuse_small_size((t, h, w), self.smallest, "ji3dcnn")
        self.in_channels, self.exact_frames, self.motion = in_channels, t, motion
        depths = plan_depths(t)
        self.through_plane = (
            f"Is given the change from slice to slice, and mixes {sum(depths) - 1} slices in two "
            "layers and all in the third."
        )
        self.lanes = nn.ModuleDict(
            {
                f"{name}_{channel}": Lane(
                    t - name.startswith("motion"), depths, kernels, pools, sets, norm
                )
                for name in CHANNELS
                for channel in range(in_channels)
            }
        )
        self.grid = shrink_side(h, rows, pools), shrink_side(w, columns, pools)
        frames = 3 * t + 2 * (t - 1) - 5 * (sum(depths) - 2)
        maps = in_channels * sets[0] * sets[1] * frames
        self.c6 = Junction(maps, width, self.grid, bias_each=paper_bias)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, num_classes, bias=False)
        _initialize(self, init)

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns C6 after tanh."""
        mask = check_clips(
            clips, mask, in_channels=self.in_channels, smallest=self.smallest, model="ji3dcnn",
            exact_frames=self.exact_frames,
        )  # fmt: skip
        hard = hardwire(zero_padding(clips, mask), mask, self.motion)
        pairs = None if mask is None else mask[:, 1:] & mask[:, :-1]
        seen = []
        for name, lane in self.lanes.items():
            channel, _, number = name.rpartition("_")
            shown = pairs if channel.startswith("motion") else mask
            maps = lane(hard[channel][:, int(number)], shown)
            seen.append(rearrange(maps, "b sets t h w -> b (sets t) h w"))
        maps = functional.adaptive_avg_pool2d(torch.cat(seen, dim=1), self.grid)
        return self.c6(maps).tanh()

    def forward(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every clip."""
        return self.out(self.dropout(self.features(clips, mask)))


class Lane(nn.Module):
    """C2, S3, C4 and S5 of one hardwired channel; no other channel has these kernels.

    Args:
        frames: maps of the channel.
        depths: frames that the kernels of C2 and C4 span.
        kernels: their rows and columns.
        pools: rows and columns that S3 and S5 average.
        sets: kernels of C2, and of C4 for each of C2's sets.
        norm: a name of `NORMS`.
    """

    def __init__(
        self,
        frames: int,
        depths: Pair,
        kernels: tuple[Pair, Pair],
        pools: Pair,
        sets: Pair,
        norm: NormName,
    ) -> None:
        super().__init__()
        self.depths = depths
        first, second = sets[0], sets[0] * sets[1]
        plain = norm == "none"  # a normalisation has its own bias
        self.c2 = nn.Conv3d(1, first, (depths[0], *kernels[0]), bias=plain)
        self.norm2 = NORMS[norm](first)
        frames -= depths[0] - 1
        self.s3 = Subsampling(first, frames, pools[0])
        self.c4 = nn.Conv3d(first, second, (depths[1], *kernels[1]), groups=first, bias=plain)
        self.norm4 = NORMS[norm](second)
        frames -= depths[1] - 1
        self.s5 = Subsampling(second, frames, pools[1])

    def forward(
        self, frames: Frames, mask: Bool[Tensor, "batch t"] | None
    ) -> Float[Tensor, "batch sets t2 h2 w2"]:
        """Returns the maps of S5."""
        mask = _reach(mask, self.depths[0])
        maps = self.s3(self.norm2(self.c2(frames[:, None]), mask).tanh())
        mask = _reach(mask, self.depths[1])
        return self.s5(self.norm4(self.c4(maps), mask).tanh())


class Subsampling(nn.Module):
    """LeNet's pooling: the mean of p x p pixels, times a gain, plus a bias, through tanh.

    Args:
        sets: kernels that made the maps.
        frames: maps of each.
        pool: p; what is left over at the end of an axis is not seen.
    """

    def __init__(self, sets: int, frames: int, pool: int) -> None:
        super().__init__()
        self.frames, self.pool = frames, pool
        self.gain = nn.Parameter(torch.ones(sets * frames))
        self.bias = nn.Parameter(torch.zeros(sets * frames))

    def forward(self, maps: Maps) -> Float[Tensor, "batch sets t h2 w2"]:
        """Returns the smaller maps."""
        means = functional.avg_pool3d(maps, (1, self.pool, self.pool))
        gain, bias = (
            rearrange(values, "(sets t) -> sets t 1 1", t=self.frames)
            for values in (self.gain, self.bias)
        )
        return (means * gain + bias).tanh()


class Junction(nn.Module):
    """C6: a kernel as large as the maps, over all of them.

    Args:
        maps: of all lanes.
        width: outputs.
        grid: rows and columns of the maps.
        bias_each: a bias for every pair of map and output, whose sum counts, in place of one for
            every output.
    """

    def __init__(self, maps: int, width: int, grid: Pair, bias_each: bool) -> None:
        super().__init__()
        self.width = width
        self.conv = nn.Conv2d(maps, width, grid, bias=False)
        self.bias = nn.Parameter(torch.zeros(width * maps if bias_each else width))

    def forward(self, maps: Float[Tensor, "batch maps h w"]) -> Float[Tensor, "batch width"]:
        """Returns the outputs before tanh."""
        bias = rearrange(self.bias, "(width each) -> width each", width=self.width).sum(dim=1)
        return rearrange(self.conv(maps), "b width 1 1 -> b width") + bias


def hardwire(
    clips: Clips, mask: Mask | None, motion: Literal["flow", "difference"]
) -> dict[str, Float[Tensor, "batch channels _ h w"]]:
    """Returns the maps of the hardwired layer by name.

    Args:
        clips: with zeros in padding.
        mask: False marks padding; motion that touches it is zero.
        motion: as in `Ji3DCNN`.
    """
    frames = rearrange(clips, "b c t h w -> (b c) t h w")
    x, y = measure_flow(frames) if motion == "flow" else split_difference(frames)
    hard = {
        name: rearrange(maps, "(b c) t h w -> b c t h w", b=len(clips))
        for name, maps in zip(
            CHANNELS, (frames, _slope(frames, 3), _slope(frames, 2), x, y), strict=True
        )
    }
    if mask is not None:
        both = rearrange(mask[:, 1:] & mask[:, :-1], "b t -> b 1 t 1 1")
        for name in CHANNELS[3:]:
            hard[name] = hard[name].masked_fill(~both, 0)
    return hard


def measure_flow(
    frames: Frames,
) -> tuple[Float[Tensor, "batch pairs h w"], Float[Tensor, "batch pairs h w"]]:
    """Returns the flow from each frame to the next along x (columns) and y (rows), in pixels.

    In every window of 7 x 7 pixels, the displacement that best explains the difference of the two
    frames by their gradients, by least squares. It is right for less than a pixel or smooth shapes.
    """
    before, after = frames[:, :-1], frames[:, 1:]
    middle, change = (before + after) / 2, after - before
    slopes = _slope(middle, 3), _slope(middle, 2)

    def gather(one: Tensor, other: Tensor) -> Tensor:
        return functional.avg_pool2d(one * other, WINDOW, 1, WINDOW // 2, count_include_pad=False)

    xx, xy, yy = gather(slopes[0], slopes[0]), gather(*slopes), gather(slopes[1], slopes[1])
    xt, yt = gather(slopes[0], change), gather(slopes[1], change)
    soft = SOFTNESS * (xx + yy).mean(dim=(2, 3), keepdim=True) + TINY
    xx, yy = xx + soft, yy + soft
    divisor, most = xx * yy - xy * xy, WINDOW // 2
    x, y = (xy * yt - yy * xt) / divisor, (xy * xt - xx * yt) / divisor
    return x.clamp(-most, most), y.clamp(-most, most)


def split_difference(
    frames: Frames,
) -> tuple[Float[Tensor, "batch pairs h w"], Float[Tensor, "batch pairs h w"]]:
    """Returns by how much each frame is above the one before it, and by how much below.

    Two maps a pair, as flow has; their difference is the signed difference of the frames.
    """
    change = frames.diff(dim=1)
    return change.clamp(min=0), (-change).clamp(min=0)


def plan_depths(frames: int) -> Pair:
    """Returns how many frames C2 and C4 span: 3, or what the maps of motion hold."""
    first = min(DEPTH, frames - 1)
    return first, min(DEPTH, frames - first)


def shrink_side(side: int, kernels: list[int], pools: Pair) -> int:
    """Returns the rows that C2, S3, C4 and S5 leave of `side` rows."""
    for kernel, pool in zip(kernels, pools, strict=True):
        side = (side - kernel + 1) // pool
    return side


def find_smallest_side(kernels: list[int], pools: Pair) -> int:
    """Returns the fewest rows that leave one."""
    side = 1
    for kernel, pool in zip(reversed(kernels), reversed(pools), strict=True):
        side = side * pool + kernel - 1
    return side


def _slope(frames: Frames, axis: int) -> Frames:
    """Returns central differences along an axis, one-sided at its ends."""
    (slope,) = torch.gradient(frames, dim=axis)
    return slope


def _reach(mask: Bool[Tensor, "batch t"] | None, depth: int) -> Bool[Tensor, "batch t2"] | None:
    """Returns which windows of `depth` frames hold one that is not padding."""
    if mask is None:
        return None
    return functional.max_pool1d(mask.float(), depth, 1).bool()


def _initialize(model: nn.Module, init: Literal["lenet", "xavier"]) -> None:
    """Fills the weights LeNet's way, or Xavier's with biases 0 and gains 1."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d | nn.Conv2d | nn.Linear):
            bound = LECUN / math.prod(module.weight.shape[1:])
            if init == "xavier":
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.constant_(module.bias, 0.0)
        elif isinstance(module, Subsampling) and init == "lenet":
            # Its p x p inputs share one weight; of their mean it is p x p times as large.
            nn.init.uniform_(module.gain, -LECUN, LECUN)
