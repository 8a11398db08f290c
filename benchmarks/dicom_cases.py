"""Made-up DICOM series as hospitals deliver them, for table_dicom.py; every slice has one value.

The truth of a case is the volumes that a right reader gives, as places in the patient and values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from medvid.io.write import derive_uid, write_dicom_series

SIZE = (10, 12)
"""Rows and columns, unlike, so that a transposed picture cannot pass."""

SPACING = (5.0, 1.5, 0.75)
"""Along slices, rows and columns, mm; all unlike."""

ORIGIN = (-20.0, 30.0, 40.0)

NAMES = ("one", "two", "scout")
"""Of the series of a folder, in the order of SeriesNumber."""

Edit = Callable[[Dataset, int], None]


@dataclass(frozen=True)
class Truth:
    """One volume that a right reader gives.

    Args:
        affine: (slice, row, column) index -> (x, y, z) mm, DICOM patient axes.
        values: of the slices.
        lowest: where a slice's pixels may be anything at or below this value, its row and value.
    """

    affine: NDArray[np.float64]
    values: tuple[float, ...]
    padding: tuple[int, float] | None = None


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        title: of the row.
        write: makes the folder; returns what a right reader gives, () where that is nothing.
        words: a refusal that gives the reason says one of them.
    """

    title: str
    write: Callable[[Path], Sequence[Truth]]
    words: tuple[str, ...] = field(default=())


def write_slices(
    folder: Path,
    edit: Edit | None = None,
    *,
    count: int = 8,
    plane: Any = "axial",
    modality: str = "CT",
    first: int = 100,
    name: str = "one",
    step: float = SPACING[0],
) -> Truth:
    """Writes a series whose slices are 100, 110, ... and edits every file's data set."""
    values = tuple(first + 10 * index for index in range(count))
    volume = np.array(values, np.int16)[:, None, None] + np.zeros((count, *SIZE), np.int16)
    below = folder / name
    write_dicom_series(
        below,
        volume,
        spacing=(step, *SPACING[1:]),
        plane=plane,
        modality=modality,
        origin=ORIGIN,
        series_uid=derive_uid(f"series {name}"),
    )
    files = sorted(below.iterdir())
    images = [pydicom.dcmread(file) for file in files]
    affine = np.eye(4)
    corners = np.array([[float(v) for v in image.ImagePositionPatient] for image in images])
    orientation = np.array([float(v) for v in images[0].ImageOrientationPatient])
    affine[:3, 0] = (corners[-1] - corners[0]) / (count - 1)
    affine[:3, 1], affine[:3, 2] = orientation[3:] * SPACING[1], orientation[:3] * SPACING[2]
    affine[:3, 3] = corners[0]
    for index, (file, image) in enumerate(zip(files, images, strict=True)):
        image.SeriesNumber = 1 + NAMES.index(name)
        if edit is not None:
            edit(image, index)
        # Compressed ones are written as pydicom has them; names tell neither series nor order.
        image.save_as(folder / f"{name}_{(index * 5) % count:02d}.dcm", enforce_file_format=True)
        file.unlink()
    below.rmdir()
    return Truth(affine, tuple(float(value) for value in values))


def plain(folder: Path) -> Sequence[Truth]:
    """A regular series, in no order of files."""
    return [write_slices(folder)]


def shuffled(folder: Path) -> Sequence[Truth]:
    """InstanceNumber tells nothing of the order."""

    def edit(image: Dataset, index: int) -> None:
        image.InstanceNumber = (index * 3) % 8 + 1

    return [write_slices(folder, edit)]


def without_numbers(folder: Path) -> Sequence[Truth]:
    """No InstanceNumber, no ending, and two folders with half of the slices each."""

    def edit(image: Dataset, index: int) -> None:
        del image.InstanceNumber

    truth = write_slices(folder, edit)
    for number, file in enumerate(sorted(folder.iterdir())):
        below = folder / f"a{number % 2}" / "b"
        below.mkdir(parents=True, exist_ok=True)
        file.rename(below / f"{number:08X}")
    return [truth]


