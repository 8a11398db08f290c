"""The AUC on resampled patients, from how the rows of each two patients are ordered.

Of every patient with positive rows and every one with negative rows it is counted once how many of
their pairs of rows are in order. On a resample the AUC is then a quadratic form in how often each
patient was drawn: thousands of slices cost no more than their patients.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvid.evaluate.metrics import divide

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

CHUNK_PAIRS = 8_000_000
"""Pairs of rows held at once, 64 MB in float64."""


@dataclass(frozen=True)
class Order:
    """Pairs of rows in order, by patients.

    Args:
        positives: (A,) columns of the patients that have positive rows.
        negatives: (B,) columns of the patients that have negative rows.
        rows_positive: (A,) how many positive rows each has.
        rows_negative: (B,) how many negative rows each has.
        ordered: (A, B) pairs with the positive row above the negative one, ties counting one half.
    """

    positives: Indices
    negatives: Indices
    rows_positive: Floats
    rows_negative: Floats
    ordered: Floats

    def auc(self, counts: NDArray[np.generic]) -> Floats:
        """Returns the AUC of every resample, NaN where a class is absent.

        Args:
            counts: (R, P) how often each patient was drawn.
        """
        of_positives = counts[:, self.positives].astype(np.float64)
        of_negatives = counts[:, self.negatives].astype(np.float64)
        in_order = ((of_positives @ self.ordered) * of_negatives).sum(axis=1)
        return divide(
            in_order, (of_positives @ self.rows_positive) * (of_negatives @ self.rows_negative)
        )


def order_patients(truth: NDArray[np.bool_], scores: Floats, place: Indices) -> Order:
    """Counts the pairs of rows in order for every two patients.

    Args:
        truth: (n,) which rows are positive.
        scores: (n,) higher for positive.
        place: (n,) the column of each row's patient.
    """
    high, positives, first_high = _group(scores[truth], place[truth])
    low, negatives, first_low = _group(scores[~truth], place[~truth])
    ordered = np.zeros((len(positives), len(negatives)))
    if len(high) and len(low):
        step = max(1, CHUNK_PAIRS // len(low))
        for start in range(0, len(high), step):
            rows = high[start : start + step, None]
            won = np.add.reduceat((rows > low) + 0.5 * (rows == low), first_low, axis=1)
            owners = np.searchsorted(first_high, np.arange(start, start + len(won)), "right") - 1
            np.add.at(ordered, owners, won)
    sizes_high = np.diff(np.append(first_high, len(high))).astype(np.float64)
    sizes_low = np.diff(np.append(first_low, len(low))).astype(np.float64)
    return Order(positives, negatives, sizes_high, sizes_low, ordered)


def _group(scores: Floats, place: Indices) -> tuple[Floats, Indices, Indices]:
    """Returns scores sorted by patient, the patients, and the first row of each."""
    order = np.argsort(place, kind="stable")
    patients, first = np.unique(place[order], return_index=True)
    return scores[order], patients.astype(np.int64), first.astype(np.int64)
