"""Curves with their intervals: ROC and reliability."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvid.evaluate.bootstrap import MIN_DEFINED, draw_patients
from medvid.evaluate.intervals import EQUAL, make_interval
from medvid.evaluate.metrics import weighted_auc
from medvid.evaluate.predictions import Outcomes, split_seeds
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
        low: (GRID,) lower limit of tpr; NaN where all resamples draw the same curve, or too many
            lack a class.
        high: (GRID,) upper limit of tpr, likewise.
        auc: area under the curve; the mean of the seeds' areas.
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
    width would say that the curve is known for certain; the AUC then has its exact bound.

    Of several seeds it is the mean of their curves, sensitivities averaged at every false positive
    rate, so that the area under it is the mean of the seeds' AUCs. Pooled, their scores would have
    to be on one scale: two perfect seeds, one of which scores higher, would make a poor curve. The
    band is over patients.
    """
    known = outcomes.known()
    draws = draw_patients(known, resamples, seed)
    grid = np.linspace(0, 1, GRID)
    curves, aucs = np.zeros((resamples, GRID)), np.zeros(resamples)
    value, auc = np.zeros(GRID), 0.0
    seeds = split_seeds(known)
    for rows in seeds:
        labels = (rows.labels == positive).astype(np.int64)
        scores = rows.probabilities[:, positive]
        one = np.ones((1, len(rows)))
        value += _curve(labels, scores, one[0], grid) / len(seeds)
        auc += float(weighted_auc(labels, scores, one)[0]) / len(seeds)
        for number in range(resamples):
            weights = draws.weights(rows.patients, slice(number, number + 1))
            curves[number] += _curve(labels, scores, weights[0], grid) / len(seeds)
            aucs[number] += weighted_auc(labels, scores, weights)[0] / len(seeds)
    low, high = np.full((2, GRID), np.nan)
    drawn = curves[np.isfinite(aucs)]
    if len(drawn) >= MIN_DEFINED * resamples and (np.ptp(drawn, axis=0) > EQUAL).any():
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    trials = count_trials(known, [Term(known.labels == positive, known.labels != positive)])
    limits = make_interval(auc, aucs, trials, level)
    return RocBand(
        fpr=grid,
        tpr=value,
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

    The bins hold equally many predictions, since a screening task crowds near 0. Of several seeds
    each has its own bins, and the first bins of all are averaged, the second ones, and so on; the
    number is that of one seed, since the same cases seen again are no further evidence.
    """
    seeds = split_seeds(outcomes.known())
    bins = min(bins, *(len(rows) for rows in seeds))
    found = np.array([_bin(rows, positive, bins) for rows in seeds]).mean(axis=0)
    return found[0], found[1], np.rint(found[2]).astype(np.int64)


def _bin(rows: Outcomes, positive: int, bins: int) -> Floats:
    """Returns (3, bins): mean probability, share of positives and number of the rows of a bin."""
    scores, truth = rows.probabilities[:, positive], rows.labels == positive
    parts = np.array_split(np.argsort(scores, kind="stable"), bins)
    return np.array(
        [
            [scores[part].mean() for part in parts],
            [truth[part].mean() for part in parts],
            [len(part) for part in parts],
        ]
    )