def gap(folder: Path) -> Sequence[Truth]:
    """Slices 3 and 4 of 8 are missing."""
    write_slices(folder)
    for file in (folder / "one_07.dcm", folder / "one_04.dcm"):  # slices 3 and 4 of 8
        file.unlink()
    return []


def two_series(folder: Path) -> Sequence[Truth]:
    """Eight slices and six, under UIDs of their own."""
    return [write_slices(folder), write_slices(folder, first=400, name="two", count=6)]


def localizer(folder: Path) -> Sequence[Truth]:
    """One planning image across the slices."""

    def edit(image: Dataset, index: int) -> None:
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        image.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    truth = write_slices(folder)
    write_slices(folder, edit, count=2, name="scout", first=900)
    (folder / "scout_01.dcm").unlink()
    return [truth]


def echoes(folder: Path) -> Sequence[Truth]:
    """Two images at every place, told apart by EchoTime."""

    def first(image: Dataset, index: int) -> None:
        image.EchoTime = 10

    def second(image: Dataset, index: int) -> None:
        image.EchoTime = 80
        image.SeriesInstanceUID = derive_uid("series one")

    return [
        write_slices(folder, first, modality="MR"),
        write_slices(folder, second, modality="MR", name="two", first=400),
    ]


def phases(folder: Path) -> Sequence[Truth]:
    """Two phases, the slices of one halfway between those of the other."""
    half = SPACING[0] / 2

    def first(image: Dataset, index: int) -> None:
        image.TemporalPositionIdentifier = 1

    def second(image: Dataset, index: int) -> None:
        image.TemporalPositionIdentifier = 2
        image.SeriesInstanceUID = derive_uid("series one")
        x, y, z = image.ImagePositionPatient
        image.ImagePositionPatient = [x, y, z + half]

    moved = write_slices(folder, second, modality="MR", name="two", first=400)
    affine = moved.affine.copy()
    affine[2, 3] += half
    return [write_slices(folder, first, modality="MR"), replace(moved, affine=affine)]


def same_twice(folder: Path) -> Sequence[Truth]:
    """A second file of one slice, under another SOPInstanceUID."""
    truth = write_slices(folder)
    image = pydicom.dcmread(folder / "one_05.dcm")
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = UID(derive_uid("copy"))
    image.save_as(folder / "copy.dcm")
    return [truth]


def unlike_twice(folder: Path) -> Sequence[Truth]:
    """The second file shows something else."""
    same_twice(folder)
    image = pydicom.dcmread(folder / "copy.dcm")
    image.PixelData = (image.pixel_array + 300).astype("<u2").tobytes()
    image.save_as(folder / "copy.dcm")
    return []


def enhanced(folder: Path) -> Sequence[Truth]:
    """All slices in one file, placed by functional groups."""
    truth = write_slices(folder)
    images = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    for file in folder.iterdir():
        file.unlink()
    whole = images[0]
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    whole.NumberOfFrames = len(images)
    whole.PixelData = b"".join(image.PixelData for image in images)
    shared, measures, orientation, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = whole.PixelSpacing, SPACING[0]
    orientation.ImageOrientationPatient = whole.ImageOrientationPatient
    rescale.RescaleSlope, rescale.RescaleIntercept = whole.RescaleSlope, whole.RescaleIntercept
    rescale.RescaleType = "HU"
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelValueTransformationSequence = [rescale]
    whole.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for image in images:
        frame, place, content = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = image.ImagePositionPatient
        content.StackID, content.InStackPositionNumber = "1", image.InstanceNumber
        content.DimensionIndexValues = [image.InstanceNumber]
        frame.PlanePositionSequence, frame.FrameContentSequence = [place], [content]
        frames.append(frame)
    whole.PerFrameFunctionalGroupsSequence = frames
    for keyword in (
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
        *("RescaleSlope", "RescaleIntercept"),
    ):
        delattr(whole, keyword)
    whole.save_as(folder / "enhanced.dcm")
    return [truth]


