"""The AUC within each fold, beside the one of all folds pooled.

Pooling ranks a case of one fold against cases of another, which another network scored. Where the
networks disagree about the level of the probabilities, the pooled AUC is too low, though each
network orders its own cases as well; where folds differ in prevalence it can be off either way. The
mean of the folds' AUCs compares cases with cases of their own fold only.

The standard deviation over folds tells how steady training is. It is no standard error: the folds
share their training cases.

References:
    Forman and Scholz, Apples-to-Apples in Cross-Validation Studies, SIGKDD Explorations 12(1),
    2010; Bengio and Grandvalet, No Unbiased Estimator of the Variance of K-Fold Cross-Validation,
    JMLR 5, 2004.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvid.evaluate.bootstrap import Measure
from medvid.evaluate.measure import list_present
from medvid.evaluate.metrics import weighted_auc
from medvid.evaluate.predictions import Outcomes
from medvid.evaluate.terms import Rows, Term

Floats = NDArray[np.float64]

NAME = "auc_within_folds"


@dataclass(frozen=True)
class FoldAuc:
    """The AUC of one fold; of one seed, where there are several.

    Args:
        fold: its number.
        seed: of the training.
        value: the AUC; NaN when a class is absent from the fold.
    """

    fold: int
    seed: int
    value: float


def list_fold_aucs(outcomes: Outcomes, positive: int) -> list[FoldAuc]:
    """Returns the AUC of every fold; of several classes or findings the mean over those present."""
    found = []
    for seed in np.unique(outcomes.seeds):
        for fold in np.unique(outcomes.folds[outcomes.seeds == seed]):
            rows = outcomes.select((outcomes.seeds == seed) & (outcomes.folds == fold))
            value = _measure_auc(rows, np.ones((1, len(rows))), positive)[0]
            found.append(FoldAuc(int(fold), int(seed), float(value)))
    return found


def make_fold_measure(positive: int) -> Measure:
    """Returns the function that averages the AUC over the folds that have both classes.

    A resample in which such a fold lacks a class is undefined.
    """

    def measure(rows: Outcomes, weights: Floats) -> dict[str, Floats]:
        values = []
        for fold in np.unique(rows.folds):
            own = rows.folds == fold
            part = rows.select(own)
            if np.isfinite(_measure_auc(part, np.ones((1, len(part))), positive)[0]):
                values.append(_measure_auc(part, weights[:, own], positive))
        undefined = np.full(len(weights), np.nan)
        return {NAME: np.mean(values, axis=0) if values else undefined}

    return measure


def list_fold_terms(outcomes: Outcomes, positive: int) -> list[Term]:
    """Returns the pairs behind the mean: within each fold, of each class or finding."""
    terms = []
    for fold in np.unique(outcomes.folds):
        own = outcomes.folds == fold
        for _, truth, absent in list_truths(outcomes, positive):
            if (own & truth).any() and (own & absent).any():
                terms.append(Term(own & truth, own & absent))
    return terms


def _measure_auc(rows: Outcomes, weights: Floats, positive: int) -> Floats:
    values = []
    for column, truth, absent in list_truths(rows, positive):
        known = truth | absent
        scores = rows.probabilities[known, column]
        values.append(weighted_auc(truth[known].astype(np.int64), scores, weights[:, known]))
    return np.mean(values, axis=0) if values else np.full(len(weights), np.nan)


def list_truths(rows: Outcomes, positive: int) -> Iterator[tuple[int, Rows, Rows]]:
    """Yields (column, present, absent) of every comparison that the AUC averages over."""
    if rows.multilabel:
        for k in list_present(rows):
            yield k, rows.labels[:, k] == 1, rows.labels[:, k] == 0
    else:
        for k in [positive] if len(rows.classes) == 2 else list_present(rows):
            yield k, rows.labels == k, rows.labels != k
