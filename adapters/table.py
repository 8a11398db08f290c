"""A table of your own: one row a case, in a CSV file.

Where from: write it with a spreadsheet or with `medvid manifest`, which uses the same columns.

On disk: the CSV lies anywhere; paths in it are relative to it. Commas, semicolons or tabs; UTF-8,
UTF-16 or a western Windows' code page; decimal points or commas. Where commas part the cells too,
`1,234` is refused: it may be a thousand. Columns, in any order:

* `case_id`: unique; one scan, video or region.
* `patient_id`: cases of one patient never lie on both sides of a split.
* `path`: a DICOM folder, a NIfTI, NRRD, MHA, NumPy or video file, a folder of frames.
* `path_<channel>` in place of `path`, one column a channel, for cases of several scans of one grid
  (`path_t1`, `path_flair`; phases; CT and PET); `series_<channel>` chooses a series of each.
* `label`: the class; empty = unknown. Or, for several findings at once, `label_<name>` columns
  with 0, 1 or empty.
* `slice` (optional): 0-based index in canonical order: axial slices feet to head, coronal ones
  front to back, sagittal ones right to left, whatever order the files have. The rows of one
  case_id form one case whose slices are labelled; a row that names no slice labels the scan.
* In place of `slice`, one of these names the slice of a row (optional):
  `sop_uid`, the image's SOPInstanceUID (or `UID#3` for frame 3 of a multi-frame image; written
  back as a token, never as the UID); `slice_file`, the 0-based index along the slice axis as the
  NIfTI, NRRD or MHA file keeps it; `slice_at`, a position in mm in DICOM patient axes: z of axial
  slices, y of coronal, x of sagittal ones. The order of DICOM files, and InstanceNumber, name none.
* `x_mm`, `y_mm`, `z_mm` (optional): centre of a region in DICOM patient axes.
* `split` (train, val, test), `fold` (0, 1, ...), `series` (a token of `medvid scan`): optional.
* Every other column is kept as it is, for subgroups; these alone may hold line breaks, in quotes.
  Names with a meaning are written in small letters: `Split` and `Label_oedema` are refused.

Command: `medvid manifest table labels.csv -o manifest.csv`
"""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from medvid.contract import Channel, Label, Record, SourceError
from medvid.io.ordering import natural_key
from medvid.io.sheet import Row, Sheet, is_missing, nearest, read_sheet
from medvid.io.slice_truth import file_key, instance_key
from medvid.io.text_files import read_decimal, read_whole

_REQUIRED = {
    "case_id": "It names every case and must be unique.",
    "patient_id": (
        "Without it one patient's cases may lie in training and test at once, which makes results "
        "look better than they are. Where every case is of another patient, copy case_id into it."
    ),
    "path": "It says where the scan or video lies, relative to the table.",
}
_CENTER = ("x_mm", "y_mm", "z_mm")
_SPLITS = ("train", "val", "test")
_PLACES = ("slice", "sop_uid", "slice_file", "slice_at")
"""Columns that name the slice of a row; a row fills one of them at most."""
_OPTIONAL = ("label", *_PLACES, *_CENTER, "split", "fold", "series")
_FINDING = "label_"
_CHANNEL = "path_"
_SERIES = "series_"
_BEGINNINGS = (_FINDING, _CHANNEL, _SERIES)
# A sentence with more file names than this is not read.
_NAMED = 5
# Nor one with more characters of a cell.
_TOLD = 40


def classes(root: Path) -> tuple[str, ...]:
    """Returns the classes, or the names of the findings, in natural order."""
    sheet = _read_manifest(root)
    names = _list_findings(sheet) or {_read_class(sheet, row) for row in sheet} - {""}
    return tuple(sorted(names, key=natural_key))


def records(root: Path, *, check_files: bool = True) -> Iterator[Record]:
    """Yields the cases of a table, in its order.

    Args:
        root: the CSV file, or a folder that holds it as `manifest.csv`.
        check_files: look for every file first. False leaves that to the reading of each case, so
            that unreadable ones can be set aside.

    Raises:
        SourceError: for a missing column, a cell that cannot be meant, or files that are absent.
    """
    sheet = _read_manifest(root)
    if check_files:
        _check_files(sheet)
    cases: dict[str, list[Row]] = {}
    for row in sheet:
        cases.setdefault(row.get("case_id"), []).append(row)
    for rows in cases.values():
        yield _build_record(sheet, rows)


