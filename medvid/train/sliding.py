"""Windows that slide over a stack, every frame looked at once.

A network that encodes each frame alone (`encode_frames`) and then mixes the frames of a clip
(`classify_frames`) has done most of its work before windows come in: 105 windows of 16 out of 120
slices show 1,680 frames, and only 120 different ones. Here each is encoded once, and only the
second half slides.

Networks of 3D convolutions are scored window by window. Most of them pad a clip with zeros along T
or move on by two frames, so what they make of a frame depends on where the window begins and ends:
features of the whole stack are those of other clips. In three cases that is not so, and they are
not shared either:

* planar twins look at every frame alone, but for `norm: group` and `instance`, whose statistics are
  of the whole clip. They are the start of a 3D network, of the same class, and not what scans are
  scored with.
* `slow_fusion` with steps of 1, as for thick slices, pads nothing but a clip shorter than its
  kernels. Its maps belong to six neighbouring frames and not to one, which these two halves do not
  know.
* before the first stage that mixes slices, as in `c3d_scan` at 5 mm, every frame is alone. It is
  the cheap part of such a network's parameters and the dear one of its operations; to share it the
  trunk would have to be cut there.
"""

from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

WORTH = 0.75
"""Frames that are encoded, of those that the windows would look at one by one: above this, finding
out which are the same costs what it saves."""

FRAMES_AT_ONCE = 32
"""Frames encoded in one pass; bounds the memory of activations, not the result."""

WINDOWS_AT_ONCE = 64
"""Windows classified in one pass."""


def shares_frames(model: nn.Module) -> bool:
    """Tells whether the windows of an item are scored apart and show frames that are encoded alone.

    A model that takes segments makes one answer of all windows.
    """
    return hasattr(model, "encode_frames") and not getattr(model, "takes_segments", False)


def score_windows(
    model: nn.Module,
    stack: Float[Tensor, "channels t h w"],
    index: Int[Tensor, "windows frames"],
    mask: Bool[Tensor, "windows frames"] | None = None,
    *,
    windows_at_once: int = WINDOWS_AT_ONCE,
) -> Float[Tensor, "windows classes"]:
    """Scores windows of a stack with a model that shares frames.

    Args:
        model: with `encode_frames` and `classify_frames`.
        stack: every frame once.
        index: which frames of the stack every window shows.
        mask: False marks padding in a window.
        windows_at_once: windows scored in one pass; bounds memory.
    """
    halves = cast("Any", model)
    encoded = torch.cat(
        [halves.encode_frames(part[None])[0] for part in torch.split(stack, FRAMES_AT_ONCE, dim=1)]
    )
    index = index.to(stack.device)
    parts = []
    for start in range(0, len(index), windows_at_once):
        shown = None if mask is None else mask[start : start + windows_at_once]
        if shown is not None and bool(shown.all()):
            shown = None
        parts.append(halves.classify_frames(encoded[index[start : start + windows_at_once]], shown))
    return torch.cat(parts)


def score_shared(
    model: nn.Module,
    clips: Float[Tensor, "batch windows channels t h w"],
    window: Int[Tensor, "batch windows t"],
    mask: Bool[Tensor, "batch windows t"] | None,
) -> Float[Tensor, "batch windows classes"] | None:
    """Scores windows that a sampler cut, each different frame once; None where that is no gain.

    A frame stands in several windows with the same pixels, unless a transform gave every window
    its own (several crops, noise): that is looked for, and None returned.
    """
    looks_at = int(getattr(model, "looks_at", clips.shape[3]))
    scores = []
    for item in range(len(clips)):
        frames, index = torch.unique(window[item], return_inverse=True)
        if len(frames) > WORTH * len(index) * min(looks_at, index.shape[1]):
            return None
        pictures = rearrange(clips[item], "n c t h w -> (n t) c h w")
        places = index.flatten()
        first = places.new_full((len(frames),), len(places)).scatter_reduce_(
            0, places, torch.arange(len(places), device=places.device), "amin"
        )
        stack = pictures[first]
        shown = torch.ones_like(places, dtype=torch.bool) if mask is None else mask[item].flatten()
        if not torch.equal(stack[places[shown]], pictures[shown]):
            return None
        own = None if mask is None else mask[item]
        scores.append(score_windows(model, rearrange(stack, "t c h w -> c t h w"), index, own))
    return torch.stack(scores)
