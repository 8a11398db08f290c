"""LIDC-IDRI: 1,018 chest CTs in which four readers outlined and rated lung nodules.

Where from: the collection LIDC-IDRI of The Cancer Imaging Archive, with its annotation files (they
lie beside the images, or come apart as `LIDC-XML-only`, folder `tcia-lidc-xml/`). Licence: CC BY
3.0; cite Armato et al., Med Phys 38, 2011. medvid downloads nothing.

On disk: `LIDC-IDRI/LIDC-IDRI-0001/<study>/<series>/` with one series' `*.dcm` and its reading
`*.xml`, whatever study and series are called; the XML files may lie anywhere below the root. Films
(CR, DX) and their readings (IdriReadMessage) are passed over, as are scouts and pictures beside the
slices.

A case is a nodule of 3 mm or more: a `region` task. Readers worked alone, so which outlines are one
nodule is estimated as pylidc does: outlines whose points come nearer than the slice thickness are
joined, and where more than four are, the distance is made smaller by tenths, to 0.1 mm at least.
The centre is the mean of the outlines' points, placed by the image that each outline names.

`label=malignancy`: benign below 3 and malignant above, by the `rating` (median or mean) of the
readers; nodules of 3 are left out, as in the literature. `label=agreement`: minority for one or two
readers who saw the nodule, majority for three or four. Columns `readers`, `malignancy` and
`diameter_mm` (greatest distance within a slice, mean of readers; outlines run along the first
pixels outside, so it is about a pixel too long), and the other ratings that have an order.

Command: `medvid manifest lidc ROOT -o manifest.csv min_readers=3`
"""

import math
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Literal, NoReturn

import numpy as np
from pydantic import Field

from medvid.contract import DataError, Record, SourceError
from medvid.io.dicom_headers import read_header
from medvid.io.dicom_slice import SliceHeader
from medvid.io.identity import series_token
from medvid.io.lidc_nodules import Mark, find_center, join_marks, place_annotation
from medvid.io.lidc_xml import SCALES, Annotation, Outline, Reading, read_lidc_xml, write_lidc_xml
from medvid.io.ordering import natural_key
from medvid.io.sidecars import has_ending, is_other_kind, is_sidecar, list_files

CLASSES = ("benign", "malignant")

Readers = Annotated[int, Field(ge=1, le=4)]
Target = Literal["malignancy", "agreement"]
Rating = Literal["median", "mean"]
Incomplete = Literal["refuse", "leave_out"]

UNCERTAIN = 3
"""The middle of the scale of malignancy: neither likely benign nor suspicious."""

MM_DIGITS = 3
"""A thousandth of a mm is far below any voxel, and what a table shows can be read."""

MAJORITY = 3
"""Readers: more than half."""

_ORDERED = ("subtlety", "sphericity", "margin", "lobulation", "spiculation", "texture")
"""Ratings that may be averaged; internalStructure and calcification name kinds."""


def records(
    root: Path,
    *,
    label: Target = "malignancy",
    rating: Rating = "median",
    min_readers: Readers = 1,
    incomplete: Incomplete = "refuse",
) -> Iterator[Record]:
    """Yields the nodules of the scans that are on disk, scan by scan, feet to head.

    Args:
        root: holds the images and the readings.
        label: what is learned.
        rating: how the readers' ratings become one; a nodule without any has no label.
        min_readers: nodules that fewer readers saw are left out; 3 is LUNA16's rule.
        incomplete: `refuse` all where slices with outlines are not on disk, or `leave_out` such a
            scan, reported. A nodule that lost some of its outlines would seem another one.

    Raises:
        SourceError: when readings or all scans are absent, or a reading cannot be meant.
    """
    readings = _read_readings(root)
    folders = _find_series(root, readings)
    there = sorted(
        (uid for uid in readings if uid in folders), key=lambda uid: natural_key(str(folders[uid]))
    )
    if not there:
        _refuse(
            root,
            f"holds none of the {len(readings)} CT series that its XML files name. They should lie "
            "there as LIDC-IDRI/LIDC-IDRI-0001/<study>/<series>/*.dcm.",
            "no_cases",
        )
    for uid in there:
        images = _read_images(folders[uid], uid, readings)
        if _list_absent(readings[uid], images):
            if incomplete == "refuse":
                _refuse_incomplete(readings[uid], images, folders[uid])
            continue
        patient = next(iter(images.values())).patient or series_token(uid)
        for number, marks in enumerate(_find_nodules(readings[uid], images), start=1):
            known = _describe(marks, rating)
            target = _choose_label(known, label)
            if int(known["readers"]) < min_readers or target == "":
                continue
            x, y, z = (round(value, MM_DIGITS) for value in find_center(marks))
            yield Record(
                case_id=f"{series_token(uid)}-{number}",
                patient_id=patient,
                path=str(folders[uid].absolute()),
                series=series_token(uid),
                label=target,
                center=(x, y, z),
                extra=known,
            )


