"""Decodes slices: stored bits -> HU or the modality's own unit.

Uncompressed pixels are read by numpy straight into the result. That is most hospital CT, and it is
what makes a whole series as quick to read as its bytes; everything else goes through pydicom.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import iter_pixels, pixel_array

from medvid.contract import DataError, MedvidError
from medvid.io.dicom_bits import (
    AIR_HU,
    clear_unused_bits,
    describe_padding,
    find_padding,
    how_to_decode,
    is_padded_beyond_bits,
    stored_range,
)
from medvid.io.dicom_elements import DEFLATED
from medvid.io.dicom_slice import SliceHeader
from medvid.io.dicom_tables import look_up

THREADS = 4
"""Reading waits on the disk or network share; more threads brought nothing on two cores."""

THREADED_FROM = 8
"""Fewer slices are read sooner than threads are started."""

INT16 = np.iinfo(np.int16)

CALIBRATED = frozenset({"CT", "PT"})
"""Modalities whose rescale leads to a physical unit: MONOCHROME1 then says how to show values, and
nothing of what they are."""

RUST = "pyo3_runtime"
"""Module of what a codec written in Rust raises where it gives up: no `Exception`, as if somebody
had stopped the program, and it cannot be sent between processes."""

LOSSY: Mapping[str, str] = {
    "1.2.840.10008.1.2.4.50": "JPEG",
    "1.2.840.10008.1.2.4.51": "JPEG",
    "1.2.840.10008.1.2.4.81": "JPEG-LS, near-lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000",
}
"""Transfer syntaxes that lose detail, or may. Values of a CT are HU only about."""


def choose_dtype(slices: Sequence[SliceHeader]) -> np.dtype[Any]:
    """Returns int16 where rescaled values are whole and fit, else float32.

    CT is int16 even if 16 stored bits could exceed it: HU never do, and `read_slices` refuses a
    file where they would.
    """
    for header in slices:
        if header.table is not None:
            if max(header.table[1]) > INT16.max:
                return np.dtype(np.float32)
            continue
        if not header.slope.is_integer() or not header.intercept.is_integer():
            return np.dtype(np.float32)
        ends = [value * header.slope + header.intercept for value in stored_range(header)]
        if header.modality != "CT" and not (INT16.min <= min(ends) and max(ends) <= INT16.max):
            return np.dtype(np.float32)
    return np.dtype(np.int16)


def describe_pixels(header: SliceHeader) -> tuple[str, ...]:
    """Returns a sentence each on lossy packing, inverted grey values and padding."""
    notes = []
    if header.syntax in LOSSY:
        method = LOSSY[header.syntax]
        notes.append(f"Pixels were packed by a method that may lose detail ({method}).")
    if header.photometric == "MONOCHROME1" and header.modality in CALIBRATED:
        notes.append("Low values are shown bright (MONOCHROME1); the values are as they are.")
    if _is_inverted(header):
        notes.append("Grey values are stored inverted (MONOCHROME1) and were turned back.")
    notes += describe_padding(header)
    return tuple(notes)


def read_slices(slices: Sequence[SliceHeader], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Decodes slices of one shape.

    Shape: (slices, rows, columns) in `dtype`.

    Raises:
        DataError: when a file cannot be decoded, or its values do not fit.
    """
    volume = np.empty((len(slices), *slices[0].shape), dtype=dtype)
    packed: dict[Path, list[int]] = defaultdict(list)
    single: list[int] = []
    for index, header in enumerate(slices):
        if header.frame >= 0 and header.offset < 0:
            packed[header.path].append(index)
        else:
            single.append(index)
    for indices in packed.values():
        _read_frames_into([slices[index] for index in indices], [volume[i] for i in indices])

    def read_one(index: int) -> None:
        header, out = slices[index], volume[index]
        _place(header, _read_raw(header, out), out)

    if len(single) < THREADED_FROM:
        for index in single:
            read_one(index)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(read_one, single))
    return volume


def _read_frames_into(headers: Sequence[SliceHeader], outs: Sequence[NDArray[Any]]) -> None:
    """Decodes frames of one compressed file in a single pass over it."""
    with _explained(headers[0].path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = _source_of(headers[0])
        indices = [header.frame for header in headers]
        decoded = iter_pixels(source, indices=indices, **how_to_decode(headers[0]))
        for header, out, pixels in zip(headers, outs, decoded, strict=True):
            _place(header, _check_shape(header, np.asarray(pixels)), out)


def _is_inverted(header: SliceHeader) -> bool:
    return header.photometric == "MONOCHROME1" and header.modality not in CALIBRATED


def _place(header: SliceHeader, raw: NDArray[Any], out: NDArray[Any]) -> None:
    """Writes an image's values into the stack.

    Args:
        header: of the image.
        raw: its pixels, with whatever lies in their unused bits.
        out: where the values go; may be the memory of `raw`.
    """
    beyond = find_padding(header, raw) if is_padded_beyond_bits(header) else None
    stored = clear_unused_bits(header, raw)
    padded = find_padding(header, stored) if beyond is None else beyond
    if _is_inverted(header):
        stored = (sum(stored_range(header)) - stored.astype(np.int32)).astype(np.int32)
    if header.table is not None:
        out[...] = look_up(header.table, stored)
    else:
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
    ends = [value * header.slope + header.intercept for value in stored_range(header)]
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


def _read_raw(header: SliceHeader, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Returns pixels with their unused bits as they are; decoders mostly clear these.

    `out` is memory that may be used where pixels are 16 bits uncompressed and it is int16.
    """
    allocated = header.bits[0]
    if header.offset < 0:
        return _decode(header)
    kind = np.dtype(f"<{'i' if header.signed else 'u'}{allocated // 8}")
    direct = (
        out is not None and out.dtype == np.int16 and allocated == 16 and out.flags.c_contiguous
    )
    pixels = out.view(kind) if direct and out is not None else np.empty(header.shape, dtype=kind)
    with header.path.open("rb", buffering=0) as file:
        file.seek(header.offset)
        count = file.readinto(pixels.data.cast("B"))
    if count != pixels.nbytes:
        raise DataError(
            f"{header.path} is cut off: {count} of {pixels.nbytes} bytes of pixels are there.",
            code="truncated",
            files=[header.path],
        )
    return pixels


def _decode(header: SliceHeader) -> NDArray[Any]:
    index = None if header.frame < 0 else header.frame
    with _explained(header.path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        how = how_to_decode(header)
        pixels = np.asarray(pixel_array(_source_of(header), index=index, **how))
    return _check_shape(header, pixels)


def _source_of(header: SliceHeader) -> Path | pydicom.Dataset:
    """Returns what pydicom decodes pixels of; it inflates a deflated file only as a whole."""
    # A file without the preamble is read only by force.
    return pydicom.dcmread(header.path, force=True) if header.syntax == DEFLATED else header.path


def _check_shape(header: SliceHeader, pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.shape != header.shape:
        raise DataError(
            f"{header.path} decodes to {pixels.shape} pixels, but its header says {header.shape}.",
            code="pixels_damaged",
            files=[header.path],
        )
    return pixels


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns any error of a codec into a sentence.

    Every codec has errors of its own; none of them says more than that decoding failed.
    """
    try:
        yield
    except (MemoryError, MedvidError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__module__ != RUST:
            raise
        raise DataError(
            f"{path} cannot be decoded: its compressed pixels are damaged or cut off "
            f"({type(error).__name__}). Export it again.",
            code="pixels_damaged",
            files=[path],
        ) from None
