"""A config with a section `pretrain`: a 3D network learns from a 2D one, without labels.

    medvid train run/phantom_slicewise data.manifest=labelled.csv
    medvid train run/t3d_transfer data.manifest=all.csv pretrain.teacher=runs/slicewise-...
    medvid train run/phantom_t3d data.manifest=labelled.csv init.from=runs/t3d-transfer-...

The folds are those of the training with labels on the same manifest, `data.splits` and `seed`, and
cases without a label join the training side; so fold k of the last run starts from fold k here and
nobody whom it tests on was seen before, by student or teacher.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from torch.utils.data import DataLoader

from medvid.config import Config, check_shapes
from medvid.contract import ConfigError, Record
from medvid.data.channels import name_channels
from medvid.data.labels import LabelSpace, find_label_space, list_labels
from medvid.data.pairs import ANSWERS, PairDataset, build_pair_loader
from medvid.data.spelling import plain_patient
from medvid.data.splits import Fold, read_folds
from medvid.evaluate import evaluate_predictions, read_predictions, write_predictions
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD
from medvid.jobs.clip_length import refuse_lengths
from medvid.jobs.clip_shape import read_clip_shape
from medvid.jobs.data_section import read_records, resolve_data
from medvid.jobs.job import Job, anchor_paths, list_train_defaults, resolve_evaluate
from medvid.jobs.lineage import Origin
from medvid.jobs.messages import say, show_progress
from medvid.jobs.network import (
    describe_for_checkpoint,
    find_model_section,
)
from medvid.jobs.resume import check_unchanged
from medvid.jobs.task import TaskData, build_task
from medvid.jobs.teacher import (
    MATCH,
    build_matcher,
    find_teachers,
    note_teacher,
    read_pretrain,
)
from medvid.jobs.train import check_fold_number, start_run
from medvid.report.html import write_report
from medvid.train.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from medvid.train.distributed import find_place, share_from_first
from medvid.train.fit import fit_fold, validate_train_options
from medvid.train.matching import PairMatcher
from medvid.train.predict import predict_loader
from medvid.train.runfolder import TEST_PREDICTIONS, RunFolder, read_json, write_json

MATCHER = "matcher.ckpt"
"""In a fold's folder: student, teacher and the layers between. best.ckpt is the student alone."""


@dataclass(frozen=True)
class Pretraining:
    """A config with a section `pretrain`, checked and resolved.

    Args:
        job: its `data` has all records, with a label or without.
        options: of the section `pretrain`.
        labelled: the records with labels, whose folds count; None where labels tell nothing.
    """

    job: Job
    options: Mapping[str, Any]
    labelled: TaskData | None


def pretrain(
    config: Config,
    *,
    run: RunFolder | None,
    fold: int | None,
    runs: Path,
    command: Sequence[str],
    console: Console | None,
) -> RunFolder:
    """Pre-trains every fold and measures how often held-out patients' pairs are told apart.

    Args:
        config: of a new run, or that of `run`.
        run: one that goes on.
        fold: train this one only.
        runs: where new run folders are made.
        command: the command line, for the record.
        console: where progress is shown; None is silent.

    Returns:
        The run folder. best.ckpt of its folds is the student: `init: {from: RUN}` starts from it.

    Raises:
        ConfigError: for a config that cannot be meant.
        DataError: for data or a teacher that cannot be used.
        TrainingInterrupted: on Ctrl+C; `resume` goes on.
    """
    opened = open_pretraining(config)
    job = opened.job
    with show_progress(console, "preparing scans") as progress:
        job = replace(job, data=job.data.prepare(progress))
    if run is not None:
        folds = read_folds(read_json(run.splits))
        check_unchanged(run, job.data, folds)
    else:
        folds = make_pair_folds(job.data, opened.labelled, job.seed)
    check_fold_number(fold, len(folds))
    wanted = {number: one for number, one in enumerate(folds) if fold in (None, number)}
    teachers = find_teachers(opened.options, job.data.records, wanted)
    for origin in list(teachers.values())[:1]:  # told before a run folder is made
        shape = read_clip_shape(job.data)
        student = build_matcher(job, opened.options, origin, shape, job.seed).student
        refuse_lengths(student, job.data, folds)
    if run is None:
        run = start_run(job, folds, runs, command)
    say(console, f"Run folder: {run.path}")
    for number, one in wanted.items():
        _pretrain_fold(job, opened.options, run, number, one, teachers[number], len(folds), console)
    if len(run.list_finished_folds()) == len(folds):
        _finish(run, len(folds), job.evaluate)
    return run


