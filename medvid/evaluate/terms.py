"""What a metric is counted over: the cases behind it, and how many of them are independent.

Accuracy is a share of all cases, sensitivity one of the positive ones, the AUC one of pairs of a
positive and a negative case. The number of cases stands beside every metric; the number of
independent patients (or pairs of patients) gives an exact bound where the bootstrap cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvid.evaluate.measure import OF_ANY, Thresholds, call_positive, list_known, list_present
from medvid.evaluate.predictions import Outcomes

Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Term:
    """A share that a metric is, or is the mean of.

    Args:
        rows: (n,) the rows that it is a share of.
        against: (n,) for pairs, the rows of the other kind; None for a share of rows.
    """

    rows: Rows
    against: Rows | None = None


SHARES = frozenset(
    {
        "auc",
        "auc_within_folds",
        "accuracy",
        "balanced_accuracy",
        "sensitivity",
        "specificity",
        "ppv",
        "npv",
    }
)
"""Metrics that are a share of independent trials, or a mean of such shares."""


def list_terms(outcomes: Outcomes, positive: int, thresholds: Thresholds) -> dict[str, list[Term]]:
    """Returns the terms of every metric of this kind of task, see `make_measure`."""
    if not outcomes.multilabel and len(outcomes.classes) == 2:
        truth = outcomes.labels == positive
        called = call_positive(outcomes, positive, thresholds)
        return _list_binary(truth, ~truth, called)
    every = np.ones(len(outcomes), dtype=np.bool_)
    present = list_present(outcomes)
    if outcomes.multilabel:
        parts = {k: list_class_terms(outcomes, k, thresholds) for k in list_known(outcomes)}
        return {
            name: [term for k in parts if k in present or name in OF_ANY for term in parts[k][name]]
            for name in next(iter(parts.values()))
        }
    own = [outcomes.labels == k for k in present]
    return {
        "auc": [Term(rows, ~rows) for rows in own],
        "accuracy": [Term(every)],
        "balanced_accuracy": [Term(rows) for rows in own],
    }


def list_class_terms(
    outcomes: Outcomes, column: int, thresholds: Thresholds
) -> dict[str, list[Term]]:
    """Returns the terms of the metrics of one class against the rest, or of one finding."""
    if not outcomes.multilabel:
        truth = outcomes.labels == column
        return {"auc": [Term(truth, ~truth)], "sensitivity": [Term(truth)]}
    truth, absent = outcomes.labels[:, column] == 1, outcomes.labels[:, column] == 0
    return _list_binary(truth, absent, call_positive(outcomes, column, thresholds))


def _list_binary(truth: Rows, absent: Rows, called: Rows) -> dict[str, list[Term]]:
    known = truth | absent
    whole = ("average_precision", "accuracy", "f1", "log_loss", "brier", "ece")
    return {
        **{name: [Term(known)] for name in whole},
        "auc": [Term(truth, absent)],
        "balanced_accuracy": [Term(truth), Term(absent)],
        "sensitivity": [Term(truth)],
        "specificity": [Term(absent)],
        "ppv": [Term(known & called)],
        "npv": [Term(known & ~called)],
    }


def count_cases(outcomes: Outcomes, terms: Sequence[Term]) -> int:
    """Returns how many cases take part in any of the terms; in any seed, where there are several.

    Without terms (a mean over all cases) every case does.
    """
    if not terms:
        return len(np.unique(outcomes.keys))
    taken = np.zeros(len(outcomes), dtype=np.bool_)
    for term in terms:
        taken |= term.rows if term.against is None else term.rows | term.against
    return len(np.unique(outcomes.keys[taken]))


def count_trials(outcomes: Outcomes, terms: Sequence[Term]) -> int:
    """Returns how many independent trials stand behind a mean of shares; the fewest of any seed.

    A share of rows has one trial a patient, since cases of one patient are not independent. A
    share of pairs has as many as pairs can be made without using a patient twice. When each of K
    terms came out perfect, the mean theta of their K true shares is bounded by

    * theta ** (fewest trials of a term), since the worst of the terms lies at or below the mean;
    * theta ** (K * fewest trials of a term) when the terms have no patient in common, since they
      are then independent and a geometric mean lies at or below the arithmetic one.
    """
    seeds = np.unique(outcomes.seeds)
    return min(_count_trials(outcomes, terms, outcomes.seeds == seed) for seed in seeds)


def _count_trials(outcomes: Outcomes, terms: Sequence[Term], seed: Rows) -> int:
    counts, used = [], []
    for term in terms:
        patients = np.unique(outcomes.patients[term.rows & seed])
        if not len(patients):  # a fold of another seed
            continue
        if term.against is None:
            counts.append(len(patients))
            used.append(patients)
        else:
            others = np.unique(outcomes.patients[term.against & seed])
            both = np.union1d(patients, others)
            counts.append(min(len(patients), len(others), len(both) // 2))
            used.append(both)
    if not counts:
        return 0
    apart = sum(len(part) for part in used) == len(np.unique(np.concatenate(used)))
    return min(counts) * (len(counts) if apart else 1)
