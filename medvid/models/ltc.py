"""LTC: Varol et al., Long-term temporal convolutions for action recognition, TPAMI 2018."""

from collections.abc import Sequence
from typing import Literal

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.layers.anisotropy import Stage, describe_mixing, plan_stages
from medvid.layers.clips import Size, bring_forward, check_clips, refuse_small_size
from medvid.layers.normalization import NORMS, NormName, pool_mask, zero_padding
from medvid.layers.pool_head import PoolHead

PAPER_CLIP: Size = (100, 71, 71)
"""Frames, rows, columns of the longest of the two nets of the final system; the other has 60."""

POOLS: tuple[Size, ...] = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
"""Kernels and strides of pool1 to pool5."""

WIDTHS = (1, 2, 4, 4, 4)
"""Channels of conv1 to conv5, in those of conv1."""

HIDDEN = 32
"""Units of both hidden layers, in channels of conv1: 2,048."""

Clips = Float[Tensor, "batch channels t h w"]
Mask = Bool[Tensor, "batch t"]


class LTC(nn.Module):
    """Five 3D convolutions over very long clips of few pixels: depth is bought with resolution.

    On 60 to 100 frames an action is seen from beginning to end. The thin slices of a CT are such
    clips: 100 of them at 1 mm are 10 cm of a body, and what needs them all at once (a vessel's
    course, an organ's extent) needs fewer pixels than a small finding does.

    The defaults are the paper's network. fc6 is built for one number of frames, 60 or 100 there;
    with 101 classes and two channels of flow the net for 100 x 71 x 71 has 21,637,541 parameters,
    for 60 x 71 x 71 15,346,085, for 100 x 58 x 58 12,200,357. All maxima drop what does not fill a
    window: 60 frames are 30, 15, 7, 3.

    With `head: pool` the maps are averaged instead of flattened, any number of frames is taken,
    and the maxima keep what is left over, so that a single slice comes through.

    The mask is honoured: padding frames are zeroed after every layer and no statistic and no
    average sees them. The paper repeats a short video from its start; medvid pads and marks it.

    Differs from the paper: clips of more rows and columns than `clip_size` are averaged to fc6's
    grid. Logits, where the released net ends in log-softmax, whose loss is the same; it averages
    those logarithms over the clips of a video. A network that starts from one of Sports-1M is left
    out. Everything that options other than `width`, `dropout` and `clip_size` change.

    Args:
        in_channels: channels of a clip: 3 for colour, 2 for flow.
        num_classes: logits.
        width: channels of conv1; the others have 2, 4, 4, 4 times as many, fc6 and fc7 32 times.
        dropout: after fc6 and fc7, or on the pooled features. The released default, .9, belongs to
            flow; the colour nets have .5.
        clip_size: (T, H, W) that the network is built for; None is 100 x 71 x 71.
        pool5: False leaves the last maximum out: 28 x 28 pixels are 1 x 1 behind pool4, and nothing
            behind pool5; so are 8 to 15 frames.
        norm: behind every convolution, whose bias then falls away: `none` (the paper), `batch`,
            `group` or `instance`.
        head: `paper` (fc6, fc7, fc8), or `pool`: the mean over T, H, W and one linear layer.
        strides: `paper`, or `spacing`: kernels and strides along T wait while slices lie more than
            twice as far apart as pixels, and no axis is halved below two positions.
        spacing: of (T, H, W) in mm, for `strides: spacing`; None, as for videos, is isotropic.
        init: `paper` (torch's own: uniform, one over the root of the fan-in), or `he`, which a
            plain stack of seven layers needs to learn within a short training.
        planar: the 2D twin with the same names, whose kernels `init` inflates: no kernel and no
            maximum spans slices. They meet in the mean of `head: pool`; fc6 of `head: paper` sees
            means of as many pieces of the clip as it is built for (6 of 100 frames).

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding. With `head: paper` T is that
          of `clip_size`.
        - features: (B, 32 width), fc7 after ReLU; with `head: pool` (B, 4 width).
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is too small for the maxima.
        DataError: when a clip in a batch is, has other channels or another T.

    References:
        Varol et al., TPAMI 2018, section 3.1 and figure 2; the released code for rounding,
        initialisation and dropout. Isensee et al., nnU-Net, 2021, for the rule on spacing.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Varol et al., TPAMI 2018, arXiv 1604.04494"
    through_plane = "Mixes neighbouring slices in every layer, over clips of 60 to 100 slices."
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 64,
        dropout: float = 0.9,
        clip_size: Size | None = None,
        pool5: bool = True,
        norm: NormName = "none",
        head: Literal["paper", "pool"] = "paper",
        strides: Literal["paper", "spacing"] = "paper",
        spacing: tuple[float, float, float] | None = None,
        init: Literal["paper", "he"] = "paper",
        planar: bool = False,
    ) -> None:
        super().__init__()
        whole = head == "paper"
        least = _find_smallest(pool5, whole, adapts=strides == "spacing")
        built = clip_size or PAPER_CLIP
        self.exact_frames = max(built[0], least[0]) if whole else None
        self.smallest: Size = (self.exact_frames or 1, *least[1:])
        refuse_small_size(clip_size, self.smallest, "ltc")
        self.in_channels = in_channels
        pools = POOLS if pool5 else (*POOLS[:-1], (1, 1, 1))
        plan = (
            plan_stages(pools, spacing=spacing, clip_size=clip_size)
            if strides == "spacing"
            else [Stage(mixes_slices=True, stride=pool) for pool in pools]
        )
        grid = _shrink(built, plan)
        if planar:
            plan = [Stage(False, (1, *stage.stride[1:])) for stage in plan]
        mixing = f"Mixes neighbouring slices in every layer, over clips of {built[0]} slices."
        self.through_plane = describe_mixing(
            plan, mixing if whole else "Mixes neighbouring slices in every layer."
        )
        if planar and whole and grid[0] > 1:
            self.through_plane = f"Looks at every slice alone, averaged in {grid[0]} pieces."
        self.trunk = Trunk(in_channels, width, plan, norm, ceil_mode=not whole)
        channels = WIDTHS[-1] * width
        self.head: PaperHead | PoolHead = (
            PaperHead(channels, grid, HIDDEN * width, num_classes, dropout)
            if whole
            else PoolHead(channels, num_classes, dropout)
        )
        if init == "he":
            _initialize(self)

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns fc7 after ReLU, or the pooled maps."""
        mask = check_clips(
            clips,
            mask,
            in_channels=self.in_channels,
            smallest=self.smallest,
            model="ltc",
            exact_frames=self.exact_frames,
        )
        if self.exact_frames is None:
            clips, mask = bring_forward(clips, mask)
        return self.head.describe(*self.trunk(clips, mask))

    def forward(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every clip."""
        return self.head(self.features(clips, mask))


class Trunk(nn.Module):
    """conv1 to conv5, each with its norm, ReLU and maximum.

    Args:
        in_channels: of the clips.
        width: channels of conv1.
        plan: of every stage, its maximum and whether its kernel spans three slices.
        norm: a name of `NORMS`.
        ceil_mode: keep the windows of the maxima that are not full.
    """

    def __init__(
        self, in_channels: int, width: int, plan: list[Stage], norm: NormName, ceil_mode: bool
    ) -> None:
        super().__init__()
        self.pools = [stage.stride for stage in plan]
        self.ceil_mode = ceil_mode
        self.convs = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        for number, (factor, stage) in enumerate(zip(WIDTHS, plan, strict=True), start=1):
            t, h, w = kernel = stage.kernel((3, 3, 3))
            self.convs[f"conv{number}"] = nn.Conv3d(
                in_channels,
                factor * width,
                kernel,
                padding=(t // 2, h // 2, w // 2),
                bias=norm == "none",  # a normalisation has its own
            )
            self.norms[f"conv{number}"] = NORMS[norm](factor * width)
            in_channels = factor * width

    def forward(
        self, clips: Clips, mask: Mask | None
    ) -> tuple[Float[Tensor, "batch maps t2 h2 w2"], Bool[Tensor, "batch t2"] | None]:
        """Returns the maps behind pool5, and which of their frames are not padding."""
        maps = zero_padding(clips, mask)
        for name, pool in zip(self.convs, self.pools, strict=True):
            maps = self.norms[name](self.convs[name](maps), mask)
            # After ReLU nothing is below the zeros of padding: they never win over a frame.
            maps = functional.relu(maps, inplace=True)
            maps = functional.max_pool3d(maps, pool, pool, ceil_mode=self.ceil_mode)
            mask = pool_mask(mask, pool[0])
            if mask is not None:  # floor mode drops the last window, which was not full
                mask = mask[:, : maps.shape[2]]
        return maps, mask


class PaperHead(nn.Module):
    """fc6, fc7, fc8 with ReLU and dropout between.

    Args:
        channels: of the maps.
        grid: (T, H, W) of the maps that fc6 is built for; rows and columns are averaged to it.
        hidden: units of fc6 and fc7.
        num_classes: logits.
        dropout: after fc6 and fc7.
    """

    def __init__(
        self, channels: int, grid: Size, hidden: int, num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.grid = nn.AdaptiveAvgPool3d(grid)
        t, h, w = grid
        self.fc6 = nn.Linear(channels * t * h * w, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, num_classes)
        self.dropout = nn.Dropout(dropout)

    def describe(
        self, maps: Float[Tensor, "batch maps t h w"], mask: Mask | None
    ) -> Float[Tensor, "batch hidden"]:
        """Returns fc7 after ReLU; the maps of padding are zeros, which no mean over T sees."""
        grid = self.grid(zero_padding(maps, mask))
        if mask is not None:  # of a piece that is partly padding, the mean of the rest
            share = functional.adaptive_avg_pool1d(mask.to(grid.dtype), grid.shape[2])
            grid = grid / share.masked_fill(share == 0, 1.0)[:, None, :, None, None]
        flat = rearrange(grid, "b c t h w -> b (c t h w)")
        hidden = self.dropout(functional.relu(self.fc6(flat)))
        return functional.relu(self.fc7(hidden))

    def forward(self, features: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch classes"]:
        """Returns the logits."""
        return self.fc8(self.dropout(features))


def _find_smallest(pool5: bool, whole: bool, *, adapts: bool) -> Size:
    """Returns the least (T, H, W) from which every maximum still leaves a position.

    Args:
        pool5: whether the last maximum is there.
        whole: the maxima drop windows that are not full.
        adapts: the strides follow the size, so T may be 1.
    """
    pixels = 32 if pool5 else 16  # halved five or four times, along T once less
    if whole:
        return (1 if adapts else pixels // 2, pixels, pixels)
    # Kept windows: one pixel more than half, so that the last maximum has two to choose from.
    return 1, pixels // 2 + 1, pixels // 2 + 1


def _shrink(size: Size, plan: Sequence[Stage]) -> Size:
    """Returns what the maxima leave of (T, H, W) when they drop what fills no window."""
    t, h, w = size
    for stage in plan:
        step_t, step_h, step_w = stage.stride
        t, h, w = t // step_t, h // step_h, w // step_w
    return t, h, w


def _initialize(model: nn.Module) -> None:
    """Fills all layers by He's rule."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
