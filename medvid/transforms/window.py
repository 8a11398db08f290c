"""Windows of CT: the part of the Hounsfield scale that a reader looks at."""

import torch
from torch import Tensor

from medvid.build import suggest
from medvid.contract import ConfigError, DataError
from medvid.transforms.normalise import standardise
from medvid.transforms.planes import change_channels, change_clip
from medvid.transforms.protocol import OutputSize, Sample

WINDOWS: dict[str, tuple[float, float]] = {
    # name: (level, width) in HU
    "brain": (40.0, 80.0),
    "subdural": (80.0, 200.0),
    "bone": (600.0, 2800.0),
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "soft_tissue": (40.0, 400.0),
    "pe": (400.0, 1000.0),  # -100 to 900 HU: contrast in the pulmonary arteries, as PENet clips
}
"""The windows radiologists switch between; the first three are those of head CT challenges."""

Level = str | tuple[float, float]


class Window:
    """Maps Hounsfield units to [0, 1] through one or several CT windows, one channel each.

    A haemorrhage differs from brain by 30 HU of the 4,000 that a CT holds; without a window it is
    lost. Everything below level - width/2 becomes 0, everything above level + width/2 becomes 1,
    linear in between (DICOM's LINEAR_EXACT).

    Args:
        windows: a name (brain, subdural, bone, lung, mediastinum, soft_tissue, pe), a pair
            (level, width) in HU - the level comes first -, or a list of both. Several windows
            need a clip of one channel and give one channel each, in this order.
        channel: the name of the one channel that is a CT, of `data.channels`; None takes all.
        mean: subtracted after windowing, on the [0, 1] scale; one for all windows or one each.
        std: divided by afterwards, likewise.

    Shape:
        (C, T, H, W) HU -> (C, T, H, W) for one window, (1, T, H, W) -> (windows, T, H, W) for
        several. With `channel` only that one is windowed, and becomes as many channels as there
        are windows.

    Raises:
        ConfigError: for an unknown window, or a width that is not positive.
        DataError: for several windows on a clip of several channels.

    References:
        PENet (Huang et al., npj Digital Medicine 2020) for `pe`; its code normalises with mean
        0.15897 and std 0.19974.
    """

    output_size: OutputSize = "kept"

    def __init__(
        self,
        windows: Level | list[Level],
        channel: str | None = None,
        mean: float | list[float] | None = None,
        std: float | list[float] | None = None,
    ) -> None:
        levels = windows if isinstance(windows, list) else [windows]
        if not levels:
            raise ConfigError("The transform `window` needs at least one window.", code="window")
        self.channel = channel
        self.windows = [_find_window(level) for level in levels]
        self.mean = mean
        self.std = std

    def __call__(self, sample: Sample) -> Sample:
        """Returns the sample with a windowed clip."""
        clip = sample["clip"]
        if self.channel is not None:
            return change_channels(sample, self.channel, self._show, "window")
        if len(self.windows) > 1 and clip.shape[0] != 1:
            raise DataError(
                f"The transform `window` makes {len(self.windows)} channels out of one, and this "
                f"clip has {clip.shape[0]}. Windows are for CT: name its channel with `channel`.",
                code="window_channels",
            )
        return change_clip(sample, self._show(clip))

    def _show(self, clip: Tensor) -> Tensor:
        shown = [
            ((clip - (level - width / 2)) / width).clamp_(0.0, 1.0) for level, width in self.windows
        ]
        joined = shown[0] if len(shown) == 1 else torch.cat(shown)
        return standardise(joined, self.mean, self.std, "window")


def _find_window(level: Level) -> tuple[float, float]:
    if isinstance(level, str):
        if level not in WINDOWS:
            raise ConfigError(
                f"There is no window named `{level}`.{suggest(level, WINDOWS)} Known: "
                f"{', '.join(WINDOWS)}; or give a pair (level, width) in HU.",
                code="unknown_window",
            )
        return WINDOWS[level]
    if level[1] <= 0:
        raise ConfigError(
            f"The window {level[0]:g}/{level[1]:g} has no positive width. A window is (level, "
            "width) in HU, such as [40, 80] for the brain.",
            code="window_width",
        )
    return level
