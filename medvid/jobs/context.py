"""`medvid context`: how much slice context does the task need?"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from medvid.config import Config, format_config
from medvid.context.cells import Cell, list_cells, list_seeds
from medvid.context.registration import read_registration, register
from medvid.context.schedule import check_cluster, choose_jobs, run_cells
from medvid.data.manifest import write_refused
from medvid.data.splits import describe_folds
from medvid.jobs.cell import (
    check_finished,
    list_study_arms,
    name_splits,
    open_arm,
    read_arm_folds,
    read_study,
    run_cell,
)
from medvid.jobs.gather import gather_study
from medvid.jobs.messages import say, show_progress
from medvid.jobs.plan import Plan, plan_study
from medvid.jobs.resume import check_unchanged, note_cases
from medvid.jobs.study import Study, open_study
from medvid.train.runfolder import RunFolder, create_run_folder, write_json


def study_context(
    config: Config | None = None,
    *,
    resume: Path | None = None,
    runs: Path = Path("runs"),
    jobs: int | None = None,
    cluster: str | None = None,
    command: Sequence[str] = (),
    console: Console | None = None,
) -> Path:
    """Trains every arm, seed and fold, and writes the answer and its report.

    Arguments and errors are those of `train_study`.

    Returns:
        The study's folder; see `result.json` and `report.html` in it.
    """
    folder = train_study(
        config,
        resume=resume,
        runs=runs,
        jobs=jobs,
        cluster=cluster,
        command=command,
        console=console,
    )
    gather_study(folder)
    return folder


def train_study(
    config: Config | None = None,
    *,
    resume: Path | None = None,
    runs: Path = Path("runs"),
    jobs: int | None = None,
    cluster: str | None = None,
    command: Sequence[str] = (),
    console: Console | None = None,
) -> Path:
    """Trains every arm, seed and fold.

    Args:
        config: of a new study, with a section `context`.
        resume: the folder of a study to go on with, instead of a config.
        runs: where new study folders are made.
        jobs: trainings side by side on this machine; None chooses.
        cluster: address of a Dask scheduler that runs them instead.
        command: the command line, for the record.
        console: where progress is shown; None is silent.

    Returns:
        The study's folder.

    Raises:
        ConfigError: for a config that cannot be meant, or a cluster that cannot be reached.
        DataError: for data that cannot be used, or that changed since the study began, or a
            finished cell that is damaged.
        StudyInterrupted: on Ctrl+C; `resume` goes on.
    """
    if cluster is not None:  # before anything is prepared or made for it
        check_cluster(cluster)
    if resume is not None:
        folder = Path(resume).absolute()
        read_registration(folder)
        _check_cases(folder, console)
        check_finished(folder, _list_all_cells(folder))
    elif config is None:
        raise ValueError("train_study() needs a config, or a study to resume.")
    else:
        study = open_study(config, console)
        plan = plan_study(study.job, study.arms, study.config, jobs or choose_jobs())
        for line in plan.tell():
            say(console, line)
        folder = _start_study(study, plan, runs, command)
        say(console, f"Study folder: {folder}")
    cells = list_open_cells(folder)
    with show_progress(console, "cells") as progress:
        run_cells(
            run_cell,
            folder,
            cells,
            jobs=jobs or choose_jobs(),
            cluster=cluster,
            advance=lambda done: progress(done, len(cells)),
        )
    return folder


def plan_context(
    config: Config, *, jobs: int | None = None, console: Console | None = None
) -> Plan:
    """Says what a study would take, and writes nothing but the store.

    Raises:
        ConfigError: for a config that cannot be meant.
        DataError: for data that cannot be used.
    """
    study = open_study(config, console)
    return plan_study(study.job, study.arms, study.config, jobs or choose_jobs())


def list_open_cells(folder: Path) -> list[Cell]:
    """Returns the cells of a study that are not finished."""
    return [cell for cell in _list_all_cells(folder) if not cell.is_finished(folder)]


def _list_all_cells(folder: Path) -> list[Cell]:
    config = read_study(folder)
    arms = list_study_arms(config)
    seeds = list_seeds(config["seed"], config["context"]["seeds"])
    return list_cells(arms, seeds, len(read_arm_folds(folder, arms[0])))


def _start_study(study: Study, plan: Plan, runs: Path, command: Sequence[str]) -> Path:
    run = create_run_folder(runs, study.config["name"], command=command)
    data = study.job.data
    note_cases(run, data.as_given())
    write_refused(run.refused, data.refused)
    for share in {arm.share for arm in study.arms}:
        options = {**(data.options["splits"] or {}), "train_share": share or 1.0}
        own = replace(data, options={**data.options, "splits": options})
        folds = own.folds(study.job.seed)
        write_json(name_splits(run.path, share), describe_folds(folds))
    write_json(run.path / "plan.json", plan.describe())
    # Registered last: a folder without study.yaml is no study, and none of its cells can be run.
    register(run.path.absolute(), format_config(study.config), study.left_out)
    return run.path.absolute()


def _check_cases(folder: Path, console: Console | None) -> None:
    """Makes sure that a study goes on with the cases that it began with."""
    # What this process remembers of the study is not what lies on disk now.
    read_study.cache_clear()
    open_arm.cache_clear()
    config = read_study(folder)
    widest = [arm for arm in list_study_arms(config) if arm.kind == "window"][-1]
    with show_progress(console, "looking for changed scans"):
        job = open_arm(folder, widest.name)
        check_unchanged(RunFolder(folder), job.data, read_arm_folds(folder, widest))