def open_pretraining(config: Config) -> Pretraining:
    """Checks every section of a config and opens its data; labels are no must.

    Raises:
        ConfigError: for an option that cannot be meant.
        DataError: for records that cannot be used.
    """
    check_shapes(config, "The config")
    if config.get("init") or config.get("overfit"):
        raise ConfigError(
            "A pre-training begins from random weights and with all cases: leave the sections "
            "`init` and `overfit` out.",
            code="pretraining",
        )
    options = read_pretrain(config)
    data_section = resolve_data(config)
    if data_section["task"] == "slice":
        data_section["task"] = "scan"  # a clip needs no labelled slice
    if data_section["balanced"]:
        raise ConfigError("`data.balanced` draws by labels, and pairs have none. Leave it out.")
    records, missing = read_records(data_section)
    data_section["channels"] = name_channels(data_section["channels"], records) or None
    transforms = config.get("transforms") or {}
    labelled = _find_labelled(records, data_section, transforms)
    space = LabelSpace((), multilabel=False) if labelled is None else labelled.space
    if labelled is None:
        records = tuple(
            replace(r, label=None, slice_labels=None, placed_labels=None) for r in records
        )
    data = build_task(data_section, transforms, records, space)
    data = replace(data, missing=missing, locked=True)
    train = validate_train_options(config.get("train") or {}, num_classes=2, multilabel=False)
    evaluate = resolve_evaluate({**config, "evaluate": config.get("evaluate") or {}})
    seed = int(config.get("seed") or 0)
    resolved = {
        "name": config.get("name") or "pretraining",
        "seed": seed,
        "data": anchor_paths(data.options),
        "transforms": dict(transforms),
        "model": find_model_section(config),
        "pretrain": options,
        "train": list_train_defaults() | train,
        "evaluate": evaluate,
    }
    return Pretraining(Job(resolved, data, train, evaluate, seed, 0), options, labelled)


def make_pair_folds(data: TaskData, labelled: TaskData | None, seed: int) -> list[Fold]:
    """Splits the records by patient, in the folds of a training with labels where there are any.

    Cases without a label join the training side, or the side that their patient is on.

    Raises:
        DataError: for leakage, or too few patients.
    """
    if labelled is None:
        return data.folds(seed)
    held = {record.case_id: record for record in data.records}
    kept = tuple(record for record in labelled.records if record.case_id in held)
    folds = replace(labelled, records=kept).folds(seed)
    return [_add_unlabelled(fold, held) for fold in folds]


def _find_labelled(
    records: Sequence[Record], options: Mapping[str, Any], transforms: Mapping[str, Any]
) -> TaskData | None:
    """Returns the records that a training with labels would have; None where it would have none."""
    known = [record for record in records if list_labels(record)]
    if len({str(label) for record in known for label in list_labels(record)}) < 2:
        return None
    return build_task(options, transforms, known, find_label_space(known, options["classes"]))