def imitate(root: Path) -> None:
    """Writes four arrays of two patients and the table that labels them."""
    path = _find_table(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case_id", "patient_id", "path", "label", "scanner"])
        for case in range(4):
            name = f"case_{case}.npy"
            np.save(path.parent / name, rng.integers(-1000, 400, (6, 16, 16)).astype(np.int16))
            label = ("artery", "nodule")[case % 2]
            writer.writerow([f"case_{case}", f"patient_{case // 2}", name, label, "made up"])


def _find_table(root: Path) -> Path:
    return root if root.suffix else root / "manifest.csv"


def _read_manifest(root: Path) -> Sheet:
    sheet = read_sheet(root / "manifest.csv" if root.is_dir() else root, is_free=_is_free)
    channels = _list_channels(sheet)
    for column, why in _REQUIRED.items():
        if column != "path" or not channels:
            sheet.require(column, why)
    findings = _list_findings(sheet)
    if findings and "label" in sheet.columns:
        _refuse(
            sheet,
            f"has both `label` and `{_FINDING}{findings[0]}`. Keep `label` for one class a case, "
            f"or `{_FINDING}<name>` for several findings.",
            "two_kinds_of_label",
        )
    _check_names(sheet, channels)
    if not findings and "label" not in sheet.columns:
        sheet_extra = [name for name in sheet.columns if name not in (*_REQUIRED, *_OPTIONAL)]
        typo = nearest("label", sheet_extra)
        if typo:
            _refuse(sheet, f"has no column `label`.{typo}", "missing_column")
    centers = [column for column in _CENTER if column in sheet.columns]
    if centers and len(centers) < len(_CENTER):
        _refuse(
            sheet,
            f"has `{centers[0]}` but not all of {', '.join(_CENTER)}. A position needs the three.",
            "missing_column",
        )
    return sheet


def _check_names(sheet: Sheet, channels: Sequence[str]) -> None:
    """Refuses columns that seem to have a meaning and would be kept without one."""
    for name in sheet.columns:
        plain = name.casefold()
        # Without channels it may well hold what DICOM says of a series, such as its description.
        free = _is_free(plain) or (plain.startswith(_SERIES) and not channels)
        if name != plain and _is_free(name) and not free:
            _refuse(
                sheet,
                f"has the column `{name}`, and `{_find_meant(plain)}` has a meaning in small "
                "letters only. Write it so, or give the column another name.",
                "column_in_capitals",
            )
        lone = channels and name.startswith(_SERIES) and name.removeprefix(_SERIES) not in channels
        if lone:
            _refuse(
                sheet,
                f"has the column `{name}` and no `{_CHANNEL}{name.removeprefix(_SERIES)}`, and "
                f"would choose no series. The channels are {', '.join(channels)}; give the column "
                "another name where it means none of them.",
                "no_channel",
            )


def _find_meant(plain: str) -> str:
    """Returns what of a column's name has a meaning: all of it, or its beginning."""
    return next((start for start in _BEGINNINGS if plain.startswith(start)), plain)


def _is_free(column: str) -> bool:
    """Whether a column has no meaning here and is only kept: a report, a comment."""
    return column not in (*_REQUIRED, *_OPTIONAL) and not column.startswith(_BEGINNINGS)


def _list_findings(sheet: Sheet) -> list[str]:
    return [name.removeprefix(_FINDING) for name in sheet.columns if name.startswith(_FINDING)]


def _list_channels(sheet: Sheet) -> list[str]:
    """Returns the channels' names, in the order of the columns."""
    return [name.removeprefix(_CHANNEL) for name in sheet.columns if name.startswith(_CHANNEL)]


def _source_columns(sheet: Sheet) -> list[str]:
    """Returns the columns that say where the scans of a case lie."""
    channels = _list_channels(sheet)
    columns = [*(_CHANNEL + name for name in channels), *(_SERIES + name for name in channels)]
    return [name for name in columns if name in sheet.columns] or ["path", "series"]


def _build_record(sheet: Sheet, rows: Sequence[Row]) -> Record:
    first = rows[0]
    channels = _read_channels(sheet, first)
    for column in _REQUIRED:
        for row in rows:
            if not row.get(column) and (column != "path" or not channels):
                _refuse(sheet, f"has no `{column}`.", "empty_cell", row)
    known = (*_REQUIRED, *_OPTIONAL, *_source_columns(sheet))
    extra = [c for c in sheet.columns if c not in known and not c.startswith(_FINDING)]
    label, slices, placed = _read_labels(sheet, rows)
    return Record(
        case_id=first.get("case_id"),
        patient_id=first.get("patient_id"),
        path=channels[0].path if channels else str(_locate(sheet, first)),
        series=channels[0].series if channels else first.get("series") or None,
        channels=channels,
        label=label,
        slice_labels=slices,
        placed_labels=placed,
        center=_read_center(sheet, first),
        split=_read_split(sheet, first),
        fold=_read_count(sheet, first, "fold"),
        extra={column: first.get(column) for column in extra},
    )


def _read_channels(sheet: Sheet, row: Row) -> tuple[Channel, ...]:
    names = _list_channels(sheet)
    if names and (row.get("path") or row.get("series")):
        _refuse(
            sheet,
            f"fills `path` or `series` and has columns such as `{_CHANNEL}{names[0]}` too. Say "
            f"where each channel lies in its own column, and leave `path` and `series` out.",
            "two_kinds_of_path",
            row,
        )
    for name in names:
        if not row.get(_CHANNEL + name):
            _refuse(
                sheet,
                f"has no `{_CHANNEL}{name}`. A case needs all channels ({', '.join(names)}): leave "
                "the case out, or the column.",
                "empty_cell",
                row,
            )
    return tuple(
        Channel(
            name,
            str(_locate(sheet, row, _CHANNEL + name)),
            row.get(_SERIES + name) or None,
        )
        for name in names
    )


def _read_labels(
    sheet: Sheet, rows: Sequence[Row]
) -> tuple[Label | None, dict[int, Label] | None, dict[str | float, Label] | None]:
    """Returns the case's label, those of numbered slices, and those of slices named otherwise."""
    label: Label | None = None
    labelled: set[tuple[str, object]] = set()
    numbered: dict[int, Label] = {}
    placed: dict[str | float, Label] = {}
    for row in rows:
        _check_agreement(sheet, rows[0], row)
        column, place = _read_place(sheet, row)
        if (column, place) in labelled:
            # A SOPInstanceUID leads back to a patient: only its token is told.
            told = place if column == "sop_uid" else row.get(column)
            which = f", {column} {told}," if column else ""
            _refuse(
                sheet,
                f"repeats the case `{row.get('case_id')}`{which} of line {rows[0].line} or after. "
                "Give every case its own case_id, or number its slices in a column `slice`.",
                "double_case",
                row,
            )
        labelled.add((column, place))
        given = _read_label(sheet, row)
        if place is None:
            label = given
        elif given is not None and column == "slice" and isinstance(place, int):
            numbered[place] = given
        elif given is not None:
            placed[place] = given
    columns = {column for column, _ in labelled}
    asked = "slice" in columns or (columns - {""} and not placed)
    return label, numbered or ({} if asked else None), placed or None


def _read_place(sheet: Sheet, row: Row) -> tuple[str, int | str | float | None]:
    """Returns the column that names the row's slice, and what it says; "", None without one."""
    filled = [column for column in _PLACES if row.get(column)]
    if len(filled) > 1:
        _refuse(
            sheet,
            f"names its slice twice, by `{filled[0]}` and by `{filled[1]}`. Fill one of them.",
            "two_places",
            row,
        )
    if not filled:
        return "", None
    column = filled[0]
    if column == "slice":
        return column, _read_count(sheet, row, column)
    if column == "slice_at":
        return column, _read_mm(sheet, row, column)
    if column == "slice_file":
        return column, file_key(_read_count(sheet, row, column) or 0)
    uid, mark, frame = row.get(column).partition("#")
    number = read_whole(frame)
    if mark and not number:
        _refuse(
            sheet,
            "has a `sop_uid` whose frame is no number; frames are counted from 1, as in `UID#3`.",
            "no_number",
            row,
        )
    return column, instance_key(uid, number if mark else None)


def _check_agreement(sheet: Sheet, first: Row, row: Row) -> None:
    own = {*_PLACES, "label"} | {c for c in sheet.columns if c.startswith(_FINDING)}
    for column in ("patient_id", *_source_columns(sheet), *_OPTIONAL):
        if column not in own and row.get(column) != first.get(column):
            _refuse(
                sheet,
                f"gives the case `{row.get('case_id')}` the {column} `{row.get(column)}`, but line "
                f"{first.line} gives it `{first.get(column)}`. A case_id names one case.",
                "double_case",
                row,
            )


def _read_label(sheet: Sheet, row: Row) -> Label | None:
    findings: dict[str, int] = {}
    for name in _list_findings(sheet):
        text = row.get(_FINDING + name)
        # Spreadsheets that once held a number write 1 as 1.0 or 1,0.
        plain = re.sub(r"[.,]0+$", "", text)
        if plain not in ("", "0", "1"):
            _refuse(
                sheet,
                f"has `{text}` in the column `{_FINDING}{name}`. Write 1 for present, 0 for "
                "absent, or nothing for unknown; one class of several belongs in a column `label`.",
                "no_label",
                row,
            )
        if plain:
            findings[name] = int(plain)
    return findings or _read_class(sheet, row) or None


def _read_class(sheet: Sheet, row: Row) -> str:
    text = row.get("label")
    if is_missing(text):
        _refuse(
            sheet,
            f"has `{text}` in the column `label`, which would be a class. Leave the cell empty "
            "where nothing is known, or write another word for the class.",
            "no_label",
            row,
        )
    return text


def _read_count(sheet: Sheet, row: Row, column: str) -> int | None:
    text = row.get(column)
    value = read_whole(text)
    if text and value is None:
        _refuse(
            sheet,
            f"has `{_shorten(text)}` in the column `{column}`, which counts 0, 1, 2, ...",
            "no_number",
            row,
        )
    return value


def _read_center(sheet: Sheet, row: Row) -> tuple[float, float, float] | None:
    texts = [row.get(column) for column in _CENTER]
    if not any(texts):
        return None
    x, y, z = (_read_mm(sheet, row, column) for column in _CENTER)
    return x, y, z


def _read_mm(sheet: Sheet, row: Row, column: str) -> float:
    text = row.get(column)
    value = read_decimal(text, comma=sheet.decimal_comma)
    if value is None:
        comma = (
            " Its comma may be a decimal one or part the thousands, where commas part the cells "
            "too: write a point, or no comma."
            if "," in text
            else ""
        )
        _refuse(
            sheet,
            f"has `{_shorten(text)}` in the column `{column}`, which takes a position in mm such "
            f"as -31.5.{comma}",
            "no_number",
            row,
        )
    return value


def _shorten(text: str) -> str:
    return text if len(text) <= _TOLD else f"{text[:_TOLD]}..."


def _read_split(sheet: Sheet, row: Row) -> str | None:
    split = row.get("split").lower()
    if split and split not in _SPLITS:
        _refuse(
            sheet,
            f"has the split `{row.get('split')}`. Splits are {', '.join(_SPLITS)}.",
            "unknown_split",
            row,
        )
    return split or None


def _locate(sheet: Sheet, row: Row, column: str = "path") -> Path:
    # A table made on Windows writes folders with backslashes; Windows reads slashes as well.
    return sheet.path.absolute().parent / row.get(column).replace("\\", "/")


def _check_files(sheet: Sheet) -> None:
    lines: dict[Path, int] = {}
    columns = [name for name in _source_columns(sheet) if not name.startswith("series")]
    for row in sheet:
        for column in columns:
            if row.get(column):
                lines.setdefault(_locate(sheet, row, column), row.line)
    absent = [path for path in lines if not os.path.exists(path)]
    if absent:
        named = "; ".join(f"line {lines[path]}: {path}" for path in absent[:_NAMED])
        more = f"; and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
        raise SourceError(
            f"{sheet.path.name} names {len(absent)} of {len(lines)} files that are not there: "
            f"{named}{more}. Paths are relative to {sheet.path.absolute().parent}.",
            code="missing_files",
            files=absent,
        )


def _refuse(sheet: Sheet, what: str, code: str, row: Row | None = None) -> NoReturn:
    where = f"{sheet.path.name}, line {row.line}" if row else sheet.path.name
    raise SourceError(f"{where} {what}", code=code, files=[sheet.path])
