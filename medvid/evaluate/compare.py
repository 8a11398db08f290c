"""Two runs on the same cases: paired differences with intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvid.contract import DataError
from medvid.evaluate.bootstrap import METHOD, draw_patients, estimate, percentile_interval, resample
from medvid.evaluate.delong import delong_test
from medvid.evaluate.intervals import EQUAL, EXACT, exact_interval
from medvid.evaluate.measure import Thresholds, find_positive, make_measure
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD
from medvid.evaluate.predictions import Outcomes, read_outcomes
from medvid.evaluate.summary import name_task, plain
from medvid.evaluate.terms import SHARES, Term, count_cases, count_trials, list_terms

LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece"})

CALLED = frozenset({"ppv", "npv"})
"""Shares of the cases that a run calls positive or negative; each run calls others."""

NAMES_SHOWN = 3  # cases named in a message

Floats = NDArray[np.float64]


def compare_predictions(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    positive: str | None = None,
    thresholds_a: Thresholds | None = None,
    thresholds_b: Thresholds | None = None,
    common_only: bool = False,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """Compares two tables of predictions of the same cases.

    Both are measured on the same resampled patients, so that what makes a patient hard for both
    cancels. With several seeds, a run's metric is the mean over its seeds.

    Args:
        a: first table.
        b: second table.
        positive: the positive class of two; the last one when None.
        thresholds_a: of the first run, see `evaluate_predictions`.
        thresholds_b: of the second run.
        common_only: compare on the cases that both have, instead of refusing.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        level: of the intervals.

    Returns:
        Plain values: counts, `metrics` {name: {a, b, difference, low, high, p, n, method}} with
        difference = a - b, `delong` for binary tasks, and `verdict`, a sentence on the AUC.

    Raises:
        DataError: when classes, cases or labels differ.
    """
    first, second = read_outcomes(a, "run A").known(), read_outcomes(b, "run B").known()
    first, second, dropped = _match(first, second, common_only)
    column = find_positive(first.classes, positive)
    draws = draw_patients(first, resamples, seed)
    found = []
    for outcomes, thresholds in ((first, thresholds_a), (second, thresholds_b)):
        limits = DEFAULT_THRESHOLD if thresholds is None else thresholds
        measure = make_measure(outcomes, column, limits)
        found.append((estimate(outcomes, measure), resample(outcomes, measure, draws)))
    (values_a, draws_a), (values_b, draws_b) = found
    cases = len(np.unique(first.keys))
    # Labels are the same in both runs, what is called positive is not.
    terms = {
        name: () if name in CALLED else own
        for name, own in list_terms(first, column, DEFAULT_THRESHOLD).items()
    }
    metrics = {
        name: {
            "a": plain(values_a[name]),
            "b": plain(values_b[name]),
            **_difference(values_a[name], values_b[name], draws_a[name] - draws_b[name], level),
            "n": count_cases(first, terms.get(name, ())),
            "method": f"paired {METHOD}, {resamples} resamples",
            **_bound_of_perfect(first, values_a, values_b, name, terms, level),
        }
        for name in values_a
    }
    return {
        "task": name_task(first),
        "n_cases": cases,
        "n_patients": len(np.unique(first.patients)),
        "n_left_out": dropped,
        "level": level,
        "metrics": metrics,
        "delong": _run_delong(first, second, column),
        "verdict": describe_difference(metrics["auc"], "AUC", level),
    }


def describe_difference(entry: dict[str, Any], name: str, level: float) -> str:
    """Says in a sentence what an interval allows to say; never "better" when it holds 0."""
    if entry["difference"] is None or entry["low"] is None:
        return f"The {name}s cannot be compared: a class is absent."
    numbers = (
        f"{name} {entry['a']:.3f} against {entry['b']:.3f}, difference "
        f"{entry['difference']:+.3f} ({level:.0%} interval {entry['low']:+.3f} to "
        f"{entry['high']:+.3f}, n = {entry['n']})"
    )
    if entry["low"] > 0:
        return f"Run A is better: {numbers}."
    if entry["high"] < 0:
        return f"Run B is better: {numbers}."
    return f"No difference is shown: {numbers}. The interval holds 0."


def _difference(a: float, b: float, resampled: Floats, level: float) -> dict[str, Any]:
    low, high = percentile_interval(resampled, level)
    return {
        "difference": plain(a - b),
        "low": plain(low),
        "high": plain(high),
        "p": None if math.isnan(low) else bootstrap_p(resampled),
    }


def _bound_of_perfect(
    outcomes: Outcomes,
    values_a: Mapping[str, float],
    values_b: Mapping[str, float],
    name: str,
    terms: Mapping[str, Sequence[Term]],
    level: float,
) -> dict[str, Any]:
    """Returns exact limits where both runs are perfect and every resample says so; else nothing.

    Each run's true value lies below its exact bound in at most (1 - level) / 2 of the studies. In
    all but 1 - level of them both lie between the bound and 1, and no further apart than that.
    """
    both_1 = min(values_a[name], values_b[name]) >= 1 - EQUAL
    trials = count_trials(outcomes, terms.get(name, ())) if name in SHARES else 0
    if not both_1 or not trials:
        return {}
    left = 1 - exact_interval(1, trials, level)[0]
    return {"low": -left, "high": left, "method": f"{EXACT} on {trials} independent trials"}


def bootstrap_p(differences: Floats) -> float:
    """Returns the two-sided p value: twice the smaller share of resamples beyond 0.

    One is added to both counts (Davison and Hinkley, Bootstrap Methods, 1997, section 4.2), so
    that p is never 0.
    """
    defined = differences[np.isfinite(differences)]
    tail = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(defined) + 1))


def _match(first: Outcomes, second: Outcomes, common_only: bool) -> tuple[Outcomes, Outcomes, int]:
    if first.classes != second.classes or first.multilabel != second.multilabel:
        raise DataError(
            f"The runs have different classes: {', '.join(first.classes)} against "
            f"{', '.join(second.classes)}.",
            code="different_classes",
        )
    keys_a, keys_b = set(first.keys.tolist()), set(second.keys.tolist())
    common, only = keys_a & keys_b, sorted(keys_a ^ keys_b)
    if not common:
        raise DataError("The runs have no case in common.", code="different_cases")
    if only and not common_only:
        raise DataError(
            f"The runs were tested on different cases: {len(common)} in common, {len(only)} in "
            f"one only ({', '.join(only[:NAMES_SHOWN])}{', ...' if len(only) > 3 else ''}). "
            "Compare on the common ones with --common-only.",
            code="different_cases",
        )
    wanted = np.array(sorted(common))
    first = first.select(np.isin(first.keys, wanted))
    second = second.select(np.isin(second.keys, wanted))
    _stop_on_other_labels(first, second)
    return first, second, len(only)


def _stop_on_other_labels(first: Outcomes, second: Outcomes) -> None:
    for what, of_a, of_b in (
        ("label", first.labels, second.labels),
        ("patient", first.patients, second.patients),
    ):
        known_a = dict(zip(first.keys.tolist(), of_a.tolist(), strict=True))
        for key, value in zip(second.keys.tolist(), of_b.tolist(), strict=True):
            if str(known_a[key]) != str(value):
                raise DataError(
                    f"Case {key} has another {what} in the second run, so the two cannot be "
                    "paired. Train both from the same manifest.",
                    code="different_labels",
                )


def _run_delong(first: Outcomes, second: Outcomes, column: int) -> dict[str, Any] | None:
    if name_task(first) != "binary":
        return None
    labels, scores_a = _one_row_a_case(first, column)
    _, scores_b = _one_row_a_case(second, column)
    if np.bincount(labels, minlength=2).min() < 2:
        return None
    several = len(labels) > len(np.unique(first.patients))
    note = "; takes cases as independent, though some share a patient" if several else ""
    return asdict(delong_test(labels, scores_a, scores_b)) | {"method": f"DeLong{note}"}


def _one_row_a_case(outcomes: Outcomes, column: int) -> tuple[NDArray[np.int64], Floats]:
    """Returns labels and scores by case, in the order of the keys; seeds are averaged."""
    keys, first, place = np.unique(outcomes.keys, return_index=True, return_inverse=True)
    sums = np.bincount(place, weights=outcomes.probabilities[:, column], minlength=len(keys))
    labels = (outcomes.labels[first] == column).astype(np.int64)
    return labels, sums / np.bincount(place, minlength=len(keys))
