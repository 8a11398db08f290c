"""`medvid compare`: two runs on the same cases, paired."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medvid.config import read_config
from medvid.contract import ConfigError
from medvid.evaluate import compare_predictions, read_outcomes, read_predictions, roc_band
from medvid.evaluate.differences import check_auc_margin
from medvid.evaluate.measure import find_positive
from medvid.jobs.outputs import claimed_folder
from medvid.report.figures import plot_roc_comparison
from medvid.report.html import write_comparison
from medvid.report.mistakes import read_limits
from medvid.report.results import read_metrics
from medvid.train.runfolder import RunFolder, open_run_folder, write_json


@dataclass(frozen=True)
class Comparison:
    """Where a comparison lies, and what it says.

    Args:
        folder: comparison.json, comparison.html, roc.png and roc.svg.
        result: see `medvid.evaluate.compare_predictions`.
    """

    folder: Path
    result: Mapping[str, Any]


def compare(
    run_a: Path,
    run_b: Path,
    *,
    out: Path | None = None,
    common_only: bool = False,
    margin: float = 0.02,
    resamples: int = 2000,
) -> Comparison:
    """Compares the out-of-fold predictions of two runs.

    Args:
        run_a: a finished run folder.
        run_b: another one on the same cases.
        out: where the result goes; `<run_a>/compared_with_<run_b>` when None.
        common_only: leave out the cases that only one run has.
        margin: the AUC difference that does not matter.
        resamples: of the bootstrap.

    Raises:
        ConfigError: when the runs call different classes positive, or for a margin that
            is not above 0 and below 0.5.
        DataError: when a run is not finished or its metrics.json is damaged, or the cases, labels
            or classes differ.
    """
    check_auc_margin(margin)
    first, second = open_run_folder(run_a), open_run_folder(run_b)
    tables = [read_predictions(run.predictions_oof) for run in (first, second)]
    positive = _read_positive(first, second, tables)
    folder = out or first.path / f"compared_with_{second.path.name}"
    with claimed_folder(folder):
        result = compare_predictions(
            tables[0],
            tables[1],
            positive=positive,
            thresholds_a=read_limits(read_metrics(first.path)),
            thresholds_b=read_limits(read_metrics(second.path)),
            common_only=common_only,
            margin=margin,
            resamples=resamples,
        )
    names = [name_run(first), name_run(second)]
    unit = "slice" if "frame" in tables[0].columns else "case"
    result = {"run_a": names[0], "run_b": names[1], "unit": unit, **result}
    write_json(folder / "comparison.json", result)
    binary = result["task"] == "binary"
    figure = _plot(folder, names, tables, positive, resamples) if binary else None
    write_comparison(folder, result, figure)
    return Comparison(folder, result)


def name_run(run: RunFolder) -> str:
    """Returns the name that the config gave a run, without its time."""
    return str(read_config(run.config)["name"])


def _read_positive(first: RunFolder, second: RunFolder, tables: list[pd.DataFrame]) -> str | None:
    """Returns the positive class of both; each threshold is of its own run's positive class."""
    said = [read_config(run.config)["evaluate"]["positive"] for run in (first, second)]
    outcomes = [read_outcomes(table) for table in tables]
    classes = outcomes[0].classes
    if outcomes[0].multilabel or len(classes) > 2 or classes != outcomes[1].classes:
        return None if said[0] is None else str(said[0])
    meant = [classes[find_positive(classes, name)] for name in said]
    if meant[0] != meant[1]:
        raise ConfigError(
            f"The positive class of {first.path} is `{meant[0]}`, that of {second.path} is "
            f"`{meant[1]}`; sensitivities and thresholds of different classes cannot be compared. "
            "Train both with the same `evaluate.positive`.",
            code="different_positive",
        )
    return meant[0]


def _plot(
    folder: Path,
    names: list[str],
    tables: list[pd.DataFrame],
    positive: str | None,
    resamples: int,
) -> Path:
    outcomes = [read_outcomes(table).known() for table in tables]
    # With `common_only` the numbers are of the cases that both have, and so are the curves.
    common = np.intersect1d(outcomes[0].keys, outcomes[1].keys)
    curves = []
    for name, own in zip(names, outcomes, strict=True):
        both = own.select(np.isin(own.keys, common))
        column = find_positive(both.classes, positive)
        curves.append((name, roc_band(both, column, resamples=resamples)))
    return plot_roc_comparison(folder / "roc", curves)
