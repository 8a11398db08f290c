"""Modality lookup tables, which stand in place of slope and intercept in some older files."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from medvid.io.dicom_elements import HEADER_ERRORS
from medvid.io.dicom_slice import Table

BROKEN: Table = (0, ())
"""A table that is announced and cannot be read; its image is refused."""

WHOLE_TABLE = 2**16
"""What a length of 0 means in a table's descriptor."""

LARGEST_ENTRY = 2**16 - 1


def read_table(path: Path) -> Table:
    """Returns the modality lookup table of a file; `BROKEN` where it makes no sense."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(
                path,
                stop_before_pixels=True,
                specific_tags=["ModalityLUTSequence", "PixelRepresentation", "BitsAllocated"],
                force=True,
            )
            item = dataset.ModalityLUTSequence[0]
            length, first, bits = (int(number) for number in item.LUTDescriptor)
            entries = _read_entries(item.LUTData, bits, dataset.original_encoding[1] is not False)
    except (*HEADER_ERRORS, OSError):
        return BROKEN
    first -= 2**16 if dataset.get("PixelRepresentation", 0) == 1 and first >= 2**15 else 0
    usable = len(entries) == (length or WHOLE_TABLE) and all(
        0 <= entry <= LARGEST_ENTRY for entry in entries
    )
    return (first, entries) if usable else BROKEN


def _read_entries(data: Any, bits: int, little: bool) -> tuple[int, ...]:
    if isinstance(data, bytes):
        kind = np.dtype("u1" if bits <= 8 else ("<u2" if little else ">u2"))
        return tuple(np.frombuffer(data, dtype=kind).tolist())
    return tuple(int(entry) for entry in data) if isinstance(data, list) else (int(data),)


def look_up(table: Table, stored: NDArray[Any]) -> NDArray[np.int32]:
    """Maps stored values; those before the first entry and behind the last take theirs."""
    first, entries = table
    index = np.clip(stored.astype(np.int32) - first, 0, len(entries) - 1)
    mapped: NDArray[np.int32] = np.array(entries, dtype=np.int32)[index]
    return mapped
