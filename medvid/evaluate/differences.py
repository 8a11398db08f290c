"""The difference of two arms: its interval and p, the sentence about it, and DeLong beside it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvid.contract import ConfigError
from medvid.evaluate.arms import Arm, Study, subtract
from medvid.evaluate.delong import delong_test
from medvid.evaluate.intervals import EQUAL, EXACT, exact_interval
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD
from medvid.evaluate.predictions import Outcomes, average_seeds
from medvid.evaluate.spread import Spread, spread_mean
from medvid.evaluate.summary import name_task, plain
from medvid.evaluate.terms import SHARES, Term, count_cases, count_trials, list_terms
from medvid.evaluate.verdict import TITLES

Floats = NDArray[np.float64]

CALLED = frozenset({"ppv", "npv"})
"""Shares of the cases that an arm calls positive or negative; each arm calls others."""


UNDEFINED = "a class is absent, or in too many resamples"

MOST_MARGIN = 0.5
"""From a guess to a perfect AUC: with a margin so wide everything is equivalent."""


def check_margin(margin: float) -> None:
    """Stops at a margin below 0."""
    if not margin >= 0:
        raise ConfigError(
            f"`margin: {margin}` is no margin; give the smallest difference that matters, such as "
            "0.02.",
            code="bad_value",
        )


def check_auc_margin(margin: float) -> None:
    """Stops at a margin that no difference of AUCs can have: half the way from a guess to 1."""
    if not 0 < margin < MOST_MARGIN:
        raise ConfigError(
            f"`margin: {margin:g}` is no margin of an AUC, which lies between {MOST_MARGIN} and 1 "
            f"for all that is better than a guess. Give the smallest difference that matters, "
            f"above 0 and below {MOST_MARGIN}, such as 0.02.",
            code="bad_value",
        )


@dataclass(frozen=True)
class Limits:
    """A difference of two arms with what it may be.

    Args:
        spread: the estimate.
        low: NaN where there is none.
        high: NaN where there is none.
        p: that the truth is 0; it contradicts no interval. None where there are no limits.
        method: where it is not the bootstrap; else empty.
        reason: why there are no limits, or why they are not the bootstrap's; else empty.
    """

    spread: Spread
    low: float
    high: float
    p: float | None
    method: str = ""
    reason: str = ""


def measure_difference(study: Study, a: str, b: str, metric: str, level: float) -> dict[str, Any]:
    """Returns the difference a - b of a metric with interval, p, counts and method."""
    first, second = study.arms[a], study.arms[b]
    found = limit_difference(study, first, second, metric, level)
    terms = list_shared_terms(study).get(metric, ())
    row = {
        "value_a": plain(float(first.parts[metric].values.mean())),
        "value_b": plain(float(second.parts[metric].values.mean())),
        "difference": plain(found.spread.value),
        "low": plain(found.low),
        "high": plain(found.high),
        "p": found.p,
        "n": count_cases(study.outcomes, terms),
        "n_patients": study.n_patients,
        "method": found.method or f"paired {describe_method(study, [first, second])}",
    }
    return row | ({"reason": found.reason} if found.reason else {})


def limit_difference(study: Study, first: Arm, second: Arm, metric: str, level: float) -> Limits:
    """Returns the difference of two arms with its limits.

    Where all resamples agree the bootstrap knows nothing of what other patients would show, unless
    the predictions are the same, which differ by nothing. See `_bound_alike` for the others.
    """
    spread = spread_mean(subtract(first, second, metric))
    if spread.error == 0 and same_predictions(first.outcomes, second.outcomes):
        return Limits(spread, spread.value, spread.value, 1.0)
    if spread.error == 0 or (is_perfect(first, metric) and is_perfect(second, metric)):
        return _bound_alike(study, first, second, metric, level, spread)
    low, high = spread.interval(level)
    if math.isnan(low):
        return Limits(spread, low, high, None, reason=UNDEFINED)
    if metric in SHARES:  # shares of cases are no further apart than 1
        low, high = float(np.clip(low, -1, 1)), float(np.clip(high, -1, 1))
    return Limits(spread, low, high, spread.p())


def _bound_alike(
    study: Study, first: Arm, second: Arm, metric: str, level: float, spread: Spread
) -> Limits:
    """Returns exact limits of a difference d that is the same in every resample.

    So it is in every one of n independent trials: pairs of patients for an AUC, patients for other
    shares. Were it another one in a share q of all trials, n of them would be alike in
    (1 - q) ** n of the studies; so q lies below 1 - ((1 - level) / 2) ** (1 / n). There the
    difference may be anything from -1 to 1, and the mean lies within d - q (1 + d) and
    d + q (1 - d). For p the limit is put on 0.

    A mean of several shares may come out the same though its parts differ (all called positive
    against all called negative), and is bounded only where both arms make no error. What is no
    share has no bound.
    """
    errorless = is_perfect(first, metric) and is_perfect(second, metric)
    terms = list_shared_terms(study).get(metric, ()) if metric in SHARES else ()
    trials = count_trials(study.outcomes, terms) if errorless or len(terms) == 1 else 0
    if not trials:
        return Limits(spread, math.nan, math.nan, None, reason="all resamples are the same")
    left, d = 1 - exact_interval(1, trials, level)[0], spread.value
    why = "neither makes an error" if errorless else "all resamples are the same"
    return Limits(
        spread,
        d - left * (1 + d),
        d + left * (1 - d),
        min(1.0, 2 * (1 + abs(d)) ** -trials),
        method=f"{EXACT} on {trials} independent trials",
        reason=f"{why}; exact bound from {trials} independent trials",
    )


def list_shared_terms(study: Study) -> dict[str, Sequence[Term]]:
    """Returns the terms of the metrics; labels are the same in all arms, what is called is not."""
    terms = list_terms(study.outcomes, study.positive, DEFAULT_THRESHOLD)
    return {name: () if name in CALLED else own for name, own in terms.items()}


def is_perfect(arm: Arm, metric: str = "auc") -> bool:
    """Says whether a share is 1 in every seed, so that no resample can tell otherwise."""
    return metric in SHARES and bool((arm.parts[metric].values >= 1 - EQUAL).all())


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
    """Returns DeLong's test of two arms; None for more than two classes or too few patients.

    Seeds are averaged before, case by case, so that it is of the mean network.
    """
    first, second = study.arms[a], study.arms[b]
    if name_task(first.outcomes) != "binary":
        return None
    averaged = average_seeds(first.outcomes)
    labels, patients = (averaged.labels == study.positive).astype(np.int64), averaged.patients
    scores_a = averaged.probabilities[:, study.positive]
    scores_b = average_seeds(second.outcomes).probabilities[:, study.positive]
    if min(len(np.unique(patients[labels == truth])) for truth in (0, 1)) < 2:
        return None
    several = len(labels) > study.n_patients
    test = "Obuchowski (DeLong with all cases of a patient together)" if several else "DeLong"
    seeds = max(len(first.seeds), len(second.seeds))
    mean = ", of the seeds' mean probabilities" if seeds > 1 else ""
    found = delong_test(labels, scores_a, scores_b, patients)
    return asdict(found) | {"method": f"{test}{mean}"}


def describe_difference(
    row: Mapping[str, Any], a: str, b: str, *, margin: float, level: float, family: int = 1
) -> str:
    """Says in a sentence what a verdict rests on; never "better" when the interval holds 0.

    Args:
        row: of `measure_difference`, with `metric` and `verdict`.
        a: what the first is called.
        b: what the second is called.
        margin: declared beforehand.
        level: of the interval.
        family: how many comparisons p was adjusted for.
    """
    what = TITLES[row["metric"]]
    if row["low"] is None:
        return f"{a} and {b} cannot be compared: {row['reason']}."
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
