"""One DICOM file's header -> what is needed to place and decode its slice.

Values are parsed here from their bytes, not by pydicom's checked types: hospital files carry
decimal strings longer than 16 characters and padding values in the wrong type, and such a value is
still perfectly readable.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom.datadict import tag_for_keyword

from medvid.io.dicom_elements import (
    NO_PIXELS,
    STORAGE_CLASS,
    UNCOMPRESSED,
    Elements,
    looks_like_dicom,
    read_elements,
)
from medvid.io.dicom_slice import MARKS, SPLITTING, TIMES, SliceHeader
from medvid.io.dicom_tables import read_table
from medvid.io.dicom_times import DATES, join_time, split_datetime
from medvid.io.identity import patient_token

__all__ = ["NO_PIXELS", "UNCOMPRESSED", "SliceHeader", "looks_like_dicom", "read_header"]

KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "Units",
    "ModalityLUTSequence",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SpacingBetweenSlices",
    "SeriesDescription",
    "BurnedInAnnotation",
    *SPLITTING,
    *MARKS,
    *TIMES,
    *DATES.values(),
)
TAG_OF = {keyword: tag_for_keyword(keyword) or 0 for keyword in KEYWORDS}
WANTED = frozenset(TAG_OF.values())

DOUBLES = frozenset({"DiffusionBValue"})
"""Binary numbers of eight bytes; all others of `SPLITTING` are text."""

DS_CHARACTERS = 16
"""The standard's limit for one decimal string."""


MODALITY_OF: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
    "1.2.840.10008.5.1.4.1.1.128.1": "PT",
    "1.2.840.10008.5.1.4.1.1.130": "PT",
}
"""The modality of images that do not say it, by SOP class: plain, enhanced, legacy-converted."""

UNKNOWN_SIGN = 2
"""PixelRepresentation is 0 (unsigned) or 1 (two's complement); from here on, or without any, no
value is known."""


def read_header(path: Path) -> SliceHeader:
    """Reads what places one slice, leaving the pixels alone.

    Raises:
        DataError: when the file is empty, is not DICOM, or its header is cut off.
    """
    return _build(path, read_elements(path, WANTED))


class _Values:
    """The values of a header, read leniently."""

    def __init__(self, elements: Elements) -> None:
        self._values = elements.values
        self._order = elements.order
        self.lenient = False

    def __contains__(self, keyword: str) -> bool:
        return TAG_OF[keyword] in self._values

    def _bytes(self, keyword: str) -> bytes:
        return self._values.get(TAG_OF[keyword], b"")

    def texts(self, keyword: str) -> tuple[str, ...]:
        raw = self._bytes(keyword)
        try:
            text = raw.decode().strip(" \0")
        except UnicodeDecodeError:
            text = raw.decode("latin-1").strip(" \0")
        return tuple(part.strip() for part in text.split("\\")) if text else ()

    def text(self, keyword: str) -> str:
        return next(iter(self.texts(keyword)), "")

    def joined(self, keywords: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            self._double(keyword) if keyword in DOUBLES else "\\".join(self.texts(keyword))
            for keyword in keywords
        )

    def _double(self, keyword: str) -> str:
        raw = self._bytes(keyword)
        return f"{struct.unpack(self._order + 'd', raw[:8])[0]:g}" if len(raw) >= 8 else ""

    def marks(self) -> tuple[str, ...]:
        """Returns values that are only compared, whatever their characters mean."""
        values, tags = self._values, (TAG_OF[keyword] for keyword in MARKS)
        return tuple(
            values[tag].decode("latin-1").rstrip(" \0") if tag in values else "" for tag in tags
        )

    def moment(self, keyword: str) -> str:
        if keyword in DATES:
            return join_time(self.text(DATES[keyword]), self.text(keyword))
        return split_datetime(self.text(keyword))

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        texts = self.texts(keyword)
        # A decimal comma is wrong, common in converted files, and cannot mean anything else.
        mended = [text.replace(",", ".") for text in texts if "_" not in text]
        self.lenient |= any(len(text) > DS_CHARACTERS or "," in text for text in texts)
        try:
            numbers = tuple(float(text) for text in mended)
        except ValueError:
            return None
        return numbers if len(numbers) == count else None

    def number(self, keyword: str, default: float) -> float:
        numbers = self.numbers(keyword, 1)
        if numbers is None:
            # What stands there and is no number is not the default: it is unknown, and refused.
            return math.nan if self.text(keyword) else default
        return numbers[0]

    def integer(self, keyword: str, default: int, *, signed: bool = False) -> int:
        raw = self._bytes(keyword)
        if len(raw) < 2:
            return default
        return int(struct.unpack(self._order + ("h" if signed else "H"), raw[:2])[0])


