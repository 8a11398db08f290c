"""One DICOM file's header -> what is needed to place and decode its slice.

Values are parsed here from their bytes, not by pydicom's checked types: hospital files carry
decimal strings longer than 16 characters and padding values in the wrong type, and such a value is
still perfectly readable. Only the tags listed in `TAGS` are kept; the pixels are not touched, but
their place in the file is noted, so that uncompressed ones can be read without pydicom.
"""

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.errors import BytesLengthException, InvalidDicomError

from medvid.contract import DataError
from medvid.io.identity import patient_token, series_token

SPLITTING = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "EchoTime",
    "InversionTime",
    "TriggerTime",
    "DiffusionBValue",
    "ContentTime",
)
"""What tells apart images that lie at one place: phases, echoes, b-values."""

KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "Modality",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    *SPLITTING,
)
TAGS = [tag_for_keyword(keyword) or 0 for keyword in KEYWORDS]
_TAG_OF = dict(zip(KEYWORDS, TAGS, strict=True))

PIXEL_DATA = b"\xe0\x7f\x10\x00"
UNCOMPRESSED = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"})
"""Implicit and explicit little endian: pixel bytes lie in the file as numpy wants them."""

UNDEFINED_LENGTH = 0xFFFFFFFF
DS_CHARACTERS = 16
"""The standard's limit for one decimal string."""


HEADER_ERRORS = (
    *(InvalidDicomError, BytesLengthException, NotImplementedError),
    *(EOFError, ValueError, KeyError, struct.error),
)
"""What pydicom raises for headers that are cut off or overwritten."""


@dataclass(frozen=True)
class SliceHeader:
    """What one file says about its image.

    Args:
        path: the file.
        uid: SeriesInstanceUID; stays inside the reader.
        instance: SOPInstanceUID, the same in every copy of the image; stays inside the reader.
        patient: the patient's token.
        modality: DICOM's word.
        sop_class: SOPClassUID.
        image_type: ImageType's values.
        position: (x, y, z) mm of the first pixel's centre; None when absent.
        orientation: direction of a row (towards rising columns), then of a column; None if absent.
        pixel_spacing: mm between rows, between columns; None when absent.
        shape: (rows, columns).
        bits: (allocated, stored).
        signed: whether stored values are two's complement.
        samples: per pixel; 1 is grey.
        photometric: PhotometricInterpretation.
        frames: images in the file.
        slope: of the rescale to the modality's unit (HU for CT).
        intercept: of the same.
        has_table: a lookup table stands in place of slope and intercept.
        padding: lowest and highest stored value that mean "outside"; None when absent.
        syntax: transfer syntax UID.
        offset: where the pixels' bytes begin; -1 when they are encapsulated, -2 without any.
        length: of the pixels' bytes.
        splitting: values of the `SPLITTING` tags, as text.
        lenient: whether a value broke the standard and was read all the same.
    """

    path: Path
    uid: str
    instance: str
    patient: str
    modality: str
    sop_class: str
    image_type: tuple[str, ...]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    shape: tuple[int, int]
    bits: tuple[int, int]
    signed: bool
    samples: int
    photometric: str
    frames: int
    slope: float
    intercept: float
    has_table: bool
    padding: tuple[int, int] | None
    syntax: str
    offset: int
    length: int
    splitting: tuple[str, ...]
    lenient: bool

    @property
    def token(self) -> str:
        """The series' token."""
        return series_token(self.uid)


ENCAPSULATED = -1
NO_PIXELS = -2


class _Values:
    """The raw values of a data set, read leniently."""

    def __init__(self, dataset: pydicom.Dataset) -> None:
        self._dataset = dataset
        self._order = "<" if dataset.original_encoding[1] is not False else ">"
        self.lenient = False

    def __contains__(self, keyword: str) -> bool:
        return _TAG_OF[keyword] in self._dataset

    def _bytes(self, keyword: str) -> bytes:
        tag = _TAG_OF[keyword]
        if tag not in self._dataset:
            return b""
        value: Any = self._dataset.get_item(tag).value
        return value if isinstance(value, bytes) else b""

    def texts(self, keyword: str) -> tuple[str, ...]:
        text = self._bytes(keyword).decode("latin-1").strip(" \0")
        return tuple(part.strip() for part in text.split("\\")) if text else ()

    def text(self, keyword: str) -> str:
        return next(iter(self.texts(keyword)), "")

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        texts = self.texts(keyword)
        # A decimal comma is wrong, common in converted files, and cannot mean anything else.
        mended = [text.replace(",", ".") for text in texts]
        self.lenient |= any(len(text) > DS_CHARACTERS or "," in text for text in texts)
        try:
            numbers = tuple(float(text) for text in mended)
        except ValueError:
            return None
        return numbers if len(numbers) == count else None

    def number(self, keyword: str, default: float) -> float:
        numbers = self.numbers(keyword, 1)
        return default if numbers is None else numbers[0]

    def integer(self, keyword: str, default: int, *, signed: bool = False) -> int:
        raw = self._bytes(keyword)
        if len(raw) < 2:
            return default
        return int(struct.unpack(self._order + ("h" if signed else "H"), raw[:2])[0])


