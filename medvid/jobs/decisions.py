"""From which probability on a run, or an arm of a study, calls a case positive."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from medvid.context.arms import Arm
from medvid.context.cells import Cell
from medvid.evaluate import (
    Outcomes,
    average_seeds,
    choose_threshold,
    cross_fit_thresholds,
    explain_fallback,
    read_outcomes,
    read_predictions,
)
from medvid.evaluate.measure import find_positive
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD, Rule, split_by_fold
from medvid.evaluate.summary import confuse, describe_point
from medvid.train.runfolder import VAL_PREDICTIONS


class OperatingPoints(NamedTuple):
    """Every fold's threshold, and where it comes from.

    `values` is None where there is none to choose (more than two classes, several findings).
    `fallbacks` says of some folds why their threshold is not what the rule asks for.
    """

    values: dict[int, float] | None
    method: str
    fallbacks: dict[int, str]

    def list_notes(self) -> list[str]:
        """Returns a sentence for every fold whose threshold is not what the rule asks for."""
        return [
            f"The operating point of fold {fold} is {why}." for fold, why in self.fallbacks.items()
        ]


def choose_operating_point(
    validation: Outcomes, evaluate: Mapping[str, Any]
) -> dict[str, float | str]:
    """Returns what a checkpoint says of its operating point.

    `threshold_fallback` says why it is not what the rule asks for; it is empty where it is.

    Args:
        validation: the fold's validation part.
        evaluate: options of the section.
    """
    known = validation.known()
    column = find_positive(known.classes, evaluate["positive"])
    labels = (known.labels == column).astype(np.int64)
    rule: Rule = evaluate["operating_point"]
    method = f"{rule}, on the fold's validation part"
    fallback = explain_fallback(labels, rule)
    threshold = (
        DEFAULT_THRESHOLD
        if fallback
        else choose_threshold(labels, known.probabilities[:, column], rule)
    )
    return {
        "threshold": threshold,
        "threshold_method": method,
        "threshold_fallback": fallback,
    }


def cross_fit_points(
    outcomes: Outcomes, folds: int, evaluate: Mapping[str, Any]
) -> OperatingPoints:
    """Returns every fold's operating point where no validation part could give one.

    Args:
        outcomes: out-of-fold predictions of two classes.
        folds: how many there are, from 0.
        evaluate: options of the section.
    """
    rule: Rule = evaluate["operating_point"]
    column = find_positive(outcomes.classes, evaluate["positive"])
    if isinstance(rule, int | float):
        return OperatingPoints(dict.fromkeys(range(folds), float(rule)), f"fixed at {rule}", {})
    if folds == 1:
        why = f"{DEFAULT_THRESHOLD}, since nothing was held back to choose on"
        method = f"fixed at {DEFAULT_THRESHOLD}: nothing was held back to choose on"
        return OperatingPoints({0: DEFAULT_THRESHOLD}, method, {0: why})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the fallbacks say it
        thresholds = cross_fit_thresholds(outcomes, column, rule)
    return OperatingPoints(
        thresholds,
        f"{rule}, for each fold on the out-of-fold predictions of the others",
        _explain_cross_fit(outcomes, column, rule),
    )


def _explain_cross_fit(outcomes: Outcomes, column: int, rule: Rule) -> dict[int, str]:
    """Says of some folds why the other folds could not give what the rule asks for."""
    said = {
        fold: explain_fallback(labels, rule) for fold, labels, _ in split_by_fold(outcomes, column)
    }
    return {fold: why for fold, why in said.items() if why}


def read_arm_points(
    study: Path, arm: Arm, outcomes: Outcomes, evaluate: Mapping[str, Any]
) -> OperatingPoints:
    """Returns every fold's operating point of an arm of a study, of its seeds' mean probability.

    Args:
        study: its folder, all cells finished.
        arm: of two classes.
        outcomes: its out-of-fold predictions, of all seeds.
        evaluate: options of the section.
    """
    folds = sorted({int(fold) for fold in outcomes.folds})
    files = {
        fold: [
            Cell(arm.same_as or arm.name, int(seed), fold).folder(study) / VAL_PREDICTIONS
            for seed in np.unique(outcomes.seeds)
        ]
        for fold in folds
    }
    if not all(path.is_file() for own in files.values() for path in own):
        return cross_fit_points(average_seeds(outcomes), folds[-1] + 1, evaluate)
    chosen = {fold: _choose_on_mean(own, evaluate) for fold, own in files.items()}
    return OperatingPoints(
        {fold: float(point["threshold"]) for fold, point in chosen.items()},
        f"{evaluate['operating_point']}, on each fold's validation part",
        {
            fold: str(point["threshold_fallback"])
            for fold, point in chosen.items()
            if point["threshold_fallback"]
        },
    )


def _choose_on_mean(files: Sequence[Path], evaluate: Mapping[str, Any]) -> dict[str, float | str]:
    validation = pd.concat([read_predictions(path) for path in files], ignore_index=True)
    return choose_operating_point(average_seeds(read_outcomes(validation)), evaluate)


def describe_decisions(
    study: Path, arm: Arm, table: pd.DataFrame, evaluate: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Returns what an arm of a study calls what, by the mean of its seeds' probabilities.

    Args:
        study: its folder, all cells finished.
        arm: whose calls.
        table: its out-of-fold predictions, of all seeds.
        evaluate: options of the section.

    Returns:
        Plain values: `arm`, `confusion` and `operating_point` as in metrics.json (the latter None
        for more than two classes), and `notes` on folds whose point is not what was asked for.
        None for several findings.
    """
    outcomes = read_outcomes(table).known()
    if outcomes.multilabel:
        return None
    column = find_positive(outcomes.classes, evaluate["positive"])
    mean = average_seeds(outcomes)
    made: dict[str, Any] = {"arm": arm.name, "operating_point": None, "notes": []}
    if len(outcomes.classes) > 2:
        return made | {"confusion": confuse(mean, column, DEFAULT_THRESHOLD)}
    points = read_arm_points(study, arm, outcomes, evaluate)
    limits = points.values or {}
    return made | {
        "operating_point": describe_point(limits, points.method),
        "notes": points.list_notes(),
        "confusion": confuse(mean, column, limits),
    }
