"""Which cases a report shows in pictures: those that say most about where a network errs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvid.config import Config, read_config
from medvid.context.arms import Arm
from medvid.context.cells import Cell
from medvid.contract import DataError
from medvid.evaluate import average_seeds, read_outcomes, read_predictions
from medvid.evaluate.measure import Thresholds, call_positive, name_positive
from medvid.evaluate.predictions import Outcomes
from medvid.jobs.cell import find_arm, list_study_arms, read_arm_folds, read_study
from medvid.jobs.decisions import read_arm_points
from medvid.report.mistakes import read_limits
from medvid.report.results import read_metrics, read_result
from medvid.train.runfolder import RunFolder

Floats = NDArray[np.float64]
Columns = NDArray[np.int64]

CONFIDENT_SHARE = 4
"""Of so many cases one is right and confident, to compare the errors with."""


@dataclass(frozen=True)
class Pick:
    """A case to be shown.

    Args:
        case_id: of the manifest.
        frame: the labelled frame, None where the whole case is labelled.
        label: the true class.
        prob: of the class `of`.
        of: the positive class of two; of more the called one, and of a flipped case its own.
        group: `false_positive`, `false_negative`, `error` (of more than two classes), `confident`
            or `flipped`.
        checkpoint: the network that never saw the case.
        arm: of a study, what its network saw; empty in a run.
    """

    case_id: str
    frame: int | None
    label: str
    prob: float
    of: str
    group: str
    checkpoint: Path
    arm: str = ""


@dataclass(frozen=True)
class Calls:
    """What every row of a table of predictions was called.

    Args:
        classes: by their column.
        positive: column of the positive class of two, None for more.
        truth: (n,) columns, -1 when unknown.
        called: (n,) columns.
        shown: (n,) columns whose probability stands beside the row.
        prob: (n,) that probability.
        sureness: (n,) how far from another call the row is; the more, the surer.
    """

    classes: tuple[str, ...]
    positive: int | None
    truth: Columns
    called: Columns
    shown: Columns
    prob: Floats
    sureness: Floats

    def rank(self, *, right: bool) -> list[int]:
        """Returns the rows that were called right, or wrong, the surest first."""
        rows = np.flatnonzero((self.truth >= 0) & ((self.called == self.truth) == right))
        return [int(row) for row in rows[np.argsort(-self.sureness[rows], kind="stable")]]

    def name_error(self, row: int) -> str:
        """Returns the group of a row that was called wrong."""
        if self.positive is None:
            return "error"
        return "false_negative" if self.truth[row] == self.positive else "false_positive"


def pick_from_run(folder: Path, number: int) -> list[Pick]:
    """Picks the most confident errors of a run, and some confident right answers.

    Raises:
        DataError: for several findings a case, or a run that is not finished.
    """
    run = RunFolder(folder)
    table = read_predictions(run.predictions_oof)
    positive = read_config(run.config)["evaluate"]["positive"]
    calls = _call(_read_single(table), positive, read_limits(read_metrics(run.path)))
    wrong, right = calls.rank(right=False), calls.rank(right=True)
    room = max(1, number // CONFIDENT_SHARE)
    errors = wrong[: number - min(room, len(right))]
    groups = {row: calls.name_error(row) for row in errors}
    groups |= dict.fromkeys(right[: max(0, min(room, number - len(errors)))], "confident")
    folds = table["fold"].to_numpy()
    return [
        _make_pick(table, calls, row, group, run.fold(int(folds[row])) / "best.ckpt")
        for row, group in groups.items()
    ]


def pick_from_study(folder: Path, number: int) -> list[Pick]:
    """Picks cases that the window changed, and for every other one an error.

    Raises:
        DataError: for several findings a case, or a study that is not finished.
    """
    flipped, errors = pick_flipped(folder, number), pick_errors(folder)
    shown = flipped[: number - number // 2]
    taken = {(one.case_id, one.frame) for one in shown}
    errors = [one for one in errors if (one.case_id, one.frame) not in taken][: number // 2]
    taken |= {(one.case_id, one.frame) for one in errors}
    # Where there are few errors the room goes to further flipped cases.
    more = [one for one in flipped if (one.case_id, one.frame) not in taken]
    return [*shown, *more[: number - len(shown) - len(errors)], *errors]


def pick_flipped(folder: Path, number: int) -> list[Pick]:
    """Picks the cases whose answer the window changed most, for the widest window's network.

    Raises:
        DataError: for several findings a case, or a study that is not finished.
    """
    config, result = read_study(folder), read_result(folder)
    widest = _find_widest(config)
    table = read_predictions(folder / "predictions" / f"{widest.name}.csv")
    positive = name_positive(_read_single(table).classes, config["evaluate"]["positive"])
    first = table[table["seed"] == config["seed"]]
    fold_of = dict(zip(first["case_id"], first["fold"], strict=True))
    return [
        Pick(
            case_id=one["case_id"],
            frame=one.get("frame"),
            label=one["label"],
            prob=one["wide"],
            of=positive or one["label"],
            group="flipped",
            checkpoint=_find_network(folder, config, widest, int(fold_of[one["case_id"]])),
            arm=widest.title,
        )
        for one in result["flipped"][:number]
    ]


def pick_errors(folder: Path) -> list[Pick]:
    """Picks the errors of a study's answer, or of its widest window, the most confident first.

    Only some networks of a study are kept. Where those of W* are not, the widest window's errors
    are shown, since nobody can say where a network looked that is gone.

    Raises:
        DataError: for several findings a case, or a study that is not finished.
    """
    config = read_study(folder)
    arm = _choose_looked_into(folder, config)
    table = read_predictions(folder / "predictions" / f"{arm.name}.csv")
    outcomes = _read_single(table)
    mean = average_seeds(outcomes)
    places = {key: place for place, key in enumerate(mean.keys.tolist())}
    own = table[table["seed"] == config["seed"]].reset_index(drop=True)
    first = read_outcomes(own)
    chances = mean.probabilities[[places[key] for key in first.keys.tolist()]]
    limits: Thresholds = {}
    if len(outcomes.classes) == 2:
        limits = read_arm_points(folder, arm, outcomes.known(), config["evaluate"]).values or {}
    positive = config["evaluate"]["positive"]
    calls = _call(replace(first, probabilities=chances), positive, limits)
    return [
        _make_pick(
            own,
            calls,
            row,
            calls.name_error(row),
            _find_network(folder, config, arm, int(own["fold"][row])),
            arm.title,
        )
        for row in calls.rank(right=False)
    ]


def _choose_looked_into(folder: Path, config: Config) -> Arm:
    """Returns the arm of W* where its networks were kept, else the widest window."""
    widest, chosen = _find_widest(config), read_result(folder)["answer"]["arm"]
    if chosen is None:
        return widest
    arm = find_arm(config, chosen)
    folds = range(len(read_arm_folds(folder, arm)))
    kept = all(_find_network(folder, config, arm, fold).is_file() for fold in folds)
    return arm if kept else widest


def _find_widest(config: Config) -> Arm:
    return [arm for arm in list_study_arms(config) if arm.kind == "window"][-1]


def _find_network(folder: Path, config: Config, arm: Arm, fold: int) -> Path:
    """Returns the checkpoint of a fold's first seed."""
    return Cell(arm.name, config["seed"], fold).folder(folder) / "best.ckpt"


