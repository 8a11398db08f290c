"""One row an epoch: what was reached, which epoch is the best, whether to stop.

Everything that decides about a training is computed from these rows, so that a training continued
from them decides as one that never stopped.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from medvid.train.runfolder import write_text_atomic

Monitor = Literal["val_auc", "val_loss", "val_accuracy"]

LARGER_IS_BETTER: dict[str, bool] = {"val_auc": True, "val_loss": False, "val_accuracy": True}

TIMING_COLUMNS = ("seconds", "data_wait")
"""Differ from run to run; all other columns repeat exactly on the same device."""

SMALLEST_CHANCE = 1e-15  # keeps a log loss finite; scikit-learn's long-time choice for float64


@dataclass(frozen=True)
class EpochRow:
    """What an epoch came to.

    Args:
        epoch: counted from 1.
        step: optimizer steps so far.
        train_loss: mean over the epoch's cases, of the loss that is minimised.
        val_loss: plain log loss of the validation predictions: without weights or smoothing, so
            that trainings with different losses compare. NaN without validation.
        val_auc: area under the ROC curve: of the last of two classes; the mean of one against the
            rest over classes; the mean over findings. NaN when no class can be judged.
        val_accuracy: share of cases whose most probable class is right; of findings on the right
            side of one half.
        lr: learning rate of the epoch's last step.
        seconds: wall time with validation.
        data_wait: share of the training time spent waiting for the loader.
    """

    epoch: int
    step: int
    train_loss: float
    val_loss: float
    val_auc: float
    val_accuracy: float
    lr: float
    seconds: float
    data_wait: float


def find_best(history: Sequence[EpochRow], monitor: Monitor) -> EpochRow | None:
    """Returns the first row that no other one beats; rows whose value is NaN do not count."""
    sign = 1.0 if LARGER_IS_BETTER[monitor] else -1.0
    best: EpochRow | None = None
    for row in history:
        value = float(getattr(row, monitor))
        if not math.isnan(value) and (
            best is None or sign * value > sign * float(getattr(best, monitor))
        ):
            best = row
    return best


def list_values(history: Sequence[EpochRow], monitor: Monitor, step: int) -> list[float]:
    """Returns the monitored values of the epochs that ended before `step`; larger is better."""
    sign = 1.0 if LARGER_IS_BETTER[monitor] else -1.0
    return [sign * float(getattr(row, monitor)) for row in history if row.step < step]


def has_stalled(history: Sequence[EpochRow], monitor: Monitor, patience: int | None) -> bool:
    """Tells whether the last `patience` epochs brought nothing better."""
    best = find_best(history, monitor)
    return patience is not None and best is not None and history[-1].epoch - best.epoch >= patience


def write_history(path: Path, history: Sequence[EpochRow]) -> None:
    """Writes history.csv; numbers with all their digits, NaN as nothing."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([column.name for column in fields(EpochRow)])
    for row in history:
        writer.writerow(["" if value != value else value for value in asdict(row).values()])
    write_text_atomic(path, stream.getvalue())


def judge_predictions(
    table: pd.DataFrame, classes: Sequence[str], *, multilabel: bool
) -> dict[Monitor, float]:
    """Returns the validation numbers of a table of predictions; NaN where there is no answer."""
    chances = table[[f"prob_{name}" for name in classes]].to_numpy(dtype=float)
    if multilabel:
        columns = [
            table[f"label_{name}"].to_numpy(dtype=float, na_value=np.nan) for name in classes
        ]
        return _judge_findings(chances, np.stack(columns, axis=1))
    codes = np.array([classes.index(n) if isinstance(n, str) else -1 for n in table["label"]])
    return _judge_classes(chances[codes >= 0], codes[codes >= 0])


def _judge_classes(chances: NDArray[Any], codes: NDArray[Any]) -> dict[Monitor, float]:
    if not len(codes):
        return dict.fromkeys(get_args(Monitor), math.nan)
    right = np.clip(chances[np.arange(len(codes)), codes], SMALLEST_CHANCE, 1)
    judged = [chances.shape[1] - 1] if chances.shape[1] == 2 else range(chances.shape[1])
    return {
        "val_loss": float(-np.log(right).mean()),
        "val_auc": _mean_auc([(codes == k, chances[:, k]) for k in judged]),
        "val_accuracy": float((chances.argmax(axis=1) == codes).mean()),
    }


def _judge_findings(chances: NDArray[Any], labels: NDArray[Any]) -> dict[Monitor, float]:
    known = ~np.isnan(labels)
    if not known.any():
        return dict.fromkeys(get_args(Monitor), math.nan)
    right = np.where(labels == 1, chances, 1 - chances)[known]
    return {
        "val_loss": float(-np.log(np.clip(right, SMALLEST_CHANCE, 1)).mean()),
        "val_auc": _mean_auc(
            [
                (column[there] == 1, chance[there])
                for column, chance, there in zip(labels.T, chances.T, known.T, strict=True)
            ]
        ),
        "val_accuracy": float((right > 0.5).mean()),
    }


def _mean_auc(columns: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    """Averages over the columns in which both answers occur."""
    judged = [roc_auc_score(truth, chance) for truth, chance in columns if 0 < truth.mean() < 1]
    return float(np.mean(judged)) if judged else math.nan
