"""Changes a clip on its way to the network: windows, normalisation, resampling, augmentation.

Every transform takes a sample (`medvid.contract.Sample`) whose `clip` is (C, T, H, W) float32 and
returns a new one. Random ones are MONAI `Randomizable`s, so they also work inside MONAI's
`Compose`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from medvid.build import Spec, build, suggest
from medvid.contract import ConfigError
from medvid.transforms.affine import Affine, Zoom
from medvid.transforms.corner_crop import CornerCrop
from medvid.transforms.crops import CenterCrop, CropOrPad, Pad, RandomCrop
from medvid.transforms.difference import Difference
from medvid.transforms.flips import Flip, Rotate90
from medvid.transforms.noise import (
    Contrast,
    GaussianNoise,
    GaussianSmooth,
    ScaleIntensity,
    ShiftIntensity,
)
from medvid.transforms.normalise import (
    Grey,
    Normalise,
    Percentiles,
    RepeatChannels,
    Scale,
    ZScore,
)
from medvid.transforms.pipeline import Pipeline
from medvid.transforms.protocol import OutputSize, Randomizable, Transform
from medvid.transforms.resample import Resize, Spacing
from medvid.transforms.scaled_crop import ScaledCrop
from medvid.transforms.views import FiveCrop, GridCrop, TenCrop, ThreeCrop
from medvid.transforms.window import WINDOWS, Window

__all__ = [
    "TRANSFORMS",
    "WINDOWS",
    "Pipeline",
    "Transform",
    "TransformRow",
    "build_pipeline",
    "list_transforms",
]

TRANSFORMS: dict[str, Callable[..., Transform]] = {
    # values
    "grey": Grey,
    "normalise": Normalise,
    "percentiles": Percentiles,
    "repeat_channels": RepeatChannels,
    "scale": Scale,
    "window": Window,
    "zscore": ZScore,
    # size
    "center_crop": CenterCrop,
    "crop_or_pad": CropOrPad,
    "pad": Pad,
    "resize": Resize,
    "spacing": Spacing,
    # further modalities
    "difference": Difference,
    # random, for training
    "affine": Affine,
    "contrast": Contrast,
    "corner_crop": CornerCrop,
    "flip": Flip,
    "gaussian_noise": GaussianNoise,
    "gaussian_smooth": GaussianSmooth,
    "random_crop": RandomCrop,
    "rotate90": Rotate90,
    "scale_intensity": ScaleIntensity,
    "scaled_crop": ScaledCrop,
    "shift_intensity": ShiftIntensity,
    "zoom": Zoom,
    # several crops, for testing
    "five_crop": FiveCrop,
    "grid_crop": GridCrop,
    "ten_crop": TenCrop,
    "three_crop": ThreeCrop,
}

_SECTION = ("both", "train", "test")


@dataclass(frozen=True)
class TransformRow:
    """One line of `medvid transforms`.

    Args:
        name: as configs spell it.
        kind: whether it draws at random.
        output_size: what becomes of (T, H, W): `kept`, `fixed`, or `varies` with the clip.
        description: one sentence.
    """

    name: str
    kind: Literal["random", "fixed"]
    output_size: OutputSize
    description: str


def list_transforms() -> list[TransformRow]:
    """Returns what there is, in the order of the table."""
    rows = []
    for name, transform in TRANSFORMS.items():
        random = isinstance(transform, type) and issubclass(transform, Randomizable)
        size: OutputSize = getattr(transform, "output_size", "varies")
        description = (transform.__doc__ or "").strip().splitlines()[0]
        rows.append(TransformRow(name, "random" if random else "fixed", size, description))
    return rows


def build_pipeline(
    section: Mapping[str, Any],
    training: bool,
) -> Pipeline:
    """Builds the transforms of a config's section `transforms`.

    Args:
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
            transform = build(TRANSFORMS, spec, "transform")
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
