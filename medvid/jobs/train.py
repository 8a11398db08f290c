"""`medvid train`: cross-validation or a fixed split, from a config to a run folder."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from medvid.config import Config, format_config
from medvid.contract import ConfigError
from medvid.data.manifest import write_notes, write_refused
from medvid.data.splits import Fold, describe_folds, mix_seed, read_folds
from medvid.jobs.clip_length import refuse_lengths
from medvid.jobs.clip_shape import read_clip_shape
from medvid.jobs.finish import finish_run
from medvid.jobs.folds import plan_folds, train_fold
from medvid.jobs.job import Job, open_job
from medvid.jobs.lineage import Origin
from medvid.jobs.messages import say, show_progress
from medvid.jobs.network import build_network, find_model_section
from medvid.jobs.resume import check_unchanged, note_cases, recall_config
from medvid.jobs.start import plan_starts, try_starts
from medvid.train.distributed import find_place, share_from_first
from medvid.train.freeze import freeze_parameters
from medvid.train.loop import TrainingInterrupted
from medvid.train.runfolder import (
    RunFolder,
    create_run_folder,
    open_run_folder,
    read_json,
    write_json,
    write_text_atomic,
)


def train(
    config: Config | None = None,
    *,
    resume: Path | None = None,
    fold: int | None = None,
    runs: Path = Path("runs"),
    command: Sequence[str] = (),
    console: Console | None = None,
) -> RunFolder:
    """Trains every fold and evaluates the out-of-fold predictions.

    With a section `pretrain` the labels are not looked at; see `medvid.jobs.pretrain`.

    Args:
        config: of a new run.
        resume: the folder of a run to go on with, instead of a config. Finished folds stay, and
            the cases are those of the run's own manifest, whatever became of the user's.
        fold: train this one only; the run is evaluated once all are there.
        runs: where new run folders are made.
        command: the command line, for the record.
        console: where progress is shown; None is silent.

    Returns:
        The run folder, see DESIGN section 6 or `medvid.train.runfolder`.

    Raises:
        ConfigError: for a config that cannot be meant, or a fold that there is not.
        DataError: for data that cannot be used, or that changed since the run began.
        TrainingInterrupted: on Ctrl+C; `resume` goes on.
    """
    run = None if resume is None else open_run_folder(resume)
    if run is not None:
        config = recall_config(run)
    if config is None:
        raise ValueError("train() needs a config, or a run to resume.")
    if config.get("context"):
        raise ConfigError(
            "A config with a section `context` is a study of many trainings: `medvid context "
            "CONFIG`. Take the section out to train once.",
            code="is_study",
        )
    if config.get("pretrain"):
        from medvid.jobs.pretrain import pretrain  # it is built on this module

        return pretrain(config, run=run, fold=fold, runs=runs, command=command, console=console)
    job = open_job(config)
    folds = None if run is None else read_folds(read_json(run.splits))
    # A fold that there is not is told before all scans are decoded.
    check_fold_number(fold, job.count_folds() if folds is None else len(folds))
    with show_progress(console, "preparing scans") as progress:
        job = replace(job, data=job.data.prepare(progress))
    if run is not None and folds is not None:
        check_unchanged(run, job.data, folds)
    else:
        folds = plan_folds(job, job.data)
        check_fold_number(fold, len(folds))  # cases that were left out may have taken a fold along
    # What cannot be built, trained in parts or started is told before a run folder is made.
    spec, shape = find_model_section(job.config), read_clip_shape(job.data)
    network = build_network(spec, job.data.space, shape, job.seed)
    freeze_parameters(network, job.train.get("freeze", ()))
    refuse_lengths(network, job.data, folds, augment=not job.overfit)
    wanted = {number: one for number, one in enumerate(folds) if fold in (None, number)}
    starts = plan_starts(job.init, wanted, job.data.records, run)
    if run is None:
        try_starts(job.init, starts, spec, job.data.space, shape)
        run = start_run(job, folds, runs, command)
    say(console, f"Run folder: {run.path}")
    _train_folds(job, run, wanted, len(folds), starts, console)
    if len(run.list_finished_folds()) == len(folds):
        finish_run(run, len(folds), job.evaluate)
    return run


def check_fold_number(fold: int | None, number: int) -> None:
    """Stops when `--fold` asks for one that there is not.

    Raises:
        ConfigError: when it does.
    """
    if fold is not None and not 0 <= fold < number:
        there = f"the folds 0 to {number - 1}" if number > 1 else "fold 0 only"
        raise ConfigError(f"There is no fold {fold}; this run has {there}.", code="no_fold")


def start_run(job: Job, folds: Sequence[Fold], runs: Path, command: Sequence[str]) -> RunFolder:
    """Makes the run folder; with several processes the first one does, for all."""
    if find_place().rank > 0:
        return open_run_folder(share_from_first("run_folder", ""))
    run = create_run_folder(runs, job.config["name"], command=command)
    note_cases(run, job.data.as_given())
    write_refused(run.refused, job.data.refused)
    write_notes(
        run.notes, ((record, job.data.store.open(record).notes) for record in job.data.records)
    )
    if job.data.missing:
        write_text_atomic(run.path / "missing.txt", "\n".join(job.data.missing) + "\n")
    write_json(run.splits, describe_folds(folds))
    write_text_atomic(run.config, format_config(job.config))
    share_from_first("run_folder", str(run.path))
    return run


def _train_folds(
    job: Job,
    run: RunFolder,
    folds: Mapping[int, Fold],
    total: int,
    starts: Mapping[int, Origin],
    console: Console | None,
) -> None:
    try:
        for number, fold in folds.items():
            train_fold(
                job,
                run.fold(number),
                number,
                fold,
                seed=mix_seed(job.seed, fold.repeat),
                title=f"fold {number + 1}/{total}",
                console=console,
                origin=starts.get(number),
            )
    except TrainingInterrupted as stop:
        raise TrainingInterrupted(
            f"{stop.message} Next: medvid train --resume {shlex.quote(str(run.path))}",
            code=stop.code,
        ) from None
