"""Writes manifests and lists of what was refused: plain CSV that a spreadsheet opens."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medvid.contract import (
    CENTER_COLUMNS,
    FIXED_COLUMNS,
    PLACE_COLUMNS,
    DataError,
    Label,
    MedvidError,
    Record,
    is_own_column,
)
from medvid.io.names import explain_name, is_writable, make_legible
from medvid.io.ordering import natural_key
from medvid.io.slice_truth import FILE_KEY


def write_manifest(path: Path, records: Sequence[Record]) -> None:
    """Writes records as the CSV that the source `table` reads back as the same records.

    A record with slice labels takes a row per slice, and one more without a slice when the stack
    has a label as well. A record whose slices are to be labelled but are not (`slice_labels` is
    empty) takes a row for slice 0 with an empty label. Columns that no record fills are left out,
    but for the label. A slice whose frame is not known yet is named by its token, its index in the
    file or its position, in a column `sop_uid`, `slice_file` or `slice_at`. Paths are written as
    they are; the source reads relative ones from the manifest's folder. Blanks around a text, and
    extra columns that hold nothing, do not come back.

    Args:
        path: of the CSV.
        records: with case_ids that differ.

    Raises:
        DataError: when some records have one label and others several findings, an extra column
            has the name of a column with a meaning, or a file's name is not UTF-8.
    """
    rows = [row for record in records for row in _rows(record)]
    _check_names(rows)
    columns = _order_columns(rows)
    if "label" in columns and any(name.startswith("label_") for name in columns):
        raise DataError(
            f"{path.name} cannot hold both one `label` and several `label_<name>`: some records "
            "have one class, others several findings. Use one kind.",
            code="label_kind",
            files=[path],
        )
    write_csv(path, columns, rows)


def write_notes(path: Path, noted: Iterable[tuple[Record, Sequence[str]]]) -> None:
    """Writes notes.csv: what was found and mended while a case was opened, a row a sentence."""
    rows = [
        {"case_id": record.case_id, "path": record.path, "note": note}
        for record, notes in noted
        for note in notes
    ]
    write_csv(path, ("case_id", "path", "note"), rows)


def write_refused(path: Path, refused: Iterable[tuple[Record, MedvidError]]) -> None:
    """Writes refused.csv: which cases were left out, the reason code, and the sentence."""
    columns = ("case_id", "patient_id", "path", "code", "reason")
    rows = [
        {
            "case_id": record.case_id,
            "patient_id": record.patient_id,
            "path": record.path,
            "code": error.code,
            "reason": error.message,
        }
        for record, error in refused
    ]
    write_csv(path, columns, rows)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Writes the named columns beside the path and renames: nobody reads half a table.

    Names that are not UTF-8 are spelled, so that the table can be read.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(make_legible(text.getvalue()), encoding="utf-8")
    os.replace(beside, path)


def _check_names(rows: Iterable[Mapping[str, str]]) -> None:
    """Stops at a name that would not lead back to its file when the manifest is read."""
    for row in rows:
        strange = next((cell for cell in row.values() if not is_writable(cell)), None)
        if strange is not None:
            named = [cell for name, cell in row.items() if name.startswith("path")]
            raise explain_name(next((n for n in named if not is_writable(n)), strange))


def _rows(record: Record) -> list[dict[str, str]]:
    taken = sorted(filter(is_own_column, record.extra))
    if taken:
        raise DataError(
            f"The record {record.case_id} has an extra column `{taken[0]}`, which has a meaning of "
            "its own in a manifest. Rename it.",
            code="double_column",
        )
    fixed = {
        "case_id": record.case_id,
        "patient_id": record.patient_id,
        **_source_cells(record),
        "split": record.split or "",
        "fold": "" if record.fold is None else str(record.fold),
        **dict(record.extra),
    }
    if record.center is not None:
        fixed |= {
            name: repr(float(value))
            for name, value in zip(CENTER_COLUMNS, record.center, strict=True)
        }
    return [{**fixed, **cells} for cells in _label_rows(record)]


def _source_cells(record: Record) -> dict[str, str]:
    """Returns the cells that say where a record's scan lies, or its channels."""
    if not record.channels:
        return {"path": record.path, "series": record.series or ""}
    paths = {f"path_{channel.name}": channel.path for channel in record.channels}
    return paths | {f"series_{channel.name}": channel.series or "" for channel in record.channels}


def change_paths(record: Record, change: Callable[[Path], Path]) -> Record:
    """Returns the record with every path changed, and written with slashes."""
    return replace(
        record,
        path=change(Path(record.path)).as_posix(),
        channels=tuple(
            replace(channel, path=change(Path(channel.path)).as_posix())
            for channel in record.channels
        ),
    )


def _label_rows(record: Record) -> list[dict[str, str]]:
    """Returns the label cells of every row that a record takes."""
    if record.slice_labels is None and record.placed_labels is None:
        return [_label_cells(record.label)]
    rows = [] if record.label is None else [_label_cells(record.label)]
    rows += [
        {"slice": str(frame), **_label_cells(label)}
        for frame, label in sorted((record.slice_labels or {}).items())
    ]
    rows += [
        {**_place_cell(place), **_label_cells(label)}
        for place, label in (record.placed_labels or {}).items()
    ]
    if not record.slice_labels and not record.placed_labels:
        # A slice without a label says that slices are the targets, and none of them is known.
        rows.append({"slice": "0"})
    return rows


def _place_cell(place: str | float) -> dict[str, str]:
    """Returns the cell that names a slice; a SOPInstanceUID stands there as its token."""
    if not isinstance(place, str):
        return {"slice_at": repr(float(place))}
    if place.startswith(FILE_KEY):
        return {"slice_file": place.removeprefix(FILE_KEY)}
    return {"sop_uid": place}


def _label_cells(label: Label | None) -> dict[str, str]:
    if label is None:
        return {}
    if isinstance(label, str):
        return {"label": label}
    return {f"label_{name}": str(value) for name, value in label.items()}


def _order_columns(rows: Sequence[Mapping[str, str]]) -> list[str]:
    filled = {name for row in rows for name, value in row.items() if value != ""}
    findings = sorted((n for n in filled if n.startswith("label_")), key=natural_key)
    # An unlabelled table says so by an empty column; the source takes its absence for a typo
    # where another column has a similar name.
    labels = ["label"] if "label" in filled or not findings else []
    names = [name for row in rows for name in row]
    channels = [name for name in dict.fromkeys(names) if name.startswith("path_")]
    channels += [f"series_{name.removeprefix('path_')}" for name in channels]
    usual = [
        *FIXED_COLUMNS,
        *channels,
        *labels,
        *findings,
        *PLACE_COLUMNS,
        *CENTER_COLUMNS,
        "split",
        "fold",
    ]
    others = [name for name in names if name not in (*usual, "label")]
    wanted = [*usual, *dict.fromkeys(others)]
    always = ("case_id", "patient_id", *(() if channels else ("path",)), "label")
    return [name for name in wanted if name in filled or name in always]