def _build(path: Path, elements: Elements) -> SliceHeader:
    values = _Values(elements)
    representation = values.integer("PixelRepresentation", UNKNOWN_SIGN)
    signed = representation == 1
    allocated = values.integer("BitsAllocated", 0)
    padding = None
    if "PixelPaddingValue" in values:
        # Read with the pixels' own sign: writers state it as US or SS, whichever they like.
        value = values.integer("PixelPaddingValue", 0, signed=signed)
        limit = values.integer("PixelPaddingRangeLimit", value, signed=signed)
        padding = (min(value, limit), max(value, limit))
    stored = values.integer("BitsStored", 0)
    written = values.text("NumberOfFrames")
    frames = int(written) if written.isdecimal() else 1
    thickness = values.numbers("SliceThickness", 1)
    step = values.numbers("SpacingBetweenSlices", 1)
    sop_class = values.text("SOPClassUID") or _storage_class(elements)
    return SliceHeader(
        path=path,
        uid=values.text("SeriesInstanceUID"),
        instance=values.text("SOPInstanceUID"),
        patient=patient_token(values.text("PatientID")),
        study=values.text("StudyInstanceUID"),
        space=values.text("FrameOfReferenceUID"),
        # Some writers leave it out or spell it small; CT is HU or nothing all the same.
        modality=values.text("Modality").upper() or MODALITY_OF.get(sop_class, "unknown"),
        sop_class=sop_class,
        image_type=values.texts("ImageType"),
        position=values.numbers("ImagePositionPatient", 3),
        orientation=values.numbers("ImageOrientationPatient", 6),
        pixel_spacing=values.numbers("PixelSpacing", 2),
        shape=(values.integer("Rows", 0), values.integer("Columns", 0)),
        # Neither signed nor unsigned: how many bits there are then says nothing.
        bits=(allocated, stored if representation < UNKNOWN_SIGN else 0),
        high_bit=values.integer("HighBit", stored - 1),
        signed=signed,
        samples=values.integer("SamplesPerPixel", 1),
        photometric=values.text("PhotometricInterpretation"),
        frames=frames,
        frame=-1,
        slope=values.number("RescaleSlope", 1.0),
        intercept=values.number("RescaleIntercept", 0.0),
        rescaled=bool(values.text("RescaleSlope") and values.text("RescaleIntercept")),
        rescale_type=values.text("RescaleType"),
        units=values.text("Units").upper(),
        table=read_table(path) if "ModalityLUTSequence" in values else None,
        padding=padding,
        syntax=elements.syntax,
        offset=elements.offset,
        length=elements.length,
        cut=0 <= elements.fragments < max(frames, 1),
        stream_shape=elements.stream_shape,
        splitting=tuple(plain_number(text) for text in values.joined(SPLITTING)),
        marks=values.marks(),
        times=tuple(values.moment(keyword) for keyword in TIMES),
        thickness=None if thickness is None else thickness[0],
        step=None if step is None else step[0],
        kernel="/".join(values.texts("ConvolutionKernel")),
        description="/".join(values.texts("SeriesDescription")),
        burned_in=values.text("BurnedInAnnotation").upper() == "YES",
        lenient=values.lenient,
    )


def plain_number(text: str) -> str:
    """Returns `20` for `20.0` and `2e1`, and any other text as it is: one value, one spelling."""
    try:
        return f"{float(text):.6g}"
    except ValueError:
        return text


def _storage_class(elements: Elements) -> str:
    return elements.values.get(STORAGE_CLASS, b"").decode("ascii", "replace").strip(" \0")
