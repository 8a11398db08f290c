"""Puts the values of a clip on a scale that a network can start from; nothing here is random."""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medvid.contract import ConfigError, DataError
from medvid.transforms.planes import change_channels, change_clip
from medvid.transforms.protocol import OutputSize, Sample

_OTSU_BINS = 256  # as Otsu's 8-bit pictures; finer bins move the threshold by less than noise

_SMALLEST_SPREAD = 1e-6  # below it a clip is constant: rounding of float32, not anatomy

# ITU-R BT.601, the weights of standard-definition video such as UCF101
_LUMA = (0.299, 0.587, 0.114)

Percent = Annotated[float, Field(ge=0, le=100)]


class ZScore:
    """Gives the body of an MR clip mean 0 and standard deviation 1.

    MR has no units: the same tissue is 300 on one scanner and 3,000 on another. Mean and standard
    deviation are taken inside the body and outside of padding, and applied everywhere. They are
    those of the clip, not of the whole scan: a clip of few slices at the top of the head is scaled
    by what is in it. Where that matters, take long clips or `percentiles`.

    Args:
        body: how body is told from air: `otsu` (the threshold that best splits the histogram in
            two), `mean` (above the clip's mean) or `all` (every voxel counts).
        channel: the name of the one channel to normalise, of `data.channels`; None takes all.

    Shape:
        (C, T, H, W) -> (C, T, H, W), every channel by itself: sequences have scales of their own.

    References:
        Otsu, A threshold selection method from gray-level histograms, IEEE SMC 1979.
    """

    output_size: OutputSize = "kept"

    def __init__(
        self, body: Literal["otsu", "mean", "all"] = "otsu", channel: str | None = None
    ) -> None:
        self.body = body
        self.channel = channel

    def __call__(self, sample: Sample) -> Sample:
        """Returns the sample with a normalised clip."""
        mask = sample.get("mask")
        return change_channels(
            sample, self.channel, lambda clip: self._normalise(clip, mask), "zscore"
        )

    def _normalise(self, clip: Tensor, mask: Tensor | None) -> Tensor:
        voxels = _real_voxels(clip, mask)
        if self.body == "otsu":
            voxels = voxels[voxels > find_otsu_threshold(voxels)]
        elif self.body == "mean":
            voxels = voxels[voxels > voxels.mean()]
        if len(voxels) == 0:  # a constant clip has no body
            return torch.zeros_like(clip)
        spread = max(float(voxels.std(correction=0)), _SMALLEST_SPREAD)
        return (clip - voxels.mean()) / spread


class Percentiles:
    """Maps two percentiles of a clip to 0 and 1 and cuts off what lies beyond.

    For MR, where single bright vessels would squeeze everything else together. Padding does not
    count. The percentiles are those of the clip, not of the whole scan.

    Args:
        low: percent of voxels that become 0.
        high: percent of voxels that stay below 1.
        channel: the name of the one channel to map, of `data.channels`; None takes all.

    Shape:
        (C, T, H, W) -> (C, T, H, W), every channel by itself.

    Raises:
        ConfigError: when `low` is not below `high`.
    """

    output_size: OutputSize = "kept"

    def __init__(
        self, low: Percent = 0.5, high: Percent = 99.5, channel: str | None = None
    ) -> None:
        if low >= high:
            raise ConfigError(
                f"The transform `percentiles` needs low < high, and got {low:g} and {high:g}.",
                code="wrong_range",
            )
        self.low = low
        self.high = high
        self.channel = channel

    def __call__(self, sample: Sample) -> Sample:
        """Returns the sample with a clip in [0, 1]."""
        mask = sample.get("mask")
        return change_channels(
            sample, self.channel, lambda clip: self._map(clip, mask), "percentiles"
        )

    def _map(self, clip: Tensor, mask: Tensor | None) -> Tensor:
        voxels = _real_voxels(clip, mask).numpy()
        low, high = np.percentile(voxels, [self.low, self.high]).tolist()
        spread = max(high - low, _SMALLEST_SPREAD)
        return ((clip - low) / spread).clamp_(0.0, 1.0)


class Scale:
    """Divides by a constant, then normalises each channel: the usual start for videos.

    Args:
        divide_by: 255 takes 8-bit video to [0, 1].
        mean: subtracted after the division; one for all channels or one each.
        std: divided by afterwards, likewise.

    Shape:
        (C, T, H, W) -> (C, T, H, W).

    Raises:
        DataError: when the number of means or stds is not that of the channels.
    """

    output_size: OutputSize = "kept"

    def __init__(
        self,
        divide_by: Annotated[float, Field(gt=0)] = 255.0,
        mean: float | list[float] | None = None,
        std: float | list[float] | None = None,
    ) -> None:
        self.divide_by = divide_by
        self.mean = mean
        self.std = std

    def __call__(self, sample: Sample) -> Sample:
        """Returns the sample with a scaled clip."""
        scaled = sample["clip"] / self.divide_by
        return change_clip(sample, standardise(scaled, self.mean, self.std, "scale"))


