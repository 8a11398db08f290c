"""The cases that a model got wrong with most confidence."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medvid.evaluate.measure import Thresholds, call_positive
from medvid.evaluate.predictions import Outcomes
from medvid.report.render import write_table

FRAME = re.compile(r" frame (-?\d+)$")
"""How the key of a prediction names the slice that it belongs to."""

SHOWN = 10
"""Errors of each kind on the page; the table on disk has them all."""


def list_mistakes(
    outcomes: Outcomes, positive: int | None, thresholds: Thresholds
) -> list[dict[str, Any]]:
    """Returns all wrong calls, the most confident first within each kind.

    Args:
        outcomes: with one label a row.
        positive: column of the positive class of two; None calls the likeliest class.
        thresholds: from which probability on the positive class is called.
    """
    known = outcomes.known()
    called = known.probabilities.argmax(axis=1)
    if positive is not None:
        above = call_positive(known, positive, thresholds)
        called = np.where(above, positive, 1 - positive)
    truth = known.labels.astype(np.int64)
    wrong = np.flatnonzero(called != truth)
    rows = np.arange(len(known))
    shown = called if positive is None else np.full(len(known), positive)
    prob = known.probabilities[rows, shown]
    sureness = known.probabilities[rows, called]
    keys = [str(key) for key in known.keys]
    by_frame = all(FRAME.search(key) for key in keys)
    order = wrong[np.lexsort((-sureness[wrong], truth[wrong]))]
    return [
        {
            "case": FRAME.sub(r", slice \1", keys[row]) if by_frame else keys[row],
            "label": known.classes[truth[row]],
            "called": known.classes[called[row]],
            "prob": f"{prob[row]:.3f}",
            "fold": int(known.folds[row]),
        }
        for row in order
    ]


def write_mistakes(run: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Writes tables/errors.csv, and returns the first of each true class for the page."""
    columns = ("case", "label", "called", "prob", "fold")
    write_table(run / "tables" / "errors.csv", columns, [[row[c] for c in columns] for row in rows])
    kept: list[dict[str, Any]] = []
    number: dict[str, int] = {}
    for row in rows:
        number[row["label"]] = number.get(row["label"], 0) + 1
        if number[row["label"]] <= SHOWN:
            kept.append(row)
    return kept


def read_limits(metrics: Mapping[str, Any]) -> Thresholds:
    """Returns the thresholds that metrics.json names."""
    limits = (metrics.get("operating_point") or {}).get("threshold", 0.5)
    if isinstance(limits, Mapping):
        return {int(fold): float(value) for fold, value in limits.items()}
    return float(limits)
