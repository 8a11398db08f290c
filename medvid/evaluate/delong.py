"""DeLong's test of two correlated AUCs, with all cases of a patient together."""

import math
from dataclasses import dataclass
from typing import Any

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
        p: two-sided; 1 when the standard error is 0.
    """

    auc_a: float
    auc_b: float
    difference: float
    standard_error: float
    p: float


def delong_test(
    labels: NDArray[np.int64],
    scores_a: Floats,
    scores_b: Floats,
    patients: NDArray[Any] | None = None,
) -> DeLong:
    """Tests whether two scores of the same cases have the same AUC.

    Args:
        labels: (n,) 0 or 1.
        scores_a: (n,).
        scores_b: (n,).
        patients: (n,) whose case each is; None when every case is of another patient. Cases of one
            patient count together, with Obuchowski's extension, which for one case a patient is
            DeLong's test.

    Raises:
        ValueError: for fewer than two patients with cases of a class, or lengths that differ.

    References:
        DeLong, DeLong, Clarke-Pearson, Biometrics 44, 1988; in the form of Sun and Xu, IEEE
        Signal Processing Letters 21(11), 2014, equations 5 to 9. Obuchowski, Nonparametric
        Analysis of Clustered ROC Curve Data, Biometrics 53(2), 1997, section 2.
    """
    check_consistent_length(labels, scores_a, scores_b)
    owners = np.arange(len(labels)) if patients is None else _number(patients)
    check_consistent_length(labels, owners)
    truth = labels == 1
    (high_a, low_a), (high_b, low_b) = (
        _place(scores[truth], scores[~truth]) for scores in (scores_a, scores_b)
    )
    auc_a, auc_b = float(high_a.mean()), float(high_b.mean())
    error = math.sqrt(_vary(high_a - high_b, low_a - low_b, owners[truth], owners[~truth]))
    difference = auc_a - auc_b
    p = 1.0 if error == 0 else math.erfc(abs(difference) / error / math.sqrt(2))
    return DeLong(auc_a, auc_b, difference, error, p)


def _number(patients: NDArray[Any]) -> NDArray[np.int64]:
    return np.unique(patients, return_inverse=True)[1].astype(np.int64)


def _vary(
    high: Floats, low: Floats, high_owners: NDArray[np.int64], low_owners: NDArray[np.int64]
) -> float:
    """Returns the variance of a difference of AUCs from differences of placements.

    Args:
        high: (m,) placement in a less that in b, of every positive case.
        low: (n,) the same of every negative case.
        high_owners: (m,) numbers of patients.
        low_owners: (n,) numbers of patients.
    """
    with_high, with_low = len(np.unique(high_owners)), len(np.unique(low_owners))
    if min(with_high, with_low) < 2:
        raise ValueError(
            "DeLong's test needs two patients with cases of each class; got "
            f"{with_high} and {with_low}."
        )
    every = np.union1d(high_owners, low_owners)
    # what each patient adds to the deviation of the difference
    of_high = np.bincount(high_owners, high - high.mean(), every[-1] + 1) / len(high)
    of_low = np.bincount(low_owners, low - low.mean(), every[-1] + 1) / len(low)
    variance = (
        with_high / (with_high - 1) * float(of_high @ of_high)
        + with_low / (with_low - 1) * float(of_low @ of_low)
        + len(every) / (len(every) - 1) * 2 * float(of_high @ of_low)
    )
    return max(variance, 0.0)


def _place(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    """Returns for each positive the share of negatives below it, and the other way round."""
    sorted_negatives, sorted_positives = np.sort(negatives), np.sort(positives)
    below = np.searchsorted(sorted_negatives, positives, side="left")
    not_above = np.searchsorted(sorted_negatives, positives, side="right")
    of_positives = (below + not_above) / 2 / len(negatives)
    above = len(positives) - np.searchsorted(sorted_positives, negatives, side="right")
    not_below = len(positives) - np.searchsorted(sorted_positives, negatives, side="left")
    return of_positives, (above + not_below) / 2 / len(positives)
