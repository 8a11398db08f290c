"""One cell of a study, trained in whatever process it was given to."""

import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from medvid.config import Config, merge, read_config
from medvid.context.arms import Arm, list_arms
from medvid.context.budget import keep_steps
from medvid.context.cells import Cell, finish_cell, read_cell, tell_remedy
from medvid.context.registration import STUDY, pick_versions
from medvid.contract import DataError
from medvid.data.splits import Fold, read_folds
from medvid.evaluate import read_outcomes, read_predictions
from medvid.jobs.clip_shape import read_clip_shape
from medvid.jobs.folds import train_fold
from medvid.jobs.job import Job, open_job
from medvid.jobs.network import find_model_section
from medvid.jobs.resume import recall_cases
from medvid.train.runfolder import (
    TEST_PREDICTIONS,
    VAL_PREDICTIONS,
    RunFolder,
    hash_file,
    read_json,
)

_ONE_AT_A_TIME = threading.Lock()
"""torch's random numbers belong to the process: two cells in two threads would mix theirs."""


def run_cell(study: Path, cell: Cell) -> None:
    """Trains a cell and predicts its held-out side, unless that was done before.

    A cell that was killed goes on from its last epoch. On the CPU it computes on one thread, so
    that its numbers do not depend on how many cells run beside it.

    Args:
        study: the folder of the study.
        cell: which one.

    Raises:
        DataError: when the cell's fold is not in the study, or its data have changed.
        TrainingInterrupted: on Ctrl+C.
    """
    if cell.is_finished(study):
        return
    with _ONE_AT_A_TIME, _one_thread():
        config = read_study(study)
        arm = find_arm(config, cell.arm)
        job = open_arm(study, cell.arm)
        fold = read_arm_folds(study, arm)[cell.fold]
        folder = cell.folder(study)
        if arm.share is not None:
            whole = read_folds(read_json(name_splits(study, None)))[cell.fold]
            job = give_equal_steps(job, fold, whole)
        title = f"{cell.arm}, seed {cell.seed}, fold {cell.fold}"
        train_fold(job, folder, cell.fold, fold, seed=cell.seed, title=title)
        finish_cell(cell, study, _describe_cell(job, folder, fold))
        _drop_checkpoints(config, folder, cell)


def check_finished(study: Path, cells: Iterable[Cell]) -> None:
    """Makes sure that what finished cells left can be read, before other cells are trained.

    Raises:
        DataError: for the first damaged file, with what to do.
    """
    config = read_study(study)
    finished = [cell for cell in cells if cell.is_finished(study)]
    arms = {cell.arm for cell in finished}
    folds = {name: read_arm_folds(study, find_arm(config, name)) for name in arms}
    for cell in finished:
        read_cell_predictions(cell, study, folds[cell.arm][cell.fold])


def read_cell_predictions(cell: Cell, study: Path, fold: Fold) -> pd.DataFrame:
    """Returns the held-out predictions of a finished cell.

    Raises:
        DataError: when the table is missing or damaged, lacks a case of the fold, or was changed
            since the cell was finished.
    """
    path = cell.folder(study) / TEST_PREDICTIONS
    noted = read_cell(cell, study).get("sha256", {})
    with tell_remedy(cell, study):
        table = read_predictions(path)
        read_outcomes(table, str(path))
        lost = sorted(set(fold.test) - set(table["case_id"]))
        if lost:
            raise DataError(
                f"{path} lacks {len(lost)} of the fold's {len(fold.test)} cases, the first one "
                f"{lost[0]}.",
                code="no_predictions",
                files=[path],
            )
        _refuse_changed(path.parent, noted)
    return table


def _refuse_changed(folder: Path, noted: Mapping[str, str]) -> None:
    """Stops at tables that are not what the cell wrote; cells of earlier versions noted nothing."""
    found = _digest_tables(folder)
    changed = [folder / name for name in noted if found.get(name) != noted[name]]
    if changed:
        raise DataError(
            f"{changed[0]} was changed or lost since its cell was finished: its SHA-256 is not the "
            "one that cell.json notes, so the answer would not be of what was trained.",
            code="changed_predictions",
            files=changed,
        )


