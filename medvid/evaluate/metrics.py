"""Metrics as functions of row weights, for all bootstrap resamples at once.

Weights are (R, n): how often each of n predictions counts in each of R resamples; one row of ones
is the metric itself. All metrics return (R,), NaN where one is undefined (a class that is absent).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ECE_BINS = 15
"""Equal-width bins of the probability; Guo et al., On Calibration, ICML 2017, section 3."""

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1 in the log loss: float32 cannot tell closer."""


def binary_metrics(
    labels: NDArray[np.int64], scores: Floats, positive: NDArray[np.bool_], weights: Floats
) -> dict[str, Floats]:
    """Computes the metrics of a two-class task.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) probability of class 1.
        positive: (n,) called positive at the operating point.
        weights: (R, n).
    """
    truth = labels == 1
    total = weights.sum(axis=1)
    counts = {
        name: weights @ np.asarray(rows, dtype=np.float64)
        for name, rows in {
            "tp": truth & positive,
            "fn": truth & ~positive,
            "tn": ~truth & ~positive,
            "fp": ~truth & positive,
        }.items()
    }
    sensitivity = divide(counts["tp"], counts["tp"] + counts["fn"])
    specificity = divide(counts["tn"], counts["tn"] + counts["fp"])
    squared = (scores - truth) ** 2
    return {
        "auc": weighted_auc(labels, scores, weights),
        "average_precision": weighted_average_precision(labels, scores, weights),
        "accuracy": divide(counts["tp"] + counts["tn"], total),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": divide(counts["tp"], counts["tp"] + counts["fp"]),
        "npv": divide(counts["tn"], counts["tn"] + counts["fn"]),
        "f1": divide(2 * counts["tp"], 2 * counts["tp"] + counts["fp"] + counts["fn"]),
        "log_loss": divide(weights @ _log_losses(truth, scores), total),
        "brier": divide(weights @ squared, total),
        "ece": weighted_ece(truth.astype(np.float64), scores, weights),
    }


def multiclass_metrics(
    labels: NDArray[np.int64],
    probabilities: Floats,
    weights: Floats,
    present: Sequence[int] | None = None,
) -> dict[str, Floats]:
    """Computes the metrics of a task with one class of several; the class is the likeliest.

    AUC and average precision are macro averages of one class against the rest; balanced accuracy
    is the mean recall. The Brier score sums over classes; the calibration error is that of the
    likeliest class. A class without a case has no AUC and no recall, so that the averages are over
    the classes present.

    Args:
        labels: (n,) class index.
        probabilities: (n, classes).
        weights: (R, n).
        present: the classes to average over; those of `labels` when None. A resample that lacks
            one of them is undefined: it would average over other classes than the rest.
    """
    classes = [int(k) for k in np.unique(labels)] if present is None else present
    chosen = probabilities.argmax(axis=1)
    right = (chosen == labels).astype(np.float64)
    total = weights.sum(axis=1)
    one_hot = labels[:, None] == np.arange(probabilities.shape[1])
    per_class = class_metrics(labels, probabilities, weights)
    recall = [
        divide(weights @ (right * one_hot[:, k]), weights @ one_hot[:, k].astype(np.float64))
        for k in classes
    ]
    of_truth = np.clip(probabilities[np.arange(len(labels)), labels], CLIP, 1)
    squared = ((probabilities - one_hot) ** 2).sum(axis=1)
    return {
        "auc": np.mean([per_class[k]["auc"] for k in classes], axis=0),
        "average_precision": np.mean([per_class[k]["average_precision"] for k in classes], axis=0),
        "accuracy": divide(weights @ right, total),
        "balanced_accuracy": np.mean(recall, axis=0),
        "log_loss": divide(weights @ -np.log(of_truth), total),
        "brier": divide(weights @ squared, total),
        "ece": weighted_ece(right, probabilities.max(axis=1), weights),
    }


def class_metrics(
    labels: NDArray[np.int64], probabilities: Floats, weights: Floats
) -> Mapping[int, dict[str, Floats]]:
    """Computes AUC and average precision of every class against the rest, and its recall."""
    chosen = probabilities.argmax(axis=1)
    made = {}
    for k in range(probabilities.shape[1]):
        own = (labels == k).astype(np.int64)
        hits = (own == 1) & (chosen == k)
        made[k] = {
            "auc": weighted_auc(own, probabilities[:, k], weights),
            "average_precision": weighted_average_precision(own, probabilities[:, k], weights),
            "sensitivity": divide(weights @ hits.astype(np.float64), weights @ own.astype(float)),
        }
    return made


def weighted_auc(labels: NDArray[np.int64], scores: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve: the share of pairs in order, ties counting one half."""
    pos, neg = _sum_ties(labels, scores, weights)
    below = np.cumsum(neg, axis=1) - neg
    ordered = (pos * (below + neg / 2)).sum(axis=1)
    return divide(ordered, pos.sum(axis=1) * neg.sum(axis=1))


def weighted_average_precision(
    labels: NDArray[np.int64], scores: Floats, weights: Floats
) -> Floats:
    """Average precision: the precision at every threshold, weighted by the recall it adds."""
    pos, neg = _sum_ties(labels, scores, weights)
    pos, neg = pos[:, ::-1], neg[:, ::-1]
    true, false = np.cumsum(pos, axis=1), np.cumsum(neg, axis=1)
    precision = np.divide(true, true + false, out=np.zeros_like(true), where=(true + false) > 0)
    return divide((precision * pos).sum(axis=1), pos.sum(axis=1))


def weighted_ece(right: Floats, confidence: Floats, weights: Floats) -> Floats:
    """Expected calibration error: |mean confidence - share right| of each bin, by its weight."""
    bins = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gaps = np.zeros((len(confidence), ECE_BINS))
    gaps[np.arange(len(confidence)), bins] = confidence - right
    return divide(np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1))


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """Divides; NaN where the denominator is 0."""
    empty = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=empty, where=denominator > 0)


def _log_losses(truth: NDArray[np.bool_], scores: Floats) -> Floats:
    clipped = np.clip(scores, CLIP, 1 - CLIP)
    return -np.where(truth, np.log(clipped), np.log(1 - clipped))


def _sum_ties(labels: NDArray[np.int64], scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Returns the weight of positives and negatives at every distinct score, rising."""
    order = np.argsort(scores, kind="stable")
    first = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    sorted_weights = weights[:, order]
    truth = labels[order] == 1
    pos = np.add.reduceat(sorted_weights * truth, first, axis=1)
    return pos, np.add.reduceat(sorted_weights * ~truth, first, axis=1)
