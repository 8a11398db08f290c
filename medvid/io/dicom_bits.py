"""Which bits of a pixel are its value, and which values mean that nothing was scanned there.

A pixel may have more bits than it stores. Old files keep overlays in the others, and some writers
a padding value that the stored ones cannot hold: of 12 bits in 16, 63536.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvid.io.dicom_elements import NATIVE
from medvid.io.dicom_slice import SliceHeader

AIR_HU = -1024
"""What stands outside the scanned circle: the lowest value of the ordinary CT scale."""

OUTSIDE_BELOW_HU = -1000
OUTSIDE_ABOVE_HU = 3071
"""A padding value between these is also a tissue's: it is then no sign of outside, and stays."""

WHOLE_BITS = NATIVE | {"1.2.840.10008.1.2.5"}
"""Syntaxes, RLE the last, whose pixels keep the bits that are not stored ones; those of JPEG's
family do not."""


def stored_range(header: SliceHeader) -> tuple[int, int]:
    """Returns the lowest and the highest value that the stored bits can hold."""
    return _range_of(header.bits[1], header.signed)


def clear_unused_bits(header: SliceHeader, pixels: NDArray[Any]) -> NDArray[Any]:
    """Returns stored values, in the memory of the pixels where it may be written.

    What a decoder unpacked has its bits cleared, unless it was told to leave them.
    """
    allocated, stored = header.bits
    if stored == allocated or not (header.offset >= 0 or how_to_decode(header)):
        return pixels
    if not pixels.flags.writeable:
        pixels = pixels.copy()
    if header.signed:
        pixels <<= allocated - stored
        pixels >>= allocated - stored
    else:
        pixels &= (1 << stored) - 1
    return pixels


def how_to_decode(header: SliceHeader) -> dict[str, Any]:
    """Returns options of pydicom: unused bits stay where padding is told by them."""
    wanted = is_padded_beyond_bits(header) and _keeps_all_bits(header)
    return {"correct_unused_bits": False} if wanted else {}


def is_padded_beyond_bits(header: SliceHeader) -> bool:
    """Whether padding needs bits that are not stored ones, so that clearing them would hide it."""
    low, high = stored_range(header)
    return header.padding is not None and (header.padding[0] < low or header.padding[1] > high)


def find_padding(header: SliceHeader, pixels: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Returns which pixels of a CT lie outside of what was scanned; None where none is told."""
    if header.padding is None or not _padding_is_outside(header):
        return None
    low, high = header.padding
    return np.asarray((pixels >= low) & (pixels <= high))


def describe_padding(header: SliceHeader) -> list[str]:
    """Returns a sentence on the padding of a CT, where a pixel can have it at all."""
    if header.padding is None or header.modality != "CT" or not _may_be_padded(header):
        return []
    low, high = header.padding
    hu = f"{low * header.slope + header.intercept:.0f} HU"
    if _padding_is_outside(header):
        return [f"Padding ({hu}) was mapped to air ({AIR_HU} HU)."]
    if high * header.slope + header.intercept != AIR_HU:
        return [f"The padding value ({hu}) is also a tissue's, and was kept."]
    return []


def _range_of(bits: int, signed: bool) -> tuple[int, int]:
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def _keeps_all_bits(header: SliceHeader) -> bool:
    return header.offset >= 0 or header.syntax in WHOLE_BITS


def _may_be_padded(header: SliceHeader) -> bool:
    allocated, stored = header.bits
    low, high = _range_of(allocated if _keeps_all_bits(header) else stored, header.signed)
    return header.padding is not None and header.padding[0] <= high and header.padding[1] >= low


def _padding_is_outside(header: SliceHeader) -> bool:
    if header.padding is None or header.modality != "CT":
        return False
    ends = [value * header.slope + header.intercept for value in header.padding]
    return max(ends) < OUTSIDE_BELOW_HU or min(ends) > OUTSIDE_ABOVE_HU
