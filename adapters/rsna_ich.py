"""RSNA Intracranial Hemorrhage Detection 2019: 752,803 slices of head CT, labelled one by one.

Where from: the competition's page on Kaggle (`rsna-intracranial-hemorrhage-detection`), for
non-commercial and academic use under the competition's rules, or RSNA's page of the data set.
medvid downloads nothing.

On disk: `stage_2_train.csv` and the folder `stage_2_train/` with `ID_<image>.dcm`, below the root
or in the folder `rsna-intracranial-hemorrhage-detection/` of the archive. The images of all series
lie together in it. Some may be absent; they are reported. `stage_2_test/` has no public labels and
is not read.

A case is a series, and every slice has six findings: five kinds of haemorrhage and `any`. Series
and patients stand in the headers alone, so all headers are read, in several processes: minutes for
the whole set. For each series a list of its files is written (`lists=FOLDER`; `medvid_series/`
beside the images' folder unless told otherwise), and the list is the case's `path`. Labels are tied
to the images themselves and end on the right frame whatever the order of the files. The table knows
an image by its SOPInstanceUID, which is its file's name too; where the two differ, all is refused.

The table repeats some rows. Equal ones count once; contradictory ones are refused. An image with
damaged pixels (ID_6431af929 in the published set) keeps its place in the list, so that reading its
series stops and names it, and has no label; the manifest names it in a column `damaged`. With
`on_bad: quarantine` and `on_gap: resample` or `keep` in the config the series is read without it.
The same holds for images whose air was wrapped to the top of 12 bits, of which the set has some.

Command: `medvid manifest rsna_ich ROOT -o manifest.csv`
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import numpy as np
from pydantic import Field

from medvid.contract import Label, Record, SourceError
from medvid.io.identity import instance_token
from medvid.io.series_list import ENDING, SortedImage, sort_images, write_series_list
from medvid.io.sidecars import has_ending
from medvid.io.text_files import read_cells, read_lines
from medvid.io.wording import name_first

CLASSES = (
    "any",
    "epidural",
    "intraparenchymal",
    "intraventricular",
    "subarachnoid",
    "subdural",
)

OnBad = Literal["stop", "quarantine"]
Workers = Annotated[int, Field(gt=0)]
Progress = Callable[[int, int], None]

_FOLDER = "rsna-intracranial-hemorrhage-detection"
_TABLE = "stage_2_train.csv"
_IMAGES = "stage_2_train"
_LISTS = "medvid_series"
# A sentence with more file names than this is not read.
_NAMED = 3
_UNKNOWN = -1
"""A finding of an image that no row has named yet."""


def records(
    root: Path,
    *,
    lists: str | None = None,
    on_bad: OnBad = "stop",
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> Iterator[Record]:
    """Yields the series of which a labelled image is on disk, in the order of their tokens.

    Args:
        root: holds stage_2_train.csv and stage_2_train/.
        lists: the folder for the lists of files, one a series; None makes `medvid_series/` in the
            root.
        on_bad: `stop` at files of which not even the series is known, or `quarantine`: leave them
            out.
        workers: processes that read headers; None takes as many as there are cores. Give 1 in a
            script whose main module cannot be imported anew.
        progress: called with (headers read, headers in all).

    Raises:
        SourceError: when table or images are absent, a row cannot be meant, rows contradict each
            other, or a file cannot be read or has the name of another image.
    """
    home = _find_home(root)
    labels = _read_labels(home / _TABLE)
    names = _list_images(home)
    if not labels.keys() & names.keys():
        first = next(iter(labels))
        _refuse(
            home / _IMAGES,
            f"holds none of the {len(labels)} images that {_TABLE} names; the first should lie "
            f"there as {first}.dcm.",
            "no_cases",
        )
    count = workers or os.cpu_count() or 1
    images = sort_images(list(names.values()), workers=count, progress=progress)
    _check_names(images)
    known = _leave_unknown(images, on_bad)
    folder = Path(lists) if lists is not None else home / _LISTS
    for series, members in sorted(known.items()):
        labelled = [image for image in members if _name_image(image) in labels]
        if labelled:
            yield _build_record(folder / f"{series}{ENDING}", members, labels)


def missing(
    root: Path,
    *,
    lists: str | None = None,
    on_bad: OnBad = "stop",
    workers: Workers | None = None,
) -> list[str]:
    """Returns the labelled images that are not on disk.

    Their names are the competition's own: made up for it, and those of the files to look for.
    """
    del lists, on_bad, workers
    home = _find_home(root)
    names = _list_images(home)
    return [f"{name}.dcm" for name in _read_labels(home / _TABLE) if name not in names]


def unlisted(
    root: Path,
    *,
    lists: str | None = None,
    on_bad: OnBad = "stop",
    workers: Workers | None = None,
) -> list[str]:
    """Returns the images on disk that no row labels; they are slices without a label."""
    del lists, on_bad, workers
    home = _find_home(root)
    labels = _read_labels(home / _TABLE)
    return [f"{name}.dcm" for name in _list_images(home) if name not in labels]


_PATIENT_OF_TWO = "ID_f15c0eee"
_COPY: Sequence[tuple[str, Sequence[str]]] = (
    (_PATIENT_OF_TWO, ("epidural", "subdural")),
    (_PATIENT_OF_TWO, ("intraparenchymal", "intraventricular")),
    ("ID_3a6be7ac", ("subarachnoid", "intraventricular")),
    *((f"ID_5c01d{number:03x}", CLASSES[1:]) for number in range(8)),
)
"""The made-up series: whose they are, and what their upper slices show."""


def imitate(root: Path) -> None:
    """Writes eleven series of ten patients into one folder, and their table with repeated rows.

    Every slice has a grey value of its own: 100 HU for the lowest slice of a series, 110 for the
    next and so on, with bleeding from 130 HU up: of other kinds in each of the first three series,
    of every kind in the rest.
    """
    (root / _IMAGES).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for number, (patient, kinds) in enumerate(_COPY):
        for place in range(6):
            image = f"ID_{rng.integers(16**9):09x}"
            _write_image(root / _IMAGES / f"{image}.dcm", image, patient, number, place)
            present = {*kinds, "any"} if place >= 3 else set()
            rows += [f"{image}_{name},{int(name in present)}" for name in sorted(CLASSES)]
    rows += rows[:6]  # as the published table
    text = "\n".join(["ID,Label", *rows])
    (root / _TABLE).write_text(f"{text}\n", encoding="utf-8")


def _write_image(path: Path, image: str, patient: str, series: int, place: int) -> None:
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    with pydicom.config.disable_value_validation():  # its UIDs are none: they hold letters
        meta.MediaStorageSOPInstanceUID = UID(image)
        dataset.SOPInstanceUID = image
        dataset.StudyInstanceUID = f"ID_30ea2b0{series:03d}"
        dataset.SeriesInstanceUID = f"ID_0ab58{series:05d}"
        dataset.Modality, dataset.PatientID, dataset.StudyID = "CT", patient, ""
        dataset.ImagePositionPatient = [-125.0, -115.9, 180.2 + 5.0 * place]
        dataset.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows, dataset.Columns, dataset.PixelSpacing = 16, 16, [0.488281, 0.488281]
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = 1
        dataset.WindowCenter, dataset.WindowWidth = "30", "80"
        dataset.RescaleIntercept, dataset.RescaleSlope = "-1024", "1"
        values = np.full((16, 16), 1124 + 10 * place, "<i2")
        values[:2, :2] += series  # no two series have the same pixels
        dataset.PixelData = values.tobytes()
        dataset.save_as(path, enforce_file_format=True)


def _find_home(root: Path) -> Path:
    """Returns the folder of the table: the root, or the archive's own folder in it."""
    homes = [root, root / _FOLDER]
    home = next((home for home in homes if (home / _TABLE).is_file()), None)
    if home is None:
        _refuse(
            root / _TABLE,
            f"is not there, nor in {_FOLDER}/. It is part of the competition's download.",
            "no_table",
        )
    return home


