"""The interval of one metric: from the bootstrap, or exact where all resamples agree.

When every positive case scores above every negative one, so it does in every resample, and the
percentile interval of the AUC is [1, 1]: certainty from however few cases. The same befalls a
sensitivity without a miss. Nothing went wrong in n independent trials: then the exact interval of
Clopper and Pearson reaches from (alpha / 2) ** (1 / n) to 1 (from 1 - 3 / n, roughly, at one-sided
5 %: the rule of three).

For an AUC the trials are pairs of a positive and a negative patient, no patient in two of them:
min(positive, negative) patients make as many. Perfect order of all pairs includes perfect order of
these, which has the probability AUC ** n; so a true AUC below the bound would show a perfect table
in fewer than alpha / 2 of the studies. The bound asks nothing of the distribution of the scores.

References:
    Clopper and Pearson, Biometrika 26(4), 1934; Hanley and Lippman-Hand, If Nothing Goes Wrong, Is
    Everything All Right?, JAMA 249(13), 1983.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvid.evaluate.bootstrap import METHOD, percentile_interval

EQUAL = 1e-9
"""Resamples closer than this are the same: rounding of sums of float64 stays well below."""

EXACT = "exact (Clopper-Pearson)"


@dataclass(frozen=True)
class Interval:
    """The limits of a metric.

    Args:
        low: NaN where there is none.
        high: NaN where there is none.
        method: how they were found.
        reason: why there are none, or why they are not the bootstrap's; may be empty.
    """

    low: float
    high: float
    method: str
    reason: str = ""


def make_interval(
    value: float, resampled: NDArray[np.float64], trials: int, level: float
) -> Interval:
    """Chooses the interval of a metric.

    Args:
        value: the metric.
        resampled: (R,) the metric in every resample.
        trials: independent ones behind the metric, see `count_trials`; 0 where it is no share.
        level: such as 0.95.
    """
    method = f"{METHOD}, {len(resampled)} resamples"
    if math.isnan(value):
        reason = "undefined: a class, or a positive call, is absent"
        return Interval(math.nan, math.nan, method, reason)
    if trials and min(abs(value), abs(1 - value)) <= EQUAL:
        # Every resample that defines the metric agrees, so there is nothing to ask them.
        low, high = exact_interval(round(value), trials, level)
        reason = f"all resamples are {round(value)}; exact bound from {trials} independent trials"
        return Interval(low, high, f"{EXACT} on {trials} independent trials", reason)
    low, high = percentile_interval(resampled, level)
    if math.isnan(low):
        reason = "no interval: too many resamples lack a class"
        return Interval(low, high, method, reason)
    if high - low <= EQUAL:
        return Interval(math.nan, math.nan, method, "no interval: all resamples are the same")
    return Interval(low, high, method)


def exact_interval(value: int, trials: int, level: float) -> tuple[float, float]:
    """Returns the Clopper-Pearson interval of a share that came out as 0 or 1.

    Args:
        value: 0 or 1.
        trials: independent ones, 1 or more.
        level: two-sided, such as 0.95.

    Raises:
        ValueError: for no trial at all.
    """
    if trials < 1:
        raise ValueError(f"{trials} trials were given; an interval needs at least one.")
    bound: float = ((1 - level) / 2) ** (1 / trials)
    return (bound, 1.0) if value else (0.0, 1 - bound)
