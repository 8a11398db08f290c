"""The elements of a DICOM file's header, as bytes, without the pixels.

A folder of a hospital holds a hundred thousand files, so the ordinary ones (little endian, with a
preamble) are walked here, element by element, which takes a tenth of pydicom's time. Whatever is
out of the ordinary is left to pydicom, which forgives more: other byte orders, files without a
preamble, a header that contradicts itself.
"""

import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError

from medvid.contract import DataError
from medvid.io.dicom_fragments import END_OF_SEQUENCE, ITEM, count_fragments
from medvid.io.dicom_streams import read_stream_shape
from medvid.io.sidecars import MARK, PREAMBLE

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
COMPRESSED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")
"""Beginnings of the syntaxes whose header is explicit little endian and whose pixels are packed."""

UNCOMPRESSED = frozenset({IMPLICIT, EXPLICIT})
"""Pixel bytes lie in the file as numpy wants them."""

NATIVE = UNCOMPRESSED | {DEFLATED, BIG_ENDIAN}
"""Every pixel has a number of bytes, wherever these lie."""

ENCAPSULATED = -1
NO_PIXELS = -2
"""In place of an offset: pixels that a decoder must unpack, and a file without any."""

FIRST_READ = 2**14
SECOND_READ = 2**20
"""Bytes. An ordinary header is 2 to 10 kB; with a large private block it still fits the second."""

BEGINNING = PREAMBLE + len(MARK)
PIXELS = 0x7FE00010
TRANSFER_SYNTAX = 0x00020010
STORAGE_CLASS = 0x00020002
END_OF_ITEM = 0xFFFEE00D
UNDEFINED = 0xFFFFFFFF
DEEPEST = 16
"""Sequences within sequences; real files have five."""

LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR"})
LONG_VRS |= {b"UT", b"UV"}
VRS = LONG_VRS | {
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN"),
    *(b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
}

HEADER_ERRORS = (
    *(InvalidDicomError, BytesLengthException, NotImplementedError, AttributeError, TypeError),
    *(EOFError, ValueError, KeyError, IndexError, OverflowError, RecursionError, struct.error),
    zlib.error,
)
"""What pydicom raises for headers that are cut off or overwritten."""

_TAG = struct.Struct("<HH")
_LENGTH = struct.Struct("<L")


@dataclass(frozen=True)
class Elements:
    """What the header of a file holds.

    Args:
        values: tag -> bytes of the elements asked for; a sequence has b"".
        order: `<` or `>`, of binary values.
        syntax: transfer syntax UID, "" when the file does not say.
        offset: where the pixels' bytes begin; `ENCAPSULATED` or `NO_PIXELS`.
        length: of the pixels' bytes; 0 where they are compressed.
        items: where the first item of compressed pixels begins; -1 where there are none.
        fragments: of compressed pixels that are whole; -1 where there are none.
        stream_shape: rows and columns that compressed pixels state; (0, 0) where they do not.
    """

    values: Mapping[int, bytes]
    order: str
    syntax: str
    offset: int
    length: int
    items: int = -1
    fragments: int = -1
    stream_shape: tuple[int, int] = (0, 0)


def looks_like_dicom(start: bytes) -> bool:
    """Whether a file that begins with `start` (132 bytes) may be DICOM.

    Files without the preamble begin with a tag of group 2 or 8; its element's high byte is 0.
    """
    bare = start[:2] in (b"\x02\x00", b"\x08\x00") and len(start) > 8 and start[3] == 0
    return start[PREAMBLE:BEGINNING] == MARK or bare


def read_elements(path: Path, wanted: frozenset[int]) -> Elements:
    """Reads the wanted elements of a file, and where its pixels lie.

    Raises:
        DataError: when the file is empty, is not DICOM, or its header is cut off.
    """
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(FIRST_READ)
            _refuse_start(path, start)
            found = _walk(start, wanted, whole=len(start) < FIRST_READ)
            if found is None and len(start) == FIRST_READ:
                start += file.read(SECOND_READ)
                whole = len(start) < FIRST_READ + SECOND_READ
                found = _walk(start, wanted, whole=whole)
            if found is None:
                found = _ask_pydicom(path, wanted)
            if found.items < 0:
                return found
            return replace(
                found,
                fragments=count_fragments(file, found.items, found.syntax),
                stream_shape=read_stream_shape(file, found.items),
            )
    except OSError as error:
        if error.strerror is None:
            # Not the disk's error but pydicom's, of a length that leads out of the file.
            raise damaged_header(path) from None
        raise DataError(
            f"{path} cannot be read: {error.strerror}.", code="unreadable", files=[path]
        ) from None
    except HEADER_ERRORS:
        raise damaged_header(path) from None


def _refuse_start(path: Path, start: bytes) -> None:
    if not start:
        raise DataError(f"{path} is empty (0 bytes).", code="empty_file", files=[path])
    if looks_like_dicom(start[:BEGINNING]):
        return
    if PREAMBLE < len(start) < BEGINNING and MARK.startswith(start[PREAMBLE:]):
        raise damaged_header(path)
    if not start.strip(b"\0"):
        raise DataError(
            f"{path} holds nothing but zeros where a header would be: it is no DICOM file, or a "
            "copy that was broken off. Copy it again where it is one.",
            code="only_zeros",
            files=[path],
        )
    raise DataError(f"{path} is not a DICOM file.", code="not_dicom", files=[path])


def damaged_header(path: Path) -> DataError:
    """Returns the error of a header that cannot be read to its end."""
    return DataError(
        f"{path} is a damaged DICOM file: its header cannot be read to the end. Export it again.",
        code="header_damaged",
        files=[path],
    )


class _Odd(Exception):  # noqa: N818  (no error: pydicom is asked instead)
    """The file is not of the ordinary kind, or the header is longer than what was read."""


def _walk(data: bytes, wanted: frozenset[int], *, whole: bool) -> Elements | None:
    """Returns the elements of an ordinary file; None where pydicom must say what it is."""
    if data[PREAMBLE:BEGINNING] != MARK:
        return None
    values: dict[int, bytes] = {}
    try:
        place = _walk_group_2(data, values)
        syntax = values.pop(TRANSFER_SYNTAX, b"").decode("ascii", "replace").strip(" \0")
        if syntax != IMPLICIT and syntax != EXPLICIT and not syntax.startswith(COMPRESSED):
            return None
        place, length = _walk_elements(data, place, syntax != IMPLICIT, wanted, values, whole)
    except (_Odd, struct.error):
        return None
    if place < 0:
        return Elements(values, "<", syntax, NO_PIXELS, 0)
    if length == UNDEFINED:
        return Elements(values, "<", syntax, ENCAPSULATED, 0, items=place)
    if syntax not in UNCOMPRESSED:
        return Elements(values, "<", syntax, ENCAPSULATED if length else NO_PIXELS, 0)
    return Elements(values, "<", syntax, place, length)


def _walk_group_2(data: bytes, values: dict[int, bytes]) -> int:
    place = BEGINNING
    while data[place : place + 2] == b"\x02\x00":
        tag, start, length = _read_explicit(data, place)
        place = start + length
        if place > len(data):
            raise _Odd
        if tag in (TRANSFER_SYNTAX, STORAGE_CLASS):
            values[tag] = data[start:place]
    return place


def _walk_elements(
    data: bytes,
    place: int,
    explicit: bool,
    wanted: frozenset[int],
    values: dict[int, bytes],
    whole: bool,
) -> tuple[int, int]:
    """Fills `values`; returns where the pixels begin and their length, (-1, 0) without any."""
    read = _read_explicit if explicit else _read_implicit
    size = len(data)
    before = 0
    while place < size:
        tag, start, length = read(data, place)
        if tag < before:
            raise _Odd  # out of order: this is no element, or the file was patched together
        before = tag
        if tag >= PIXELS:
            return (start, length) if tag == PIXELS else (-1, 0)
        place = start + length
        if length == UNDEFINED:
            place = _skip_sequence(data, start, explicit, 0)
        if place > size:
            raise _Odd
        if tag in wanted:
            values[tag] = b"" if length == UNDEFINED else data[start:place]
    if not whole:
        raise _Odd
    return -1, 0


def _read_explicit(data: bytes, place: int) -> tuple[int, int, int]:
    """Returns tag, where the value begins, and its length."""
    group, element = _TAG.unpack_from(data, place)
    vr = data[place + 4 : place + 6]
    if vr in LONG_VRS:
        return group << 16 | element, place + 12, _LENGTH.unpack_from(data, place + 8)[0]
    if vr not in VRS or place + 8 > len(data):
        raise _Odd
    return group << 16 | element, place + 8, data[place + 6] | data[place + 7] << 8


def _read_implicit(data: bytes, place: int) -> tuple[int, int, int]:
    group, element = _TAG.unpack_from(data, place)
    return group << 16 | element, place + 8, _LENGTH.unpack_from(data, place + 4)[0]


def _skip_sequence(data: bytes, place: int, explicit: bool, depth: int) -> int:
    """Returns where a sequence of undefined length ends."""
    if depth > DEEPEST:
        raise _Odd
    while True:
        tag, start, length = _read_implicit(data, place)  # items have no type of value
        if tag == END_OF_SEQUENCE:
            return start
        if tag != ITEM:
            raise _Odd
        place = start + length
        if length == UNDEFINED:
            place = _skip_item(data, start, explicit, depth)


def _skip_item(data: bytes, place: int, explicit: bool, depth: int) -> int:
    while True:
        if data[place : place + 4] == b"\xfe\xff\x0d\xe0":
            return place + 8
        _, start, length = (_read_explicit if explicit else _read_implicit)(data, place)
        place = start + length
        if length == UNDEFINED:
            place = _skip_sequence(data, start, explicit, depth + 1)


def _ask_pydicom(path: Path, wanted: frozenset[int]) -> Elements:
    with path.open("rb") as file, warnings.catch_warnings():
        # pydicom warns of every departure from the standard; what matters is judged elsewhere.
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(
            file, stop_before_pixels=True, specific_tags=sorted(wanted), force=True
        )
        storage = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
        if len(dataset) == 0 and not storage:
            raise InvalidDicomError  # bytes that happen to begin like one
        syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")).strip(" \0")
        offset, length, items = _find_pixels(file, syntax)
        values = {int(tag): _raw(dataset, int(tag)) for tag in dataset.keys()}  # noqa: SIM118
        values[STORAGE_CLASS] = storage.encode()
        order = ">" if dataset.original_encoding[1] is False else "<"
        return Elements(values, order, syntax, offset, length, items)


def _raw(dataset: pydicom.Dataset, tag: int) -> bytes:
    element: Any = dataset.get_item(tag)
    value = element.value
    if not isinstance(value, bytes):
        return b""
    length = getattr(element, "length", UNDEFINED)
    if length != UNDEFINED and len(value) < length:
        raise InvalidDicomError  # the file ends within it: half a UID is another series' UID
    return value


def _find_pixels(file: BinaryIO, syntax: str) -> tuple[int, int, int]:
    """Returns where the pixels' bytes begin, how many there are, and where items begin."""
    if syntax == DEFLATED:
        # pydicom parses it from memory, so this file's place says nothing.
        return ENCAPSULATED, _measure_deflated(file), -1
    begin = file.tell()
    head = file.read(12)
    order: Literal["little", "big"] = "big" if syntax == BIG_ENDIAN else "little"
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    if tag != PIXELS or len(head) < 12:
        return NO_PIXELS, 0, -1
    explicit = head[4:6] in (b"OW", b"OB")
    begin += 12 if explicit else 8
    length = int.from_bytes(head[8:12] if explicit else head[4:8], order)
    if length == UNDEFINED:
        return ENCAPSULATED, 0, begin
    if syntax == BIG_ENDIAN:
        return ENCAPSULATED, min(length, file.seek(0, os.SEEK_END) - begin), -1
    if syntax and syntax not in UNCOMPRESSED:
        return ENCAPSULATED if length else NO_PIXELS, 0, -1
    return begin, length, -1


def _measure_deflated(file: BinaryIO) -> int:
    """Returns how many bytes of pixels a deflated file holds."""
    file.seek(0)
    dataset = pydicom.dcmread(file, specific_tags=["PixelData"], force=True)
    return len(_raw(dataset, PIXELS)) if "PixelData" in dataset else 0
