"""Cuts frames down and pads them, the same rectangle for all frames of a clip.

The number of frames belongs to the sampler, not to these.
"""

import torch.nn.functional as nnf

from medvid.contract import DataError
from medvid.transforms.planes import MODALITIES, change_planes
from medvid.transforms.protocol import OutputSize, Randomizable, Sample, Size


class RandomCrop(Randomizable):
    """Cuts one rectangle at a random place out of all frames.

    Args:
        size: (H, W) in pixels.

    Shape:
        (C, T, H, W) -> (C, T, *size).

    Raises:
        DataError: for frames smaller than `size`.

    References:
        Two-stream networks (Simonyan and Zisserman, NIPS 2014, section 5) crop from the whole
        frame; C3D (Tran et al., ICCV 2015, section 3.3) crops 112 x 112 from 128 x 171.
    """

    output_size: OutputSize = "fixed"

    def __init__(self, size: Size) -> None:
        self.size = size

    def __call__(self, sample: Sample) -> Sample:
        """Returns the cropped sample."""
        room_h, room_w = measure_room(sample, self.size, "random_crop")
        return cut(sample, self.R.randint(room_h + 1), self.R.randint(room_w + 1), self.size)


class CenterCrop:
    """Cuts a rectangle out of the middle of all frames.

    Args:
        size: (H, W) in pixels.

    Shape:
        (C, T, H, W) -> (C, T, *size). Where the rest is odd, the extra pixel is lost at the end.

    Raises:
        DataError: for frames smaller than `size`.
    """

    output_size: OutputSize = "fixed"

    def __init__(self, size: Size) -> None:
        self.size = size

    def __call__(self, sample: Sample) -> Sample:
        """Returns the cropped sample."""
        room_h, room_w = measure_room(sample, self.size, "center_crop")
        return cut(sample, room_h // 2, room_w // 2, self.size)


class Pad:
    """Pads all frames evenly around, up to a smallest size; larger frames stay as they are.

    Args:
        size: (H, W) in pixels, at least.
        value: of the new pixels, in the clip's units. None takes the clip's smallest value: air
            or black.

    Shape:
        (C, T, H, W) -> (C, T, max(H, size[0]), max(W, size[1])), which depends on the clip.
    """

    output_size: OutputSize = "varies"

    def __init__(self, size: Size, value: float | None = None) -> None:
        self.size = size
        self.value = value

    def __call__(self, sample: Sample) -> Sample:
        """Returns the padded sample."""
        return _pad(sample, self.size, self.value)


class CropOrPad:
    """Brings all frames to one size without resampling: crops or pads evenly around the middle.

    Args:
        size: (H, W) in pixels.
        value: of new pixels, in the clip's units. None takes the clip's smallest value: air or
            black.

    Shape:
        (C, T, H, W) -> (C, T, *size).
    """

    output_size: OutputSize = "fixed"

    def __init__(self, size: Size, value: float | None = None) -> None:
        self.size = size
        self.value = value

    def __call__(self, sample: Sample) -> Sample:
        """Returns the cropped or padded sample."""
        padded = _pad(sample, self.size, self.value)
        room_h, room_w = measure_room(padded, self.size, "crop_or_pad")
        return cut(padded, room_h // 2, room_w // 2, self.size)


def measure_room(sample: Sample, size: Size, what: str) -> tuple[int, int]:
    """Returns how many pixels a rectangle can move along H and W.

    Raises:
        DataError: when it does not fit.
    """
    height, width = sample["clip"].shape[-2:]
    if height < size[0] or width < size[1]:
        raise DataError(
            f"The transform `{what}` was asked for {size[0]}x{size[1]} pixels, and the frames have "
            f"{height}x{width}. Put `pad` or `resize` before it, or use `crop_or_pad`.",
            code="crop_too_large",
        )
    return height - size[0], width - size[1]


def cut(sample: Sample, top: int, left: int, size: Size) -> Sample:
    """Returns the sample with every frame cut to the rectangle that begins at (top, left)."""
    rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
    return change_planes(sample, lambda planes: planes[:, rows, columns])


def _pad(sample: Sample, size: Size, value: float | None) -> Sample:
    height, width = sample["clip"].shape[-2:]
    more_h, more_w = max(0, size[0] - height), max(0, size[1] - width)
    if not more_h and not more_w:
        return sample
    # nnf.pad counts from the last axis: left, right, top, bottom.
    margins = [more_w // 2, more_w - more_w // 2, more_h // 2, more_h - more_h // 2]
    padded = dict(sample)
    for key in MODALITIES:
        if key in sample:
            clip = sample[key]
            # Differences and flow are zero where nothing is.
            outside = 0.0 if key != "clip" else float(clip.min()) if value is None else value
            padded[key] = nnf.pad(clip, margins, value=outside)
    return padded
