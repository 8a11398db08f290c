"""Curves with their intervals: ROC and reliability."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvid.evaluate.bootstrap import draw_patients
from medvid.evaluate.intervals import EQUAL, make_interval
from medvid.evaluate.metrics import weighted_auc
from medvid.evaluate.predictions import Outcomes
from medvid.evaluate.terms import Term, count_trials

Floats = NDArray[np.float64]

GRID = 201
"""False positive rates at which a band is computed: steps of half a per cent."""


@dataclass(frozen=True)
class RocBand:
    """A ROC curve and its pointwise interval.

    Args:
        fpr: (GRID,) false positive rates, 0 to 1.
        tpr: (GRID,) true positive rates.
        low: (GRID,) lower limit of tpr; NaN where all resamples draw the same curve.
        high: (GRID,) upper limit of tpr, likewise.
        auc: area under the curve.
        auc_low: its lower limit.
        auc_high: its upper limit.
        n: cases.
        level: of the intervals.
    """

    fpr: Floats
    tpr: Floats
    low: Floats
    high: Floats
    auc: float
    auc_low: float
    auc_high: float
    n: int
    level: float


def roc_band(
    outcomes: Outcomes,
    positive: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> RocBand:
    """Computes the ROC curve of a binary table with a patient-cluster bootstrap band.

    Where all resamples draw the same curve (perfect separation) there is no band, since one of no
    width would say that the curve is known for certain; the AUC then has its exact bound. Several
    seeds are pooled into one curve; the AUC in the band is that of the pooled curve.
    """
    known = outcomes.known()
    labels = (known.labels == positive).astype(np.int64)
    scores = known.probabilities[:, positive]
    draws = draw_patients(known, resamples, seed)
    grid = np.linspace(0, 1, GRID)
    one = np.ones((1, len(known)))
    curves = np.empty((resamples, GRID))
    aucs = np.empty(resamples)
    for number in range(resamples):
        weights = draws.weights(known.patients, slice(number, number + 1))
        curves[number] = _curve(labels, scores, weights[0], grid)
        aucs[number] = weighted_auc(labels, scores, weights)[0]
    low, high = np.nanquantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
    if np.nanmax(high - low) <= EQUAL:
        low, high = np.full((2, GRID), np.nan)
    auc = float(weighted_auc(labels, scores, one)[0])
    trials = count_trials(known, [Term(labels == 1, labels == 0)])
    limits = make_interval(auc, aucs, trials, level)
    return RocBand(
        fpr=grid,
        tpr=_curve(labels, scores, one[0], grid),
        low=low,
        high=high,
        auc=auc,
        auc_low=limits.low,
        auc_high=limits.high,
        n=len(np.unique(known.keys)),
        level=level,
    )


def _curve(labels: NDArray[np.int64], scores: Floats, weights: Floats, grid: Floats) -> Floats:
    """Returns the true positive rate at every false positive rate of the grid."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(-scores[order], append=np.inf))
    tp = np.cumsum(weights[order] * (labels[order] == 1))[last]
    fp = np.cumsum(weights[order] * (labels[order] == 0))[last]
    if tp[-1] == 0 or fp[-1] == 0:
        return np.full(len(grid), np.nan)
    return np.interp(grid, np.append(0, fp / fp[-1]), np.append(0, tp / tp[-1]))


def bin_reliability(
    outcomes: Outcomes, positive: int, bins: int = 10
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Returns of each filled bin: mean probability, share of positives, number of cases.

    The bins hold equally many predictions, since a screening task crowds near 0.
    """
    known = outcomes.known()
    order = np.argsort(known.probabilities[:, positive], kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    scores, truth = known.probabilities[:, positive], known.labels == positive
    return (
        np.array([scores[part].mean() for part in parts]),
        np.array([truth[part].mean() for part in parts]),
        np.array([len(part) for part in parts], dtype=np.int64),
    )
