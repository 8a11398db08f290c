"""What is known of one DICOM image before its pixels are read."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from medvid.io.identity import series_token

SPLITTING = (
    "TemporalPositionIdentifier",
    "EchoTime",
    "InversionTime",
    "TriggerTime",
    "DiffusionBValue",
    "AcquisitionNumber",
    "ImageType",
    "ConvolutionKernel",
    "SequenceName",
    "FlipAngle",
    "StackID",
    "SliceThickness",
)
"""What tells apart images that lie at one place: phases, echoes, b-values, magnitude and phase,
reconstructions. The first that explains them is used."""

NEVER_MIXED = (
    *("ConvolutionKernel", "EchoTime", "TemporalPositionIdentifier", "DiffusionBValue"),
    *("InversionTime", "StackID", "SeriesNumber", "SeriesDescription", "ProtocolName"),
    *("PatientPosition", "ContrastBolusAgent", "KVP"),
)
"""What never alternates from slice to slice of one stack, unlike the acquisition's number or time,
which do where even slices are acquired before odd ones."""

MARKS = (
    *("SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime", "ProtocolName"),
    *("PatientPosition", "BodyPartExamined", "StationName", "DeviceSerialNumber"),
    *("ContrastBolusAgent", "ContrastBolusRoute", "ContrastBolusVolume", "KVP", "ScanOptions"),
    *("FilterType", "ReconstructionMethod", "AttenuationCorrectionMethod", "CorrectedImage"),
    *("CardiacNumberOfImages", "ScanningSequence", "SequenceVariant", "RepetitionTime"),
    *("EchoNumbers", "NumberOfAverages", "ReceiveCoilName", "DerivationDescription"),
)
"""What else slices of one stack have in common, and stacks between each other may differ in. Only
compared, never told: people write names into some of them."""

TIMES = ("ContentTime", "AcquisitionTime", "AcquisitionDateTime")
"""What tells phases apart where nothing else does: every image of one was made before every image
of the next."""

ENHANCED = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.2.1",
        "1.2.840.10008.5.1.4.1.1.2.2",
        "1.2.840.10008.5.1.4.1.1.4.1",
        "1.2.840.10008.5.1.4.1.1.4.3",
        "1.2.840.10008.5.1.4.1.1.4.4",
        "1.2.840.10008.5.1.4.1.1.13.1.1",
        "1.2.840.10008.5.1.4.1.1.13.1.2",
        "1.2.840.10008.5.1.4.1.1.13.1.3",
        "1.2.840.10008.5.1.4.1.1.128.1",
        "1.2.840.10008.5.1.4.1.1.130",
    }
)
"""SOP classes of enhanced and legacy-converted CT, MR and PET, of 3D X-ray and of tomosynthesis:
what places a frame lies in functional groups."""

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Beginning of the SOP classes of screenshots, scanned paper and what programs made."""

Table = tuple[int, tuple[int, ...]]
"""A modality lookup table: the stored value of its first entry, and what it maps to."""