class Normalise:
    """Subtracts a mean and divides by a standard deviation of the whole data set.

    Unlike `zscore` it keeps differences between scans, which carry meaning in CT.

    Args:
        mean: in the clip's units at this place of the pipeline; one for all channels or one each.
        std: likewise.

    Shape:
        (C, T, H, W) -> (C, T, H, W).

    Raises:
        DataError: when the number of means or stds is not that of the channels.
    """

    output_size: OutputSize = "kept"

    def __init__(self, mean: float | list[float], std: float | list[float]) -> None:
        self.mean = mean
        self.std = std

    def __call__(self, sample: Sample) -> Sample:
        """Returns the sample with a normalised clip."""
        clip = standardise(sample["clip"], self.mean, self.std, "normalise")
        return change_clip(sample, clip)


class Grey:
    """Turns colour video into one grey channel, so that video and scan share a network.

    Weights are the luma of ITU-R BT.601. A clip that has one channel stays as it is.

    Args:
        none.

    Shape:
        (3, T, H, W) or (1, T, H, W) -> (1, T, H, W).

    Raises:
        DataError: for another number of channels.
    """

    output_size: OutputSize = "kept"

    def __call__(self, sample: Sample) -> Sample:
        """Returns the sample with a clip of one channel."""
        clip = sample["clip"]
        if clip.shape[0] == 1:
            return sample
        if clip.shape[0] != 3:
            raise DataError(
                f"The transform `grey` takes colour clips of 3 channels, not {clip.shape[0]}.",
                code="channels",
            )
        grey = torch.einsum("cthw,c->thw", clip, clip.new_tensor(_LUMA))
        return change_clip(sample, grey[None])


class RepeatChannels:
    """Repeats the one channel of a scan, for networks that were made for colour video.

    Args:
        channels: how many there are afterwards.

    Shape:
        (1, T, H, W) -> (channels, T, H, W).

    Raises:
        DataError: for a clip that has several channels already.
    """

    output_size: OutputSize = "kept"

    def __init__(self, channels: Annotated[int, Field(gt=0)] = 3) -> None:
        self.channels = channels

    def __call__(self, sample: Sample) -> Sample:
        """Returns the sample with a clip of more channels."""
        clip = sample["clip"]
        if clip.shape[0] != 1:
            raise DataError(
                f"The transform `repeat_channels` takes one channel, and this clip has "
                f"{clip.shape[0]}. Leave it out for colour video, or put `grey` before it.",
                code="channels",
            )
        return change_clip(sample, clip.repeat(self.channels, 1, 1, 1))


def standardise(
    clip: Tensor, mean: float | list[float] | None, std: float | list[float] | None, what: str
) -> Tensor:
    """Returns (clip - mean) / std, per channel; None leaves a step out.

    Raises:
        DataError: when the number of means or stds is neither one nor that of the channels.
    """
    if mean is not None:
        clip = clip - _per_channel(mean, clip, f"{what}.mean")
    if std is not None:
        clip = clip / _per_channel(std, clip, f"{what}.std")
    return clip


def find_otsu_threshold(voxels: Tensor) -> float:
    """Returns the threshold that best splits values in two (largest variance between both).

    Shape:
        voxels: (n,).
    """
    low, high = float(voxels.min()), float(voxels.max())
    if high - low < _SMALLEST_SPREAD:
        return high
    counts = torch.histc(voxels, bins=_OTSU_BINS, min=low, max=high).double()
    width = (high - low) / _OTSU_BINS
    centres = low + width * (torch.arange(_OTSU_BINS, dtype=torch.float64) + 0.5)
    below = counts.cumsum(0)
    sums = (counts * centres).cumsum(0)
    above = below[-1] - below
    mean_below = sums / below.clamp(min=1)
    mean_above = (sums[-1] - sums) / above.clamp(min=1)
    between = below * above * (mean_below - mean_above) ** 2
    # Between two clear peaks every threshold is equally good; the middle one is meant.
    best = torch.nonzero(between >= between.max() * (1 - 1e-12)).flatten()
    return low + width * (float(best[0] + best[-1]) / 2 + 1)


def _real_voxels(clip: Tensor, mask: Tensor | None) -> Tensor:
    """Returns the values of all frames that are not padding, (n,)."""
    if mask is None or bool(mask.all()) or not bool(mask.any()):
        return clip.reshape(-1)
    return clip[:, mask].reshape(-1)


def _per_channel(values: float | list[float], clip: Tensor, option: str) -> Tensor:
    numbers = clip.new_tensor(values).reshape(-1)
    if len(numbers) not in (1, clip.shape[0]):
        raise DataError(
            f"`{option}` has {len(numbers)} values, and the clip has {clip.shape[0]} channels at "
            "this place of the pipeline. Give one value, or one a channel.",
            code="channels",
        )
    return numbers.reshape(-1, 1, 1, 1)
