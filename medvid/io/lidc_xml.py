"""Reads the XML files in which the readers of LIDC-IDRI drew and rated lung nodules.

A file is one scan's reading: up to four sessions, one a reader. In a session every nodule of 3 mm
and more has ratings and an outline on each slice, a smaller nodule has one point and no ratings,
and what is no nodule has one point in an element of its own. The readings of chest films in the
same collection (`IdriReadMessage`) are of another format and none of a scan.

No library beside Python's is needed to read them safely. What makes XML dangerous are documents
that define entities (of other files, or of themselves a billion times over), which takes a DOCTYPE;
the collection's files have none, and a file that has one is refused where it begins. ElementTree
fetches nothing from elsewhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from medvid.contract import SourceError
from medvid.io.text_files import DIGITS

SCALES = {
    "subtlety": 5,
    "internalStructure": 4,
    "calcification": 6,
    "sphericity": 5,
    "margin": 5,
    "lobulation": 5,
    "spiculation": 5,
    "texture": 5,
    "malignancy": 5,
}
"""Ratings run from 1 to these (McNitt-Gray et al., Acad Radiol 14, 2007, table 2)."""

_SCAN, _FILM = "LidcReadMessage", "IdriReadMessage"
# A sentence with more of a file than this is not read.
_SHOWN = 20


@dataclass(frozen=True, eq=False)
class Outline:
    """A closed line on one slice, along the first pixels outside of the nodule.

    Args:
        image: SOPInstanceUID of the slice; stays inside the reader.
        points: (n, 2) column and row of pixel centres, from 0 at the upper left.
    """

    image: str
    points: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Annotation:
    """One reader's view of one nodule of 3 mm or more.

    Args:
        reader: the session's number, from 0; a number means nobody beyond its file.
        ratings: those of `SCALES` that the reader gave and that lie on the scale.
        outlines: what belongs to the nodule, a slice each; holes are left out.
    """

    reader: int
    ratings: Mapping[str, int]
    outlines: tuple[Outline, ...]


@dataclass(frozen=True, eq=False)
class Reading:
    """One scan as its readers saw it.

    Args:
        path: the XML file.
        series: SeriesInstanceUID of the scan; stays inside the reader.
        annotations: session by session.
    """

    path: Path
    series: str
    annotations: tuple[Annotation, ...]


class _Builder(ElementTree.TreeBuilder):
    """Builds the tree of a document without a DOCTYPE; tags lose their namespace."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def doctype(self, *_: object) -> NoReturn:
        raise SourceError(
            f"{self._path} begins with a DOCTYPE, which LIDC-IDRI's files have not and which can "
            "make a reader fetch or build anything. Fetch the file again.",
            code="doctype",
            files=[self._path],
        )

    # A parser calls these with positions only, so the names are free.
    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        return super().start(_plain(tag), attrs)

    def end(self, tag: str, /) -> ElementTree.Element:
        return super().end(_plain(tag))


def read_lidc_xml(path: Path) -> Reading | None:
    """Returns the reading of a scan; None for a chest film's, and for other XML.

    Raises:
        SourceError: when the file is no whole XML, has a DOCTYPE, or lacks what a reading needs.
    """
    try:
        parser = ElementTree.XMLParser(target=_Builder(path))
        root = ElementTree.parse(path, parser).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        # ValueError and LookupError: an encoding that expat does not know.
        _refuse(path, f"is no whole XML file: {error}. Fetch it again.", "damaged")
    if root.tag != _SCAN:
        return None
    series = _text(root.find("ResponseHeader/SeriesInstanceUid"))
    if not series:
        _refuse(path, "names no SeriesInstanceUid in its ResponseHeader.", "no_series")
    found = [
        annotation
        for reader, session in enumerate(root.iterfind("readingSession"))
        for nodule in session.iterfind("unblindedReadNodule")
        for annotation in _read_nodule(path, reader, nodule)
    ]
    return Reading(path, series, tuple(found))


def _read_nodule(path: Path, reader: int, nodule: ElementTree.Element) -> Iterator[Annotation]:
    """Yields a nodule that was rated, and nothing for a small one."""
    ratings = _read_ratings(nodule)
    if not ratings:
        return
    outlines = tuple(
        _read_outline(path, roi)
        for roi in nodule.iterfind("roi")
        if _text(roi.find("inclusion")).upper() != "FALSE"
    )
    if not outlines:
        _refuse(path, "rates a nodule that has no outline.", "no_outline")
    yield Annotation(reader, ratings, outlines)


