"""Lists of transforms from a config, run on one sample after the other."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from medvid.build import Spec, build, suggest
from medvid.contract import ConfigError
from medvid.transforms.protocol import OutputSize, Randomizable, Sample, Transform

_SECTION = ("both", "train", "test")


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


def build_pipeline(
    table: Mapping[str, Callable[..., Transform]],
    section: Mapping[str, Sequence[Spec]],
    training: bool,
) -> Pipeline:
    """Builds the transforms of a config's section `transforms`.

    Args:
        table: names -> transforms.
        section: lists of specs under `both` (run first), `train` and `test`; any may be missing.
        training: whether `train` or `test` follows `both`. In testing nothing may be random.

    Raises:
        ConfigError: for an unknown key, name or option, for a random transform under `both` or
            `test`, and for a transform that adds an axis before the end.
    """
    for key in section:
        if key not in _SECTION:
            raise ConfigError(
                f"The section `transforms` has no part `{key}`.{suggest(key, _SECTION)} Parts: "
                f"{', '.join(_SECTION)}.",
                code="unknown_key",
            )
    transforms: list[Transform] = []
    for part in ("both", "train" if training else "test"):
        for spec in _read_list(section, part):
            transform = build(table, spec, "transform")
            if part != "train" and isinstance(transform, Randomizable):
                name = spec if isinstance(spec, str) else spec["name"]
                raise ConfigError(
                    f"The transform `{name}` is random and stands under `transforms.{part}`; "
                    "testing must give the same answer twice. Move it to `transforms.train`.",
                    code="random_test",
                )
            transforms.append(transform)
    return Pipeline(transforms)


def _read_list(section: Mapping[str, Any], part: str) -> Sequence[Spec]:
    specs = section.get(part) or []
    if isinstance(specs, str | Mapping):
        raise ConfigError(
            f"`transforms.{part}` is a list of transforms, each on a line of its own that begins "
            "with a dash.",
            code="wrong_type",
        )
    return specs