def _add_unlabelled(fold: Fold, records: Mapping[str, Record]) -> Fold:
    sides = {name: list(cases) for name, cases in fold.sides().items()}
    placed = {
        plain_patient(records[case].patient_id): name
        for name, cases in sides.items()
        for case in cases
    }
    known = {case for cases in sides.values() for case in cases}
    for case, record in records.items():
        if case not in known:
            sides[placed.get(plain_patient(record.patient_id), "train")].append(case)
    order = {case: row for row, case in enumerate(records)}
    train, val, test = (tuple(sorted(sides[name], key=order.__getitem__)) for name in sides)
    return replace(fold, train=train, val=val, test=test)


def _pretrain_fold(
    job: Job,
    options: Mapping[str, Any],
    run: RunFolder,
    number: int,
    fold: Fold,
    origin: Origin,
    total: int,
    console: Console | None,
) -> None:
    folder = run.fold(number)
    if (folder / TEST_PREDICTIONS).exists():
        return
    seed, shape = job.seed + fold.repeat, read_clip_shape(job.data)
    matcher = build_matcher(job, options, origin, shape, seed)
    note_teacher(folder, origin)
    described = describe_for_checkpoint(job.config, replace(job.data, space=MATCH), shape)
    meta = described | {"fold": number, "pretrained": origin.describe()}
    training = dict(job.train)
    if not fold.val:
        training |= {"select": "last", "early_stopping_patience": None}
    fit_fold(
        matcher,
        load_pairs(job.data, fold.train, training=True, seed=seed),
        load_pairs(job.data, fold.val, training=False, seed=seed) if fold.val else None,
        folder,
        classes=ANSWERS,
        multilabel=False,
        meta=meta,
        seed=seed,
        resume=True,
        console=console,
        title=f"fold {number + 1}/{total}",
        **training,
    )
    if find_place().rank == 0:
        _keep_student(matcher, folder, meta)
        loader = load_pairs(job.data, fold.test, training=False, seed=seed)
        table = predict_loader(matcher, loader, classes=ANSWERS, multilabel=False)
        table.insert(2, "fold", number)
        table.insert(3, "seed", seed)
        write_predictions(table, folder / TEST_PREDICTIONS)
    share_from_first(f"fold_{number}", "done")


def load_pairs(
    data: TaskData, cases: Sequence[str], *, training: bool, seed: int
) -> DataLoader[dict[str, Any]]:
    """Returns the batches of pairs: a clip, and frames of the same patient or of another."""
    pairs = PairDataset(data.dataset(cases, training=training, seed=seed))
    options = data.options
    return build_pair_loader(pairs, batch_size=options["batch_size"], workers=options["workers"])


def _keep_student(matcher: PairMatcher, folder: Path, meta: Mapping[str, Any]) -> None:
    """Puts the selected matcher aside and the student alone into best.ckpt, in this order.

    Interrupted between the two it finds the first one done, and does the second.
    """
    if not (folder / MATCHER).is_file():
        save_checkpoint(load_checkpoint(folder / "best.ckpt"), folder / MATCHER)
    load_weights(matcher, load_checkpoint(folder / MATCHER), folder / MATCHER)
    save_weights(matcher.student, folder / "best.ckpt", {**meta, "classes": list(ANSWERS)})


def _finish(run: RunFolder, folds: int, evaluate: Mapping[str, Any]) -> None:
    """Writes predictions_oof.csv, metrics.json and report.html of the pairs."""
    if find_place().rank > 0:
        return
    tables = [read_predictions(run.fold(number) / TEST_PREDICTIONS) for number in range(folds)]
    pooled = pd.concat(tables, ignore_index=True)
    write_predictions(pooled, run.predictions_oof)
    metrics = evaluate_predictions(
        pooled,
        positive=ANSWERS[1],
        thresholds=dict.fromkeys(range(folds), DEFAULT_THRESHOLD),
        threshold_method=f"fixed at {DEFAULT_THRESHOLD}: pairs are as often one as the other",
        resamples=evaluate["resamples"],
        level=evaluate["level"],
        notes=["The task is to tell whether a clip and single frames are of the same patient."],
    )
    write_json(run.metrics, metrics)
    write_report(run.path)
