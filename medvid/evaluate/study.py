"""The arms of a study: every arm with its intervals, and the differences that were asked for.

Everything comes from `medvid.evaluate.arms`: all arms on the same resampled patients and seeds.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medvid.contract import ConfigError
from medvid.evaluate.arms import Arm, Study, draw_study
from medvid.evaluate.differences import (
    check_margin,
    cross_check,
    describe_difference,
    describe_method,
    measure_difference,
)
from medvid.evaluate.folds import list_fold_aucs
from medvid.evaluate.holm import adjust_holm
from medvid.evaluate.intervals import EQUAL, EXACT, exact_interval
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD
from medvid.evaluate.spread import Spread, log_interval, logit_interval, spread_mean
from medvid.evaluate.summary import plain
from medvid.evaluate.terms import count_cases, count_trials, list_terms
from medvid.evaluate.verdict import LOWER_IS_BETTER, decide


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
        `medvid.evaluate.verdict`), sentence, n, n_patients, method, delong (None for more than two
        classes, and other metrics).

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
        row["sentence"] = describe_difference(
            row,
            names[row["a"]],
            names[row["b"]],
            margin=margin,
            level=level,
            family=len(rows),
        )
        row["delong"] = cross_check(study, row["a"], row["b"]) if metric == "auc" else None
    return rows


def _describe_arm(study: Study, arm: Arm, level: float) -> dict[str, Any]:
    terms = list_terms(arm.outcomes, study.positive, DEFAULT_THRESHOLD)
    method = describe_method(study, [arm])
    metrics = {
        name: _describe_metric(name, spread_mean([part]), method, level)
        | {"n": count_cases(arm.outcomes, terms.get(name, ()))}
        for name, part in arm.parts.items()
    }
    mean = float(arm.parts["auc"].values.mean())
    if min(mean, 1 - mean) <= EQUAL:
        trials = count_trials(arm.outcomes, terms["auc"])
        low, high = exact_interval(round(mean), trials, level)
        metrics["auc"] |= {
            "low": low,
            "high": high,
            "method": f"{EXACT} on {trials} independent trials",
            "reason": f"all resamples are {round(mean)}; exact bound from {trials} independent "
            "trials",
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
    low, high = (logit_interval if name == "auc" else log_interval)(spread, level)
    entry = {"value": plain(spread.value), "low": plain(low), "high": plain(high), "method": method}
    if math.isnan(spread.value):
        return entry | {"reason": "undefined: a class is absent"}
    if math.isnan(low):
        return entry | {"reason": "no interval: too many resamples lack a class"}
    if high - low <= EQUAL:
        reason = "no interval: all resamples are the same"
        return entry | {"low": None, "high": None, "reason": reason}
    return entry