def tilt(folder: Path) -> Sequence[Truth]:
    """Slices that are inclined against the axis they are stacked along."""
    angle = np.radians(20)
    down = [0.0, float(np.cos(angle)), float(-np.sin(angle))]

    def edit(image: Dataset, index: int) -> None:
        image.GantryDetectorTilt = 20
        image.ImageOrientationPatient = [1.0, 0.0, 0.0, *down]

    truth = write_slices(folder, edit)
    affine = truth.affine.copy()
    affine[:3, 1] = np.array(down) * SPACING[1]
    return [Truth(affine, truth.values)]


def long_numbers(folder: Path) -> Sequence[Truth]:
    """Numbers of 22 characters, where the standard allows 16."""

    def edit(image: Dataset, index: int) -> None:
        raw = b"1.00000000000000000000\\0\\0\\0\\1.00000000000000000000\\0"
        tag = pydicom.tag.Tag("ImageOrientationPatient")
        del image[tag]
        image[tag] = pydicom.dataelem.RawDataElement(tag, "DS", len(raw), raw, 0, False, True)

    return [write_slices(folder, edit)]


def other_matrix(folder: Path) -> Sequence[Truth]:
    """One slice has half of the rows."""
    write_slices(folder)
    image = pydicom.dcmread(folder / "one_05.dcm")
    image.Rows = SIZE[0] // 2
    image.PixelData = image.PixelData[: len(image.PixelData) // 2]
    image.save_as(folder / "one_05.dcm")
    return []


def padding(folder: Path) -> Sequence[Truth]:
    """The first row lies outside of what was scanned."""

    def edit(image: Dataset, index: int) -> None:
        stored = image.pixel_array.astype(np.int16) - 1024  # stored signed, as HU
        stored[0] = -2000
        image.PixelRepresentation, image.RescaleIntercept = 1, 0
        image.PixelData = stored.tobytes()
        image.add_new("PixelPaddingValue", "SS", -2000)

    truth = write_slices(folder, edit)
    return [Truth(truth.affine, truth.values, padding=(0, -1000.0))]


def rescales(folder: Path) -> Sequence[Truth]:
    """Stored values mean something else in every slice."""

    def edit(image: Dataset, index: int) -> None:
        image.RescaleSlope = index + 1  # of the writer's intercept, so that air can be stored
        image.PixelData = (image.pixel_array // (index + 1)).astype("<u2").tobytes()

    truth = write_slices(folder, edit)
    stored = [(int(value) + 1024) // (index + 1) for index, value in enumerate(truth.values)]
    values = tuple(float(n * (index + 1) - 1024) for index, n in enumerate(stored))
    return [Truth(truth.affine, values)]


def inverted(folder: Path) -> Sequence[Truth]:
    """Low values are bright: of MR, whose values have no unit that forbids to turn them."""

    def edit(image: Dataset, index: int) -> None:
        image.PhotometricInterpretation = "MONOCHROME1"
        image.BitsStored, image.HighBit = 12, 11
        image.PixelData = (4095 - image.pixel_array).astype("<u2").tobytes()

    return [write_slices(folder, edit, modality="MR")]


def without_rescale(folder: Path) -> Sequence[Truth]:
    """CT that does not say what its stored values are; half of the slices do."""

    def edit(image: Dataset, index: int) -> None:
        if index % 2:
            del image.RescaleSlope
            del image.RescaleIntercept

    write_slices(folder, edit)
    return []


def high_bits(folder: Path) -> Sequence[Truth]:
    """Twelve bits in the upper part of sixteen, as old scanners wrote them."""

    def edit(image: Dataset, index: int) -> None:
        stored = image.pixel_array.astype("<u2")
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 15, 0
        image.PixelData = (stored << 4).tobytes()

    return [write_slices(folder, edit)]


def lookup(folder: Path) -> Sequence[Truth]:
    """A table in place of slope and intercept."""

    def edit(image: Dataset, index: int) -> None:
        del image.RescaleSlope
        del image.RescaleIntercept
        stored = int(image.pixel_array[0, 0])
        table = Dataset()
        table.LUTDescriptor = [4096, 0, 16]
        entries = np.zeros(4096, np.uint16)
        entries[stored] = 100 + 10 * index
        table.add_new("LUTData", "OW", entries.tobytes())
        table.ModalityLUTType = "HU"
        image.ModalityLUTSequence = [table]

    return [write_slices(folder, edit)]


def recode(syntax: str) -> Callable[[Path], Sequence[Truth]]:
    """Returns a writer of the plain series in another transfer syntax."""

    def write(folder: Path) -> Sequence[Truth]:
        truth = write_slices(folder)
        for file in sorted(folder.iterdir()):
            image = pydicom.dcmread(file)
            if syntax == RLELossless:
                image.compress(RLELossless, generate_instance_uid=False)
                image.save_as(file)
                continue
            big = image.pixel_array.astype(">u2").tobytes()
            bare = Dataset()
            for element in image:
                bare.add_new(element.tag, element.VR, element.value)
            bare.file_meta = image.file_meta
            bare.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
            if syntax == ExplicitVRBigEndian:
                bare.add_new("PixelData", "OW", big)
            bare.save_as(file, enforce_file_format=True)
        return [truth]

    return write


def thick(folder: Path) -> Sequence[Truth]:
    """Two tags state a distance of slices that is not theirs."""

    def edit(image: Dataset, index: int) -> None:
        image.SliceThickness = 8.0
        image.SpacingBetweenSlices = 8.0

    return [write_slices(folder, edit)]


def standing(plane: str) -> Callable[[Path], Sequence[Truth]]:
    """Returns a writer of a coronal or sagittal series."""
    return lambda folder: [write_slices(folder, plane=plane)]


def oblique(folder: Path) -> Sequence[Truth]:
    """Slices turned about the x axis."""
    c, s = float(np.cos(np.radians(30))), float(np.sin(np.radians(30)))
    row, column = np.array([1.0, 0, 0]), np.array([0, c, s])
    normal = np.cross(row, column)

    def edit(image: Dataset, index: int) -> None:
        image.ImageOrientationPatient = [*row.tolist(), *column.tolist()]
        corner = np.array(ORIGIN) + SPACING[0] * index * normal
        image.ImagePositionPatient = [round(float(v), 6) for v in corner]

    truth = write_slices(folder, edit)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 3] = normal * SPACING[0], ORIGIN
    affine[:3, 1], affine[:3, 2] = column * SPACING[1], row * SPACING[2]
    return [Truth(affine, truth.values)]


def colour(folder: Path) -> Sequence[Truth]:
    """A page of a report among the slices."""
    truth = write_slices(folder)
    image = pydicom.dcmread(folder / "one_00.dcm")
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = UID(derive_uid("page"))
    image.SeriesInstanceUID = derive_uid("series page")
    image.SamplesPerPixel, image.PlanarConfiguration = 3, 0
    image.PhotometricInterpretation = "RGB"
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelData = bytes(3 * SIZE[0] * SIZE[1])
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(image, keyword)
    image.save_as(folder / "page.dcm")
    return [truth]


def truncated(folder: Path) -> Sequence[Truth]:
    """The last 100 bytes of one file are missing."""
    write_slices(folder)
    file = folder / "one_05.dcm"
    file.write_bytes(file.read_bytes()[:-100])
    return []


def lost(folder: Path) -> Sequence[Truth]:
    """Every second file ends within its header, as a copy that was broken off leaves it."""
    write_slices(folder)
    for index in range(1, 8, 2):
        file = folder / f"one_{(index * 5) % 8:02d}.dcm"
        file.write_bytes(file.read_bytes()[:400])
    return []


def strangers(folder: Path) -> Sequence[Truth]:
    """Two files that are no DICOM."""
    truth = write_slices(folder)
    (folder / "notes.dcm").write_text("no DICOM at all", encoding="utf-8")
    (folder / "empty.dcm").touch()
    return [truth]


def damaged(folder: Path) -> Sequence[Truth]:
    """Pixels that no decoder can make sense of."""

    def edit(image: Dataset, index: int) -> None:
        image.PixelData = encapsulate([b"this is no picture" * 4])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True
        image.file_meta.TransferSyntaxUID = RLELossless

    write_slices(folder, edit)
    return []


UNEVEN = ("gap", "uniform", "equidistant", "regular", "increment", "missing")
"""How libraries speak of steps that are not even."""

CASES: Mapping[str, Case] = {
    "plain": Case("a plain series, files in any order", plain),
    "shuffled": Case("InstanceNumber shuffled against position", shuffled),
    "numbers": Case("no InstanceNumber, no file extension, nested folders", without_numbers),
    "gap": Case("2 of 8 slices missing", gap, UNEVEN),
    "two": Case("two series in one folder", two_series, ("series", "multiple")),
    "localizer": Case("a localizer in the folder", localizer, ("localizer", "same series")),
    "echoes": Case(
        "two echoes under one SeriesInstanceUID", echoes, ("echo", "not_a_volume", *UNEVEN)
    ),
    "phases": Case(
        "two phases, slices of one between those of the other",
        phases,
        ("TemporalPosition", "phase", "increment", "uniform"),
    ),
    "same": Case(
        "a slice twice, the same pixels", same_twice, ("duplicate", "expected 9", *UNEVEN)
    ),
    "unlike": Case(
        "a slice twice, other pixels", unlike_twice, ("at one place", "duplicate", *UNEVEN)
    ),
    "enhanced": Case(
        "enhanced multi-frame CT", enhanced, ("multi-frame", "multiframe", "enhanced")
    ),
    "tilt": Case("gantry tilt of 20 degrees", tilt, ("tilt", "shear", "perpendicular", *UNEVEN)),
    "long": Case("over-long decimal strings in the orientation", long_numbers, ("orientation",)),
    "matrix": Case(
        "one slice with another matrix",
        other_matrix,
        ("rows", "size", "matrix", "shape", "dimension"),
    ),
    "padding": Case("PixelPaddingValue of -2000", padding),
    "rescale": Case("another rescale slope in every slice", rescales, ("slope", "rescale")),
    "half": Case("CT, half of its slices without a rescale", without_rescale, ("escale",)),
    "high": Case(
        "12 bits stored in the upper part of 16", high_bits, ("HighBit", "highest bit", "bits")
    ),
    "inverted": Case("MONOCHROME1", inverted, ("MONOCHROME",)),
    "lookup": Case("modality lookup table", lookup, ("lookup", "LUT")),
    "rle": Case("compressed by RLE", recode(RLELossless), ("RLE", "syntax")),
    "deflated": Case(
        "deflated", recode(DeflatedExplicitVRLittleEndian), ("deflate", "inflate", "syntax")
    ),
    "big": Case("big endian", recode(ExplicitVRBigEndian), ("endian", "syntax")),
    "thick": Case("SliceThickness and SpacingBetweenSlices that are not the step", thick),
    "coronal": Case("coronal", standing("coronal")),
    "sagittal": Case("sagittal", standing("sagittal")),
    "oblique": Case("oblique by 30 degrees", oblique),
    "colour": Case(
        "an RGB secondary capture in the folder", colour, ("colour", "RGB", "same series")
    ),
    "truncated": Case(
        "one file cut off",
        truncated,
        ("cut off", "less than expected", "not large enough", *UNEVEN),
    ),
    "lost": Case(
        "every second file cut off within its header", lost, ("damaged", "pixel data", *UNEVEN)
    ),
    "strangers": Case("an empty file and a text named .dcm", strangers, ("notes.dcm", "empty.dcm")),
    "damaged": Case("compressed pixels damaged", damaged, ("decode", "decompress", "RLE")),
}
"""Rows of the table, in their order. Words are looked for in any case of letters."""
