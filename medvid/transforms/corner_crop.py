"""Corner cropping with scale jitter: the augmentation of TSN."""

from typing import Annotated

from pydantic import Field

from medvid.contract import DataError
from medvid.transforms.crops import cut
from medvid.transforms.protocol import OutputSize, Randomizable, Sample, Size
from medvid.transforms.resample import resample_planes

Share = Annotated[float, Field(gt=0, le=1)]

# TSN's code: a crop within 3 pixels of the wanted size is taken at that size, and not resampled.
_NEAR_ENOUGH = 3

# The quarter points and edge middles of the authors' 13 positions, in quarters of the room.
_MORE_POSITIONS = ((0, 2), (2, 0), (2, 4), (4, 2), (1, 1), (1, 3), (3, 1), (3, 3))


class CornerCrop(Randomizable):
    """Cuts a rectangle of random height and width at a corner or the centre, and resizes it.

    Corners, because crops drawn evenly gather around the middle; the jitter of both sides changes
    scale and aspect. One draw for all frames. `spacing` follows the resampling, so that it stays
    true of the pixels.

    Args:
        size: (H, W) of the result, in pixels.
        scales: heights and widths of the crop, as shares of the shorter side of the frames.
        max_distortion: how many places apart in `scales` height and width may be; 0 keeps the
            aspect.
        more_positions: also the middles of the edges and the quarter points, 13 positions in
            place of 5, as in the released code.

    Shape:
        (C, T, H, W) -> (C, T, *size).

    Raises:
        DataError: when a crop would have no pixels.

    References:
        TSN (Wang et al., ECCV 2016, section 3.3); Wang et al., Towards good practices for very
        deep two-stream ConvNets, arXiv 1507.02159, section 3.
    """

    output_size: OutputSize = "fixed"

    def __init__(
        self,
        size: Size,
        scales: tuple[Share, ...] = (1.0, 0.875, 0.75, 0.66),
        max_distortion: Annotated[int, Field(ge=0)] = 1,
        more_positions: bool = False,
    ) -> None:
        self.size = size
        self.scales = scales
        self.max_distortion = max_distortion
        self.more_positions = more_positions

    def __call__(self, sample: Sample) -> Sample:
        """Returns the cropped and resized sample."""
        height, width = sample["clip"].shape[-2:]
        sizes = self._list_sizes(min(height, width))
        crop = sizes[self.R.randint(len(sizes))]
        if min(crop) < 1:
            raise DataError(
                f"The transform `corner_crop` finds nothing to crop in frames of {height}x{width} "
                "pixels.",
                code="crop_too_large",
            )
        quarters = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
        if self.more_positions:
            quarters += _MORE_POSITIONS
        down, right = quarters[self.R.randint(len(quarters))]
        # The far corners touch the edge; the positions between lie at whole quarters, as released.
        top = height - crop[0] if down == 4 else down * ((height - crop[0]) // 4)
        left = width - crop[1] if right == 4 else right * ((width - crop[1]) // 4)
        return resample_planes(cut(sample, top, left, crop), self.size, "bilinear")

    def _list_sizes(self, short_side: int) -> list[tuple[int, int]]:
        lengths = [int(short_side * scale) for scale in self.scales]
        return [
            (_snap(high, self.size[0], short_side), _snap(wide, self.size[1], short_side))
            for row, high in enumerate(lengths)
            for column, wide in enumerate(lengths)
            if abs(row - column) <= self.max_distortion
        ]


def _snap(length: int, wanted: int, short_side: int) -> int:
    return wanted if abs(length - wanted) < _NEAR_ENOUGH and wanted <= short_side else length
