"""DeLong's test of two correlated AUCs, by midranks."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DeLong:
    """Two AUCs of the same cases and their difference.

    Args:
        auc_a: of the first scores.
        auc_b: of the second scores.
        difference: auc_a - auc_b.
        standard_error: of the difference.
        p: two-sided; 1 when the scores order the cases alike.
    """

    auc_a: float
    auc_b: float
    difference: float
    standard_error: float
    p: float


def delong_test(labels: NDArray[np.int64], scores_a: Floats, scores_b: Floats) -> DeLong:
    """Tests whether two scores of the same cases have the same AUC.

    It takes every case as independent: one row a patient.

    Args:
        labels: (n,) 0 or 1, two or more of each.
        scores_a: (n,).
        scores_b: (n,).

    Raises:
        ValueError: for fewer than two cases of a class, or lengths that differ.

    References:
        DeLong, DeLong, Clarke-Pearson, Biometrics 44, 1988; in the form of Sun and Xu, IEEE
        Signal Processing Letters 21(11), 2014, equations 5 to 9.
    """
    check_consistent_length(labels, scores_a, scores_b)
    truth = labels == 1
    m, n = int(truth.sum()), int((~truth).sum())
    if min(m, n) < 2:
        raise ValueError(f"DeLong's test needs two cases of each class; got {m} and {n}.")
    placements = [_place(scores[truth], scores[~truth]) for scores in (scores_a, scores_b)]
    aucs = [float(of_positives.mean()) for of_positives, _ in placements]
    covariance = (
        np.cov([of_positives for of_positives, _ in placements]) / m
        + np.cov([of_negatives for _, of_negatives in placements]) / n
    )
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = math.sqrt(max(variance, 0.0))
    difference = aucs[0] - aucs[1]
    p = 1.0 if error == 0 else math.erfc(abs(difference) / error / math.sqrt(2))
    return DeLong(aucs[0], aucs[1], difference, error, p)


def _place(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    """Returns for each positive the share of negatives below it, and the other way round."""
    sorted_negatives, sorted_positives = np.sort(negatives), np.sort(positives)
    below = np.searchsorted(sorted_negatives, positives, side="left")
    not_above = np.searchsorted(sorted_negatives, positives, side="right")
    of_positives = (below + not_above) / 2 / len(negatives)
    above = len(positives) - np.searchsorted(sorted_positives, negatives, side="right")
    not_below = len(positives) - np.searchsorted(sorted_positives, negatives, side="left")
    return of_positives, (above + not_below) / 2 / len(positives)
