"""What every model asks of the clips it is given, and the sentence it says when it gets others.

A size that cannot work is a mistake of the config when it is known at construction
(`ConfigError`), and of the data when it is met in a batch (`DataError`).
"""

from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Bool, Shaped
from pydantic import Field
from torch import Tensor

from medvid.contract import ConfigError, DataError

Size = tuple[int, int, int]
"""(T, H, W) in slices or frames, rows, columns."""

AtLeastOne = Annotated[int, Field(ge=1)]
"""A number of channels, layers or frames that a config gives: of none there is no network."""

Steps = tuple[AtLeastOne, AtLeastOne, AtLeastOne]
"""(T, H, W) of a kernel or a stride that a config gives."""

Share = Annotated[float, Field(ge=0, lt=1)]
"""Of units that dropout leaves out."""


def refuse_small_size(clip_size: Size | None, smallest: Size, model: str) -> None:
    """Stops a model from being built for clips that it cannot take.

    Raises:
        ConfigError: when an axis of `clip_size` is shorter than that of `smallest`.
    """
    if clip_size is not None and any(
        n < least for n, least in zip(clip_size, smallest, strict=True)
    ):
        raise ConfigError(_describe_small(clip_size, smallest, model), code="clip_too_small")


def check_clips(
    clips: Shaped[Tensor, "..."],
    mask: Shaped[Tensor, "..."] | None,
    *,
    in_channels: int,
    smallest: Size,
    model: str,
    exact_frames: int | None = None,
) -> Bool[Tensor, "batch t"] | None:
    """Returns the mask, or None when no frame is padding, which is the quicker way through.

    Args:
        clips: what the model was given.
        mask: False marks padding.
        in_channels: what the model was built for.
        smallest: (T, H, W) that the model needs at least.
        model: its name in messages.
        exact_frames: the only T the model takes, where its layers are built for one.

    Shape:
        clips: (B, C, T, H, W).
        mask: (B, T) bool.

    Raises:
        DataError: for another number of axes, channels or frames, a clip smaller than `smallest`,
            a mask of another shape, or a clip that is nothing but padding.
    """
    if clips.ndim != 5:
        raise DataError(
            f"{model} takes clips (B, C, T, H, W), and was given {clips.ndim} axes: "
            f"{tuple(clips.shape)}.",
            code="clip_axes",
        )
    batch, channels, t, h, w = clips.shape
    if channels != in_channels:
        raise DataError(
            f"{model} was built for {in_channels} channel(s), and was given clips with {channels}. "
            "Set `in_channels`, or the transforms that make channels.",
            code="clip_channels",
        )
    if any(n < least for n, least in zip((t, h, w), smallest, strict=True)):
        raise DataError(_describe_small((t, h, w), smallest, model), code="clip_too_small")
    if exact_frames is not None and t != exact_frames:
        raise DataError(
            f"{model} was built for clips of exactly {exact_frames} frames, and was given {t}. "
            f"Set `data.sampler.frames: {exact_frames}`, or choose a model that takes any number; "
            "`medvid models` says which do.",
            code="clip_frames",
        )
    if mask is None:
        return None
    if mask.shape != (batch, t):
        raise DataError(
            f"The mask of {batch} clips of {t} frames must be ({batch}, {t}); it is "
            f"{tuple(mask.shape)}.",
            code="mask_shape",
        )
    if bool(mask.all()):
        return None
    if not bool(mask.any(dim=1).all()):
        raise DataError(
            f"A clip given to {model} is nothing but padding; it has no frame to look at.",
            code="empty_clip",
        )
    return mask


def bring_forward(
    clips: Shaped[Tensor, "batch channels t h w"], mask: Bool[Tensor, "batch t"] | None
) -> tuple[Shaped[Tensor, "batch channels t h w"], Bool[Tensor, "batch t"] | None]:
    """Lays padding behind all other frames, whose order stays.

    A window around a slice near the end of a scan has padding in front. A network that strides
    along T would begin to count there, and answer otherwise than for the clip alone.
    """
    if mask is None or bool((mask[:, :-1] >= mask[:, 1:]).all()):
        return clips, mask
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    index = rearrange(order, "b t -> b 1 t 1 1").expand(-1, clips.shape[1], -1, *clips.shape[3:])
    return clips.gather(2, index), mask.gather(1, order)


def _describe_small(size: Size, smallest: Size, model: str) -> str:
    return (
        f"{model} needs clips of at least {' x '.join(map(str, smallest))} (frames x rows x "
        f"columns), and was given {' x '.join(map(str, size))}. Take larger crops or more frames, "
        "resize, or choose another model; `medvid models` lists the smallest clip of each."
    )
