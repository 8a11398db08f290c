"""`medvid check`: what would go wrong after an hour of training, before the first epoch."""

from typing import Any

from rich.console import Console

from medvid.config import Config
from medvid.data.pairs import ANSWERS
from medvid.evaluate.measure import name_positive
from medvid.jobs.clip_length import refuse_lengths
from medvid.jobs.clip_shape import read_clip_shape
from medvid.jobs.folds import plan_folds
from medvid.jobs.job import Job, open_job
from medvid.jobs.network import build_network, find_model_section
from medvid.jobs.pretrain import Pretraining, load_pairs, make_pair_folds, open_pretraining
from medvid.jobs.start import find_head, plan_starts, start_network
from medvid.jobs.survey import Findings, describe_folds, survey
from medvid.jobs.task import TaskData
from medvid.jobs.teacher import build_matcher, find_teachers
from medvid.jobs.trial import describe_network, describe_steps
from medvid.train.freeze import freeze_parameters
from medvid.train.losses import build_loss
from medvid.train.optim import build_optimizer


def check(config: Config, *, console: Console | None = None) -> Findings:
    """Checks a config, every file it names, the splits, and one step forward and backward.

    Every stack is decoded into the store, which training needs anyway; the estimate of disk space
    comes before that. Of a config with a section `pretrain` the teacher is looked at as well.

    Raises:
        ConfigError: for options that cannot be meant.
        DataError: for data that cannot be used, unless quarantined; names what can.
    """
    findings = Findings()
    if config.get("pretrain"):
        opened = open_pretraining(config)
        _try_pairs(opened, survey(opened.job.data, findings, console), findings)
        return findings
    job = open_job(config)
    data = survey(job.data, findings, console)
    positive = name_positive(
        data.space.classes, job.evaluate["positive"], multilabel=data.space.multilabel
    )
    if positive is not None:
        findings.add("positive", f"{positive} (evaluate.positive)")
    if job.overfit:
        findings.add("folds", f"none: overfitting {job.overfit} cases")
    else:
        describe_folds(data.folds(job.seed), findings)
    _try_step(job, data, findings)
    return findings


def _try_step(job: Job, data: TaskData, findings: Findings) -> None:
    """Trains one batch forward and backward, times it, and estimates the whole."""
    shape = read_clip_shape(data)
    network = build_network(find_model_section(job.config), data.space, shape, job.seed)
    describe_network(network, shape, findings)
    frozen = freeze_parameters(network, job.train.get("freeze", ()))
    if frozen:
        findings.add("frozen", f"{len(frozen)} of {len(list(network.parameters()))} weights")
    build_optimizer(job.config["train"]["optimizer"], network)  # its patterns fit the network
    folds = plan_folds(job, data)
    refuse_lengths(network, data, folds, augment=not job.overfit)
    if job.init is not None:
        starts = plan_starts(job.init, dict(enumerate(folds)), data.records)
        head = find_head(find_model_section(job.config), data.space, shape)
        report = start_network(network, job.init, starts[0], data.space, head, shape.channels)
        findings.add("start", f"fold 0 from {starts[0].name()}: {report.summarize()}")
    counts: Any = [(1, 1) if data.space.multilabel else 1] * len(data.space.classes)
    criterion = build_loss(
        job.train.get("loss"),
        num_classes=len(data.space.classes),
        multilabel=data.space.multilabel,
        class_counts=counts,
    )
    describe_steps(
        network,
        data.loader(folds[0].train, training=True, seed=job.seed),
        criterion,
        multilabel=data.space.multilabel,
        epochs=job.config["train"]["epochs"],
        folds=len(folds),
        findings=findings,
    )


def _try_pairs(opened: Pretraining, data: TaskData, findings: Findings) -> None:
    """Does the same with student and teacher of a pre-training, on pairs."""
    job, shape = opened.job, read_clip_shape(data)
    folds = make_pair_folds(data, opened.labelled, job.seed)
    describe_folds(folds, findings)
    origin = find_teachers(opened.options, data.records, dict(enumerate(folds)))[0]
    matcher = build_matcher(job, opened.options, origin, shape, job.seed)
    describe_network(matcher.student, shape, findings)
    refuse_lengths(matcher.student, data, folds)
    findings.add("teacher", f"{type(matcher.teacher).__name__}, fold 0 from {origin.name()}")
    build_optimizer(job.config["train"]["optimizer"], matcher)
    criterion = build_loss(
        job.train.get("loss"), num_classes=len(ANSWERS), multilabel=False, class_counts=[1, 1]
    )
    describe_steps(
        matcher,
        load_pairs(data, folds[0].train, training=True, seed=job.seed),
        criterion,
        multilabel=False,
        epochs=job.config["train"]["epochs"],
        folds=len(folds),
        findings=findings,
    )