@dataclass(frozen=True, slots=True, repr=False)
class SliceHeader:
    """What one file, or one frame of a multi-frame file, says about its image.

    Args:
        path: the file.
        uid: SeriesInstanceUID; stays inside the reader.
        instance: SOPInstanceUID, the same in every copy of the image; stays inside the reader.
        patient: the patient's token.
        study: StudyInstanceUID; stays inside the reader.
        space: FrameOfReferenceUID, the axes that positions count in; likewise.
        modality: DICOM's word, in capitals; `unknown` where neither it nor the SOP class is known.
        sop_class: SOPClassUID.
        image_type: ImageType's values.
        position: (x, y, z) mm of the first pixel's centre; None when absent.
        orientation: direction of a row (towards rising columns), then of a column; None if absent.
        pixel_spacing: mm between rows, between columns; None when absent.
        shape: (rows, columns).
        bits: (allocated, stored).
        high_bit: number of the highest stored bit, from 0.
        signed: whether stored values are two's complement.
        samples: per pixel; 1 is grey.
        photometric: PhotometricInterpretation.
        frames: images in the file.
        frame: which of them this is, from 0; -1 for the whole file.
        slope: of the rescale to the modality's unit (HU for CT).
        intercept: of the same.
        rescaled: whether the file states slope and intercept.
        rescale_type: the unit that they lead to, in DICOM's word; "" when absent.
        units: the same of PET, which has a tag of its own for it.
        table: the lookup table that stands in place of slope and intercept.
        padding: lowest and highest stored value that mean "outside"; None when absent.
        syntax: transfer syntax UID.
        offset: where the pixels' bytes begin; -1 when they are encapsulated, -2 without any.
        length: of the pixels' bytes; 0 when they are compressed.
        cut: whether compressed pixels end before they should.
        stream_shape: (rows, columns) that compressed pixels state; (0, 0) where they do not.
        splitting: values of the `SPLITTING` tags, as text.
        marks: values of the `MARKS` tags, as text.
        times: of the `TIMES` tags, with their days, see `medvid.io.dicom_times`; stay inside the
            reader.
        thickness: of the slice in mm; None when absent.
        step: SpacingBetweenSlices in mm, from centre to centre; None when absent.
        kernel: ConvolutionKernel.
        description: SeriesDescription; only compared, never told: people write names into it.
        burned_in: BurnedInAnnotation says that text is part of the pixels.
        lenient: whether a value broke the standard and was read all the same.
    """

    path: Path
    uid: str
    instance: str
    patient: str
    study: str
    space: str
    modality: str
    sop_class: str
    image_type: tuple[str, ...]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    shape: tuple[int, int]
    bits: tuple[int, int]
    high_bit: int
    signed: bool
    samples: int
    photometric: str
    frames: int
    frame: int
    slope: float
    intercept: float
    rescaled: bool
    rescale_type: str
    units: str
    table: Table | None
    padding: tuple[int, int] | None
    syntax: str
    offset: int
    length: int
    cut: bool
    stream_shape: tuple[int, int]
    splitting: tuple[str, ...]
    marks: tuple[str, ...]
    times: tuple[str, ...]
    thickness: float | None
    step: float | None
    kernel: str
    description: str
    burned_in: bool
    lenient: bool

    def __repr__(self) -> str:
        # Debuggers and logs print what they hold; a description may name the patient.
        return f"SliceHeader({self.name})"

    @property
    def token(self) -> str:
        """The series' token."""
        return series_token(self.uid)

    @property
    def key(self) -> tuple[str, int]:
        """The same in every copy of the image."""
        return self.instance, self.frame

    def state(self, keyword: str) -> str:
        """Returns what it says of one of `SPLITTING`, `MARKS` or `TIMES`."""
        for keywords, values in (
            (SPLITTING, self.splitting),
            (MARKS, self.marks),
            (TIMES, self.times),
        ):
            if keyword in keywords:
                return values[keywords.index(keyword)]
        raise KeyError(keyword)

    @property
    def is_enhanced(self) -> bool:
        """Whether functional groups say where its frames lie."""
        return self.sop_class in ENHANCED

    @property
    def name(self) -> str:
        """How a message names the image."""
        return self.path.name if self.frame < 0 else f"{self.path.name} (frame {self.frame + 1})"


class Interner:
    """Makes equal values of many headers one object each.

    The headers of a hundred thousand files are held at once, and most of what they say is said by
    every slice of a series alike. Values of their own (position, number, path) are left alone.
    """

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def __call__(self, header: SliceHeader) -> SliceHeader:
        """Returns an equal header that shares what it can."""
        known = self._known
        shared = {}
        for name in _SHARED:
            value = getattr(header, name)
            shared[name] = known.setdefault((name, value), value)
        return replace(header, **shared)


_OWN = frozenset({"path", "instance", "position", "offset", "frame", "times"})
_SHARED = tuple(one.name for one in fields(SliceHeader) if one.name not in _OWN)


def list_paths(images: Sequence[SliceHeader]) -> list[Path]:
    """Returns the files of images, each once, in their order."""
    return list(dict.fromkeys(image.path for image in images))
