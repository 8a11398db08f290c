"""What a classifier is worth to who decides by it: precision against recall, and net benefit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvid.evaluate.bootstrap import draw_patients
from medvid.evaluate.predictions import Outcomes, split_seeds

Floats = NDArray[np.float64]

THRESHOLDS = np.arange(1, 100) / 100
"""Probabilities from which on one would act, in per cent; at 0 and 1 nothing is decided."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision at every recall that the predictions reach.

    Args:
        recall: (k,), rising from 0.
        precision: (k,).
        prevalence: of the positive class, what guessing gives.
    """

    recall: Floats
    precision: Floats
    prevalence: float

    def average(self) -> float:
        """Returns the average precision, the steps of the curve summed."""
        return float(np.diff(self.recall) @ self.precision[1:])


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit by the probability from which on one acts.

    Args:
        thresholds: (99,) probabilities.
        value: (99,) true positives less false ones at the threshold's odds, per case.
        low: (99,) lower limit.
        high: (99,) upper limit.
        treat_all: (99,) net benefit of acting on every case; acting on none has 0.
        level: of the interval.
    """

    thresholds: Floats
    value: Floats
    low: Floats
    high: Floats
    treat_all: Floats
    level: float


def trace_precision(outcomes: Outcomes, positive: int) -> PrecisionRecall:
    """Returns precision and recall of a binary table.

    Tied scores are one step, so that the order of the rows cannot matter. Of several seeds it is
    the mean of their curves, precisions averaged at every recall, so that the average precision is
    the mean of the seeds'.
    """
    curves = [_trace(rows, positive) for rows in split_seeds(outcomes.known())]
    if len(curves) == 1:
        return curves[0]
    recall = np.unique(np.concatenate([one.recall for one in curves]))
    # Where a curve has no point of its own it takes the next one, as its average precision does.
    each = [one.precision[np.searchsorted(one.recall, recall)] for one in curves]
    prevalence = float(np.mean([one.prevalence for one in curves]))
    return PrecisionRecall(recall, np.mean(each, axis=0), prevalence)


def _trace(rows: Outcomes, positive: int) -> PrecisionRecall:
    truth = rows.labels == positive
    scores = rows.probabilities[:, positive]
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(-scores[order], append=np.inf))
    hits = np.cumsum(truth[order])[last]
    precision = hits / (last + 1)
    return PrecisionRecall(
        recall=np.append(0.0, hits / max(1, truth.sum())),
        precision=np.append(precision[0], precision),
        prevalence=float(truth.mean()),
    )


def measure_net_benefit(
    outcomes: Outcomes,
    positive: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> NetBenefit:
    """Returns the decision curve of a binary table; of several seeds on the same cases the mean.

    At threshold p a false positive costs p / (1 - p) of what a true one brings. The curve is only
    worth something where the probabilities are calibrated.

    Args:
        outcomes: with two classes.
        positive: column of the class that one acts on.
        resamples: of the patient-cluster bootstrap.
        seed: of the bootstrap.
        level: of the pointwise interval.

    References:
        Vickers and Elkin, Decision curve analysis, Medical Decision Making 2006.
    """
    known = outcomes.known()
    truth = known.labels == positive
    odds = THRESHOLDS / (1 - THRESHOLDS)
    gain = np.where(truth[:, None], 1.0, -odds)  # of acting on a row, by threshold
    acted = (known.probabilities[:, positive, None] >= THRESHOLDS) * gain
    draws = draw_patients(known, resamples, seed)
    # Summed patient by patient first: a resample is then a short product, however many the rows.
    place = np.searchsorted(draws.patients, known.patients)
    sums = np.zeros((len(draws.patients), len(THRESHOLDS)))
    np.add.at(sums, place, acted)
    sizes = np.bincount(place, minlength=len(draws.patients))
    drawn = draws.counts @ sums / (draws.counts @ sizes)[:, None]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return NetBenefit(
        thresholds=THRESHOLDS,
        value=acted.mean(axis=0),
        low=low,
        high=high,
        treat_all=gain.mean(axis=0),
        level=level,
    )