def _list_images(home: Path) -> dict[str, str]:
    """Returns the names of the images on disk and their paths, in the order of the names."""
    folder = home / _IMAGES
    if not folder.is_dir():
        _refuse(folder, "is not there. The images lie in it, as ID_<image>.dcm.", "no_folder")
    with os.scandir(folder) as entries:
        paths = sorted(entry.path for entry in entries if has_ending(entry.name, ".dcm"))
    found: dict[str, str] = {}
    for path in paths:
        first = found.setdefault(Path(path).stem, path)
        if first != path:
            _refuse(Path(path), f"lies there as {Path(first).name} too. Keep one.", "double_case")
    return found


def _read_labels(path: Path) -> dict[str, list[int]]:
    """Returns image -> 0 or 1 for each of `CLASSES`.

    The table has four and a half million rows, so that it is read row by row.
    """
    labels: dict[str, list[int]] = {}
    columns = {name: column for column, name in enumerate(CLASSES)}
    rows = read_cells(path, read_lines(path))
    _, header = next(rows, (1, []))
    if header[:2] != ["ID", "Label"]:
        _refuse(
            path,
            f"begins with the columns {', '.join(header) or 'none'}, and should begin with ID "
            "and Label.",
            "missing_column",
        )
    for line, row in rows:
        if not row:
            continue
        image, _, name = row[0].rpartition("_")
        value = row[1].strip() if len(row) > 1 else ""
        if name not in columns or not image or "\n" in image:
            _refuse_row(
                path,
                line,
                f"`{row[0].splitlines()[0] if row[0] else ''}` is no ID_<image>_<finding> with one "
                f"of the findings {', '.join(CLASSES)}.",
            )
        if value not in ("0", "1"):
            _refuse_row(path, line, f"the label of {row[0]} is `{value}`, not 0 or 1.")
        found = labels.setdefault(image, [_UNKNOWN] * len(CLASSES))
        if found[columns[name]] not in (_UNKNOWN, int(value)):
            _refuse_row(
                path,
                line,
                f"the label of {row[0]} is {value}, and an earlier row says "
                f"{found[columns[name]]}. Keep the right one.",
                "double_case",
            )
        found[columns[name]] = int(value)
    _require_all_findings(path, labels)
    return labels


