"""`medvid context`: how much slice context does the task need?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from medvid.build import validate_options
from medvid.config import Config, format_config, list_configs, read_config
from medvid.context.arms import Arm
from medvid.context.cells import Cell, list_cells, list_seeds
from medvid.context.options import check_context, context_options
from medvid.context.registration import read_registration, register
from medvid.context.schedule import choose_jobs, run_cells
from medvid.contract import ConfigError
from medvid.data.manifest import write_refused
from medvid.data.splits import describe_folds
from medvid.jobs.cell import (
    lay_over,
    list_study_arms,
    name_splits,
    open_arm,
    read_arm_folds,
    read_study,
    run_cell,
)
from medvid.jobs.gather import gather_study
from medvid.jobs.job import Job, anchor_paths, open_job
from medvid.jobs.messages import say, show_progress
from medvid.jobs.network import build_network, find_model_section
from medvid.jobs.plan import Plan, plan_study
from medvid.jobs.resume import check_unchanged, note_cases
from medvid.models import MODELS
from medvid.train.runfolder import RunFolder, create_run_folder, write_json


@dataclass(frozen=True)
class Study:
    """A study before its folder is made.

    Args:
        config: as it will be registered: every section filled in, lengths and networks resolved.
        job: of the widest window, its data prepared.
        arms: all of them.
        left_out: arms that cannot be run on these data, with the reason.
    """

    config: Config
    job: Job
    arms: Sequence[Arm]
    left_out: Mapping[str, str]


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
        ConfigError: for a config that cannot be meant.
        DataError: for data that cannot be used, or that changed since the study began.
        StudyInterrupted: on Ctrl+C; `resume` goes on.
    """
    if resume is not None:
        folder = Path(resume).absolute()
        read_registration(folder)
        _check_cases(folder, console)
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
    config = read_study(folder)
    arms = list_study_arms(config)
    seeds = list_seeds(config["seed"], config["context"]["seeds"])
    folds = len(read_arm_folds(folder, arms[0]))
    return [cell for cell in list_cells(arms, seeds, folds) if not cell.is_finished(folder)]


def open_study(config: Config, console: Console | None) -> Study:
    """Checks a study, prepares its data and builds every arm's network once.

    Raises:
        ConfigError: for options that cannot be meant, or a network that cannot be built.
        DataError: for data that cannot be used.
    """
    section = config.get("context")
    if not section:
        raise ConfigError(
            "The config has no section `context`. A study needs one, at least `context: {windows: "
            "[1, 3, 9]}`; `medvid config run/study_nodule` shows an example.",
            code="no_context",
        )
    if config.get("init") or config.get("pretrain") or config.get("overfit"):
        raise ConfigError(
            "A study trains every arm from scratch on all cases; leave `init`, `pretrain` and "
            "`overfit` out of it.",
            code="not_from_scratch",
        )
    options = context_options(**validate_options(context_options, section, "section `context`"))
    check_context(options)
    base = {key: value for key, value in config.items() if key != "context"}
    job = open_job(base)
    with show_progress(console, "preparing scans") as progress:
        job = replace(job, data=job.data.prepare(progress))
    options["length"] = options["length"] or _find_length(options, job)
    options["networks"] = [_resolve_network(spec) for spec in options["networks"]]
    left_out = _leave_out(options, job)
    options["controls"] = [name for name in options["controls"] if name not in left_out]
    _check_subgroups(options["subgroups"], job)
    whole = {**job.config, "context": options}
    whole["data"] = anchor_paths(whole["data"])
    arms = list_study_arms(whole)
    widest = _open_widest(whole, arms, job)
    for model in {str(arm.changes.get("model")): arm for arm in arms}.values():
        spec = find_model_section(lay_over(whole, model))
        build_network(spec, widest.data.space, widest.data.clip_shape(), widest.seed)
    return Study(whole, widest, arms, left_out)


def _open_widest(config: Config, arms: Sequence[Arm], base: Job) -> Job:
    widest = [arm for arm in arms if arm.kind == "window"][-1]
    job = open_job(lay_over(config, widest))
    return replace(job, data=job.data.without(base.data.refused) if base.data.refused else job.data)


def _find_length(options: Mapping[str, Any], job: Job) -> int:
    """Returns the frames of the widest window; of one in mm where slices are as far apart as usual.

    Raises:
        ConfigError: for a window in mm on videos.
    """
    if options["windows"]:
        return int(max(options["windows"]))
    stacks = [job.data.store.open(record) for record in job.data.records]
    if any(stack.unit != "mm" for stack in stacks):
        raise ConfigError(
            "`context.windows_mm` is a length in mm, and some stacks are videos. Use `windows`.",
            code="mm_on_video",
        )
    steps = sorted(stack.spacing[0] for stack in stacks)
    middle = steps[len(steps) // 2]
    return 2 * int(max(options["windows_mm"]) / 2 / middle + 1e-3) + 1


def _resolve_network(spec: Any) -> dict[str, Any]:
    """Returns the short name and the section `model` of a natural network."""
    if isinstance(spec, Mapping):
        return {"name": str(spec.get("name")), "model": dict(spec)}
    if spec in MODELS:
        return {"name": spec, "model": {"name": spec}}
    shipped = spec if spec in list_configs() else f"model/{spec}"
    section = read_config(shipped)["model"]
    return {
        "name": shipped.rsplit("/", 1)[-1].removesuffix("_scan"),
        "model": {"name": section} if isinstance(section, str) else dict(section),
    }


def _leave_out(options: Mapping[str, Any], job: Job) -> dict[str, str]:
    if "far" not in options["controls"]:
        return {}
    shortest = min(job.data.store.open(record).num_frames for record in job.data.records)
    if shortest // 2 > options["length"] // 2:
        return {}
    return {
        "far": f"the shortest stack has {shortest} frames, so a window of {options['length']} "
        "leaves none elsewhere."
    }


def _check_subgroups(columns: Sequence[str], job: Job) -> None:
    known = {key for record in job.data.records for key in record.extra}
    unknown = next((name for name in columns if name not in known), None)
    if unknown is not None:
        raise ConfigError(
            f"`context.subgroups` names the column `{unknown}`, which the manifest does not have. "
            f"It has {', '.join(sorted(known)) or 'no further columns'}.",
            code="no_column",
        )


def _start_study(study: Study, plan: Plan, runs: Path, command: Sequence[str]) -> Path:
    run = create_run_folder(runs, study.config["name"], command=command)
    data = study.job.data
    note_cases(run, data.records)
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
