"""Log loss and Brier score row by row: what a mean over any patients is made of."""

import numpy as np
from numpy.typing import NDArray

from medvid.evaluate.measure import list_known
from medvid.evaluate.metrics import CLIP, divide
from medvid.evaluate.predictions import Outcomes

Floats = NDArray[np.float64]


def list_losses(
    metric: str, rows: Outcomes, positive: int
) -> list[tuple[NDArray[np.bool_], Floats]]:
    """Returns (rows that count, their losses); of several findings one pair for each known one.

    The means are those of `medvid.evaluate.metrics`.

    Args:
        metric: `log_loss` or `brier`.
        rows: with known labels.
        positive: column of the positive class of two.
    """
    if rows.multilabel:
        return [
            (known, _score_binary(metric, rows.labels[known, k] == 1, rows.probabilities[known, k]))
            for k in list_known(rows)
            for known in [~np.isnan(rows.labels[:, k])]
        ]
    every = np.ones(len(rows), dtype=np.bool_)
    labels = rows.labels.astype(np.int64)
    if len(rows.classes) == 2:
        truth = labels == positive
        return [(every, _score_binary(metric, truth, rows.probabilities[:, positive]))]
    if metric == "log_loss":
        of_truth = rows.probabilities[np.arange(len(rows)), labels]
        return [(every, -np.log(np.clip(of_truth, CLIP, 1)))]
    one_hot = labels[:, None] == np.arange(len(rows.classes))
    return [(every, ((rows.probabilities - one_hot) ** 2).sum(axis=1))]


def average_by_patient(
    losses: Floats, place: NDArray[np.int64], counts: NDArray[np.generic]
) -> Floats:
    """Returns the mean loss of every resample, (R,).

    Args:
        losses: (n,).
        place: (n,) the column of each row's patient.
        counts: (R, P) how often each patient was drawn.
    """
    patients = counts.shape[1]
    sums = np.bincount(place, weights=losses, minlength=patients)
    sizes = np.bincount(place, minlength=patients).astype(np.float64)
    drawn = counts.astype(np.float64)
    return divide(drawn @ sums, drawn @ sizes)


def _score_binary(metric: str, truth: NDArray[np.bool_], scores: Floats) -> Floats:
    if metric == "brier":
        return (scores - truth) ** 2
    clipped = np.clip(scores, CLIP, 1 - CLIP)
    return -np.where(truth, np.log(clipped), np.log(1 - clipped))
