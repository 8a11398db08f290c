"""Applies one change to every frame of every modality of a sample.

What is done in the plane of the frames is done to an image of C*T channels: all frames get the
same change, and it is many times faster than MONAI's volume transforms (a rotation of 16 frames of
128 x 128 takes 0.5 ms in place of 10.5 ms).
"""

from collections.abc import Callable

from einops import rearrange
from torch import Tensor

from medvid.contract import DataError
from medvid.transforms.protocol import Sample

MODALITIES = ("clip", "difference", "flow")
"""Keys of a sample that share the clip's grid of frames, rows and columns."""


def change_planes(sample: Sample, change: Callable[[Tensor], Tensor]) -> Sample:
    """Applies `change` in the plane to all frames of all modalities.

    Args:
        sample: one clip; further modalities beside it are changed alike.
        change: from (planes, H, W) to (planes, H', W').
    """
    changed = dict(sample)
    for key in MODALITIES:
        if key in sample:
            clip = sample[key]
            planes = change(rearrange(clip, "c t h w -> (c t) h w"))
            changed[key] = rearrange(planes, "(c t) h w -> c t h w", c=clip.shape[0]).contiguous()
    return changed


def change_clip(sample: Sample, clip: Tensor) -> Sample:
    """Returns the sample with another clip, contiguous."""
    return {**sample, "clip": clip.contiguous()}


def scale_spacing(sample: Sample, factors: tuple[float, float, float]) -> Sample:
    """Returns the sample with its spacing along (T, H, W) multiplied."""
    if "spacing" not in sample:
        return sample
    spacing = sample["spacing"]
    return {**sample, "spacing": spacing * spacing.new_tensor(factors)}


def refuse_flow(sample: Sample, what: str) -> None:
    """Raises where turning the grid would leave the vectors of a flow field unturned.

    Raises:
        DataError: when the sample holds `flow`.
    """
    if "flow" in sample:
        raise DataError(
            f"The transform `{what}` turns the picture but not the vectors of `flow`. Put it "
            "before the flow is computed, or leave it out.",
            code="flow_turned",
        )
