"""Runs a list of transforms on one sample after the other."""

import copy
from collections.abc import Sequence

import numpy as np
import torch

from medvid.contract import ConfigError
from medvid.transforms.protocol import OutputSize, Randomizable, Sample, Transform


class Pipeline:
    """Runs transforms one after the other on a sample.

    Nothing is remembered from one sample to the next: random transforms are copied, and start from
    numbers drawn from the generator that comes with the sample. The same sample and the same
    generator give the same result, in any process and any order.

    Args:
        transforms: run in this order.

    Raises:
        ConfigError: when a transform that adds an axis is not the last one.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)
        for transform in self.transforms[:-1]:
            if getattr(transform, "adds_views", False):
                raise ConfigError(
                    f"{type(transform).__name__} makes several clips of one and must be the last "
                    "transform.",
                    code="views_not_last",
                )

    @property
    def output_size(self) -> OutputSize:
        """Whether (T, H, W) is kept, fixed, or varies from clip to clip."""
        sizes = [t.output_size for t in self.transforms if t.output_size != "kept"]
        return sizes[-1] if sizes else "kept"

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        """Returns the transformed sample; the given one stays as it is.

        Args:
            sample: holds `clip`, (C, T, H, W) float32, and whatever else `contract.Sample` names.
            rng: what the random transforms draw from; None where there are none.

        Raises:
            ValueError: for a clip of another shape or dtype, or random transforms without `rng`.
        """
        clip = sample["clip"]
        if clip.ndim != 4 or clip.dtype != torch.float32:
            raise ValueError(
                f"Transforms take one clip (C, T, H, W) float32, not {tuple(clip.shape)} "
                f"{clip.dtype}."
            )
        for transform in self.transforms:
            if isinstance(transform, Randomizable):
                if rng is None:
                    raise ValueError(f"{type(transform).__name__} is random and needs `rng`.")
                transform = copy.copy(transform)
                transform.set_random_state(seed=int(rng.integers(2**32)))
            sample = transform(sample)
        return sample