def _require_all_findings(path: Path, labels: dict[str, list[int]]) -> None:
    if not labels:
        _refuse(path, "labels no image: it has no rows.", "empty_table")
    for image, values in labels.items():
        if _UNKNOWN in values:
            absent = CLASSES[values.index(_UNKNOWN)]
            _refuse(
                path,
                f"has no row {image}_{absent}; every image has one for each of "
                f"{', '.join(CLASSES)}. Is the file whole?",
                "no_label",
            )


def _check_names(images: Sequence[SortedImage]) -> None:
    """Refuses files that are not called after the image in them."""
    wrong = [one for one in images if one.key and one.key != instance_token(_name_image(one))]
    if wrong:
        named = name_first([Path(image.file).name for image in wrong], _NAMED)
        raise SourceError(
            f"{len(wrong)} of {len(images)} files are not called after the image in them: {named}. "
            f"{_TABLE} names images by the SOPInstanceUID in the header, which in the published "
            "set is the file's name, so nobody can tell whose their labels are. Copy these files "
            "anew from the archive.",
            code="other_name",
            files=[image.file for image in wrong],
        )


def _leave_unknown(images: Sequence[SortedImage], on_bad: OnBad) -> dict[str, list[SortedImage]]:
    """Returns series -> images; images of which neither series nor name is known are left out."""
    known: dict[str, list[SortedImage]] = defaultdict(list)
    lost = [image for image in images if not image.series or not image.key]
    if lost and on_bad == "stop":
        named = name_first([Path(image.file).name for image in lost], _NAMED)
        raise SourceError(
            f"{len(lost)} of {len(images)} files do not tell their series: {named}. "
            f"{lost[0].fault or 'Its header names no image.'} Copy them anew, or leave them out "
            "with on_bad=quarantine; the series they belong to may then lack slices.",
            code="unreadable",
            files=[image.file for image in lost],
        )
    for image in images:
        if image.series and image.key:
            known[image.series].append(image)
    return known


def _build_record(
    path: Path, members: Sequence[SortedImage], labels: dict[str, list[int]]
) -> Record:
    placed: dict[str | float, Label] = {}
    for image in members:
        values = labels.get(_name_image(image))
        if values is None or image.fault:
            continue  # a slice that cannot be shown has no frame for its label
        placed[image.key] = dict(zip(CLASSES, values, strict=True))
    _write_list(path, members)
    damaged = [Path(image.file).name for image in members if image.fault]
    return Record(
        case_id=path.stem,
        patient_id=next((one.patient for one in members if one.patient), path.stem),
        path=str(path.absolute()),
        placed_labels=placed,
        extra={"damaged": " ".join(damaged)} if damaged else {},
    )


def _write_list(path: Path, members: Sequence[SortedImage]) -> None:
    try:
        write_series_list(path, [Path(image.file) for image in members])
    except OSError as error:
        _refuse(
            path,
            f"cannot be written: {error.strerror}. Name a folder for the lists with lists=FOLDER.",
            "unwritable",
        )


def _name_image(image: SortedImage) -> str:
    return Path(image.file).stem


def _refuse_row(path: Path, line: int, what: str, code: str = "no_label") -> NoReturn:
    _refuse(path, f"line {line}: {what}", code)


def _refuse(path: Path, what: str, code: str) -> NoReturn:
    raise SourceError(f"{path} {what}", code=code, files=[path])
