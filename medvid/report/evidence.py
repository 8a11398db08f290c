"""What the files of a run folder say of its cases: refused, split, trained with what."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medvid.report.results import read_environment, read_splits


def describe_partition(run: Path) -> str:
    """Says whether patients were kept together, from the files and not from the intention."""
    folds = read_splits(run)
    manifest = run / "manifest.csv"
    if folds is None or not manifest.is_file():
        return "How the cases were split is not on record."
    patients = {row["case_id"]: row["patient_id"] for row in read_rows(manifest)}
    shared = 0
    for fold in folds:
        learned = {patients.get(case, case) for case in (*fold["train"], *fold["val"])}
        shared += len(learned & {patients.get(case, case) for case in fold["test"]})
    kind = _name_splits(folds)
    if shared:
        return f"{kind}. Patients are on both sides {shared} times: the numbers are too good."
    return f"{kind}, at patient level: no patient is both trained on and tested in one fold."


def _name_splits(folds: Sequence[Mapping[str, Any]]) -> str:
    repeats = len({fold.get("repeat", 0) for fold in folds})
    each = len(folds) // repeats
    if len(folds) == 1:
        return "One fixed split"
    if repeats == 1:
        return f"Cross-validation in {each} folds"
    return f"Cross-validation in {each} folds, repeated {repeats} times with other shuffles"


def count_refused(path: Path) -> dict[str, Any]:
    """Counts the reasons of refused.csv, with the first sentence of each."""
    rows = read_rows(path) if path.is_file() else []
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(row["code"], row["reason"])
    counted = Counter(row["code"] for row in rows).most_common()
    items = [{"code": code, "n": number, "reason": first[code]} for code, number in counted]
    return {"refused": items, "refused_total": f"{len(rows)} case{'s' * (len(rows) != 1)}"}


def list_environment(run: Path) -> list[tuple[str, str]]:
    """Lists versions and hardware, flat."""
    known = read_environment(run)
    listed: list[tuple[str, str]] = []
    for name, value in known.items():
        if isinstance(value, Mapping):
            listed += [(str(key), str(one)) for key, one in value.items() if one is not None]
        elif value:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            listed.append((str(name), shown))
    return listed


def read_text(path: Path) -> str:
    """Returns a text file, empty when it is absent."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def read_rows(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