def _digest_tables(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of the tables of predictions that a cell left."""
    paths = [folder / name for name in (VAL_PREDICTIONS, TEST_PREDICTIONS)]
    return {path.name: hash_file(path) for path in paths if path.is_file()}


def give_equal_steps(job: Job, fold: Fold, whole: Fold) -> Job:
    """Returns the job by which a fold is trained for as many steps as one of all patients.

    Args:
        job: of the arm, its data prepared.
        fold: of a share of the training patients.
        whole: the same fold of all of them.
    """
    train = job.config["train"]
    steps, of_all = (
        math.ceil(len(job.data.loader(one.train, training=True, seed=0)) / train["accumulate"])
        for one in (fold, whole)
    )
    return replace(job, train=keep_steps(train, steps, of_all))


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def read_study(study: Path) -> Config:
    """Returns the registered config of a study, its data taken from the study's own manifest."""
    return recall_cases(RunFolder(study), read_config(study / STUDY))


def list_study_arms(config: Config) -> list[Arm]:
    """Returns the arms of a registered study."""
    options = config["context"]
    networks = {section["name"]: section["model"] for section in options["networks"]}
    return list_arms(options, options["length"], networks, plain_section(config["model"]))


def find_arm(config: Config, name: str) -> Arm:
    """Returns an arm of a registered study by its name.

    Raises:
        DataError: when there is none.
    """
    found = {arm.name: arm for arm in list_study_arms(config)}
    if name not in found:
        raise DataError(f"The study has no arm `{name}`; it has {', '.join(found)}.", code="no_arm")
    return found[name]


@lru_cache(maxsize=4)
def open_arm(study: Path, name: str) -> Job:
    """Opens the job of an arm, its stacks in the store.

    Raises:
        MedvidError: for data that cannot be used.
    """
    config = read_study(study)
    job = open_job(lay_over(config, find_arm(config, name)))
    return replace(job, data=job.data.prepare())


def lay_over(config: Config, arm: Arm) -> Config:
    """Returns the study's config as the arm has it, without the section `context`."""
    base = {key: value for key, value in config.items() if key != "context"}
    base["data"] = {**base["data"], "sampler": None, "test_sampler": None}
    if "model" in arm.changes:
        base["model"] = None
    return merge(base, arm.changes)


def read_arm_folds(study: Path, arm: Arm) -> list[Fold]:
    """Returns the folds that an arm is trained on."""
    return read_folds(read_json(name_splits(study, arm.share)))


def name_splits(study: Path, share: float | None) -> Path:
    """Returns the file of the folds with a share of the training patients."""
    return study / ("splits.json" if share is None else f"splits_share{round(100 * share)}.json")


def _describe_cell(job: Job, folder: Path, fold: Fold) -> dict[str, Any]:
    history = pd.read_csv(folder / "history.csv")
    shape = read_clip_shape(job.data)
    return {
        "epochs": len(history),
        "steps": int(history["step"].iloc[-1]),
        "seconds_per_epoch": float(history["seconds"].median()),
        "train_cases": len(fold.train),
        "test_cases": len(fold.test),
        "model": plain_section(find_model_section(job.config)),
        "clip": {"channels": shape.channels, "size": shape.size, "spacing": shape.spacing},
        "steps_mm": None if shape.spacing is None else _find_steps(job, shape.spacing[0]),
        "environment": pick_versions(),
        "sha256": _digest_tables(folder),
    }


def _find_steps(job: Job, typical: float) -> tuple[float, float]:
    """Returns the smallest and the largest step (mm) of all stacks, as the network is given them.

    Args:
        job: with its data prepared.
        typical: step of a clip of the median stack, which transforms may have changed.
    """
    steps = [job.data.store.open(record).spacing[0] for record in job.data.records]
    scale = typical / float(np.median(steps))
    return scale * min(steps), scale * max(steps)


def plain_section(section: Mapping[str, Any] | str) -> dict[str, Any]:
    """Returns a section `model` as a mapping, also where it is a name alone."""
    return {"name": section} if isinstance(section, str) else dict(section)


def _drop_checkpoints(config: Config, folder: Path, cell: Cell) -> None:
    """Deletes a finished cell's networks, but those that the report looks into."""
    arms = [arm.name for arm in list_study_arms(config) if arm.kind == "window"]
    looked_into = cell.arm in (arms[0], arms[-1]) and cell.seed == config["seed"]
    (folder / "last.ckpt").unlink(missing_ok=True)
    if not (config["context"]["keep_checkpoints"] or looked_into):
        (folder / "best.ckpt").unlink(missing_ok=True)
