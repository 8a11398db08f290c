"""Crops of random place and size, brought to one size: the augmentation of LTC and ActionVLAD."""

from typing import Annotated

from pydantic import Field

from medvid.contract import DataError
from medvid.transforms.crops import cut
from medvid.transforms.protocol import OutputSize, Randomizable, Sample, Size
from medvid.transforms.resample import resample_planes

Share = Annotated[float, Field(gt=0, le=1)]


class ScaledCrop(Randomizable):
    """Cuts a rectangle of random sides anywhere out of all frames, and resizes it.

    Height and width are drawn apart, so both scale and aspect vary. `corner_crop` is the like with
    crops at the corners and the centre alone. One draw for all frames. `spacing` follows the
    resampling, so that it stays true of the pixels.

    Args:
        size: (H, W) of the result, in pixels.
        scales: heights and widths of the crop, as shares of the shorter side of the frames. One of
            them gives random places of one size.

    Shape:
        (C, T, H, W) -> (C, T, *size).

    Raises:
        DataError: when a crop would have no pixels.

    References:
        LTC (Varol et al., TPAMI 2018, section 3.2) and its released code: all four shares, of the
        height for both sides. ActionVLAD (Girdhar et al., CVPR 2017), released code.
    """

    output_size: OutputSize = "fixed"

    def __init__(self, size: Size, scales: tuple[Share, ...] = (1.0, 0.875, 0.75, 0.66)) -> None:
        self.size = size
        self.scales = scales

    def __call__(self, sample: Sample) -> Sample:
        """Returns the cropped and resized sample."""
        height, width = sample["clip"].shape[-2:]
        lengths = [int(min(height, width) * scale) for scale in self.scales]
        crop = lengths[self.R.randint(len(lengths))], lengths[self.R.randint(len(lengths))]
        if min(crop) < 1:
            raise DataError(
                f"The transform `scaled_crop` finds nothing to crop in frames of {height}x{width} "
                "pixels.",
                code="crop_too_large",
            )
        top, left = self.R.randint(height - crop[0] + 1), self.R.randint(width - crop[1] + 1)
        return resample_planes(cut(sample, top, left, crop), self.size, "bilinear")
