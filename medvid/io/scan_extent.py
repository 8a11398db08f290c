"""Where images lie that are no stack: as much as their headers agree on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medvid.io.dicom_refusals import refuse_place
from medvid.io.dicom_regularity import list_places, normal_of, order_slices, usual_step
from medvid.io.dicom_slice import SliceHeader
from medvid.io.geometry import nearest_plane

SAME_DIRECTION = 1e-3
"""Largest difference of two direction cosines: 0.06 degrees."""

SAME_SPACING = 1e-3
"""Largest difference of two pixel sizes, in mm."""


@dataclass(frozen=True)
class Extent:
    """What a row says of images that are no stack; 0 or "" for what is unknown.

    Args:
        plane: of the images.
        step: the commonest one along their normal, mm.
        height: of a pixel, mm.
        width: of a pixel, mm.
        along: from the first to the last image and one step, mm.
    """

    plane: str = ""
    step: float = 0.0
    height: float = 0.0
    width: float = 0.0
    along: float = 0.0


def measure_images(images: Sequence[SliceHeader]) -> Extent:
    """Measures images of one direction; those that do not say where they lie are passed over."""
    placed = [image for image in images if refuse_place(image) is None]
    if not placed or _spread([image.orientation for image in placed]) > SAME_DIRECTION:
        return Extent()
    plane = nearest_plane(normal_of(placed[0]))
    height, width = 0.0, 0.0
    if _spread([image.pixel_spacing for image in placed]) <= SAME_SPACING:
        height, width = placed[0].pixel_spacing or (0.0, 0.0)
    _, along = order_slices([place[0] for place in list_places(placed)])
    step = usual_step(along) if len(along) > 1 else 0.0
    extent = along[-1] - along[0] + step
    return Extent(plane, *(round(float(one), 6) for one in (step, height, width, extent)))


def _spread(numbers: Sequence[tuple[float, ...] | None]) -> float:
    """Returns the largest difference of any number between images."""
    return float(np.ptp(np.array(numbers, dtype=np.float64), axis=0).max())
