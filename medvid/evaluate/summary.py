"""metrics.json: every metric with its interval, its number of cases and the method."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medvid.contract import DataError
from medvid.evaluate.bootstrap import METHOD, Draws, Measure, draw_patients, estimate, resample
from medvid.evaluate.folds import NAME, list_fold_aucs, list_fold_terms, make_fold_measure
from medvid.evaluate.intervals import make_interval
from medvid.evaluate.measure import (
    Thresholds,
    call_positive,
    find_positive,
    make_class_measures,
    make_measure,
)
from medvid.evaluate.notes import list_notes, name_averaged
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD
from medvid.evaluate.predictions import Outcomes, read_outcomes
from medvid.evaluate.terms import (
    SHARES,
    Term,
    count_cases,
    count_trials,
    list_class_terms,
    list_terms,
)


def evaluate_predictions(
    predictions: pd.DataFrame,
    *,
    positive: str | None = None,
    thresholds: Thresholds | None = None,
    threshold_method: str = "fixed at 0.5",
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Computes every metric of a table of predictions, with intervals.

    Args:
        predictions: see `medvid.evaluate.predictions`; rows without a label do not count.
        positive: the positive class of two; the last one when None.
        thresholds: one for all rows, or one a fold; 0.5 when None.
        threshold_method: how they were chosen; stands in the result.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        level: of the intervals.
        notes: sentences on how the predictions came about, such as those of `explain_cross_fit`;
            they stand first among the notes of the result.

    Returns:
        Plain values that JSON can say: task, classes, counts, `metrics` {name: {value, low, high,
        n, method[, reason]}}, `per_class`, `within_folds`, `confusion`, `operating_point`, and
        `notes`, sentences that belong beside the numbers. `n` is the number of cases behind the
        metric: positive ones for the sensitivity, those called positive for the positive
        predictive value. What is undefined is None, with the reason.

    Raises:
        DataError: when no row has a label.
    """
    outcomes = read_outcomes(predictions).known()
    if not len(outcomes):
        raise DataError(
            "No prediction has a known label, so there is nothing to measure.", code="no_label"
        )
    limits: Thresholds = DEFAULT_THRESHOLD if thresholds is None else thresholds
    column = find_positive(outcomes.classes, positive)
    draws = draw_patients(outcomes, resamples, seed)
    metrics = _summarize(
        outcomes,
        make_measure(outcomes, column, limits),
        list_terms(outcomes, column, limits),
        draws,
        level,
    )
    name_averaged(metrics, outcomes)
    folds = _summarize_folds(outcomes, column, draws, level)
    result = {
        "task": name_task(outcomes),
        "classes": list(outcomes.classes),
        **_count(outcomes, column),
        "metrics": {"auc": metrics["auc"]} | folds["metrics"] | metrics,
        "per_class": _summarize_classes(outcomes, limits, draws, level),
        "within_folds": folds["within_folds"],
        "confusion": confuse(outcomes, column, limits),
        "bootstrap": {"resamples": resamples, "seed": seed, "level": level, "method": METHOD},
    }
    if result["task"] != "multiclass":
        result["operating_point"] = describe_point(limits, threshold_method)
    result["notes"] = [*notes, *list_notes(result, outcomes)]
    return result


def name_task(outcomes: Outcomes) -> str:
    """Returns `binary`, `multiclass` or `multilabel`."""
    if outcomes.multilabel:
        return "multilabel"
    return "binary" if len(outcomes.classes) == 2 else "multiclass"


def _count(outcomes: Outcomes, column: int) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "n_predictions": len(outcomes),
        "n_cases": len(np.unique(outcomes.keys)),
        "n_patients": len(np.unique(outcomes.patients)),
        "seeds": [int(seed) for seed in np.unique(outcomes.seeds)],
    }
    first = outcomes.select(np.unique(outcomes.keys, return_index=True)[1])
    per_class = (
        np.nansum(first.labels, axis=0)
        if outcomes.multilabel
        else np.bincount(first.labels.astype(np.int64), minlength=len(outcomes.classes))
    )
    counts["n_per_class"] = {
        name: int(number) for name, number in zip(outcomes.classes, per_class, strict=True)
    }
    if name_task(outcomes) == "binary":
        counts["positive"] = outcomes.classes[column]
        counts["n_positive"] = int(per_class[column])
    return counts


def _summarize(
    outcomes: Outcomes,
    measure: Measure,
    terms: Mapping[str, Sequence[Term]],
    draws: Draws,
    level: float,
) -> dict[str, dict[str, Any]]:
    values = estimate(outcomes, measure)
    resampled = resample(outcomes, measure, draws)
    made = {}
    for name, value in values.items():
        own = terms.get(name, ())
        trials = count_trials(outcomes, own) if name in SHARES else 0
        found = make_interval(value, resampled[name], trials, level)
        made[name] = {
            "value": plain(value),
            "low": plain(found.low),
            "high": plain(found.high),
            "n": count_cases(outcomes, own),
            "method": found.method,
        }
        if found.reason:
            made[name]["reason"] = found.reason
    return made


def _summarize_classes(
    outcomes: Outcomes, limits: Thresholds, draws: Draws, level: float
) -> dict[str, dict[str, dict[str, Any]]]:
    measures = make_class_measures(outcomes, limits)
    return {
        name: _summarize(outcomes, one, list_class_terms(outcomes, k, limits), draws, level)
        for k, (name, one) in enumerate(measures.items())
    }


def _summarize_folds(outcomes: Outcomes, column: int, draws: Draws, level: float) -> dict[str, Any]:
    """Returns the mean of the folds' AUCs as a metric, and the folds; none for a single fold."""
    each = list_fold_aucs(outcomes, column)
    values = [one.value for one in each if math.isfinite(one.value)]
    if len(values) < 2:
        return {"metrics": {}, "within_folds": None}
    terms = {NAME: list_fold_terms(outcomes, column)}
    metrics = _summarize(outcomes, make_fold_measure(column), terms, draws, level)
    spread = float(np.std(values, ddof=1))
    metrics[NAME]["sd"] = spread
    metrics[NAME]["note"] = f"SD over {len(values)} folds {spread:.3f}"
    folds = [{"fold": one.fold, "seed": one.seed, "auc": plain(one.value)} for one in each]
    return {
        "metrics": metrics,
        "within_folds": {
            "mean": metrics[NAME]["value"],
            "sd": spread,
            "n_folds": len(values),
            "folds": folds,
        },
    }


def describe_point(limits: Thresholds, method: str) -> dict[str, Any]:
    """Returns thresholds as plain values, and how they were chosen."""
    said = (
        {str(fold): value for fold, value in limits.items()}
        if isinstance(limits, Mapping)
        else limits
    )
    return {"threshold": said, "method": method}


def confuse(outcomes: Outcomes, column: int, limits: Thresholds) -> dict[str, Any] | None:
    """Returns rows of true classes against columns of called ones; None for several findings.

    Args:
        outcomes: rows with a label.
        column: the positive class of two.
        limits: from which probability on it is called.
    """
    if outcomes.multilabel:
        return None
    called = outcomes.probabilities.argmax(axis=1)
    if len(outcomes.classes) == 2:
        called = np.where(call_positive(outcomes, column, limits), column, 1 - column)
    size = len(outcomes.classes)
    table = np.zeros((size, size), dtype=np.int64)
    np.add.at(table, (outcomes.labels.astype(np.int64), called), 1)
    return {"rows": "true class", "columns": "called class", "counts": table.tolist()}


def plain(value: float) -> float | None:
    """Returns a float that JSON can say."""
    return float(value) if math.isfinite(value) else None