def _read_ratings(nodule: ElementTree.Element) -> dict[str, int]:
    ratings = {}
    for name, highest in SCALES.items():
        text = _text(nodule.find(f"characteristics/{name}"))
        if text.isdecimal() and len(text) <= DIGITS and 1 <= int(text) <= highest:
            ratings[name] = int(text)
    return ratings


def _read_outline(path: Path, roi: ElementTree.Element) -> Outline:
    image = _text(roi.find("imageSOP_UID"))
    if not image:
        _refuse(path, "has an outline that names no image (imageSOP_UID).", "no_image")
    points = [
        (_read_pixel(path, edge, "xCoord"), _read_pixel(path, edge, "yCoord"))
        for edge in roi.iterfind("edgeMap")
    ]
    if not points:
        _refuse(path, "has an outline without points (edgeMap).", "no_outline")
    return Outline(image, np.array(points, dtype=np.float64))


def _read_pixel(path: Path, edge: ElementTree.Element, name: str) -> int:
    text = _text(edge.find(name))
    # isdecimal takes digits of all scripts, and int reads them.
    if not text.isdecimal() or len(text) > DIGITS:
        _refuse(path, f"has an {name} `{text[:_SHOWN]}`, which is no pixel.", "no_number")
    return int(text)


def _plain(tag: str) -> str:
    return tag.rpartition("}")[2]


def _text(element: ElementTree.Element | None) -> str:
    return "" if element is None else (element.text or "").strip()


def _refuse(path: Path, what: str, code: str) -> NoReturn:
    raise SourceError(f"{path} {what}", code=code, files=[path])


def write_lidc_xml(path: Path, reading: Reading, *, readers: int = 4, others: str = "") -> None:
    """Writes a made-up reading as the collection's files are, for tests.

    Args:
        path: of the file.
        reading: what the readers drew and said; its own path is not used.
        readers: sessions, also of readers who saw nothing.
        others: the image on which every reader marks a small nodule and something that is none.
    """
    sessions = []
    for reader in range(readers):
        own = [one for one in reading.annotations if one.reader == reader]
        nodules = [_write_nodule(number, one) for number, one in enumerate(own, start=1)]
        nodules += [_SMALL.format(image=others)] if others else []
        text = "".join(nodules)
        sessions.append(
            f"<readingSession><annotationVersion>3.12</annotationVersion>{text}</readingSession>\n"
        )
    text = _HEAD.format(series=reading.series, study=f"{reading.series}.1") + "".join(sessions)
    path.write_text(f"{text}</LidcReadMessage>\n", encoding="utf-8")


_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<LidcReadMessage uid="1.3.6.1.4.1.14519.5.2.1.6279.6001.1.0" xmlns="http://www.nih.gov">
<ResponseHeader><Version>1.8.1</Version><TaskDescription>Second unblinded read</TaskDescription>
<SeriesInstanceUid>{series}</SeriesInstanceUid>
<StudyInstanceUID>{study}</StudyInstanceUID></ResponseHeader>
"""

_SMALL = (
    "<unblindedReadNodule><noduleID>90</noduleID><roi><imageZposition>0</imageZposition>"
    "<imageSOP_UID>{image}</imageSOP_UID><inclusion>TRUE</inclusion>"
    "<edgeMap><xCoord>3</xCoord><yCoord>3</yCoord></edgeMap></roi></unblindedReadNodule>"
    "<nonNodule><nonNoduleID>91</nonNoduleID><imageZposition>0</imageZposition>"
    "<imageSOP_UID>{image}</imageSOP_UID>"
    "<locus><xCoord>4</xCoord><yCoord>4</yCoord></locus></nonNodule>"
)


def _write_nodule(number: int, annotation: Annotation) -> str:
    ratings = "".join(f"<{name}>{value}</{name}>" for name, value in annotation.ratings.items())
    rois = [
        # The zero is wrong on purpose: no position is taken from there.
        "<roi><imageZposition>0</imageZposition>"
        f"<imageSOP_UID>{outline.image}</imageSOP_UID><inclusion>TRUE</inclusion>"
        + "".join(
            f"<edgeMap><xCoord>{x:.0f}</xCoord><yCoord>{y:.0f}</yCoord></edgeMap>"
            for x, y in outline.points.tolist()
        )
        + "</roi>"
        for outline in annotation.outlines
    ]
    return (
        f"<unblindedReadNodule><noduleID>{number}</noduleID>"
        f"<characteristics>{ratings}</characteristics>{''.join(rois)}</unblindedReadNodule>"
    )
