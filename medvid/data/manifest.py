"""Writes manifests and lists of what was refused: plain CSV that a spreadsheet opens."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medvid.contract import MedvidError, Record
from medvid.data.labels import natural_key

FIXED_COLUMNS = ("case_id", "patient_id", "path", "series")
CENTER_COLUMNS = ("x_mm", "y_mm", "z_mm")


def write_manifest(path: Path, records: Sequence[Record]) -> None:
    """Writes records as the CSV that the source `table` reads.

    A record with slice labels takes a row per slice. Columns that no record fills are left out.
    Paths are written as they are; the source reads relative ones from the manifest's folder.
    """
    rows = [row for record in records for row in _rows(record)]
    columns = _order_columns(rows)
    write_csv(path, columns, rows)


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
    """Writes the named columns beside the path and renames: nobody reads half a table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text.getvalue(), encoding="utf-8")
    os.replace(beside, path)


def _rows(record: Record) -> list[dict[str, str]]:
    fixed = {
        "case_id": record.case_id,
        "patient_id": record.patient_id,
        "path": record.path,
        "series": record.series or "",
        "split": record.split or "",
        "fold": "" if record.fold is None else str(record.fold),
        **dict(record.extra),
    }
    if record.center is not None:
        fixed |= {
            name: repr(float(value))
            for name, value in zip(CENTER_COLUMNS, record.center, strict=True)
        }
    if record.slice_labels is None:
        return [{**fixed, **_label_cells(record.label)}]
    return [
        {**fixed, "slice": str(frame), **_label_cells(label)}
        for frame, label in sorted(record.slice_labels.items())
    ]


def _label_cells(label: str | Mapping[str, int] | None) -> dict[str, str]:
    if label is None:
        return {"label": ""}
    if isinstance(label, str):
        return {"label": label}
    return {f"label_{name}": str(value) for name, value in label.items()}


def _order_columns(rows: Sequence[Mapping[str, str]]) -> list[str]:
    filled = {name for row in rows for name, value in row.items() if value != ""}
    labels = sorted((n for n in filled if n == "label" or n.startswith("label_")), key=natural_key)
    usual = [*FIXED_COLUMNS, *labels, "slice", *CENTER_COLUMNS, "split", "fold"]
    others = [name for row in rows for name in row if name not in usual]
    wanted = [*usual, *dict.fromkeys(others)]
    return [name for name in wanted if name in filled or name in ("case_id", "patient_id", "path")]
