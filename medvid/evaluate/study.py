"""The arms of a study: every arm with its intervals, and the differences that were asked for.

Everything comes from `medvid.evaluate.arms`: all arms on the same resampled patients and seeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvid.contract import ConfigError
from medvid.evaluate.arms import Arm, Study, draw_study, subtract
from medvid.evaluate.delong import delong_test
from medvid.evaluate.folds import list_fold_aucs
from medvid.evaluate.holm import adjust_holm
from medvid.evaluate.intervals import EQUAL, EXACT, exact_interval
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD
from medvid.evaluate.predictions import Outcomes
from medvid.evaluate.spread import Spread, logit_interval, spread_mean
from medvid.evaluate.summary import name_task, plain
from medvid.evaluate.terms import count_cases, count_trials, list_terms
from medvid.evaluate.verdict import LOWER_IS_BETTER, TITLES, decide

Floats = NDArray[np.float64]


def evaluate_arms(
    tables: Mapping[str, pd.DataFrame],
    *,
    positive: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, dict[str, Any]]:
    """Returns every arm's AUC, log loss and Brier score with intervals over patients and seeds.

    A value is the mean over seeds of the metric on that seed's pooled out-of-fold predictions.
    Several classes: mean of one against the rest, over those present; several findings: their mean.

    Args:
        tables: predictions by arm, all of the same cases.
        positive: the positive class of two; the last one when None.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        level: of the intervals.

    Returns:
        Plain values by arm: `metrics` {name: {value, low, high, n, method[, reason]}},
        `auc_within_folds` (mean over folds and seeds; None for a single fold), `auc_by_seed`.

    Raises:
        ConfigError: without an arm, or for an unknown positive class.
        DataError: when the arms are not of the same cases, patients, labels and classes.
    """
    study = draw_study(tables, positive=positive, resamples=resamples, seed=seed)
    return {name: _describe_arm(study, arm, level) for name, arm in study.arms.items()}


def compare_arms(
    tables: Mapping[str, pd.DataFrame],
    pairs: Sequence[tuple[str, str]],
    *,
    margin: float,
    metric: str = "auc",
    positive: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    titles: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Returns the paired differences a - b of one family, p values adjusted after Holm.

    Args:
        tables: predictions by arm; only those that a pair names are measured.
        pairs: (a, b) names of arms. All together are one family.
        margin: the difference that does not matter, declared beforehand, on the metric's scale.
        metric: `auc`, `log_loss` or `brier`.
        positive: see `evaluate_arms`.
        resamples: see `evaluate_arms`.
        seed: see `evaluate_arms`.
        level: see `evaluate_arms`.
        titles: names of arms in sentences; the arm's name where there is none.

    Returns:
        Plain values, one a pair: a, b, metric, difference, low, high, p, p_adjusted, verdict (see
        `medvid.evaluate.verdict`), sentence, n, n_patients, method, delong (None where a patient
        has several rows, or for more than two classes).

    Raises:
        ConfigError: for a pair that names no arm, or a negative margin.
        DataError: see `evaluate_arms`.
    """
    wanted = [name for pair in pairs for name in pair]
    unknown = next((name for name in wanted if name not in tables), None)
    if unknown is not None:
        raise ConfigError(
            f"There is no arm `{unknown}`; there are {', '.join(tables) or 'none'}.",
            code="unknown_arm",
        )
    check_margin(margin)
    if not pairs:
        return []
    study = draw_study(
        {name: tables[name] for name in tables if name in wanted},
        positive=positive,
        resamples=resamples,
        seed=seed,
        metrics=(metric,),
    )
    rows = [
        {"a": a, "b": b, "metric": metric, **measure_difference(study, a, b, metric, level)}
        for a, b in pairs
    ]
    adjusted = adjust_holm([row["p"] for row in rows])
    names = {name: name for name in tables} | dict(titles or {})
    for row, p in zip(rows, adjusted, strict=True):
        row["p_adjusted"] = p
        row["verdict"] = decide(
            row["low"],
            row["high"],
            p,
            margin=margin,
            level=level,
            lower_is_better=metric in LOWER_IS_BETTER,
        )
        row["sentence"] = _say(row, names, margin, level, len(rows))
        row["delong"] = cross_check(study, row["a"], row["b"]) if metric == "auc" else None
    return rows