def missing(
    root: Path,
    *,
    label: Target = "malignancy",
    rating: Rating = "median",
    min_readers: Readers = 1,
    incomplete: Incomplete = "refuse",
) -> list[str]:
    """Returns the series that have a reading and not all images of it, as tokens."""
    readings = _read_readings(root)
    folders = _find_series(root, readings)
    return [
        series_token(uid)
        for uid, reading in readings.items()
        if uid not in folders
        or (
            incomplete == "leave_out"
            and _list_absent(reading, _read_images(folders[uid], uid, readings))
        )
    ]


def unlisted(
    root: Path,
    *,
    label: Target = "malignancy",
    rating: Rating = "median",
    min_readers: Readers = 1,
    incomplete: Incomplete = "refuse",
) -> list[str]:
    """Returns the CT series that have images and no reading, as tokens."""
    readings = _read_readings(root)
    return [series_token(uid) for uid in _find_series(root, readings) if uid not in readings]


def imitate(root: Path) -> None:
    """Writes four made-up scans of three patients with their readings, and a film."""
    from medvid.io.write import write_dicom_series

    rng = np.random.default_rng(0)
    for case, (patient, study, nodules) in enumerate(_MADE_UP):
        series = f"{_UID_ROOT}.{1000 + case}"
        folder = root / "LIDC-IDRI" / patient / f"{study}-NA-NA-3017{case}" / f"300056{case}.0-NA"
        volume = rng.normal(-800, 50, (12, 28, 32)).astype(np.int16)
        for t, h, w, _ in nodules:
            volume[t - 1 : t + 2, h - 1 : h + 2, w - 1 : w + 2] = 100
        write_dicom_series(
            folder,
            volume,
            spacing=(2.5, 0.7, 0.7),
            patient_id=patient,
            series_uid=series,
            reverse=bool(case % 2),
            origin=(-120.5, -80.25, -310.0),
        )
        images = {read_header(path).position: path for path in sorted(folder.glob("*.dcm"))}
        uids = [read_header(images[place]).instance for place in sorted(images, key=_height)]
        for number, place in enumerate(sorted(images, key=_height), start=1):
            images[place].rename(folder / f"1-{number:03d}.dcm")
        drawn = tuple(
            Annotation(
                reader, dict.fromkeys(SCALES, 3) | {"malignancy": score}, _draw(uids, t, h, w)
            )
            for t, h, w, scores in nodules
            for reader, score in enumerate(scores)
        )
        reading = Reading(folder, series, drawn)
        write_lidc_xml(folder / f"{60 + case:03d}.xml", reading, others=uids[0])
    film = root / "LIDC-IDRI" / "LIDC-IDRI-0001" / "01-01-2000-NA-NA-35511" / "3000923.0-NA"
    film.mkdir(parents=True)
    text = '<IdriReadMessage uid="1" xmlns="http://www.nih.gov/idri"><ResponseHeader/>'
    (film / "083.xml").write_text(f"{text}</IdriReadMessage>\n", encoding="utf-8")


_UID_ROOT = "1.3.6.1.4.1.14519.5.2.1.6279.6001"
_MADE_UP = (
    ("LIDC-IDRI-0001", "01-01-2000", ((6, 10, 20, (5, 4, 5, 5)), (3, 20, 8, (2, 1, 1)))),
    ("LIDC-IDRI-0002", "01-01-2000", ((5, 14, 12, (1, 2, 2)), (8, 8, 24, (3, 3)))),
    ("LIDC-IDRI-0002", "01-03-2001", ((6, 14, 12, (2, 2, 3, 2)),)),
    ("LIDC-IDRI-0003", "01-01-2000", ((4, 9, 9, (4, 4, 4)), (9, 20, 22, (5, 1)))),
)
"""Patient, study, and nodules as (t, h, w) of the middle and the readers' malignancies."""


def _height(position: tuple[float, ...] | None) -> float:
    return math.nan if position is None else position[2]


def _draw(uids: Sequence[str], t: int, h: int, w: int) -> tuple[Outline, ...]:
    """Outlines a cube of three voxels: along the first pixels outside, slice by slice."""
    around = [(dx, dy) for dx in range(-2, 3) for dy in range(-2, 3) if max(abs(dx), abs(dy)) == 2]
    points = np.array([(w + dx, h + dy) for dx, dy in around], dtype=np.float64)
    return tuple(Outline(uids[frame], points) for frame in (t - 1, t, t + 1))


