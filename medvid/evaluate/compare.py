"""Two runs on the same cases: paired differences with intervals, by the statistics of a study."""

from typing import Any

import numpy as np
import pandas as pd

from medvid.evaluate.arms import Arm, SeedWeights, Study
from medvid.evaluate.bootstrap import draw_patients, estimate_seeds, resample_seeds
from medvid.evaluate.differences import (
    check_auc_margin,
    cross_check,
    describe_difference,
    measure_difference,
)
from medvid.evaluate.matching import match_outcomes
from medvid.evaluate.measure import Thresholds, find_positive, make_measure
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD
from medvid.evaluate.predictions import read_outcomes
from medvid.evaluate.spread import Part
from medvid.evaluate.summary import name_task
from medvid.evaluate.verdict import decide

MARGIN = 0.02
"""An AUC difference that does not matter, unless another is declared: that of the context study."""

NAMES = ("Run A", "Run B")

REMEDY = "Compare on the common ones with --common-only."


def compare_predictions(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    positive: str | None = None,
    thresholds_a: Thresholds | None = None,
    thresholds_b: Thresholds | None = None,
    common_only: bool = False,
    margin: float = MARGIN,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """Compares two tables of predictions of the same cases.

    Both are measured on the same resampled patients, so that what makes a patient hard for both
    cancels. With several seeds, a run's metric is the mean over its seeds, and the interval is over
    patients and seeds; runs of the same seeds are paired by seed.

    Args:
        a: first table.
        b: second table.
        positive: the positive class of two; the last one when None.
        thresholds_a: of the first run, see `evaluate_predictions`.
        thresholds_b: of the second run.
        common_only: compare on the cases that both have, instead of refusing.
        margin: the AUC difference that does not matter, declared beforehand.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        level: of the intervals.

    Returns:
        Plain values: counts, `metrics` {name: {a, b, difference, low, high, p, n, method}} with
        difference = a - b, `delong` for binary tasks, and of the AUC `verdict`, the word of
        `medvid.evaluate.verdict` for run A against run B, and `sentence`.

    Raises:
        ConfigError: for a margin that is not above 0 and below 0.5.
        DataError: when classes, cases or labels differ, or no row has a label.
    """
    check_auc_margin(margin)
    named = {
        name: read_outcomes(table, name).known() for name, table in zip(NAMES, (a, b), strict=True)
    }
    matched, dropped = match_outcomes(named, remedy=REMEDY, common_only=common_only)
    first = matched[NAMES[0]]
    column = find_positive(first.classes, positive)
    draws = draw_patients(first, resamples, seed)
    weights = SeedWeights(resamples, seed)
    arms = {}
    for (name, outcomes), limits in zip(matched.items(), (thresholds_a, thresholds_b), strict=True):
        measure = make_measure(outcomes, column, DEFAULT_THRESHOLD if limits is None else limits)
        resampled = resample_seeds(outcomes, measure, draws)
        parts = {
            metric: Part(values, resampled[metric], weights.of(outcomes), draws.freedom)
            for metric, values in estimate_seeds(outcomes, measure).items()
        }
        arms[name] = Arm(outcomes, parts)
    study = Study(arms, column, draws)
    metrics = {name: _compare(study, name, level) for name in arms[NAMES[0]].parts}
    auc = metrics["auc"]
    verdict = decide(auc["low"], auc["high"], auc["p"], margin=margin, level=level)
    row = auc | {"metric": "auc", "verdict": verdict, "n_patients": study.n_patients}
    row |= {"value_a": auc["a"], "value_b": auc["b"]}
    return {
        "task": name_task(first),
        "n_cases": len(np.unique(first.keys)),
        "n_patients": study.n_patients,
        "n_left_out": dropped,
        "level": level,
        "margin": margin,
        "metrics": metrics,
        "delong": cross_check(study, *NAMES),
        "verdict": verdict,
        "sentence": describe_difference(row, *NAMES, margin=margin, level=level),
    }


def _compare(study: Study, metric: str, level: float) -> dict[str, Any]:
    found = measure_difference(study, *NAMES, metric, level)
    del found["n_patients"]
    return {"a": found.pop("value_a"), "b": found.pop("value_b"), **found}
