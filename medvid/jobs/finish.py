"""The end of a run: the folds' predictions pooled, measured and reported."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from medvid.evaluate import (
    evaluate_predictions,
    read_outcomes,
    read_predictions,
    write_predictions,
)
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD, Rule
from medvid.jobs.decisions import OperatingPoints, cross_fit_points
from medvid.report.html import write_report
from medvid.train.checkpoint import load_checkpoint, update_checkpoint_meta
from medvid.train.distributed import find_place
from medvid.train.runfolder import TEST_PREDICTIONS, VAL_PREDICTIONS, RunFolder, write_json


def finish_run(run: RunFolder, folds: int, evaluate: Mapping[str, Any]) -> None:
    """Writes predictions_oof.csv, metrics.json and report.html from the folds' predictions.

    Operating points that no validation part could give are written into the checkpoints now, so
    that `medvid predict` decides as the metrics were computed.
    """
    if find_place().rank > 0:
        return
    tables = [read_predictions(run.fold(number) / TEST_PREDICTIONS) for number in range(folds)]
    pooled = pd.concat(tables, ignore_index=True)
    write_predictions(pooled, run.predictions_oof)
    points = read_thresholds(run, folds, pooled, evaluate)
    _note_points(run, points)
    metrics = evaluate_predictions(
        pooled,
        positive=evaluate["positive"],
        thresholds=points.values,
        threshold_method=points.method,
        resamples=evaluate["resamples"],
        level=evaluate["level"],
        notes=points.list_notes(),
    )
    write_json(run.metrics, metrics)
    write_report(run.path)


def read_thresholds(
    run: RunFolder, folds: int, pooled: pd.DataFrame, evaluate: Mapping[str, Any]
) -> OperatingPoints:
    """Returns every fold's operating point: its validation part's, or a cross-fitted one."""
    outcomes = read_outcomes(pooled)
    if outcomes.multilabel or len(outcomes.classes) != 2:
        return OperatingPoints(None, f"fixed at {DEFAULT_THRESHOLD}", {})
    rule: Rule = evaluate["operating_point"]
    if all((run.fold(number) / VAL_PREDICTIONS).is_file() for number in range(folds)):
        metas = [load_checkpoint(run.fold(k) / "best.ckpt")["medvid"] for k in range(folds)]
        said = {number: meta.get("threshold_fallback") for number, meta in enumerate(metas)}
        return OperatingPoints(
            {number: float(meta["threshold"]) for number, meta in enumerate(metas)},
            f"{rule}, on each fold's validation part",
            {number: why for number, why in said.items() if why},
        )
    return cross_fit_points(outcomes, folds, evaluate)


def _note_points(run: RunFolder, points: OperatingPoints) -> None:
    """Writes the operating points into the checkpoints that do not carry one yet."""
    for number, threshold in (points.values or {}).items():
        path = run.fold(number) / "best.ckpt"
        note = {
            "threshold": threshold,
            "threshold_method": points.method,
            "threshold_fallback": points.fallbacks.get(number, ""),
        }
        known = load_checkpoint(path)["medvid"]
        of_validation = (run.fold(number) / VAL_PREDICTIONS).is_file() and "threshold" in known
        if not of_validation and any(known.get(key) != value for key, value in note.items()):
            update_checkpoint_meta(path, **note)