def looks_like_dicom(start: bytes) -> bool:
    """Whether a file that begins with `start` (132 bytes) may be DICOM.

    Files without the preamble begin with a tag of group 2 or 8; its element's high byte is 0.
    """
    bare = start[:2] in (b"\x02\x00", b"\x08\x00") and len(start) > 8 and start[3] == 0
    return start[128:132] == b"DICM" or bare


def read_header(path: Path) -> SliceHeader:
    """Reads what places one slice, leaving the pixels alone.

    Raises:
        DataError: when the file is empty, is not DICOM, or its header is cut off.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # pydicom warns of every departure from the standard; what matters is judged here.
            warnings.simplefilter("ignore")
            start = file.read(132)
            if not start:
                raise DataError(f"{path} is empty (0 bytes).", code="empty_file", files=[path])
            if not looks_like_dicom(start):
                raise DataError(f"{path} is not a DICOM file.", code="not_dicom", files=[path])
            file.seek(0)
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=TAGS, force=True)
            syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")).strip(" \0")
            offset, length = _find_pixels(file, dataset, syntax)
            return _build(path, dataset, syntax, offset, length)
    except OSError as error:
        if error.strerror is None:
            # Not the disk's error but pydicom's, of a length that leads out of the file.
            raise _damaged(path) from None
        raise DataError(
            f"{path} cannot be read: {error.strerror}.", code="unreadable", files=[path]
        ) from None
    except HEADER_ERRORS:
        raise _damaged(path) from None


def _damaged(path: Path) -> DataError:
    return DataError(
        f"{path} is a damaged DICOM file: its header cannot be read to the end. Export it again.",
        code="header_damaged",
        files=[path],
    )


def _find_pixels(file: BinaryIO, dataset: pydicom.Dataset, syntax: str) -> tuple[int, int]:
    """Returns where the pixels' bytes begin and how many there should be."""
    if syntax and syntax not in UNCOMPRESSED:
        # pydicom parses a deflated file from memory, so this file's place says nothing.
        if syntax == "1.2.840.10008.1.2.1.99":
            return ENCAPSULATED, 0
        return (NO_PIXELS if not file.read(4) else ENCAPSULATED), 0
    begin = file.tell()
    head = file.read(12)
    if head[:4] != PIXEL_DATA or len(head) < 12:
        return NO_PIXELS, 0
    explicit = head[4:6] in (b"OW", b"OB")
    length = int.from_bytes(head[8:12] if explicit else head[4:8], "little")
    if length == UNDEFINED_LENGTH:
        return ENCAPSULATED, 0
    return begin + (12 if explicit else 8), length


def _build(
    path: Path, dataset: pydicom.Dataset, syntax: str, offset: int, length: int
) -> SliceHeader:
    values = _Values(dataset)
    signed = values.integer("PixelRepresentation", 0) == 1
    allocated = values.integer("BitsAllocated", 0)
    padding = None
    if "PixelPaddingValue" in values:
        # Read with the pixels' own sign: writers state it as US or SS, whichever they like.
        value = values.integer("PixelPaddingValue", 0, signed=signed)
        limit = values.integer("PixelPaddingRangeLimit", value, signed=signed)
        padding = (min(value, limit), max(value, limit))
    frames = values.text("NumberOfFrames")
    return SliceHeader(
        path=path,
        uid=values.text("SeriesInstanceUID"),
        instance=values.text("SOPInstanceUID"),
        patient=patient_token(values.text("PatientID")),
        modality=values.text("Modality") or "unknown",
        sop_class=values.text("SOPClassUID"),
        image_type=values.texts("ImageType"),
        position=values.numbers("ImagePositionPatient", 3),
        orientation=values.numbers("ImageOrientationPatient", 6),
        pixel_spacing=values.numbers("PixelSpacing", 2),
        shape=(values.integer("Rows", 0), values.integer("Columns", 0)),
        bits=(allocated, values.integer("BitsStored", allocated)),
        signed=signed,
        samples=values.integer("SamplesPerPixel", 1),
        photometric=values.text("PhotometricInterpretation"),
        frames=int(frames) if frames.isdigit() else 1,
        slope=values.number("RescaleSlope", 1.0),
        intercept=values.number("RescaleIntercept", 0.0),
        has_table="ModalityLUTSequence" in values,
        padding=padding,
        syntax=syntax,
        offset=offset,
        length=length,
        splitting=tuple("\\".join(values.texts(keyword)) for keyword in SPLITTING),
        lenient=values.lenient,
    )
