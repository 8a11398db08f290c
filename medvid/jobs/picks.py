"""Which cases a report shows in pictures: those that say most about where a network errs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvid.config import Config, read_config
from medvid.context.arms import Arm
from medvid.context.cells import Cell
from medvid.contract import DataError
from medvid.evaluate import average_seeds, read_outcomes, read_predictions
from medvid.evaluate.measure import find_positive
from medvid.jobs.cell import find_arm, list_study_arms, read_arm_folds, read_study
from medvid.jobs.decisions import read_arm_points
from medvid.train.runfolder import RunFolder, read_json

Floats = NDArray[np.float64]

CONFIDENT_SHARE = 4
"""Of so many cases one is right and confident, to compare the errors with."""


@dataclass(frozen=True)
class Pick:
    """A case to be shown.

    Args:
        case_id: of the manifest.
        frame: the labelled frame, None where the whole case is labelled.
        label: the true class.
        prob: of the positive class.
        group: `false_positive`, `false_negative`, `confident` or `flipped`.
        checkpoint: the network that never saw the case.
        arm: of a study, what its network saw; empty in a run.
    """

    case_id: str
    frame: int | None
    label: str
    prob: float
    group: str
    checkpoint: Path
    arm: str = ""


def pick_from_run(folder: Path, number: int) -> list[Pick]:
    """Picks the most confident errors of a run, and some confident right answers.

    Raises:
        DataError: for a run of more than two classes, or one that is not finished.
    """
    run = RunFolder(folder)
    table = read_predictions(run.predictions_oof)
    positive = _find_column(table, read_config(run.config)["evaluate"]["positive"])
    limits = read_json(run.metrics)["operating_point"]["threshold"]
    prob = table[f"prob_{positive}"].to_numpy()
    folds = table["fold"].to_numpy()
    limit = np.array(
        [limits[str(fold)] if isinstance(limits, dict) else float(limits) for fold in folds]
    )
    wrong, right = _rank(table, prob, limit, positive)
    truth = table["label"] == positive
    room = max(1, number // CONFIDENT_SHARE)
    errors = wrong[: number - min(room, len(right))]
    groups = {row: "false_negative" if truth[row] else "false_positive" for row in errors}
    groups |= dict.fromkeys(right[: max(0, min(room, number - len(errors)))], "confident")
    return [
        _make_pick(table, prob, row, group, run.fold(int(folds[row])) / "best.ckpt")
        for row, group in groups.items()
    ]


def pick_from_study(folder: Path, number: int) -> list[Pick]:
    """Picks cases that the window changed, and for every other one an error.

    Raises:
        DataError: for a study of more than two classes, or one that is not finished.
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
        DataError: for a study of more than two classes, or one that is not finished.
    """
    config, result = read_study(folder), read_json(folder / "result.json")
    widest = _find_widest(config)
    table = read_predictions(folder / "predictions" / f"{widest.name}.csv")
    _find_column(table, config["evaluate"]["positive"])
    first = table[table["seed"] == config["seed"]]
    fold_of = dict(zip(first["case_id"], first["fold"], strict=True))
    return [
        Pick(
            case_id=one["case_id"],
            frame=one.get("frame"),
            label=one["label"],
            prob=one["wide"],
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
        DataError: for a study of more than two classes, or one that is not finished.
    """
    config = read_study(folder)
    arm = _choose_looked_into(folder, config)
    table = read_predictions(folder / "predictions" / f"{arm.name}.csv")
    positive = _find_column(table, config["evaluate"]["positive"])
    outcomes = read_outcomes(table)
    limits = read_arm_points(folder, arm, outcomes.known(), config["evaluate"]).values or {}
    mean = average_seeds(outcomes)
    column = outcomes.classes.index(positive)
    by_key = dict(zip(mean.keys.tolist(), mean.probabilities[:, column].tolist(), strict=True))
    own = table[table["seed"] == config["seed"]].reset_index(drop=True)
    prob = np.array([by_key[key] for key in read_outcomes(own).keys.tolist()])
    wrong, _ = _rank(own, prob, np.array([limits[int(k)] for k in own["fold"]]), positive)
    missed = own["label"] == positive
    return [
        _make_pick(
            own,
            prob,
            row,
            "false_negative" if missed[row] else "false_positive",
            _find_network(folder, config, arm, int(own["fold"][row])),
            arm.title,
        )
        for row in wrong
    ]


def _choose_looked_into(folder: Path, config: Config) -> Arm:
    """Returns the arm of W* where its networks were kept, else the widest window."""
    widest, chosen = _find_widest(config), read_json(folder / "result.json")["answer"]["arm"]
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


def _find_column(table: pd.DataFrame, positive: str | None) -> str:
    outcomes = read_outcomes(table)
    if outcomes.multilabel or len(outcomes.classes) != 2:
        raise DataError(
            "A gallery shows errors of a task of two classes, and this run has "
            f"{len(outcomes.classes)}. Leave `--gallery` out.",
            code="not_binary",
        )
    return outcomes.classes[find_positive(outcomes.classes, positive)]


def _rank(
    table: pd.DataFrame, prob: Floats, limit: Floats, positive: str
) -> tuple[list[int], list[int]]:
    """Returns the rows that were called wrong, and right, the most confident first."""
    labels = table["label"].fillna("")
    known, truth = (labels != "").to_numpy(), (labels == positive).to_numpy()
    called, away = prob >= limit, np.abs(prob - limit)
    return _order(known & (called != truth), away), _order(known & (called == truth), away)


def _order(rows: NDArray[np.bool_], away: Floats) -> list[int]:
    found = np.flatnonzero(rows)
    return [int(row) for row in found[np.argsort(-away[found], kind="stable")]]


def _make_pick(
    table: pd.DataFrame, prob: Floats, row: int, group: str, checkpoint: Path, arm: str = ""
) -> Pick:
    held = table.iloc[row]
    frame = int(held["frame"]) if "frame" in table and held["frame"] >= 0 else None
    return Pick(
        case_id=str(held["case_id"]),
        frame=frame,
        label=str(held["label"]),
        prob=float(prob[row]),
        group=group,
        checkpoint=checkpoint,
        arm=arm,
    )
