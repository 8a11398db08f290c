"""A study before its folder is made: its options checked against the data, its arms listed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from medvid.build import validate_options
from medvid.config import Config, list_configs, read_config
from medvid.context.arms import Arm
from medvid.context.length import fit_length
from medvid.context.options import check_context, context_options
from medvid.contract import ConfigError
from medvid.data.splits import make_folds
from medvid.evaluate.holm import check_resamples
from medvid.jobs.cell import lay_over, list_study_arms
from medvid.jobs.clip_shape import read_clip_shape
from medvid.jobs.job import Job, anchor_paths, open_job
from medvid.jobs.messages import show_progress
from medvid.jobs.network import build_network, find_model_section
from medvid.models import MODELS


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
    _refuse_repeats(job)
    windows = options["windows"] or options["windows_mm"]
    family = max(len(windows) - 1, len(options["controls"]), len(options["networks"]))
    check_resamples(job.evaluate["resamples"], job.evaluate["level"], family)
    with show_progress(console, "preparing scans") as progress:
        job = replace(job, data=job.data.prepare(progress))
    options["length"] = fit_length(
        options,
        _list_lattices(options, job),
        middle_only=job.data.task == "scan" and options["positions"] == "centre",
    )
    options["networks"] = _number_networks([_resolve_network(one) for one in options["networks"]])
    left_out = _leave_out(options, job)
    options["controls"] = [name for name in options["controls"] if name not in left_out]
    _check_subgroups(options["subgroups"], job)
    whole = {**job.config, "context": options}
    whole["data"] = anchor_paths(whole["data"])
    arms = list_study_arms(whole)
    widest = _open_widest(whole, arms, job)
    for model in {str(arm.changes.get("model")): arm for arm in arms}.values():
        spec = find_model_section(lay_over(whole, model))
        build_network(spec, widest.data.space, read_clip_shape(widest.data), widest.seed)
    return Study(whole, widest, arms, left_out)


def _open_widest(config: Config, arms: Sequence[Arm], base: Job) -> Job:
    widest = [arm for arm in arms if arm.kind == "window"][-1]
    job, ready = open_job(lay_over(config, widest)), base.data
    # What was refused was refused once; among it are cases without a label, which stop nothing.
    data = replace(
        job.data,
        records=ready.records,
        given=ready.given,
        refused=ready.refused,
        space=ready.space,
    )
    return replace(job, data=data)


def _refuse_repeats(job: Job) -> None:
    section = job.data.options["splits"] or {}
    given = ("records", "space", "seed")
    options = validate_options(make_folds, section, "section `data.splits`", given)
    repeats = options.get("repeats", 1)
    if repeats > 1:
        raise ConfigError(
            f"`data.splits.repeats: {repeats}` tests every case {repeats} times, and a study pools "
            "one test of every case and seed. Leave `repeats` out; `context.seeds` says how often "
            "everything is trained.",
            code="repeated_splits",
        )


def _list_lattices(options: Mapping[str, Any], job: Job) -> set[tuple[int, float]]:
    """Returns number and distance (mm; of a video s) of the frames of all stacks.

    Raises:
        ConfigError: for a window in mm on videos.
    """
    stacks = [job.data.store.open(record) for record in job.data.records]
    if options["windows_mm"] and any(stack.unit != "mm" for stack in stacks):
        raise ConfigError(
            "`context.windows_mm` is a length in mm, and some stacks are videos. Use `windows`.",
            code="mm_on_video",
        )
    return {(stack.num_frames, float(stack.spacing[0])) for stack in stacks}


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


def _number_networks(networks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns natural networks under names of their own: the second `c3d` is called `c3d_2`.

    Raises:
        ConfigError: for one that stands there twice with the same options.
    """
    named: dict[str, dict[str, Any]] = {}
    for one in networks:
        if any(one["model"] == other["model"] for other in named.values()):
            raise ConfigError(
                f"`context.networks` names `{one['name']}` twice with the same options. Leave one "
                "of them out, or give them different ones, such as {name: slicewise, width: 8}.",
                code="doubled_arm",
            )
        name, number = one["name"], 1
        while name in named:
            number += 1
            name = f"{one['name']}_{number}"
        named[name] = {"name": name, "model": one["model"]}
    return list(named.values())


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
