"""Clips without pixels: where the frames lie, and nothing of what they show.

A network that does well on them has learned the place, not the finding: a control of every claim
that slices, or their neighbours, were needed.
"""

from collections.abc import Mapping
from typing import Any

import torch

from medvid.contract import Stack

CENTRE = 0.5
"""Fractions from 0 to 1 become numbers around 0, as networks like their inputs."""


def show_place(
    sample: Mapping[str, Any], stack: Stack, centre: tuple[float, float] | None
) -> dict[str, Any]:
    """Returns the sample with every frame replaced by where it lies in the stack.

    A frame is filled with its place between the first frame (-0.5) and the last one (0.5). Around
    a region this fills the left third; the middle third holds its row, the right third its column,
    as fractions of the picture.

    Args:
        sample: with `clip` (..., C, T, H, W) and `window` (T,).
        stack: that the clip was cut from.
        centre: (row, column) of a region in pixels, None for whole frames.
    """
    clip = sample["clip"]
    along = sample["window"].to(torch.float32) / max(1, stack.num_frames - 1) - CENTRE
    shown = along[:, None, None].expand(clip.shape[-3:]).clone()
    if centre is not None:
        third = clip.shape[-1] // 3
        shown[:, :, third : 2 * third] = centre[0] / max(1, stack.height - 1) - CENTRE
        shown[:, :, 2 * third :] = centre[1] / max(1, stack.width - 1) - CENTRE
    return {**sample, "clip": shown.expand(clip.shape).clone()}
