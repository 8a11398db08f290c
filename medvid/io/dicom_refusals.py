"""Why a single DICOM file cannot be a slice of a stack, each reason with a code and a sentence."""

import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydicom.pixels.decoders.base import get_decoder

from medvid.io.dicom_bits import stored_range
from medvid.io.dicom_elements import NATIVE, NO_PIXELS, UNCOMPRESSED
from medvid.io.dicom_slice import SECONDARY_CAPTURE, SliceHeader
from medvid.io.dicom_tables import BROKEN
from medvid.io.wording import count

OTHER_OBJECTS: Mapping[str, tuple[str, str]] = {
    "1.2.840.10008.5.1.4.1.1.66.4": ("segmentation", "a segmentation"),
    "1.2.840.10008.5.1.4.1.1.66": ("segmentation", "a registration or segmentation"),
    "1.2.840.10008.5.1.4.1.1.481": ("radiotherapy", "a radiotherapy object"),
    "1.2.840.10008.5.1.4.1.1.88": ("report", "a structured report"),
    "1.2.840.10008.5.1.4.1.1.104": ("report", "an encapsulated document"),
    "1.2.840.10008.5.1.4.1.1.11": ("presentation_state", "a presentation state"),
    "1.2.840.10008.1.3.10": ("directory", "a DICOMDIR"),
}
"""Beginnings of SOP class UIDs of what holds no acquired slices."""

FOREIGN = frozenset(
    {
        "segmentation",
        "radiotherapy",
        "report",
        "presentation_state",
        "directory",
        "localizer",
        "multi_frame",
        "color",
        "secondary_capture",
        "mosaic",
    }
)
"""What may lie in a series' folder, even under its UID, without being one of its slices. Every
other refusal means that a slice of the series is broken, and then the series is refused."""

NO_RIVALS = frozenset(
    {
        *FOREIGN - {"multi_frame", "mosaic"},
        "single_image",
    }
)
"""What beside a good stack was never a second candidate, and needs no choice between the two."""

PLUGINS: Mapping[str, str] = {
    "1.2.840.10008.1.2.4.50": "pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.51": "pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.57": "pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.70": "pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.80": "pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.81": "pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.90": "pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg-openjpeg",
}

HOUNSFIELD = frozenset({"", "HU", "HOUNSFIELD", "HOUNSFIELD UNITS", "US", "UNSPECIFIED"})
"""A RescaleType that leaves CT in HU; `US` is DICOM's word for unspecified, and without any word HU
are meant. `HU_MOD` are modified ones."""

NO_AIR_HU = -100
"""Fat. CT that cannot hold even this cannot show the air around a patient; its scale was lost. Real
scales begin near -1000 HU, and below."""

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
GREY = (*MONOCHROME, "")
"""Known meanings of grey values. Where nothing stands, they are taken as they are usual."""

COLOR_SAMPLES = (3, 4)
"""Values a pixel of colour images; those of four, CMYK and ARGB, are retired."""

ORTHOGONAL_TOLERANCE = 1e-2
"""Of the row and column directions' lengths and scalar product. Directions written with two
decimals are off by up to 0.005 each."""


def refuse_image(header: SliceHeader) -> tuple[str, str] | None:
    """Returns reason code and sentence for an image that is no slice, None for one that is."""
    for beginning, (code, what) in OTHER_OBJECTS.items():
        if header.sop_class == beginning or header.sop_class.startswith(f"{beginning}."):
            return code, f"is {what}, not an image series."
    if header.is_enhanced and header.frame < 0:
        return (
            "multi_frame",
            f"holds {count(header.frames, 'frame')} in one file and does not say where each of "
            "them lies. Convert it to classic single-frame DICOM, or export it again.",
        )
    if header.frames > 1 and header.frame < 0:
        return (
            "multi_frame",
            f"holds {header.frames} frames in one file without a position for each, which cannot "
            "be placed. Export one file for each slice.",
        )
    if header.offset == NO_PIXELS or 0 in header.shape:
        return "no_pixel_data", "has no pixel data: it is a header alone."
    if _is_color(header):
        return "color", "is a colour image (such as a screenshot or a report page), not a slice."
    if any("LOCALIZER" in word.upper() for word in header.image_type):
        return "localizer", "is a localizer (scout): a planning image, not a slice."
    if any("MOSAIC" in word.upper() for word in header.image_type):
        return "mosaic", "is a mosaic of several slices in one image. Convert it with dcm2niix."
    if any("SCREEN SAVE" in word.upper() for word in header.image_type):
        return "secondary_capture", "is a secondary capture (a saved screen), not a slice."
    return refuse_place(header) or _refuse_pixels(header)


def _is_color(header: SliceHeader) -> bool:
    """Whether an image says by all that it says that it is one in colours."""
    if header.photometric == "PALETTE COLOR":
        return True
    return header.samples in COLOR_SAMPLES and header.photometric not in MONOCHROME


def refuse_place(header: SliceHeader) -> tuple[str, str] | None:
    """Returns reason code and sentence for an image whose place in the patient is unknown."""
    told = {
        "ImagePositionPatient": header.position,
        "ImageOrientationPatient": header.orientation,
        "PixelSpacing": header.pixel_spacing,
    }
    absent = [name for name, value in told.items() if value is None]
    if absent and header.sop_class.startswith(SECONDARY_CAPTURE):
        return "secondary_capture", "is a secondary capture (a screenshot) without a position."
    if header.position is None or header.orientation is None or header.pixel_spacing is None:
        return (
            "no_position",
            f"has no usable {absent[0]}, so its place in the patient is unknown.",
        )
    odd = [name for name, value in told.items() if not np.isfinite(value or ()).all()]
    if odd:
        return (
            "no_position",
            f"has a number in its {odd[0]} that is not finite, so its place in the patient is "
            "unknown.",
        )
    row, column = np.array(header.orientation[:3]), np.array(header.orientation[3:])
    lengths = (float(row @ row), float(column @ column))
    straight = abs(float(row @ column)) <= ORTHOGONAL_TOLERANCE and all(
        abs(length - 1) <= ORTHOGONAL_TOLERANCE for length in lengths
    )
    if not straight or min(header.pixel_spacing) <= 0:
        return (
            "orientation_invalid",
            "has rows and columns that are no perpendicular directions, or a pixel without size.",
        )
    return None


