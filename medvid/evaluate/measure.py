"""All metrics of one table of predictions, whichever kind of task it is."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from medvid.contract import ConfigError
from medvid.evaluate.bootstrap import Measure
from medvid.evaluate.metrics import binary_metrics, class_metrics, multiclass_metrics
from medvid.evaluate.predictions import Outcomes

Floats = NDArray[np.float64]
Thresholds = Mapping[int, float] | float
"""One for all, or one a fold."""

OF_ANY = frozenset({"accuracy", "log_loss", "brier", "ece"})
"""Metrics that mean something for a finding that is never, or always, present."""


def find_positive(classes: Sequence[str], positive: str | None) -> int:
    """Returns the index of the positive class of two: the last one unless said otherwise.

    Raises:
        ConfigError: when there is no such class.
    """
    if positive is None:
        return len(classes) - 1
    if positive not in classes:
        raise ConfigError(
            f"`positive: {positive}` is none of the classes {', '.join(classes)}.",
            code="unknown_label",
        )
    return list(classes).index(positive)


def name_positive(
    classes: Sequence[str], positive: str | None, *, multilabel: bool = False
) -> str | None:
    """Returns the class of two that is called positive; None for other tasks.

    Args:
        classes: of the task.
        positive: as `evaluate.positive` says; None for the last one.
        multilabel: whether they are findings, of which a case may have several.

    Raises:
        ConfigError: when there is no such class.
    """
    if multilabel or len(classes) != 2:
        return None
    return classes[find_positive(classes, positive)]


def make_measure(outcomes: Outcomes, positive: int, thresholds: Thresholds) -> Measure:
    """Returns the function that computes the metrics of this kind of task."""
    present = list_present(outcomes)
    if outcomes.multilabel:
        known = list_known(outcomes)
        return lambda rows, weights: _measure_findings(rows, weights, thresholds, known, present)
    if len(outcomes.classes) > 2:
        return lambda rows, weights: multiclass_metrics(
            rows.labels.astype(np.int64), rows.probabilities, weights, present
        )
    return lambda rows, weights: binary_metrics(
        (rows.labels == positive).astype(np.int64),
        rows.probabilities[:, positive],
        call_positive(rows, positive, thresholds),
        weights,
    )


def make_class_measures(outcomes: Outcomes, thresholds: Thresholds) -> dict[str, Measure]:
    """Returns a measure for every class (against the rest) or finding; none for two classes."""
    if outcomes.multilabel:
        return {
            name: partial(_measure_finding, column=k, thresholds=thresholds)
            for k, name in enumerate(outcomes.classes)
        }
    if len(outcomes.classes) == 2:
        return {}
    return {name: partial(_measure_class, column=k) for k, name in enumerate(outcomes.classes)}


def list_present(outcomes: Outcomes) -> list[int]:
    """Returns the classes that have a case, or the findings that are present and absent in some.

    The others have no AUC; averages over classes or findings leave them out.
    """
    if not outcomes.multilabel:
        return [int(k) for k in np.unique(outcomes.labels[outcomes.labels >= 0])]
    both = (outcomes.labels == 1).any(axis=0) & (outcomes.labels == 0).any(axis=0)
    return [int(k) for k in np.flatnonzero(both)]


def list_known(outcomes: Outcomes) -> list[int]:
    """Returns the findings that are known, present or absent, in at least one row."""
    return [int(k) for k in np.flatnonzero(~np.isnan(outcomes.labels).all(axis=0))]


def call_positive(rows: Outcomes, column: int, thresholds: Thresholds) -> NDArray[np.bool_]:
    """Returns which rows lie at or above their fold's threshold."""
    if isinstance(thresholds, Mapping):
        limits = np.array([thresholds[int(fold)] for fold in rows.folds], dtype=np.float64)
    else:
        limits = np.full(len(rows), thresholds, dtype=np.float64)
    called: NDArray[np.bool_] = rows.probabilities[:, column] >= limits
    return called


def _measure_class(rows: Outcomes, weights: Floats, *, column: int) -> dict[str, Floats]:
    return class_metrics(rows.labels.astype(np.int64), rows.probabilities, weights)[column]


def _measure_finding(
    rows: Outcomes, weights: Floats, *, column: int, thresholds: Thresholds
) -> dict[str, Floats]:
    known = ~np.isnan(rows.labels[:, column])
    part = rows.select(known)
    return binary_metrics(
        part.labels[:, column].astype(np.int64),
        part.probabilities[:, column],
        call_positive(part, column, thresholds),
        weights[:, known],
    )


def _measure_findings(
    rows: Outcomes,
    weights: Floats,
    thresholds: Thresholds,
    known: Sequence[int],
    present: Sequence[int],
) -> dict[str, Floats]:
    """Averages over findings: those present and absent in some case, or all known ones."""
    each = {k: _measure_finding(rows, weights, column=k, thresholds=thresholds) for k in known}
    undefined = np.full(len(weights), np.nan)
    made = {}
    for name in each[known[0]]:
        parts = [each[k][name] for k in known if k in present or name in OF_ANY]
        made[name] = np.mean(parts, axis=0) if parts else undefined
    return made