def _read_readings(root: Path) -> dict[str, Reading]:
    """Returns series -> its reading, in the order of the files."""
    found: dict[str, Reading] = {}
    paths = [path for path in list_files(root) if has_ending(path.name, ".xml")]
    for path in sorted(paths, key=lambda path: natural_key(str(path))):
        reading = read_lidc_xml(path)
        if reading is None:
            continue
        other = found.setdefault(reading.series, reading)
        if other is not reading and other.path.read_bytes() != path.read_bytes():
            raise SourceError(
                f"{other.path} and {path} are two different readings of one series. Keep one.",
                code="two_readings",
                files=[other.path, path],
            )
    if not found:
        _refuse(
            root,
            "holds no reading of a CT: no *.xml whose first element is LidcReadMessage. Fetch the "
            "images with their annotation files, or put the folder tcia-lidc-xml/ there.",
            "no_reading",
        )
    return found


def _find_series(root: Path, readings: Container[str]) -> dict[str, Path]:
    """Returns CT series -> folder: of each folder the one with a reading, or else the first one."""
    found: dict[str, Path] = {}
    for place, folders, names in os.walk(root):
        folders.sort(key=natural_key)
        first = None
        for path in (Path(place) / name for name in sorted(names)):
            header = _try_header(path)
            if header is None or header.modality != "CT":
                continue
            if header.uid in readings:  # a scout may have come before it
                first = header.uid
                break
            first = first or header.uid
        if first is not None:
            found.setdefault(first, Path(place))
    return found


def _try_header(path: Path) -> SliceHeader | None:
    try:
        return None if _is_beside(path) else read_header(path)
    except DataError:
        return None


def _is_beside(path: Path) -> bool:
    """Whether a file beside slices is clearly none: a table, a picture, a volume."""
    return is_sidecar(path) or is_other_kind(path)


def _read_images(folder: Path, series: str, readings: Container[str]) -> dict[str, SliceHeader]:
    """Returns SOPInstanceUID -> header of the series' images; scouts and films are passed over.

    Raises:
        SourceError: when a file cannot be read, or is of another series that has a reading.
    """
    images = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if _is_beside(path):
            continue
        try:
            header = read_header(path)
        except DataError as error:
            raise SourceError(
                f"{error.message} It may be a slice: fetch it again, or take it out of the folder.",
                code=error.code,
                files=error.files,
            ) from error
        if header.uid == series:
            images[header.instance] = header
        elif header.uid in readings:
            _refuse(
                path,
                "is of another series than the files beside it, and both have a reading; give each "
                "a folder.",
                "mixed",
            )
    return images


def _list_absent(reading: Reading, images: Mapping[str, SliceHeader]) -> set[str]:
    """Returns the images that outlines name and the disk lacks."""
    named = {outline.image for one in reading.annotations for outline in one.outlines}
    return named - images.keys()


def _refuse_incomplete(
    reading: Reading, images: Mapping[str, SliceHeader], folder: Path
) -> NoReturn:
    _refuse(
        folder,
        f"lacks {len(_list_absent(reading, images))} of the slices on which {reading.path.name} "
        "outlines nodules. Fetch the series again, or leave such scans out with "
        "incomplete=leave_out.",
        "missing_slices",
    )


def _find_nodules(reading: Reading, images: Mapping[str, SliceHeader]) -> list[list[Mark]]:
    """Returns the annotations nodule by nodule, feet to head."""
    header = next(iter(images.values()))
    if header.thickness is None or header.thickness <= 0:
        _refuse(
            header.path, "states no slice thickness, by which nodules are told apart.", "thickness"
        )
    marks = [place_annotation(annotation, images) for annotation in reading.annotations]
    return join_marks(marks, header.thickness)


def _describe(marks: Sequence[Mark], rating: Rating) -> dict[str, str]:
    """Returns the further columns of a nodule."""
    summarize = median if rating == "median" else mean
    told = {"readers": str(len({mark.annotation.reader for mark in marks}))}
    for name in ("malignancy", *_ORDERED):
        given = [m.annotation.ratings[name] for m in marks if name in m.annotation.ratings]
        if given:
            told[name] = f"{summarize(given):.4g}"
    return told | {"diameter_mm": f"{mean(mark.diameter for mark in marks):.2f}"}


def _choose_label(known: Mapping[str, str], label: Target) -> str | None:
    """Returns the class, None where it is unknown, "" for a nodule to leave out."""
    if label == "agreement":
        return "majority" if int(known["readers"]) >= MAJORITY else "minority"
    if "malignancy" not in known:
        return None
    malignancy = float(known["malignancy"])
    if malignancy == UNCERTAIN:
        return ""
    return CLASSES[malignancy > UNCERTAIN]


def _refuse(path: Path, what: str, code: str) -> NoReturn:
    raise SourceError(f"{path} {what}", code=code, files=[path])
