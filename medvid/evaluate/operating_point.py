"""The threshold at which a probability becomes a decision: chosen on validation, never on test."""

import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from medvid.contract import ConfigError
from medvid.evaluate.predictions import Outcomes

Rule = str | float | Mapping[str, float]
"""`youden`, `{sensitivity: 0.95}`, `{specificity: 0.9}`, or the threshold itself."""

DEFAULT_THRESHOLD = 0.5
"""Where nothing was held back to choose on."""


def choose_threshold(
    labels: NDArray[np.int64], scores: NDArray[np.float64], rule: Rule = "youden"
) -> float:
    """Chooses the threshold; a score at or above it is positive.

    The candidates lie half-way between neighbouring scores, so that a case next to the threshold
    falls on the same side after rounding.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) probability of the positive class.
        rule: `youden` maximises sensitivity + specificity; `{sensitivity: 0.95}` is the highest
            threshold with at least that sensitivity; `{specificity: 0.9}` the lowest one with at
            least that specificity; a number is the threshold.

    Where one of the classes is absent nothing can be chosen: the threshold is 0.5, with a
    `UserWarning`. `explain_fallback` gives the sentence for the record.

    Raises:
        ConfigError: for a rule that cannot be meant.
    """
    check_rule(rule)
    if isinstance(rule, int | float):
        return float(rule)
    fallback = explain_fallback(labels, rule)
    if fallback:
        warnings.warn(f"The operating point is {fallback}.", UserWarning, stacklevel=2)
        return DEFAULT_THRESHOLD
    distinct = np.unique(scores)
    candidates = np.concatenate([[0.0], (distinct[1:] + distinct[:-1]) / 2, [distinct[-1] + 1e-6]])
    positives, negatives = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    sensitivity = 1 - np.searchsorted(positives, candidates) / len(positives)
    specificity = np.searchsorted(negatives, candidates) / len(negatives)
    if isinstance(rule, str):
        best = sensitivity + specificity
        # Of several equal ones the middle: farthest from flipping to a worse one.
        ties = np.flatnonzero(best >= best.max() - 1e-12)
        return float(candidates[ties[len(ties) // 2]])
    ((what, target),) = rule.items()
    if what == "sensitivity":
        return float(candidates[np.flatnonzero(sensitivity >= target - 1e-12)[-1]])
    return float(candidates[np.flatnonzero(specificity >= target - 1e-12)[0]])


def explain_fallback(labels: NDArray[np.int64], rule: Rule) -> str:
    """Says why a threshold is not what the rule asks for; empty where it is.

    Args:
        labels: (n,) 0 or 1, of the cases to choose on.
        rule: see `choose_threshold`.

    Returns:
        Such as `0.5, since all 12 cases to choose on (youden) are negative`.
    """
    if isinstance(rule, int | float) or len(np.unique(labels)) == 2:
        return ""
    if not len(labels):
        return f"{DEFAULT_THRESHOLD}, since there is no case to choose on ({rule})"
    only = "positive" if labels[0] == 1 else "negative"
    return f"{DEFAULT_THRESHOLD}, since all {len(labels)} cases to choose on ({rule}) are {only}"


def check_rule(rule: Rule) -> None:
    """Checks a rule before anything is trained.

    Raises:
        ConfigError: for a rule that cannot be meant.
    """
    if isinstance(rule, bool):
        good = False
    elif isinstance(rule, int | float):
        good = 0 <= rule <= 1
    elif isinstance(rule, str):
        good = rule == "youden"
    else:
        good = (
            len(rule) == 1
            and set(rule) <= {"sensitivity", "specificity"}
            and all(0 <= value <= 1 for value in rule.values())
        )
    if not good:
        raise ConfigError(
            f"The operating point `{rule}` cannot be meant. Write `youden`, `{{sensitivity: "
            "0.95}`, `{specificity: 0.9}` or a threshold from 0 to 1.",
            code="operating_point",
        )


def cross_fit_thresholds(outcomes: Outcomes, positive: int, rule: Rule) -> dict[int, float]:
    """Chooses every fold's threshold on the out-of-fold predictions of the other folds.

    For runs without a validation part: no case takes part in the choice of its own threshold. A
    single fold gets 0.5, as does one whose other folds lack a class, with a `UserWarning`;
    `explain_cross_fit` gives the sentences for the record.
    """
    return {
        fold: choose_threshold(labels, scores, rule)
        for fold, labels, scores in split_by_fold(outcomes, positive)
    }


def explain_cross_fit(outcomes: Outcomes, positive: int, rule: Rule) -> list[str]:
    """Says which folds' thresholds of `cross_fit_thresholds` are not what the rule asks for."""
    said = {
        fold: explain_fallback(labels, rule)
        for fold, labels, _ in split_by_fold(outcomes, positive)
    }
    return [f"The operating point of fold {fold} is {why}." for fold, why in said.items() if why]


def split_by_fold(
    outcomes: Outcomes, positive: int
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
    """Yields every fold with the labels and scores of the other folds' other patients.

    In a repeated cross-validation the folds of another repetition hold the fold's own patients.
    """
    known = outcomes.known()
    for fold in np.unique(outcomes.folds):
        own = np.unique(known.patients[known.folds == fold])
        others = known.select((known.folds != fold) & ~np.isin(known.patients, own))
        labels = (others.labels == positive).astype(np.int64)
        yield int(fold), labels, others.probabilities[:, positive]