def _read_single(table: pd.DataFrame) -> Outcomes:
    outcomes = read_outcomes(table)
    if outcomes.multilabel:
        raise DataError(
            "A gallery shows cases that have one class each, and these have "
            f"{len(outcomes.classes)} findings, each right or wrong on its own. Leave `--gallery` "
            "out.",
            code="several_findings",
        )
    return outcomes


def _call(outcomes: Outcomes, positive: str | None, limits: Thresholds) -> Calls:
    """Calls every row: at the operating point of two classes, the likeliest one of more."""
    named = name_positive(outcomes.classes, positive)
    truth = outcomes.labels.astype(np.int64)
    rows = np.arange(len(outcomes))
    if named is None:
        called = outcomes.probabilities.argmax(axis=1)
        prob = outcomes.probabilities[rows, called]
        return Calls(outcomes.classes, None, truth, called, called, prob, prob)
    column = outcomes.classes.index(named)
    called = np.where(call_positive(outcomes, column, limits), column, 1 - column)
    prob = outcomes.probabilities[:, column]
    at = [limits[int(k)] if isinstance(limits, Mapping) else limits for k in outcomes.folds]
    shown = np.full(len(rows), column)
    return Calls(outcomes.classes, column, truth, called, shown, prob, np.abs(prob - np.array(at)))


def _make_pick(
    table: pd.DataFrame, calls: Calls, row: int, group: str, checkpoint: Path, arm: str = ""
) -> Pick:
    held = table.iloc[row]
    frame = int(held["frame"]) if "frame" in table and held["frame"] >= 0 else None
    return Pick(
        case_id=str(held["case_id"]),
        frame=frame,
        label=str(held["label"]),
        prob=float(calls.prob[row]),
        of=calls.classes[calls.shown[row]],
        group=group,
        checkpoint=checkpoint,
        arm=arm,
    )
