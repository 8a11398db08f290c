"""Counts the bytes that a video container announces and the file does not hold.

Decoders read a video that was cut in half without a word: Matroska and AVI simply end early. The
containers say how long they ought to be, though, and that is read here from a few headers.
"""

from pathlib import Path
from typing import BinaryIO

# AVI pads its last chunk to an even length, and not every writer counts the padding.
_PADDING_BYTES = 1


def count_missing_bytes(path: Path) -> int:
    """Returns how many bytes a video file lacks of what its container announces.

    Knows AVI (RIFF), MP4/MOV (ISO base media) and Matroska/WebM (EBML); 0 for all others and for
    files written as an endless stream, which announce nothing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF":
            announced = _end_of_riff(file, size)
        elif head[:4] == b"\x1a\x45\xdf\xa3":
            announced = _end_of_matroska(file)
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            announced = _end_of_boxes(file, size)
        else:
            announced = 0
    missing = announced - size
    return missing if missing > _PADDING_BYTES else 0


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """AVI: `RIFF` chunks one after the other (a long file has several), sizes little endian."""
    end = 0
    while end + 8 <= size:
        file.seek(end)
        head = file.read(8)
        if head[:4] != b"RIFF":
            break  # junk behind the video, such as a tag that an editor left
        length = int.from_bytes(head[4:8], "little")
        end += 8 + length + length % 2
    return end


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """MP4: top-level boxes one after the other, sizes big endian."""
    end = 0
    while end + 8 <= size:
        file.seek(end)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # the length did not fit and follows in 64 bits
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not head[4:8].isalnum():
            break  # 0 means "up to the end of the file"; anything else is junk behind the video
        end += length
    return end


def _end_of_matroska(file: BinaryIO) -> int:
    """Matroska: an EBML header, then one `Segment` that holds all the rest."""
    file.seek(4)
    header = _read_length(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    length = _read_length(file)
    return 0 if length is None else file.tell() + length


def _read_length(file: BinaryIO) -> int | None:
    """Reads EBML's variable-length integer; None when it says "unknown" or is cut off."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    bits = first[0].bit_length()
    more = 8 - bits  # the leading zeros say how many bytes follow
    digits = bytes([first[0] - (1 << (bits - 1))]) + file.read(more)
    length = int.from_bytes(digits, "big")
    unknown = (1 << (7 * (more + 1))) - 1
    return None if length == unknown or len(digits) != more + 1 else length