def check_margin(margin: float) -> None:
    """Stops at a margin below 0."""
    if not margin >= 0:
        raise ConfigError(
            f"`margin: {margin}` is no margin; give the smallest difference that matters, such as "
            "0.02.",
            code="bad_value",
        )


def measure_difference(study: Study, a: str, b: str, metric: str, level: float) -> dict[str, Any]:
    """Returns the difference a - b of a metric with interval, p, counts and method."""
    first, second = study.arms[a], study.arms[b]
    spread = spread_mean(subtract(first, second, metric))
    low, high = spread.interval(level)
    terms = list_terms(study.outcomes, study.positive, DEFAULT_THRESHOLD).get(metric, ())
    row = {
        "value_a": plain(float(first.parts[metric].values.mean())),
        "value_b": plain(float(second.parts[metric].values.mean())),
        "difference": plain(spread.value),
        "low": plain(low),
        "high": plain(high),
        "p": None if math.isnan(low) else spread.p(),
        "n": count_cases(study.outcomes, terms),
        "n_patients": study.n_patients,
        "method": f"paired {describe_method(study, [first, second])}",
    }
    return row | bound_perfect(study, first, second, metric, level)


def bound_perfect(
    study: Study, first: Arm, second: Arm, metric: str, level: float
) -> dict[str, Any]:
    """Returns exact limits where both arms order every case right; else nothing.

    Each arm's true value lies below its exact bound in at most (1 - level) / 2 of the studies. In
    all but 1 - level of them both lie between the bound and 1, and no further apart than that. The
    same predictions twice differ by nothing, and need no bound.
    """
    if metric != "auc" or not (is_perfect(first) and is_perfect(second)):
        return {}
    terms = list_terms(study.outcomes, study.positive, DEFAULT_THRESHOLD)["auc"]
    trials = count_trials(study.outcomes, terms)
    if not trials or same_predictions(first.outcomes, second.outcomes):
        return {}
    left = 1 - exact_interval(1, trials, level)[0]
    return {
        "low": -left,
        "high": left,
        "method": f"{EXACT} on {trials} independent trials",
        "reason": f"neither makes an error; exact bound from {trials} independent trials",
    }


def is_perfect(arm: Arm) -> bool:
    """Says whether every seed orders every case right, so that no resample can tell otherwise."""
    return bool((arm.parts["auc"].values >= 1 - EQUAL).all())


def same_predictions(first: Outcomes, second: Outcomes) -> bool:
    """Says whether two arms are one, such as a window of 1 and its repetition."""
    orders = [np.lexsort((own.seeds, own.keys)) for own in (first, second)]
    return len(first) == len(second) and all(
        np.array_equal(getattr(first, name)[orders[0]], getattr(second, name)[orders[1]])
        for name in ("keys", "seeds", "probabilities")
    )


def describe_method(study: Study, arms: Sequence[Arm]) -> str:
    """Says how intervals were found."""
    seeds = sorted({len(arm.seeds) for arm in arms})
    drawn = f"bootstrap of patients, {len(study.draws.counts)} resamples"
    if seeds == [1]:
        return f"{drawn}, t; one seed: other trainings are not in it"
    several = " and ".join(map(str, seeds))
    return f"bootstrap of patients and {several} seeds, {len(study.draws.counts)} resamples, t"


