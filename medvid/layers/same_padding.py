"""TensorFlow's SAME padding, for networks that were built there.

An axis of n positions leaves a layer of stride s with ceil(n / s), and the zeros that this takes
are shared out between both ends, the odd one behind. They so depend on the size at hand: a kernel
of 7 with stride 2 has two zeros before an even axis and three before an odd one, where torch's
`padding=3` always has three. Weights that were learnt with one are off by half a stride with the
other.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from medvid.layers.clips import Size
from medvid.layers.normalization import pool_mask, zero_padding

Maps = Float[Tensor, "batch maps t h w"]
MaybeMask = Bool[Tensor, "batch t"] | None
Pooled = tuple[Float[Tensor, "batch maps t2 h2 w2"], Bool[Tensor, "batch t2"] | None]


def find_same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the zeros before and behind an axis that leave ceil(length / stride) positions."""
    overlap = kernel - (length % stride or stride)
    total = max(overlap, 0)
    return total // 2, total - total // 2


def pad_same(
    maps: Maps, mask: MaybeMask, kernel: Size, stride: Size
) -> tuple[Float[Tensor, "batch maps t3 h3 w3"], Size]:
    """Pads for a convolution or a maximum, along T every clip by its own length.

    Args:
        maps: with zeros in padding frames.
        mask: False marks padding.
        kernel: (T, H, W).
        stride: (T, H, W).

    Returns:
        The maps, and the padding along (T, H, W) that is left to the operation itself: what is
        alike on both sides of all axes costs no copy there.
    """
    t, h, w = maps.shape[2:]
    rows = find_same_padding(h, kernel[1], stride[1])
    columns = find_same_padding(w, kernel[2], stride[2])
    if mask is not None and stride[0] > 1:
        return _pad_each(maps, mask, kernel[0], stride[0], (*columns, *rows)), (0, 0, 0)
    frames = find_same_padding(t, kernel[0], stride[0])
    if all(before == behind for before, behind in (frames, rows, columns)):
        return maps, (frames[0], rows[0], columns[0])
    return functional.pad(maps, (*columns, *rows, *frames)), (0, 0, 0)


def pool_same(maps: Maps, mask: MaybeMask, kernel: Size, stride: Size) -> Pooled:
    """Returns the maxima and their mask.

    Only for maps behind a ReLU: nothing in them is below the zeros of the padding.
    """
    maps, padding = pad_same(maps, mask, kernel, stride)
    pooled = functional.max_pool3d(maps, kernel, stride, padding)
    mask = pool_mask(mask, stride[0])
    return zero_padding(pooled, mask), mask


def _pad_each(
    maps: Maps,
    mask: Bool[Tensor, "batch t"],
    kernel: int,
    stride: int,
    plane: tuple[int, int, int, int],
) -> Float[Tensor, "batch maps t3 h3 w3"]:
    """Pads every clip as if it ended at its last frame that is not padding.

    Where the windows start depends on the length of the axis, so a clip that lies in a batch beside
    a longer one would otherwise be seen one frame earlier or later than alone.
    """
    t = maps.shape[2]
    order = torch.arange(1, t + 1, device=mask.device)
    lengths: list[int] = (mask * order).amax(dim=1).tolist()
    before = [find_same_padding(length, kernel, stride)[0] for length in lengths]
    windows = -(-t // stride)
    whole = max((windows - 1) * stride + kernel, t + max(before))
    return torch.stack(
        [
            functional.pad(clip, (*plane, start, whole - t - start))
            for clip, start in zip(maps, before, strict=True)
        ]
    )
