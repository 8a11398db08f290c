"""metrics.json: every metric with its interval, its number of cases and the method."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from medvid.contract import DataError
from medvid.evaluate.bootstrap import (
    METHOD,
    Draws,
    Measure,
    draw_patients,
    estimate,
    percentile_interval,
    resample,
)
from medvid.evaluate.measure import (
    Thresholds,
    call_positive,
    find_positive,
    make_class_measures,
    make_measure,
)
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD
from medvid.evaluate.predictions import Outcomes, read_outcomes


def evaluate_predictions(
    predictions: pd.DataFrame,
    *,
    positive: str | None = None,
    thresholds: Thresholds | None = None,
    threshold_method: str = "fixed at 0.5",
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
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

    Returns:
        Plain values that JSON can say: task, classes, counts, `metrics` {name: {value, low, high,
        n, method[, reason]}}, `per_class`, `confusion`, `operating_point`. What is undefined is
        None, with the reason.

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
    measure = make_measure(outcomes, column, limits)
    result = {
        "task": name_task(outcomes),
        "classes": list(outcomes.classes),
        **_count(outcomes, column),
        "metrics": _summarize(outcomes, measure, draws, level),
        "per_class": {
            name: _summarize(outcomes, one, draws, level)
            for name, one in make_class_measures(outcomes, limits).items()
        },
        "confusion": _confuse(outcomes, column, limits),
        "bootstrap": {"resamples": resamples, "seed": seed, "level": level, "method": METHOD},
    }
    if result["task"] != "multiclass":
        result["operating_point"] = {
            "threshold": {str(fold): value for fold, value in limits.items()}
            if isinstance(limits, Mapping)
            else limits,
            "method": threshold_method,
        }
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
    outcomes: Outcomes, measure: Measure, draws: Draws, level: float
) -> dict[str, dict[str, Any]]:
    values = estimate(outcomes, measure)
    resampled = resample(outcomes, measure, draws)
    cases = len(np.unique(outcomes.keys))
    made = {}
    for name, value in values.items():
        low, high = percentile_interval(resampled[name], level)
        made[name] = {
            "value": plain(value),
            "low": plain(low),
            "high": plain(high),
            "n": cases,
            "method": f"{METHOD}, {len(draws.counts)} resamples",
        }
        if math.isnan(value):
            made[name]["reason"] = "undefined: a class, or a positive call, is absent"
        elif math.isnan(low):
            made[name]["reason"] = "no interval: too many resamples lack a class"
    return made


def _confuse(outcomes: Outcomes, column: int, limits: Thresholds) -> dict[str, Any] | None:
    """Returns rows of true classes against columns of called ones; None for several findings."""
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
