"""Multi-frame DICOM -> one header a frame.

Enhanced and legacy-converted objects hold a whole series, or several of its echoes and phases, in
one file. Where a frame lies and how its values are scaled stands in functional groups: the frame's
own, else those that all frames share.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from medvid.io.dicom_elements import HEADER_ERRORS, damaged_header
from medvid.io.dicom_headers import plain_number
from medvid.io.dicom_slice import SPLITTING, TIMES, SliceHeader
from medvid.io.dicom_times import split_datetime

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")

OF_FRAMES: Mapping[str, tuple[str, str]] = {
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "TriggerTime": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "AcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "ConvolutionKernel": ("CTReconstructionSequence", "ConvolutionKernel"),
    "StackID": ("FrameContentSequence", "StackID"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "SliceThickness": ("PixelMeasuresSequence", "SliceThickness"),
    "ContentTime": ("FrameContentSequence", "FrameReferenceDateTime"),
    "AcquisitionTime": ("FrameContentSequence", "FrameAcquisitionDateTime"),
}
"""Where a frame says what a single-frame file says in its header."""

FRAME_TYPES = (
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "CommonCTMRPETImageDescriptionMacroSequence",
)


def expand_frames(header: SliceHeader) -> list[SliceHeader]:
    """Returns one header a frame of a file with functional groups, else the file's own.

    Raises:
        DataError: when the groups cannot be read.
    """
    if header.frames < 1 or not header.is_enhanced:
        return [header]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(
                header.path, stop_before_pixels=True, specific_tags=list(GROUPS), force=True
            )
            shared = _first(dataset, GROUPS[0])
            frames: Sequence[Dataset] = dataset.get(GROUPS[1]) or []
            if len(frames) != header.frames:
                return [header]
            return [
                _read_frame(header, number, [frame, shared]) for number, frame in enumerate(frames)
            ]
    except OSError:
        raise damaged_header(header.path) from None
    except HEADER_ERRORS:
        raise damaged_header(header.path) from None


def _first(dataset: Dataset | None, keyword: str) -> Dataset | None:
    sequence = None if dataset is None else dataset.get(keyword)
    return sequence[0] if sequence else None


def _find(groups: Sequence[Dataset | None], sequence: str, keyword: str) -> Any:
    for group in groups:
        item = _first(group, sequence)
        value = None if item is None else item.get(keyword)
        if value is not None and value != "":
            return value
    return None


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = tuple(float(one) for one in (value if count > 1 else [value]))
    return numbers if len(numbers) == count else None


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return str(value)
    return "\\".join(str(one) for one in value)


def _read_frame(header: SliceHeader, number: int, groups: Sequence[Dataset | None]) -> SliceHeader:
    position = _numbers(_find(groups, "PlanePositionSequence", "ImagePositionPatient"), 3)
    orientation = _numbers(_find(groups, "PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    pixel_spacing = _numbers(_find(groups, "PixelMeasuresSequence", "PixelSpacing"), 2)
    slope, intercept = (
        _numbers(_find(groups, "PixelValueTransformationSequence", keyword), 1)
        for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    unit = _text(_find(groups, "PixelValueTransformationSequence", "RescaleType"))
    kinds = (_find(groups, sequence, "FrameType") for sequence in FRAME_TYPES)
    kind = _text(next((one for one in kinds if one is not None), None))
    own = {name: _text(_find(groups, *where)) for name, where in OF_FRAMES.items()}
    own["ImageType"] = kind
    rows, columns = header.shape
    size = rows * columns * header.bits[0] // 8
    # More bytes than all frames have put every frame but the first in a wrong place.
    surplus = max(0, header.length - header.frames * size)
    thickness = _numbers(_find(groups, "PixelMeasuresSequence", "SliceThickness"), 1)
    step = _numbers(_find(groups, "PixelMeasuresSequence", "SpacingBetweenSlices"), 1)
    return replace(
        header,
        frame=number,
        # A position of its own for every frame: one that all share places none of them.
        position=position or header.position,
        orientation=orientation or header.orientation,
        pixel_spacing=pixel_spacing or header.pixel_spacing,
        slope=header.slope if slope is None else slope[0],
        intercept=header.intercept if intercept is None else intercept[0],
        rescaled=header.rescaled or (slope is not None and intercept is not None),
        rescale_type=unit or header.rescale_type,
        image_type=tuple(kind.split("\\")) if kind else header.image_type,
        offset=header.offset + number * size if header.offset >= 0 else header.offset,
        length=max(0, min(size, header.length - number * size)) + surplus,
        splitting=tuple(
            plain_number(own.get(name, "")) or known
            for name, known in zip(SPLITTING, header.splitting, strict=True)
        ),
        times=tuple(split_datetime(own.get(name, "")) for name in TIMES),
        thickness=header.thickness if thickness is None else thickness[0],
        step=header.step if step is None else step[0],
        kernel=own["ConvolutionKernel"].replace("\\", "/") or header.kernel,
    )
