"""Windows that slide over a stack, every frame looked at once.

A network that encodes each frame alone (`encode_frames`) and then mixes the frames of a clip
(`classify_frames`) has done most of its work before windows come in: 105 windows of 16 out of 120
slices show 1,680 frames, and only 120 different ones. Here each is encoded once, and only the
second half slides.

3D convolutions cannot be shared in that way. They pad a clip with zeros along T, so a frame's
features depend on where the window ends, already in the first layer: features of the whole stack
are those of other clips. Such models are scored window by window.
"""

from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medvid.contract import DataError

FRAMES_AT_ONCE = 32
"""Frames encoded in one pass; bounds the memory of activations, not the result."""

WINDOWS_AT_ONCE = 64
"""Windows classified in one pass."""


def shares_frames(model: nn.Module) -> bool:
    """Tells whether the windows of an item are scored apart and show frames that are encoded alone.

    A model that takes segments makes one answer of all windows.
    """
    return hasattr(model, "encode_frames") and not getattr(model, "takes_segments", False)


def slide_windows(
    model: nn.Module,
    clips: Float[Tensor, "batch channels t h w"],
    *,
    frames: int,
    hop: int = 1,
    windows_at_once: int = WINDOWS_AT_ONCE,
) -> Float[Tensor, "batch windows classes"]:
    """Scores all windows of `frames` frames, `hop` apart, that lie inside the clips.

    For a model with `encode_frames` every frame is encoded once; the logits are those of the
    windows one by one, but for rounding. Give it a model in eval mode: in training mode batch
    statistics would tie the windows together.

    Args:
        model: a `VideoModel` with the single modality `clip`.
        clips: whole stacks.
        frames: T of a window.
        hop: frames from one window to the next.
        windows_at_once: windows scored in one pass; bounds memory.

    Raises:
        DataError: when the clips are shorter than a window.
    """
    t = clips.shape[2]
    if t < frames:
        raise DataError(
            f"A window of {frames} frames does not fit into a stack of {t}. Take shorter windows.",
            code="clip_too_short",
        )
    starts = torch.arange(0, t - frames + 1, hop)
    index = starts[:, None] + torch.arange(frames)
    return torch.stack(
        [
            score_windows(model, clip, index, windows_at_once=windows_at_once)
            if hasattr(model, "encode_frames")
            else _score_one_by_one(model, clip, index, windows_at_once)
            for clip in clips
        ]
    )


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
    scores = []
    for item in range(len(clips)):
        frames, index = torch.unique(window[item], return_inverse=True)
        if 2 * len(frames) > index.numel():
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


def _score_one_by_one(
    model: nn.Module,
    clip: Float[Tensor, "channels t h w"],
    index: Int[Tensor, "windows frames"],
    windows_at_once: int,
) -> Float[Tensor, "windows classes"]:
    parts = [
        model(rearrange(clip[:, part], "c n t h w -> n c t h w"))
        for part in torch.split(index, windows_at_once)
    ]
    return torch.cat(parts)
