"""Brings clips to another number of pixels, or pixels to another size in mm."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as nnf
from pydantic import Field
from torch import Tensor

from medvid.contract import ConfigError, DataError
from medvid.transforms.planes import MODALITIES, change_planes, scale_spacing
from medvid.transforms.protocol import OutputSize, Sample, Size

Mode = Literal["bilinear", "area", "nearest"]

_SAME_SPACING = 1e-3  # relative; 0.1 % of 512 pixels is half a pixel at the edge

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class Resize:
    """Resamples all frames to a given size, or to a given shorter side.

    `spacing` follows, so that later steps still know the size of a pixel. The values of `flow`
    are not changed: they stay displacements in pixels of the frames they were computed on.

    Args:
        size: (H, W) in pixels, or (T, H, W) to change the number of frames as well (linear
            between frames; `mask` and `window` take the nearest one, `positions` follow).
        short_side: pixels of the shorter of H and W; the ratio of both is kept, so the size
            depends on the clip. In place of `size`.
        mode: `bilinear` (smoothed before it shrinks), `area` or `nearest`.

    Shape:
        (C, T, H, W) -> (C, T, *size), (C, *size), or with one side equal to `short_side`.

    Raises:
        ConfigError: when not exactly one of `size` and `short_side` is given.

    References:
        Two-stream networks (Simonyan and Zisserman, NIPS 2014, section 5): shorter side 256.
    """

    output_size: OutputSize = "fixed"

    def __init__(
        self,
        size: Size | tuple[PositiveInt, PositiveInt, PositiveInt] | None = None,
        short_side: PositiveInt | None = None,
        mode: Mode = "bilinear",
    ) -> None:
        if (size is None) == (short_side is None):
            raise ConfigError(
                "The transform `resize` needs either `size` or `short_side`.", code="missing_option"
            )
        self.size = size
        self.short_side = short_side
        self.mode: Mode = mode
        if short_side is not None:
            self.output_size = "varies"

    def __call__(self, sample: Sample) -> Sample:
        """Returns the resampled sample."""
        if self.size is not None and len(self.size) == 3:
            sample = resample_frames(sample, self.size[0])
        return resample_planes(sample, self._target(sample["clip"]), self.mode)

    def _target(self, clip: Tensor) -> tuple[int, int]:
        if self.size is not None:
            return self.size[-2], self.size[-1]
        height, width = clip.shape[-2:]
        factor = (self.short_side or 0) / min(height, width)
        return round(height * factor), round(width * factor)


class Spacing:
    """Resamples all frames so that a pixel has a given size in mm.

    The same nodule then covers the same number of pixels in every scan. Slices are not touched:
    `data.spacing` resamples whole scans once, in three directions; this is for what varies.

    Args:
        mm: size of a pixel along (H, W), or one number for both.
        mode: `bilinear` (smoothed before it shrinks), `area` or `nearest`.

    Shape:
        (C, T, H, W) -> (C, T, H', W'), which depends on the clip; `crop_or_pad` behind it makes
        sizes equal. `spacing` follows.

    Raises:
        DataError: for videos, whose pixels have no size in mm.
    """

    output_size: OutputSize = "varies"

    def __init__(
        self, mm: PositiveFloat | tuple[PositiveFloat, PositiveFloat], mode: Mode = "bilinear"
    ) -> None:
        self.mm = mm if isinstance(mm, tuple) else (mm, mm)
        self.mode: Mode = mode

    def __call__(self, sample: Sample) -> Sample:
        """Returns the resampled sample."""
        if "spacing" not in sample or sample.get("modality") == "video":
            raise DataError(
                "The transform `spacing` works in mm, and this clip is a video: its pixels have "
                "no size in mm. Use `resize`.",
                code="mm_on_video",
            )
        ratios = [
            have / want for have, want in zip(sample["spacing"][1:].tolist(), self.mm, strict=True)
        ]
        if all(abs(ratio - 1) < _SAME_SPACING for ratio in ratios):
            return sample
        height, width = sample["clip"].shape[-2:]
        target = (max(1, round(height * ratios[0])), max(1, round(width * ratios[1])))
        return resample_planes(sample, target, self.mode)


def resample_planes(sample: Sample, size: tuple[int, int], mode: Mode) -> Sample:
    """Returns the sample with frames of `size` (H, W), and the spacing that they have."""
    height, width = sample["clip"].shape[-2:]
    if (height, width) == size:
        return sample

    def change(planes: Tensor) -> Tensor:
        smooth = mode == "bilinear"
        return nnf.interpolate(planes[None], size=size, mode=mode, antialias=smooth)[0]

    resampled = change_planes(sample, change)
    return scale_spacing(resampled, (1.0, height / size[0], width / size[1]))


def resample_frames(sample: Sample, count: int) -> Sample:
    """Returns the sample with `count` frames that cover the same stretch, linear in between."""
    frames = sample["clip"].shape[1]
    if frames == count:
        return sample
    # Frame centres, as resizing treats pixels: the first new frame lies half a new step inside.
    places = (torch.arange(count, dtype=torch.float64) + 0.5) * frames / count - 0.5
    places = places.clamp(0, frames - 1)
    before = places.floor().long()
    after = (before + 1).clamp(max=frames - 1)
    share = (places - before).float()
    nearest = places.round().long()
    resampled = dict(sample)
    for key in MODALITIES:
        if key in sample:
            share_of = share[None, :, None, None]
            clip = sample[key]
            resampled[key] = torch.lerp(clip[:, before], clip[:, after], share_of)
    for key in ("mask", "window"):
        if key in sample:
            resampled[key] = sample[key][nearest]
    if "positions" in sample:
        positions = sample["positions"]
        resampled["positions"] = torch.lerp(positions[before], positions[after], share)
    return scale_spacing(resampled, (frames / count, 1.0, 1.0))