def cross_check(study: Study, a: str, b: str) -> dict[str, Any] | None:
    """Returns DeLong's test of two arms; None unless of two classes and one row a patient.

    Seeds are averaged before, case by case, so that it is of the mean network.
    """
    first, second = study.arms[a].outcomes, study.arms[b].outcomes
    labels, scores_a = average_seeds(first, study.positive)
    _, scores_b = average_seeds(second, study.positive)
    several = len(labels) > study.n_patients
    if name_task(first) != "binary" or several or np.bincount(labels, minlength=2).min() < 2:
        return None
    many = len(study.arms[a].seeds) > 1 or len(study.arms[b].seeds) > 1
    note = " of the seeds' mean probabilities" if many else ""
    return asdict(delong_test(labels, scores_a, scores_b)) | {"method": f"DeLong{note}"}


def average_seeds(outcomes: Outcomes, column: int) -> tuple[NDArray[np.int64], Floats]:
    """Returns labels and scores by case, in the order of the keys; seeds are averaged."""
    keys, first, place = np.unique(outcomes.keys, return_index=True, return_inverse=True)
    sums = np.bincount(place, weights=outcomes.probabilities[:, column], minlength=len(keys))
    labels = (outcomes.labels[first] == column).astype(np.int64)
    return labels, sums / np.bincount(place, minlength=len(keys))


def _describe_arm(study: Study, arm: Arm, level: float) -> dict[str, Any]:
    terms = list_terms(arm.outcomes, study.positive, DEFAULT_THRESHOLD)
    method = describe_method(study, [arm])
    metrics = {
        name: _describe_metric(name, spread_mean([part]), method, level)
        | {"n": count_cases(arm.outcomes, terms.get(name, ()))}
        for name, part in arm.parts.items()
    }
    if is_perfect(arm):
        trials = count_trials(arm.outcomes, terms["auc"])
        low, high = exact_interval(1, trials, level)
        metrics["auc"] |= {
            "low": low,
            "high": high,
            "method": f"{EXACT} on {trials} independent trials",
            "reason": f"no error is made; exact bound from {trials} independent trials",
        }
    folds = [one.value for one in list_fold_aucs(arm.outcomes, study.positive)]
    defined = [value for value in folds if math.isfinite(value)]
    return {
        "metrics": metrics,
        "auc_within_folds": float(np.mean(defined)) if len(defined) > len(arm.seeds) else None,
        "auc_by_seed": [
            {"seed": seed, "auc": plain(value)}
            for seed, value in zip(arm.seeds, arm.parts["auc"].values.tolist(), strict=True)
        ],
    }


def _describe_metric(name: str, spread: Spread, method: str, level: float) -> dict[str, Any]:
    low, high = logit_interval(spread, level) if name == "auc" else spread.interval(level)
    entry = {"value": plain(spread.value), "low": plain(low), "high": plain(high), "method": method}
    if math.isnan(spread.value):
        return entry | {"reason": "undefined: a class is absent"}
    if math.isnan(low):
        return entry | {"reason": "no interval: too many resamples lack a class"}
    return entry


def _say(
    row: Mapping[str, Any], names: Mapping[str, str], margin: float, level: float, family: int
) -> str:
    a, b, what = names[row["a"]], names[row["b"]], TITLES[row["metric"]]
    if row["low"] is None:
        return f"{a} and {b} cannot be compared: a class is absent, or in too many resamples."
    numbers = (
        f"{what} {row['value_a']:.3f} against {row['value_b']:.3f}, difference "
        f"{row['difference']:+.3f} ({level:.0%} interval {row['low']:+.3f} to {row['high']:+.3f})"
    )
    said = {
        "helps": f"{a} is better than {b}",
        "hurts": f"{a} is worse than {b}",
        "equivalent": f"{a} and {b} are equivalent within {margin:g}",
        "inconclusive": f"{a} against {b} is inconclusive at n = {row['n_patients']} patients",
    }[row["verdict"]]
    why = ""
    if row["verdict"] == "inconclusive" and not row["low"] <= 0 <= row["high"]:
        why = f" The interval excludes 0, but not after adjusting for {family} comparisons."
    if row["verdict"] == "equivalent" and not row["low"] <= 0 <= row["high"]:
        why = " A difference is there, but smaller than what was declared to matter."
    return f"{said}: {numbers}.{why}"
