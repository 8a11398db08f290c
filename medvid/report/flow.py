"""The flow of cases through a run, counted from its files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medvid.report.counts import Counts
from medvid.report.evidence import read_rows, read_text
from medvid.report.figures_run import Flow
from medvid.report.results import read_splits
from medvid.report.wording import say_count

MOST_FOLDS = 6
"""Folds that have a box of their own; more stand in one box as a range."""

Folds = Sequence[Mapping[str, Any]]


def read_flow(run: Path, predicted: Counts) -> Flow | None:
    """Counts found, refused, used and partitioned cases; None without a manifest.

    Args:
        run: the folder of a run or a study.
        predicted: what was predicted, for the box of the cases used.
    """
    if not (run / "manifest.csv").is_file():
        return None
    patients = read_patients(run)
    refused = read_rows(run / "refused.csv") if (run / "refused.csv").is_file() else []
    missing = [line for line in read_text(run / "missing.txt").splitlines() if line.strip()]
    counts: dict[str, int] = {}
    for row in refused:
        counts[row["code"]] = counts.get(row["code"], 0) + 1
    if missing:
        counts["listed, not on disk"] = len(missing)
    return Flow(
        found=len(patients) + sum(counts.values()),
        refused=tuple(sorted(counts.items(), key=lambda item: -item[1])),
        used=len(patients),
        detail=(say_count(len(set(patients.values())), "patient"), predicted.say_classes()),
        parts=tuple(_list_parts(read_splits(run) or [], patients)),
    )


def read_patients(run: Path) -> dict[str, str]:
    """Returns case_id -> patient_id, in the manifest's order; empty without a manifest."""
    path = run / "manifest.csv"
    if not path.is_file():
        return {}
    return {row["case_id"]: row["patient_id"] for row in read_rows(path)}


def list_partitions(folds: Folds) -> dict[str, list[str]]:
    """Returns the cases of every partition: train, val and test, or the test side of every fold.

    In a cross-validation every case is tested once, so its folds' test sides are the partitions.
    """
    if len(folds) == 1:
        names = {"train": "Training", "val": "Validation", "test": "Test"}
        return {name: list(folds[0][key]) for key, name in names.items() if folds[0][key]}
    first = [fold for fold in folds if fold.get("repeat", 0) == folds[0].get("repeat", 0)]
    if len(first) > MOST_FOLDS:
        return {}
    return {f"Fold {fold['fold']}": list(fold["test"]) for fold in first}


def _list_parts(folds: Folds, patients: Mapping[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    if len(folds) == 1:
        parts = list_partitions(folds)
        return [(name, _count(cases, patients)) for name, cases in parts.items()]
    first = [fold for fold in folds if fold.get("repeat", 0) == folds[0].get("repeat", 0)]
    if len(first) > MOST_FOLDS:
        lines = [_say_range(first, key, word) for key, word in SIDES.items()]
        return [(f"{len(first)} folds, each", tuple(filter(None, lines)))]
    return [
        (
            f"Fold {fold['fold']}",
            tuple(f"{word} {len(fold[key])}" for key, word in SIDES.items() if fold[key]),
        )
        for fold in first
    ]


SIDES = {"train": "trained on", "val": "validated on", "test": "tested on"}
"""Keys of splits.json, and how the diagram calls them."""


def _count(cases: Sequence[str], patients: Mapping[str, str]) -> tuple[str, ...]:
    whose = {patients.get(case, case) for case in cases}
    return say_count(len(cases), "case"), say_count(len(whose), "patient")


def _say_range(folds: Folds, key: str, word: str) -> str:
    sizes = [len(fold[key]) for fold in folds]
    if not max(sizes):
        return ""
    low, high = min(sizes), max(sizes)
    return f"{word} {low}" if low == high else f"{word} {low} to {high}"
