"""2D networks that look at every frame alone, below models that mix frames afterwards.

Three trunks: the AlexNet-like one and the GoogLeNet of Ng et al. (2015), which were trained on
ImageNet and on a million videos, and a small residual network that learns from a few hundred scans.
All end in values that are not negative, so that the zeros of padding frames never win a maximum.
"""

from functools import partial
from typing import Literal, Protocol, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.layers.clips import Size, check_clips, refuse_small_size
from medvid.layers.normalization import NORMS, ImageBatchNorm
from medvid.layers.residual import ResidualBlock

TrunkName = Literal["alexnet", "googlenet", "small"]
SpaceName = Literal["keep", "average", "max"]

Images = Float[Tensor, "n channels h w"]
Maps = Float[Tensor, "n maps h2 w2"]

SMALL_STAGES = 4
"""Of the small trunk: 28 pixels become 28, 14, 7 and 4."""

LAST_MAP = 2
"""Rows and columns of the small trunk's last map at least: on a single position a 3 x 3 kernel
would see nothing but its own zero padding."""

INCEPTION: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Szegedy et al., table 1: 1 x 1; 3 x 3 reduce, 3 x 3; 5 x 5 reduce, 5 x 5; behind the maximum."""


class Trunk(Protocol):
    """What all three can do.

    `channels` are those of its maps; `smallest` is the shortest side of a frame that works; `end`
    is what its paper does with the positions of the last map.
    """

    channels: int
    smallest: int
    end: SpaceName

    def __call__(self, images: Images) -> Maps:
        """Returns the last maps; no value is negative."""
        ...

    def shrink(self, side: int) -> int:
        """Returns how many rows a frame of `side` rows leaves."""
        ...


class AlexNetTrunk(nn.Module):
    """Three convolutions of 11, 9 and 5 pixels, each with ReLU, a maximum and a normalisation.

    Args:
        in_channels: of a frame.

    Shape:
        (N, in_channels, H, W) -> (N, 256, h, w); 220 pixels leave 6, in ceil mode.

    References:
        Ng et al., CVPR 2015, section 3 ("square convolutional layers of size 11, 9, and 5"). The
        channels are not printed there; 96, 256 and 256, and stride 4, are those of the first two
        and the last convolution of Krizhevsky et al., NIPS 2012. With zeros around, 220 pixels
        leave Krizhevsky's 55, 27, 13 and 6 rows.
    """

    channels = 256
    end: SpaceName = "keep"
    smallest = 29  # -> 8 -> 4 -> 2 -> 1

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 96, 11, 4, 5)
        self.conv2 = nn.Conv2d(96, 256, 9, padding=4)
        self.conv3 = nn.Conv2d(256, 256, 5, padding=2)
        initialize_relu(self)

    def forward(self, images: Images) -> Maps:
        """Returns the maps behind the third normalisation."""
        maps = images
        for conv in (self.conv1, self.conv2, self.conv3):
            maps = normalize_locally(halve(functional.relu(conv(maps))))
        return maps

    def shrink(self, side: int) -> int:
        """Returns how many rows a frame of `side` rows leaves."""
        return _halve_size((side + 3) // 4, times=3)


class GoogLeNetTrunk(nn.Module):
    """Inception-V1 without its classifiers: 5,973,552 parameters with 3 channels.

    Args:
        in_channels: of a frame.

    Shape:
        (N, in_channels, H, W) -> (N, 1024, h, w); 224 pixels leave 7, and 220 leave 6.

    References:
        Szegedy et al., Going deeper with convolutions, CVPR 2015, table 1. Weights are He's and
        not Xavier's, because the auxiliary classifiers that helped Xavier's are not here.
    """

    channels = 1024
    end: SpaceName = "average"
    smallest = 31  # -> 16 -> 8 -> 4 -> 2 -> 1

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3)
        self.conv2_reduce = nn.Conv2d(64, 64, 1)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1)
        self.inception = nn.ModuleDict()
        before = 192
        for name, sizes in INCEPTION.items():
            self.inception[name] = Inception(before, sizes)
            before = sizes[0] + sizes[2] + sizes[4] + sizes[5]
        initialize_relu(self)

    def forward(self, images: Images) -> Maps:
        """Returns the maps of inception 5b."""
        maps = normalize_locally(halve(functional.relu(self.conv1(images))))
        maps = functional.relu(self.conv2(functional.relu(self.conv2_reduce(maps))))
        maps = normalize_locally(maps)
        for name, block in self.inception.items():
            # A maximum stands before each of the three groups of modules.
            maps = block(halve(maps) if name in ("3a", "4a", "5a") else maps)
        return maps

    def shrink(self, side: int) -> int:
        """Returns how many rows a frame of `side` rows leaves."""
        return _halve_size((side + 1) // 2, times=4)


class Inception(nn.Module):
    """Convolutions of 1, 3 and 5 pixels and a maximum, side by side.

    Args:
        before: channels in.
        sizes: a row of `INCEPTION`.
    """

    def __init__(self, before: int, sizes: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = sizes
        self.conv1 = nn.Conv2d(before, one, 1)
        self.conv3_reduce = nn.Conv2d(before, reduce3, 1)
        self.conv3 = nn.Conv2d(reduce3, three, 3, padding=1)
        self.conv5_reduce = nn.Conv2d(before, reduce5, 1)
        self.conv5 = nn.Conv2d(reduce5, five, 5, padding=2)
        self.pool = nn.Conv2d(before, pool, 1)

    def forward(self, maps: Float[Tensor, "n before h w"]) -> Float[Tensor, "n after h w"]:
        """Returns the four branches' maps, one behind the other."""
        branches = (
            self.conv1(maps),
            self.conv3(functional.relu(self.conv3_reduce(maps))),
            self.conv5(functional.relu(self.conv5_reduce(maps))),
            self.pool(functional.max_pool2d(maps, 3, 1, 1)),
        )
        return functional.relu(torch.cat(branches, dim=1))


