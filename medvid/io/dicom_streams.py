"""How many rows and columns the compressed pixels of a DICOM file have by their own account.

A stream of JPEG, JPEG-LS or JPEG 2000 states its size. Where the DICOM header states another one
with the same product, a decoder's pixels are laid out in wrong rows, and nothing else tells. RLE
states no size.
"""

import struct
from typing import BinaryIO

FIRST_BYTES = 4096
"""Of a stream; JPEG 2000 states its size in the first 24, or behind the boxes of a whole JP2 file,
which some writers pack and the standard does not allow."""

JPEG_2000 = b"\xff\x4f\xff\x51"
"""Start of codestream, then the marker of its size, which the standard puts right behind."""

JP2 = b"\0\0\0\x0cjP  "
"""How a whole JP2 file begins."""

JPEG = b"\xff\xd8"
FRAMES = frozenset({0xF7, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of a JPEG frame's size, the second one of JPEG-LS included; the three are tables."""

DEEPEST = 64
"""Segments before the frame's; real streams have two to six."""


def read_stream_shape(file: BinaryIO, place: int) -> tuple[int, int]:
    """Returns rows and columns that the first stream states; (0, 0) where it states none.

    Args:
        file: opened for reading.
        place: where the first item begins, which is the table of offsets.

    Source: JPEG ITU-T T.81 annex B, JPEG-LS T.87 annex C, JPEG 2000 T.800 annex A.
    """
    file.seek(place)
    try:
        _, length = struct.unpack("<LL", file.read(8))
        place += 16 + length
        file.seek(place)
        start = file.read(FIRST_BYTES)
        if start.startswith(JPEG):
            return _find_frame(file, place)
        begin = start.find(JPEG_2000) if start.startswith((JPEG_2000, JP2)) else -1
        if begin < 0:
            return 0, 0
        right, low, left, top = struct.unpack_from(">4L", start, begin + 8)
        return low - top, right - left
    except struct.error:
        return 0, 0  # it ends here, which is told elsewhere


def _find_frame(file: BinaryIO, place: int) -> tuple[int, int]:
    place += len(JPEG)
    for _ in range(DEEPEST):
        file.seek(place)
        mark, kind, length, _, rows, columns = struct.unpack(">BBHBHH", file.read(9))
        if mark != 0xFF:
            break
        if kind in FRAMES:
            return (rows, columns) if rows else (0, 0)  # stated behind the scan
        place += 2 + length
    return 0, 0
