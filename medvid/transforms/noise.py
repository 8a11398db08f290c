"""Random changes of brightness, contrast, noise and sharpness: what differs between scanners.

They change `clip` only. Put them behind the window or the normalisation, whose output has a known
scale: noise of 0.05 is a twentieth of a window there, and nothing on Hounsfield units.
"""

import math
from typing import Annotated

import torch
from einops import rearrange
from monai.transforms import AdjustContrast
from monai.transforms import GaussianSmooth as MonaiGaussianSmooth
from pydantic import Field
from torch import Tensor

from medvid.contract import ConfigError
from medvid.transforms.planes import change_clip
from medvid.transforms.protocol import OutputSize, Probability, Randomizable, Sample

Positive = Annotated[float, Field(gt=0)]


class GaussianNoise(Randomizable):
    """Adds noise to a clip, independent in every voxel: a scan with less dose or time.

    Args:
        std: largest standard deviation, in the clip's units; the actual one is drawn from 0 to
            it.
        prob: that the clip is changed at all.

    Shape:
        (C, T, H, W) -> (C, T, H, W).
    """

    output_size: OutputSize = "kept"

    def __init__(self, std: Annotated[float, Field(ge=0)] = 0.05, prob: Probability = 0.5) -> None:
        self.std = std
        self.prob = prob

    def __call__(self, sample: Sample) -> Sample:
        """Returns the noisy sample."""
        changed = self.R.uniform() < self.prob
        std = float(self.R.uniform(0, self.std))
        if not changed:
            return sample
        # torch draws a clip's worth of normal numbers five times faster than numpy's old generator.
        generator = torch.Generator().manual_seed(int(self.R.randint(2**31)))
        noise = torch.randn(sample["clip"].shape, generator=generator)
        return change_clip(sample, sample["clip"] + std * noise)


class GaussianSmooth(Randomizable):
    """Blurs all frames alike, in their plane: a softer reconstruction kernel.

    Args:
        low: smallest standard deviation of the blur, in pixels.
        high: largest standard deviation, in pixels.
        prob: that the clip is changed at all.

    Shape:
        (C, T, H, W) -> (C, T, H, W).

    Raises:
        ConfigError: when `low` is larger than `high`.
    """

    output_size: OutputSize = "kept"

    def __init__(self, low: Positive = 0.25, high: Positive = 1.5, prob: Probability = 0.5) -> None:
        _check_range("gaussian_smooth", low, high)
        self.low = low
        self.high = high
        self.prob = prob

    def __call__(self, sample: Sample) -> Sample:
        """Returns the blurred sample."""
        changed = self.R.uniform() < self.prob
        sigma = float(self.R.uniform(self.low, self.high))
        if not changed:
            return sample
        clip = sample["clip"]
        planes = rearrange(clip, "c t h w -> (c t) h w")
        blurred = _as_plain(MonaiGaussianSmooth(sigma=sigma)(planes))
        return change_clip(sample, rearrange(blurred, "(c t) h w -> c t h w", c=clip.shape[0]))


class Contrast(Randomizable):
    """Bends the grey scale of a clip by a random gamma, between its smallest and largest value.

    Args:
        low: smallest gamma; below 1 brightens.
        high: largest gamma; above 1 darkens. Drawn evenly on a logarithmic scale, so that 0.5
            and 2 are equally likely.
        prob: that the clip is changed at all.

    Shape:
        (C, T, H, W) -> (C, T, H, W).

    Raises:
        ConfigError: when `low` is larger than `high`.
    """

    output_size: OutputSize = "kept"

    def __init__(self, low: Positive = 0.7, high: Positive = 1.5, prob: Probability = 0.5) -> None:
        _check_range("contrast", low, high)
        self.low = low
        self.high = high
        self.prob = prob

    def __call__(self, sample: Sample) -> Sample:
        """Returns the sample with another contrast."""
        changed = self.R.uniform() < self.prob
        gamma = math.exp(self.R.uniform(math.log(self.low), math.log(self.high)))
        if not changed:
            return sample
        return change_clip(sample, _as_plain(AdjustContrast(gamma=gamma)(sample["clip"])))


class ScaleIntensity(Randomizable):
    """Multiplies a clip by one random factor.

    Args:
        low: smallest factor.
        high: largest factor.
        prob: that the clip is changed at all.

    Shape:
        (C, T, H, W) -> (C, T, H, W).

    Raises:
        ConfigError: when `low` is larger than `high`.

    References:
        With low 0, high 1, prob 1 (and `scale` with divide_by 2 in testing) the recipe of
        MedMNIST v2 for its two sets of shapes (Yang et al., Scientific Data 2023, code).
    """

    output_size: OutputSize = "kept"

    def __init__(self, low: float = 0.9, high: float = 1.1, prob: Probability = 0.5) -> None:
        _check_range("scale_intensity", low, high)
        self.low = low
        self.high = high
        self.prob = prob

    def __call__(self, sample: Sample) -> Sample:
        """Returns the scaled sample."""
        changed = self.R.uniform() < self.prob
        factor = float(self.R.uniform(self.low, self.high))
        return change_clip(sample, sample["clip"] * factor) if changed else sample


class ShiftIntensity(Randomizable):
    """Adds one random number to a whole clip.

    Args:
        by: largest shift either way, in the clip's units.
        prob: that the clip is changed at all.

    Shape:
        (C, T, H, W) -> (C, T, H, W).
    """

    output_size: OutputSize = "kept"

    def __init__(self, by: Annotated[float, Field(ge=0)] = 0.1, prob: Probability = 0.5) -> None:
        self.by = by
        self.prob = prob

    def __call__(self, sample: Sample) -> Sample:
        """Returns the shifted sample."""
        changed = self.R.uniform() < self.prob
        shift = float(self.R.uniform(-self.by, self.by))
        return change_clip(sample, sample["clip"] + shift) if changed else sample


def _as_plain(tensor: Tensor) -> Tensor:
    """MONAI answers with a tensor that drags metadata along; batches want none."""
    return tensor.as_subclass(Tensor)


def _check_range(name: str, low: float, high: float) -> None:
    if low > high:
        raise ConfigError(
            f"The transform `{name}` needs low <= high, and got {low:g} and {high:g}.",
            code="wrong_range",
        )
