"""Table 1: who the patients are, in every partition, from the manifest's further columns.

Nothing that could name a patient comes out: columns that look like identifiers or dates are left
out, and so are texts with many values.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medvid.contract import is_own_column

IDENTIFYING = re.compile(
    r"(^|_)(id|ids|uid|uids|name|names|mrn|accession|birth|birthdate|dob|date|time|path|file)(_|$)"
    r"|patient|series|study_?instance",
    re.IGNORECASE,
)
"""Names of columns that are never shown."""

MOST_VALUES = 12
"""Texts with more values than this are no characteristic, or are free text."""

SMALL = 10
"""Below so many patients quartiles and per cent say less than they seem to."""


UNKNOWN = frozenset(
    {
        *("n/a", "na", "nan", "-nan", "#n/a", "#n/a n/a", "#na", "#nv", "#n/d", "<na>", "none"),
        *("null", "unknown", "missing", "-", "--", "?", "."),
    }
)
"""Words for a value that nobody knows. Beside numbers they are missing; among texts a group."""

DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

COMMA = re.compile(r"[+-]?\d*,\d+", re.ASCII)

THOUSANDS = re.compile(r"[+-]?\d{1,3},\d{3}", re.ASCII)
"""`1,234` may be a thousand and more: one cell that can only be decimal decides for its column."""


@dataclass(frozen=True)
class TableOne:
    """Characteristics by partition.

    Args:
        columns: `All` and the partitions, with their n.
        rows: name, cells and whether it stands below a heading (`inner`).
        notes: what was left out and how to read it.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def describe_patients(
    rows: Sequence[Mapping[str, str]], partitions: Mapping[str, Sequence[str]]
) -> TableOne:
    """Tabulates the further columns of a manifest.

    Args:
        rows: of the manifest; a case with labelled slices has several.
        partitions: name -> case_ids; a patient counts once in each.

    Returns:
        An empty table with a note where the manifest has no further columns.
    """
    cases = {row["case_id"]: row for row in rows}
    columns = _list_further(list(next(iter(rows), {})))
    hidden = [name for name in columns if IDENTIFYING.search(name)]
    shown = [name for name in columns if name not in hidden]
    by_patient = _is_of_patients(rows, shown)
    groups = {"All": _pick(cases, list(cases), by_patient)} | {
        name: _pick(cases, members, by_patient) for name, members in partitions.items()
    }
    made: list[dict[str, Any]] = []
    for column in shown:
        found = _describe_column(column, groups)
        if found is None:
            hidden.append(column)
        made += found or []
    if not made:
        text = "The manifest has no further columns (age, sex, scanner, ...) to describe them by."
        return TableOne(notes=(text,))
    unit = "patients" if by_patient else "cases"
    return TableOne(
        columns=tuple(f"{name} (n = {len(members)})" for name, members in groups.items()),
        rows=tuple(made),
        notes=tuple(_list_notes(unit, groups, hidden)),
    )


def _list_further(columns: Sequence[str]) -> list[str]:
    """Returns the columns that medvid itself does not read."""
    # `series_t1` chooses a series of the channel `path_t1`; without one it is the user's own.
    own = {f"series_{n.removeprefix('path_')}" for n in columns if n.startswith("path_")}
    return [name for name in columns if name not in own and not is_own_column(name)]


def _is_of_patients(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> bool:
    """Tells whether every shown column says the same of all cases of a patient."""
    seen: dict[tuple[str, str], str] = {}
    return all(
        seen.setdefault((row["patient_id"], name), row.get(name) or "") == (row.get(name) or "")
        for row in rows
        for name in columns
    )


def _pick(
    cases: Mapping[str, Mapping[str, str]], members: Sequence[str], by_patient: bool
) -> list[Mapping[str, str]]:
    rows = [cases[case] for case in members if case in cases]
    return list({row["patient_id"]: row for row in rows}.values()) if by_patient else rows


def _describe_column(
    column: str, groups: Mapping[str, Sequence[Mapping[str, str]]]
) -> list[dict[str, Any]] | None:
    """Returns the lines of one column; None when it is free text or an identifier."""
    values = {
        name: [(row.get(column) or "").strip() for row in members]
        for name, members in groups.items()
    }
    filled = [text for text in values["All"] if text]
    if not filled:
        return []
    numbers = _read_numbers(set(filled))
    different = sorted(set(filled), key=lambda text: (numbers.get(text, math.inf), text))
    known = [text for text in different if text.casefold() not in UNKNOWN]
    if all(text in numbers for text in known) and len(known) > 2:
        cells = [_say_numbers(texts, numbers) for texts in values.values()]
        return [{"name": column, "cells": cells, "inner": False}]
    if len(different) > MOST_VALUES:
        return None
    heading = {"name": column, "cells": [""] * len(values), "inner": False}
    lines = [
        {
            "name": value or "missing",
            "cells": [_say_share(texts, value) for texts in values.values()],
            "inner": True,
        }
        for value in (*different, *([""] if len(filled) < len(values["All"]) else []))
    ]
    return [heading, *lines]


def _say_numbers(texts: Sequence[str], read: Mapping[str, float]) -> str:
    numbers = [read[text] for text in texts if text in read]
    if not numbers:
        return "-"
    low, middle, high = np.quantile(numbers, [0.25, 0.5, 0.75])
    missing = len(texts) - len(numbers)
    spread = f" [{_round(low)}, {_round(high)}]" if len(numbers) >= SMALL else ""
    return f"{_round(middle)}{spread}" + (f"; {missing} missing" if missing else "")


def _round(value: float) -> str:
    """Returns one decimal from 10 on, as ages and sizes are given; three figures below."""
    return f"{round(value, 1):g}" if abs(value) >= 10 else f"{value:.3g}"


def _say_share(texts: Sequence[str], value: str) -> str:
    number = Counter(texts)[value]
    return f"{number} ({number / len(texts):.0%})" if len(texts) >= SMALL else str(number)


def _read_numbers(texts: Collection[str]) -> dict[str, float]:
    """Returns the finite numbers among the texts of a column, with decimal points or commas."""
    decimal = any(COMMA.fullmatch(text) and not THOUSANDS.fullmatch(text) for text in texts)
    plain = {text: text.replace(",", ".", 1) if decimal else text for text in texts}
    read = {text: float(one) for text, one in plain.items() if DECIMAL.fullmatch(one)}
    return {text: number for text, number in read.items() if math.isfinite(number)}


def _list_notes(unit: str, groups: Mapping[str, Sequence[Any]], hidden: Sequence[str]) -> list[str]:
    notes = [f"n counts {unit}. Numbers are median [quartiles], others n (%)."]
    if any(len(members) < SMALL for members in groups.values()):
        notes.append(f"Below {SMALL} {unit} neither quartiles nor per cent are given.")
    if hidden:
        notes.append(
            f"Not shown, since they may identify patients or hold free text: {', '.join(hidden)}."
        )
    return notes
