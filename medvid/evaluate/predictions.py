"""The table of predictions: the primary artefact of a run, from which every number follows.

Columns: case_id, patient_id, fold, seed, [frame,] then `label` (a class name, empty when unknown)
or, for several findings, `label_<name>` (1, 0 or empty); `prob_<class>` and `logit_<class>`.
"""

import errno
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvid.contract import DataError
from medvid.evaluate.ties import settle_probabilities

Texts = NDArray[Any]
"""Text of any length; checked at run time, `NDArray[np.str_]` would mean text of length 0."""

WHOLE_COLUMNS = ("fold", "seed", "frame")

PROBABILITY_TOLERANCE = 1e-3
"""Softmax in float32, printed and read again, sums to 1 well within this."""


@dataclass(frozen=True)
class Outcomes:
    """Labels and predictions as arrays, one row a prediction.

    Args:
        labels: (n,) class index, -1 when unknown; or (n, classes) of 0, 1 and NaN.
        probabilities: (n, classes), those that differ by noise alone being equal.
        patients: (n,) names.
        keys: (n,) names of what was predicted: the case, or the case and its frame.
        folds: (n,).
        seeds: (n,).
        classes: names, in the order of the columns.
        multilabel: several findings a row.
    """

    labels: NDArray[np.int64] | NDArray[np.float64]
    probabilities: NDArray[np.float64]
    patients: Texts
    keys: Texts
    folds: NDArray[np.int64]
    seeds: NDArray[np.int64]
    classes: tuple[str, ...]
    multilabel: bool

    def __len__(self) -> int:
        return len(self.patients)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Outcomes":
        """Returns the named rows."""
        return replace(
            self,
            labels=self.labels[rows],
            probabilities=self.probabilities[rows],
            patients=self.patients[rows],
            keys=self.keys[rows],
            folds=self.folds[rows],
            seeds=self.seeds[rows],
        )

    def known(self) -> "Outcomes":
        """Returns the rows that have a label."""
        if self.multilabel:
            return self.select(np.asarray(~np.isnan(self.labels).all(axis=1)))
        return self.select(np.asarray(self.labels >= 0))


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Reads a table of predictions.

    Raises:
        DataError: when the file is missing, empty or lacks a column; names both.
    """
    path = Path(path)
    try:
        # All as text: 007 stays 007, and a class may be called NA.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise DataError(
            f"There is no table of predictions at {path}.", code="no_predictions", files=[path]
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is no table of predictions: {error}", code="no_predictions", files=[path]
        ) from None
    for column in table.columns:
        if column.startswith(("prob_", "logit_", "label_")):
            table[column] = _read_floats(table[column], path)
        elif column in WHOLE_COLUMNS:
            numbers = _read_floats(table[column], path)
            if not np.array_equal(numbers, np.round(numbers)):
                raise DataError(
                    f"{path}, column {column}: whole numbers are needed in every row.",
                    code="no_number",
                    files=[path],
                )
            table[column] = numbers.astype(np.int64)
    _check_columns(table, str(path))
    return table


def _read_floats(cells: "pd.Series[str]", path: Path) -> NDArray[np.float64]:
    numbers = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        try:
            # float() brings every digit back; a CSV reader's own conversion may miss the last.
            numbers[row] = float(cell) if cell else np.nan
        except ValueError:
            raise DataError(
                f"{path}, row {row + 1}: `{cell}` in column {cells.name} is no number.",
                code="no_number",
                files=[path],
            ) from None
    return numbers


def write_predictions(table: pd.DataFrame, path: Path) -> None:
    """Writes a table of predictions, whole or not at all; floats come back bit by bit.

    Args:
        table: see the module.
        path: of the CSV; what lay there before is replaced, or stays when writing fails.

    Raises:
        DataError: when the place cannot be written to or the disk is full; names the file.
    """
    # Two processes may write the same table at once: each has a name of its own beside it.
    beside = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        table.to_csv(beside, index=False, lineterminator="\n")
        os.replace(beside, path)
    except OSError as error:
        raise _explain_write_error(path, error) from None
    finally:
        beside.unlink(missing_ok=True)


def _explain_write_error(path: Path, error: OSError) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"{path} could not be written: the disk is full. Make room, or give a place on "
            "another disk; nothing was left half written.",
            code="disk_full",
            files=[path],
        )
    return DataError(
        f"{path} could not be written: {error.strerror or error}.", code="not_written", files=[path]
    )


def read_outcomes(table: pd.DataFrame, where: str = "the table of predictions") -> Outcomes:
    """Turns a table into arrays.

    Probabilities that differ by the rounding of float32 alone become equal here, so that all
    metrics, curves, tests and thresholds see the same ties: see `medvid.evaluate.ties`.

    Args:
        table: see the module.
        where: its name, for messages.

    Raises:
        DataError: for missing columns, a case that stands there twice, an unknown class, or
            probabilities that are none.
    """
    _check_columns(table, where)
    classes = tuple(c.removeprefix("prob_") for c in table.columns if c.startswith("prob_"))
    multilabel = "label" not in table.columns
    probabilities = table[[f"prob_{name}" for name in classes]].to_numpy(np.float64)
    _check_probabilities(probabilities, multilabel, where)
    keys = table["case_id"].astype(str)
    if "frame" in table.columns:
        keys = keys + " frame " + table["frame"].astype(str)
    _check_doubles(table, keys.tolist(), where)
    return Outcomes(
        labels=_read_labels(table, classes, multilabel, where),
        probabilities=settle_probabilities(probabilities),
        patients=table["patient_id"].astype(str).to_numpy(np.str_),
        keys=keys.to_numpy(np.str_),
        folds=_read_numbers(table, "fold"),
        seeds=_read_numbers(table, "seed"),
        classes=classes,
        multilabel=multilabel,
    )


def average_seeds(outcomes: Outcomes) -> Outcomes:
    """Returns one row a case (and frame): the mean of its probabilities over the seeds."""
    keys, first, place = np.unique(outcomes.keys, return_index=True, return_inverse=True)
    sums = np.zeros((len(keys), len(outcomes.classes)))
    np.add.at(sums, place, outcomes.probabilities)
    mean = sums / np.bincount(place)[:, None]
    # Seeds that stand in another order from case to case are summed in another order.
    return replace(outcomes.select(first), probabilities=settle_probabilities(mean))


def split_seeds(outcomes: Outcomes) -> list[Outcomes]:
    """Returns the rows of every seed, rising."""
    return [outcomes.select(outcomes.seeds == seed) for seed in np.unique(outcomes.seeds)]


def _check_columns(table: pd.DataFrame, where: str) -> None:
    columns = list(table.columns)
    missing = [name for name in ("case_id", "patient_id") if name not in columns]
    if not any(name.startswith("prob_") for name in columns):
        missing.append("prob_<class>")
    if "label" not in columns and not any(name.startswith("label_") for name in columns):
        missing.append("label (or label_<name>)")
    if missing:
        raise DataError(
            f"{where} has no column {missing[0]}; it has {', '.join(columns) or 'none'}.",
            code="missing_column",
            files=[where],
        )
    if table.empty:
        raise DataError(f"{where} holds no prediction.", code="no_predictions", files=[where])


def _check_doubles(table: pd.DataFrame, keys: Sequence[str], where: str) -> None:
    """Stops at a prediction that would count twice."""
    seeds = _read_numbers(table, "seed").tolist()
    rows: dict[tuple[str, int], int] = {}
    for row, prediction in enumerate(zip(keys, seeds, strict=True), start=1):
        earlier = rows.setdefault(prediction, row)
        if earlier != row:
            of_seed = f" of seed {prediction[1]}" if "seed" in table.columns else ""
            raise DataError(
                f"{where}, row {row}: the case {prediction[0]}{of_seed} stands in row {earlier} "
                "already and would count twice. Keep one row for every case, or tell the rows "
                "apart by a column `frame` (of slices) or `seed` (of repeated trainings).",
                code="double_case",
                files=[where],
            )


def _check_probabilities(probabilities: NDArray[np.float64], multilabel: bool, where: str) -> None:
    within = np.isfinite(probabilities) & (probabilities >= 0) & (probabilities <= 1)
    if not within.all():
        row = int(np.argmin(within.all(axis=1)))
        raise DataError(
            f"{where}, row {row + 1}: a probability is no number from 0 to 1.",
            code="no_probability",
            files=[where],
        )
    sums = probabilities.sum(axis=1)
    if not multilabel and np.abs(sums - 1).max() > PROBABILITY_TOLERANCE:
        row = int(np.argmax(np.abs(sums - 1)))
        raise DataError(
            f"{where}, row {row + 1}: the probabilities of the classes sum to {sums[row]:.3f}, "
            "not to 1.",
            code="no_probability",
            files=[where],
        )


def _read_labels(
    table: pd.DataFrame, classes: Sequence[str], multilabel: bool, where: str
) -> NDArray[np.int64] | NDArray[np.float64]:
    if multilabel:
        absent = [name for name in classes if f"label_{name}" not in table.columns]
        if absent:
            raise DataError(
                f"{where} has prob_{absent[0]} but no label_{absent[0]}.",
                code="missing_column",
                files=[where],
            )
        findings = table[[f"label_{name}" for name in classes]]
        return findings.astype("Float64").to_numpy(np.float64, na_value=np.nan)
    index = {name: number for number, name in enumerate(classes)}
    texts = [None if pd.isna(text) or text == "" else str(text) for text in table["label"]]
    strange = next((text for text in texts if text is not None and text not in index), None)
    if strange is not None:
        raise DataError(
            f"{where}: the label `{strange}` is none of the classes {', '.join(classes)}.",
            code="unknown_label",
            files=[where],
        )
    return np.array([-1 if text is None else index[text] for text in texts], dtype=np.int64)


def _read_numbers(table: pd.DataFrame, column: str) -> NDArray[np.int64]:
    if column not in table.columns:
        return np.zeros(len(table), dtype=np.int64)
    return table[column].to_numpy(np.int64)
