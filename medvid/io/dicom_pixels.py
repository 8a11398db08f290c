"""Decodes slices: stored bits -> HU or the modality's own unit.

Uncompressed pixels are read by numpy straight into the result. That is most hospital CT, and it is
what makes a whole series as quick to read as its bytes; everything else goes through pydicom.
"""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array

from medvid.contract import DataError
from medvid.io.dicom_headers import SliceHeader

AIR_HU = -1024
"""What stands outside the scanned circle: the lowest value of the ordinary CT scale."""

OUTSIDE_BELOW_HU = -1000
OUTSIDE_ABOVE_HU = 3071
"""A padding value between these is also a tissue's: it is then no sign of outside, and stays."""

THREADS = 4
"""Reading waits on the disk or network share; more threads brought nothing on two cores."""

THREADED_FROM = 8
"""Fewer slices are read sooner than threads are started."""

INT16 = np.iinfo(np.int16)


def choose_dtype(slices: Sequence[SliceHeader]) -> np.dtype[Any]:
    """Returns int16 where rescaled values are whole and fit, else float32.

    CT is int16 even if 16 stored bits could exceed it: HU never do, and `read_slices` refuses a
    file where they would.
    """
    for header in slices:
        if not header.slope.is_integer() or not header.intercept.is_integer():
            return np.dtype(np.float32)
        ends = [value * header.slope + header.intercept for value in _stored_range(header)]
        if header.modality != "CT" and not (INT16.min <= min(ends) and max(ends) <= INT16.max):
            return np.dtype(np.float32)
    return np.dtype(np.int16)


def describe_pixels(header: SliceHeader) -> tuple[str, ...]:
    """Returns a sentence each on inverted grey values and padding."""
    notes = []
    if header.photometric == "MONOCHROME1":
        notes.append("Grey values are stored inverted (MONOCHROME1) and were turned back.")
    if header.padding is not None and header.modality == "CT":
        low, high = header.padding
        hu = f"{low * header.slope + header.intercept:.0f} HU"
        if _padding_is_outside(header):
            notes.append(f"Padding ({hu}) was mapped to air ({AIR_HU} HU).")
        elif high * header.slope + header.intercept != AIR_HU:
            notes.append(f"The padding value ({hu}) is also a tissue's, and was kept.")
    return tuple(notes)


def read_slices(slices: Sequence[SliceHeader], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Decodes slices of one shape.

    Shape: (slices, rows, columns) in `dtype`.

    Raises:
        DataError: when a file cannot be decoded, or its values do not fit.
    """
    volume = np.empty((len(slices), *slices[0].shape), dtype=dtype)

    def read_one(index: int) -> None:
        _read_into(slices[index], volume[index])

    if len(slices) < THREADED_FROM:
        for index in range(len(slices)):
            read_one(index)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(read_one, range(len(slices))))
    return volume


def _stored_range(header: SliceHeader) -> tuple[int, int]:
    stored = header.bits[1]
    return (-(1 << stored - 1), (1 << stored - 1) - 1) if header.signed else (0, (1 << stored) - 1)


def _padding_is_outside(header: SliceHeader) -> bool:
    if header.padding is None or header.modality != "CT":
        return False
    ends = [value * header.slope + header.intercept for value in header.padding]
    return max(ends) < OUTSIDE_BELOW_HU or min(ends) > OUTSIDE_ABOVE_HU


def _read_into(header: SliceHeader, out: NDArray[Any]) -> None:
    stored = _read_stored(header, out)
    padded = None
    if header.padding is not None and _padding_is_outside(header):
        low, high = header.padding
        padded = (stored >= low) & (stored <= high)
    if header.photometric == "MONOCHROME1":
        stored = (sum(_stored_range(header)) - stored.astype(np.int32)).astype(np.int32)
    _rescale(header, stored, out, padded)
    if padded is not None:
        out[padded] = AIR_HU


def _rescale(
    header: SliceHeader,
    stored: NDArray[Any],
    out: NDArray[Any],
    padded: NDArray[np.bool_] | None,
) -> None:
    if out.dtype != np.int16:
        out[...] = stored * np.float64(header.slope) + np.float64(header.intercept)
        return
    ends = [value * header.slope + header.intercept for value in _stored_range(header)]
    if min(ends) < INT16.min or max(ends) > INT16.max:
        values = stored.astype(np.int64) * int(header.slope) + int(header.intercept)
        if padded is not None:
            values[padded] = AIR_HU
        if values.min() < INT16.min or values.max() > INT16.max:
            raise DataError(
                f"{header.path} holds values up to {values.max()} and down to {values.min()}, "
                "which are no HU and do not fit 16 bits.",
                code="values_outside",
                files=[header.path],
            )
        out[...] = values
        return
    # In place: `stored` is the bytes of `out` itself wherever the file allows it. Sums in 16 bits
    # wrap on the way and come out right, as the result was shown to fit.
    if not np.shares_memory(stored, out):
        out[...] = stored
    if header.slope != 1:
        np.multiply(out, np.int16(header.slope), out=out)
    if header.intercept != 0:
        np.add(out, np.int16(header.intercept), out=out)


def _read_stored(header: SliceHeader, out: NDArray[Any]) -> NDArray[Any]:
    """Returns stored values, in the memory of `out` where pixels are 16 bits uncompressed."""
    allocated, stored = header.bits
    if header.offset < 0:
        return _decode(header, out.shape)
    kind = np.dtype(f"<{'i' if header.signed else 'u'}{allocated // 8}")
    direct = out.dtype == np.int16 and allocated == 16 and out.flags.c_contiguous
    pixels = out.view(kind) if direct else np.empty(out.shape, dtype=kind)
    with header.path.open("rb", buffering=0) as file:
        file.seek(header.offset)
        count = file.readinto(pixels.data.cast("B"))
    if count != pixels.nbytes:
        raise DataError(
            f"{header.path} is cut off: {count} of {pixels.nbytes} bytes of pixels are there.",
            code="truncated",
            files=[header.path],
        )
    if stored < allocated:
        # Old files keep overlays in the unused high bits.
        if header.signed:
            pixels <<= allocated - stored
            pixels >>= allocated - stored
        else:
            pixels &= (1 << stored) - 1
    return pixels


def _decode(header: SliceHeader, shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = np.asarray(pixel_array(header.path))
    except MemoryError:
        raise
    except Exception as error:
        # Every codec has errors of its own; none of them says more than that decoding failed.
        raise DataError(
            f"{header.path} cannot be decoded: its compressed pixels are damaged or cut off "
            f"({type(error).__name__}). Export it again.",
            code="pixels_damaged",
            files=[header.path],
        ) from None
    if pixels.shape != shape:
        raise DataError(
            f"{header.path} decodes to {pixels.shape} pixels, but its header says {shape}.",
            code="pixels_damaged",
            files=[header.path],
        )
    return pixels
