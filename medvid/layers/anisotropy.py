"""Kernels and strides for scans whose slices lie further apart than their pixels.

A kernel of 3 over 5 mm slices and 0.5 mm pixels mixes 15 mm through-plane with 1.5 mm in-plane,
and halving both axes keeps it so through the whole network. The remedy is nnU-Net's rule: leave
the slices alone until pooling has made the pixels as coarse. In-plane axes never wait: slices
finer than pixels are rare, and the paper's networks pool in-plane first anyway.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from medvid.layers.clips import Size

COARSE = 2.0
"""T waits while slices lie more than this times as far apart as pixels (nnU-Net's rule)."""

KEPT = 2
"""Halving stops before an axis has fewer positions than this, so that pooling at the end, and not
a stride on the way, decides what the last two have to say.

A rule of thumb for short stacks keeps four along T (a total stride of 4 for 16 slices). Tried on
the tasks of docs/models.md: c3d, res3d and ltc stay at 1.000 on the made-up nodules, c3d has .960
for .956 on the real ones; four cost up to a tenth more arithmetic, and two stayed."""

ALONE = "Looks at every slice alone and averages what they say; their order is lost."
"""What a network without a kernel over slices makes of them."""


@dataclass(frozen=True)
class Stage:
    """What one stage of a network does along (T, H, W).

    Args:
        mixes_slices: whether kernels may span more than one slice.
        stride: what the stage's pooling or strided convolution divides the axes by.
    """

    mixes_slices: bool
    stride: Size

    def kernel(self, wanted: Size) -> Size:
        """Returns `wanted`, with 1 along T where slices wait."""
        t, h, w = wanted
        return (t if self.mixes_slices else 1), h, w


def plan_stages(
    strides: Sequence[Size],
    *,
    spacing: tuple[float, float, float] | None,
    clip_size: Size | None,
) -> list[Stage]:
    """Adapts a paper's strides to the voxels and the size of a clip.

    Args:
        strides: the paper's, one a stage.
        spacing: of (T, H, W) in mm; None for videos and where it is unknown: all axes count alike.
        clip_size: (T, H, W) of a clip; None does not limit the strides.

    Returns:
        One stage for each of `strides`; sizes are those of ceil-mode pooling.
    """
    distance: Sequence[float] = spacing or (1.0, 1.0, 1.0)
    size: Sequence[int] = clip_size or (sys.maxsize,) * 3
    stages = []
    for wanted in strides:
        mixes = distance[0] <= COARSE * min(distance[1:])
        t, h, w = (
            step if free and math.ceil(n / step) >= KEPT else 1
            for step, free, n in zip(wanted, (mixes, True, True), size, strict=True)
        )
        stages.append(Stage(mixes_slices=mixes, stride=(t, h, w)))
        distance = [d * step for d, step in zip(distance, (t, h, w), strict=True)]
        size = [math.ceil(n / step) for n, step in zip(size, (t, h, w), strict=True)]
    return stages


def shrink_size(size: Size, strides: Sequence[Size]) -> Size:
    """Returns what ceil-mode pooling by `strides` leaves of (T, H, W)."""
    t, h, w = size
    for step_t, step_h, step_w in strides:
        t, h, w = math.ceil(t / step_t), math.ceil(h / step_h), math.ceil(w / step_w)
    return t, h, w


def describe_mixing(plan: Sequence[Stage], mixing: str) -> str:
    """Says what a network makes of neighbouring slices.

    Args:
        plan: its stages, in order.
        mixing: the sentence for one whose stages all mix them.
    """
    alone = sum(not stage.mixes_slices for stage in plan)
    if alone == len(plan):
        return ALONE
    if not alone:
        return mixing
    then = mixing[0].lower() + mixing[1:]
    return f"Looks at every slice alone in {name_waiting(plan)}; then {then}"


def name_waiting(plan: Sequence[Stage]) -> str:
    """Returns the words for the stages in which slices wait."""
    alone = sum(not stage.mixes_slices for stage in plan)
    return f"the first {alone} of {len(plan)} stages" if alone > 1 else "the first stage"