def _refuse_pixels(header: SliceHeader) -> tuple[str, str] | None:
    if header.table == BROKEN:
        return "modality_lut", "maps its values by a lookup table that cannot be read."
    if header.samples != 1:
        return (
            "samples",
            f"says that it has {count(header.samples, 'value')} a pixel, and that it is grey: one "
            "of them is damaged. Export it again.",
        )
    allocated, stored = header.bits
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        return (
            "bits",
            f"has {stored} of {allocated} bits a pixel, or a sign that the standard does not know; "
            "8 and 16 bits, signed or not, can be read.",
        )
    if header.high_bit != stored - 1:
        return (
            "high_bit",
            f"stores {stored} bits a pixel and says that the highest is number {header.high_bit}, "
            f"where only {stored - 1} is allowed: its values are uncertain. Export it again.",
        )
    if header.photometric not in GREY:
        return (
            "photometric",
            "does not say whether its grey values are inverted (PhotometricInterpretation is "
            "neither MONOCHROME1 nor MONOCHROME2).",
        )
    return _refuse_scale(header) or _refuse_bytes(header) or refuse_syntax(header.syntax)


def _refuse_scale(header: SliceHeader) -> tuple[str, str] | None:
    """Refuses values without a unit: slope and intercept are what makes HU of stored values."""
    if not np.isfinite([header.slope, header.intercept]).all() or header.slope == 0:
        return "rescale_invalid", "has a rescale slope of zero, or one that is not a number."
    if header.modality == "PT" and header.table is None and not header.rescaled:
        return (
            "no_rescale",
            "is PET without RescaleSlope and RescaleIntercept, which differ from slice to slice "
            "and must stand in each: its values are in no unit. Export it again with them.",
        )
    if header.modality != "CT" or header.table is not None:
        return None
    if not header.rescaled:
        return (
            "no_rescale",
            "is CT without RescaleSlope and RescaleIntercept, so its values are not known to be "
            "HU. Export it again with them; if you know what they are, write them into the file.",
        )
    if header.rescale_type.upper().strip(" []()") not in HOUNSFIELD:
        return (
            "not_hu",
            "is called CT, and its RescaleType says that its values are no HU (modified ones, or a "
            "map of iodine or of atomic numbers). Leave it out.",
        )
    lowest = min(value * header.slope + header.intercept for value in stored_range(header))
    if lowest > NO_AIR_HU:
        sign = "a" if header.signed else "no"
        return (
            "no_air",
            f"is CT that cannot show air: {header.bits[1]} bits with {sign} sign and its rescale "
            f"hold no value below {lowest:.0f} HU. Mostly the intercept is missing and air was "
            "wrapped to the top of the scale (12 bits without a sign: to about 3100). Export it "
            "again with the scanner's intercept, or leave it out.",
        )
    return None


def _refuse_bytes(header: SliceHeader) -> tuple[str, str] | None:
    """Refuses pixels that are cut off, or of which the header says another number."""
    if header.cut:
        return (
            "truncated",
            "is cut off or damaged: its compressed pixels end before they should. Copy or export "
            "it again.",
        )
    if header.stream_shape not in ((0, 0), header.shape):
        rows, columns = header.stream_shape
        return (
            "stream_shape",
            f"is compressed as {rows} x {columns} pixels, and its header says {header.shape[0]} x "
            f"{header.shape[1]}. Export it again.",
        )
    if header.offset < 0 and (header.syntax not in NATIVE or header.syntax in UNCOMPRESSED):
        return None
    wanted = header.shape[0] * header.shape[1] * header.bits[0] // 8
    there = header.length
    if header.offset >= 0:
        there = min(there, _size(header.path) - header.offset)
    if there < wanted:
        return "truncated", f"is cut off: {max(there, 0)} of {wanted} bytes of pixels are there."
    # Some files are padded. A row or a column that the header lacks is more than that.
    least = min(header.shape) * header.bits[0] // 8
    if header.length - wanted >= max(least, 2):
        return (
            "pixels_surplus",
            f"holds {header.length} bytes of pixels, and its header explains {wanted}: it says "
            "too few rows, columns or bits, or hides further frames. Export it again.",
        )
    return None


def _size(path: Path) -> int:
    return path.stat().st_size


@lru_cache(maxsize=64)
def refuse_syntax(syntax: str) -> tuple[str, str] | None:
    """Returns reason code and sentence when this computer cannot decode a transfer syntax."""
    if syntax in UNCOMPRESSED or not syntax:
        return None
    try:
        with warnings.catch_warnings():
            # pydicom warns of a syntax that is no UID; it is refused below.
            warnings.simplefilter("ignore")
            decoder = get_decoder(syntax)
    except NotImplementedError:
        return (
            "syntax_unsupported",
            f"is compressed by a method that no decoder knows (transfer syntax {syntax}). Export "
            "it uncompressed.",
        )
    if decoder.is_available:
        return None
    plugin = PLUGINS.get(syntax, "pylibjpeg")
    return (
        "codec_missing",
        f"is compressed ({decoder.UID.name}), and its decoder is not installed. Run "
        f'`pip install "medvid[codecs]"` (or `pip install {plugin}`).',
    )
