"""Normalisation whose statistics do not see padding, by name."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import DataError

NormName = Literal["none", "batch", "group", "instance"]

GROUPS = 8
"""Of group normalisation, fewer where a group would hold a single channel: that is instance norm,
which is what the usual 32 groups make of the 16 channels of small nets."""

Maps = Float[Tensor, "batch channels t h w"]
Images = Float[Tensor, "n channels h w"]


class FrameBatchNorm(nn.BatchNorm3d):
    """Batch normalisation over the frames that are not padding.

    A batch of a single voxel a channel, as the last clip of an epoch may leave of a small crop, has
    no variance: it is measured by the batches before it, and teaches the statistics nothing.
    """

    def forward(self, maps: Maps, mask: Bool[Tensor, "batch t"] | None = None) -> Maps:
        """Returns normalised maps; padding comes out as 0."""
        if mask is None:
            return self._normalize(maps)
        frames = rearrange(maps, "b c t h w -> b t c h w")
        shown = rearrange(self._normalize(frames[mask][:, :, None]), "n c 1 h w -> n c h w")
        out = torch.zeros_like(frames, dtype=shown.dtype)
        out[mask] = shown
        return rearrange(out, "b t c h w -> b c t h w")

    def _normalize(self, maps: Maps) -> Maps:
        if self.training and maps.numel() == maps.shape[1]:
            return _normalize_by_past(self, maps)
        return super().forward(maps)


class ImageBatchNorm(nn.BatchNorm2d):
    """Batch normalisation of images, with `FrameBatchNorm`'s rule for a single pixel a channel."""

    def forward(self, images: Images) -> Images:
        """Returns normalised images."""
        if self.training and images.numel() == images.shape[1]:
            return _normalize_by_past(self, images)
        return super().forward(images)


def _normalize_by_past(norm: nn.BatchNorm2d | nn.BatchNorm3d, maps: Tensor) -> Tensor:
    return functional.batch_norm(
        maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )


class FrameGroupNorm(nn.GroupNorm):
    """Group normalisation of every clip over its frames that are not padding."""

    def forward(self, maps: Maps, mask: Bool[Tensor, "batch t"] | None = None) -> Maps:
        """Returns normalised maps; padding comes out as 0.

        Raises:
            DataError: when a group is a single voxel, which its own mean would always leave at 0.
        """
        if maps[0].numel() == self.num_groups:
            raise DataError(
                "The maps of a clip are a single voxel by the time they are normalised, and "
                "`model.norm: instance` would make 0 of every one of them. Take `norm: batch` or "
                "`norm: group`, `strides: spacing`, or larger clips.",
                code="norm_of_one_voxel",
            )
        if mask is None:
            return super().forward(maps)
        shown = rearrange(mask, "b t -> b 1 1 t 1 1")
        grouped = rearrange(maps, "b (g c) t h w -> b g c t h w", g=self.num_groups).float()
        count = shown.sum(dim=3, keepdim=True) * (grouped[0, 0, :, 0].numel())
        axes = (2, 3, 4, 5)
        mean = grouped.masked_fill(~shown, 0).sum(dim=axes, keepdim=True) / count
        centred = (grouped - mean).masked_fill(~shown, 0)
        variance = centred.square().sum(dim=axes, keepdim=True) / count
        scaled = rearrange(centred / (variance + self.eps).sqrt(), "b g c t h w -> b (g c) t h w")
        weight, bias = (rearrange(p, "c -> c 1 1 1") for p in (self.weight, self.bias))
        out = (scaled * weight + bias).masked_fill(~rearrange(mask, "b t -> b 1 t 1 1"), 0)
        return out.to(maps.dtype)


class NoNorm(nn.Module):
    """Leaves the maps as they are; padding is put to 0."""

    def forward(self, maps: Maps, mask: Bool[Tensor, "batch t"] | None = None) -> Maps:
        """Returns the maps."""
        return zero_padding(maps, mask)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: NoNorm(),
    "batch": FrameBatchNorm,
    "group": lambda channels: FrameGroupNorm(math.gcd(GROUPS, max(1, channels // 2)), channels),
    "instance": lambda channels: FrameGroupNorm(channels, channels),
}
"""Name -> channels -> a module called with (maps, mask)."""


def zero_padding(maps: Maps, mask: Bool[Tensor, "batch t"] | None) -> Maps:
    """Returns the maps with 0 in padding frames: what a convolution's own padding holds.

    A network that does so after every layer answers as if the padding were not there.
    """
    return maps if mask is None else maps.masked_fill(~rearrange(mask, "b t -> b 1 t 1 1"), 0)


def pool_mask(
    mask: Bool[Tensor, "batch t"] | None, stride: int
) -> Bool[Tensor, "batch pooled"] | None:
    """Returns the mask after ceil-mode pooling by `stride`: a window with one frame is a frame."""
    if mask is None or stride == 1:
        return mask
    pooled = functional.max_pool1d(mask.float(), stride, stride, ceil_mode=True)
    return pooled.bool()