class SmallTrunk(nn.Module):
    """Four stages of one residual block that start as their shortcuts: learns from few scans.

    Args:
        in_channels: of a frame.
        width: channels of the first stage; every stage doubles them.
        norm: `batch`, or `group` for batches of few frames.
        stem_stride: 1 for patches of 28 to 64 pixels, 2 for 128, 4 for 256 and more.

    Shape:
        (N, in_channels, H, W) -> (N, 8 width, h, w); with `stem_stride: 1` 28 pixels leave 4.

    References:
        He et al., Deep residual learning, CVPR 2016, section 4.2. Goyal et al., Accurate, large
        minibatch SGD, 2017, section 5.1 (branches that start at zero).
    """

    end: SpaceName = "keep"  # four positions of a patch are few enough for a layer behind them

    def __init__(self, in_channels: int, width: int, norm: str, stem_stride: int) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(SMALL_STAGES)]
        self.channels = widths[-1]
        self.stem_stride = stem_stride
        self.smallest = LAST_MAP * stem_stride * 2 ** (SMALL_STAGES - 1)
        # The kernel grows with the stride so that neighbouring windows overlap.
        self.stem = nn.Conv2d(
            in_channels, width, 2 * stem_stride + 1, stem_stride, stem_stride, bias=False
        )
        self.norm = _build_norm(norm, width)
        self.stages = nn.Sequential(
            *(
                ResidualBlock(before, after, 1 if stage == 0 else 2, partial(_build_norm, norm))
                for stage, (before, after) in enumerate(
                    zip([width, *widths[:-1]], widths, strict=True)
                )
            )
        )
        initialize_relu(self)

    def forward(self, images: Images) -> Maps:
        """Returns the maps of the last stage."""
        return self.stages(functional.relu(self.norm(self.stem(images))))

    def shrink(self, side: int) -> int:
        """Returns how many rows a frame of `side` rows leaves."""
        return -(-side // (self.stem_stride * 2 ** (SMALL_STAGES - 1)))


class FrameEncoder(nn.Module):
    """Runs a 2D network on every frame that is not padding; others get zeros.

    Batch statistics therefore never see padding.

    Args:
        model: the name in messages.
        in_channels: of the clips.
        trunk: the 2D network.
        clip_size: (T, H, W) that later layers are built for.
        space: what becomes of the positions of the last map: `keep` them (frames of another size
            are averaged to those of `clip_size`), or take their `average` or `max`; None does what
            the trunk's paper does.
        frames: that the model above needs at least; the encoder itself takes any number.

    Shape:
        clips (B, C, T, H, W), mask (B, T) -> (B, T, channels, *grid).
    """

    def __init__(
        self,
        model: str,
        in_channels: int,
        trunk: nn.Module,
        clip_size: Size,
        space: SpaceName | None,
        frames: int = 1,
    ) -> None:
        super().__init__()
        net = cast("Trunk", trunk)
        self.model = model
        self.in_channels = in_channels
        self.space: SpaceName = space or net.end
        self.smallest: Size = (1, net.smallest, net.smallest)
        refuse_small_size(clip_size, (frames, net.smallest, net.smallest), model)
        self.trunk = trunk
        self.channels: int = net.channels
        kept = net.shrink(clip_size[1]), net.shrink(clip_size[2])
        self.grid: tuple[int, int] = kept if self.space == "keep" else (1, 1)

    def count_features(self) -> int:
        """Returns the features of a frame when its maps are laid out flat."""
        return self.channels * self.grid[0] * self.grid[1]

    def forward(
        self,
        clips: Float[Tensor, "batch channels t h w"],
        mask: Bool[Tensor, "batch t"] | None = None,
    ) -> Float[Tensor, "batch t maps rows columns"]:
        """Returns the maps of every frame.

        Raises:
            DataError: for clips with other channels or frames that are too small.
        """
        mask = check_clips(
            clips, mask, in_channels=self.in_channels, smallest=self.smallest, model=self.model
        )
        images = rearrange(clips, "b c t h w -> b t c h w")
        shown = images.flatten(0, 1) if mask is None else images[mask]
        seen = reduce_space(self.trunk(shown), self.space, self.grid)
        if mask is None:
            return rearrange(seen, "(b t) c h w -> b t c h w", b=len(clips))
        frames = seen.new_zeros(*mask.shape, *seen.shape[1:])
        frames[mask] = seen
        return frames


def build_trunk(
    name: TrunkName, in_channels: int, *, width: int, norm: str, stem_stride: int
) -> nn.Module:
    """Builds a trunk by name; the last three arguments are those of `small` alone."""
    if name == "alexnet":
        return AlexNetTrunk(in_channels)
    if name == "googlenet":
        return GoogLeNetTrunk(in_channels)
    return SmallTrunk(in_channels, width, norm, stem_stride)


def reduce_space(
    maps: Float[Tensor, "n maps h w"], space: SpaceName, grid: tuple[int, int]
) -> Float[Tensor, "n maps rows columns"]:
    """Returns the maps on `grid`, or their average or maximum over all positions."""
    if space == "average":
        return maps.mean(dim=(2, 3), keepdim=True)
    if space == "max":
        return maps.amax(dim=(2, 3), keepdim=True)
    same = tuple(maps.shape[2:]) == grid
    return maps if same else functional.adaptive_avg_pool2d(maps, grid)


def halve(maps: Float[Tensor, "n maps h w"]) -> Float[Tensor, "n maps h2 w2"]:
    """Returns maxima of 3 x 3 with stride 2 in ceil mode, as in Caffe."""
    return functional.max_pool2d(maps, 3, 2, ceil_mode=True)


def normalize_locally(maps: Float[Tensor, "n maps h w"]) -> Float[Tensor, "n maps h w"]:
    """Divides by the response of the five nearest channels (Krizhevsky et al.; Caffe's k = 1)."""
    return functional.local_response_norm(maps, size=5, alpha=1e-4, beta=0.75, k=1.0)


def initialize_relu(model: nn.Module) -> None:
    """Fills convolutions and linear layers so that ReLU keeps the variance (He et al., 2015)."""
    for layer in model.modules():
        if not isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            continue
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _halve_size(side: int, *, times: int) -> int:
    # Ceil mode with a kernel of 3 and stride 2: ceil((n - 3) / 2) + 1 = n // 2.
    return side // 2**times


def _build_norm(norm: str, channels: int) -> nn.BatchNorm2d | nn.GroupNorm:
    if norm == "batch":
        return ImageBatchNorm(channels)
    groups = cast("nn.GroupNorm", NORMS["group"](channels)).num_groups
    return nn.GroupNorm(groups, channels)
