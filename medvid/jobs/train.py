"""`medvid train`: cross-validation or a fixed split, from a config to a run folder."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from medvid.build import validate_options
from medvid.config import Config, format_config, read_config
from medvid.contract import DataError
from medvid.data.labels import list_labels
from medvid.data.manifest import write_manifest, write_refused
from medvid.data.splits import Fold, describe_folds, read_folds
from medvid.data.store import fingerprint
from medvid.evaluate import (
    choose_threshold,
    cross_fit_thresholds,
    evaluate_predictions,
    read_outcomes,
    read_predictions,
    write_predictions,
)
from medvid.evaluate.measure import find_positive
from medvid.evaluate.operating_point import Rule, check_rule
from medvid.jobs.messages import say, show_progress
from medvid.jobs.network import build_network, describe_for_checkpoint, find_model_section
from medvid.jobs.task import TaskData, choose_cases, open_data, resolve_data
from medvid.report.html import write_report
from medvid.train.checkpoint import load_checkpoint, load_weights, update_checkpoint_meta
from medvid.train.distributed import find_place, share_from_first
from medvid.train.fit import GIVEN, fit_fold, validate_train_options
from medvid.train.losses import count_classes
from medvid.train.predict import predict_loader
from medvid.train.runfolder import (
    RunFolder,
    create_run_folder,
    open_run_folder,
    read_json,
    write_json,
    write_text_atomic,
)

OVERFIT_EPOCHS = 100
"""Passes over a handful of cases: enough for any network that can learn at all."""

TEST_PREDICTIONS = "predictions_test.csv"
"""In a fold's folder: its held-out side; the folds together are predictions_oof.csv."""


def evaluate_options(
    *,
    positive: str | None = None,
    operating_point: str | float | dict[str, float] = "youden",
    resamples: int = 2000,
    level: float = 0.95,
) -> dict[str, Any]:
    """The options of the section `evaluate`.

    Args:
        positive: the positive class of two; the last one when None.
        operating_point: `youden`, `{sensitivity: 0.95}`, `{specificity: 0.9}` or a threshold;
            chosen on each fold's validation part, never on its test part.
        resamples: of the bootstrap.
        level: of the intervals.
    """
    return dict(locals())


@dataclass(frozen=True)
class Job:
    """A config, checked and resolved.

    Args:
        config: with every option of every section filled in.
        data: records and loaders.
        train: options of `fit_fold`.
        evaluate: options of the section `evaluate`.
        seed: of splits, weights, order and augmentation.
        overfit: train and test on so many cases only; 0 for a real run.
    """

    config: Config
    data: TaskData
    train: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    seed: int
    overfit: int


def open_job(config: Config) -> Job:
    """Checks every section of a config and opens its data.

    Raises:
        ConfigError: for any option that cannot be meant.
        DataError: for records that cannot be used.
    """
    find_model_section(config)
    data = open_data(config)
    train_section = dict(config.get("train") or {})
    overfit = int(config.get("overfit") or 0)
    if overfit:
        train_section |= {"epochs": OVERFIT_EPOCHS, "select": "last"}
        train_section.pop("early_stopping_patience", None)
    train = validate_train_options(
        train_section, num_classes=len(data.space.classes), multilabel=data.space.multilabel
    )
    evaluate = evaluate_options(
        **validate_options(evaluate_options, config.get("evaluate") or {}, "section `evaluate`")
    )
    check_rule(evaluate["operating_point"])
    if not data.space.multilabel:
        find_positive(data.space.classes, evaluate["positive"])
    for training in (True, False):  # a typo in the test transforms is told now, not after training
        data.dataset([], training=training, seed=0)
    seed = int(config.get("seed") or 0)
    resolved = {
        "name": config.get("name") or "run",
        "seed": seed,
        "overfit": overfit,
        "data": dict(data.options),
        "transforms": dict(data.transforms),
        "model": find_model_section(config),
        "train": _train_defaults() | train,
        "evaluate": evaluate,
    }
    return Job(resolved, data, train, evaluate, seed, overfit)


def resolve_config(config: Config) -> str:
    """Returns a config with all defaults as YAML, without opening its data."""
    resolved = dict(config)
    resolved["data"] = resolve_data(config)
    resolved["train"] = _train_defaults() | dict(config.get("train") or {})
    checked = validate_options(evaluate_options, config.get("evaluate") or {}, "section `evaluate`")
    resolved["evaluate"] = evaluate_options(**checked)
    return format_config({"seed": 0, **resolved})


def _train_defaults() -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(fit_fold).parameters.items()
        if name not in GIVEN and parameter.default is not inspect.Parameter.empty
    }


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

    Args:
        config: of a new run.
        resume: the folder of a run to go on with, instead of a config. Finished folds stay.
        fold: train this one only; the run is evaluated once all are there.
        runs: where new run folders are made.
        command: the command line, for the record.
        console: where progress is shown; None is silent.

    Returns:
        The run folder, see DESIGN section 6 or `medvid.train.runfolder`.

    Raises:
        ConfigError: for a config that cannot be meant.
        DataError: for data that cannot be used.
        TrainingInterrupted: on Ctrl+C; `resume` goes on.
    """
    run = None if resume is None else open_run_folder(resume)
    if run is not None:
        config = read_config(run.config)
    if config is None:
        raise ValueError("train() needs a config, or a run to resume.")
    job = open_job(config)
    with show_progress(console, "preparing scans") as progress:
        data = job.data.prepare(progress)
    job = Job(job.config, data, job.train, job.evaluate, job.seed, job.overfit)
    folds = _make_folds(job) if run is None else read_folds(read_json(run.splits))
    # A model that cannot be built is told before a run folder is made.
    build_network(find_model_section(job.config), data.space, data.clip_shape(), job.seed)
    if run is None:
        run = _start_run(job, folds, runs, command)
    _check_fold_number(fold, folds)
    say(console, f"Run folder: {run.path}")
    wanted = folds if fold is None else [folds[fold]]
    for number, one in enumerate(folds):
        if one in wanted:
            _train_fold(job, run, number, one, len(folds), console)
    if all((run.fold(number) / TEST_PREDICTIONS).exists() for number in range(len(folds))):
        finish_run(run, len(folds), job.evaluate)
    return run


def _make_folds(job: Job) -> list[Fold]:
    if not job.overfit:
        return job.data.folds(job.seed)
    cases = choose_cases(job.data.records, job.data.space, job.overfit)
    return [Fold(0, 0, train=cases, val=(), test=cases)]


def _check_fold_number(fold: int | None, folds: Sequence[Fold]) -> None:
    if fold is not None and not 0 <= fold < len(folds):
        raise DataError(
            f"There is no fold {fold}; this run has the folds 0 to {len(folds) - 1}.",
            code="no_fold",
        )


def _start_run(job: Job, folds: Sequence[Fold], runs: Path, command: Sequence[str]) -> RunFolder:
    """Makes the run folder; with several processes the first one does, for all."""
    if find_place().rank > 0:
        return open_run_folder(share_from_first("run_folder", ""))
    run = create_run_folder(runs, job.config["name"], command=command)
    records = job.data.records
    write_manifest(run.manifest, records)
    write_json(
        run.path / "fingerprints.json",
        {record.case_id: fingerprint(Path(record.path)) for record in records},
    )
    write_refused(run.refused, job.data.refused)
    if job.data.missing:
        write_text_atomic(run.path / "missing.txt", "\n".join(job.data.missing) + "\n")
    write_json(run.splits, describe_folds(folds))
    write_text_atomic(run.config, format_config(job.config))
    share_from_first("run_folder", str(run.path))
    return run


def _train_fold(
    job: Job, run: RunFolder, number: int, fold: Fold, total: int, console: Console | None
) -> None:
    folder = run.fold(number)
    if (folder / TEST_PREDICTIONS).exists():
        return
    data, seed = job.data, job.seed + fold.repeat
    shape = data.clip_shape()
    network = build_network(find_model_section(job.config), data.space, shape, seed)
    # Overfitting asks whether the network can learn at all, so cases stay as they are.
    augment = not job.overfit
    training = data.loader(fold.train, training=True, seed=seed, augment=augment)
    validation = data.loader(fold.val, training=False, seed=seed) if fold.val else None
    options = dict(job.train)
    if validation is None:
        options |= {"select": "last", "early_stopping_patience": None}
    fit_fold(
        network,
        training,
        validation,
        folder,
        classes=data.space.classes,
        multilabel=data.space.multilabel,
        class_counts=_count_classes(data, fold.train),
        meta=describe_for_checkpoint(job.config, data, shape) | {"fold": number},
        seed=seed,
        resume=True,
        console=console,
        title=f"fold {number + 1}/{total}",
        **options,
    )
    if find_place().rank == 0:
        load_weights(network, load_checkpoint(folder / "best.ckpt"), folder / "best.ckpt")
        _predict_fold(job, network, folder, number, fold, seed)
    share_from_first(f"fold_{number}", "done")


def _count_classes(data: TaskData, cases: Sequence[str]) -> Any:
    wanted = set(cases)
    labels = [
        label
        for record in data.records
        if record.case_id in wanted
        for label in list_labels(record)
    ]
    return count_classes(labels, data.space.classes, multilabel=data.space.multilabel)


def _predict_fold(job: Job, network: Any, folder: Path, number: int, fold: Fold, seed: int) -> None:
    """Writes validation and test predictions, and the operating point into the checkpoint."""
    space = job.data.space

    def predict(cases: Sequence[str]) -> pd.DataFrame:
        loader = job.data.loader(cases, training=False, seed=seed)
        table = predict_loader(network, loader, classes=space.classes, multilabel=space.multilabel)
        table.insert(2, "fold", number)
        table.insert(3, "seed", seed)
        return table

    if fold.val:
        validation = predict(fold.val)
        write_predictions(validation, folder / "predictions_val.csv")
        if not space.multilabel and len(space.classes) == 2:
            threshold = _choose_threshold(validation, job.evaluate)
            update_checkpoint_meta(folder / "best.ckpt", threshold=threshold)
    write_predictions(predict(fold.test), folder / TEST_PREDICTIONS)


def _choose_threshold(validation: pd.DataFrame, evaluate: Mapping[str, Any]) -> float:
    known = read_outcomes(validation).known()
    column = find_positive(known.classes, evaluate["positive"])
    labels = (known.labels == column).astype(np.int64)
    rule: Rule = evaluate["operating_point"]
    return choose_threshold(labels, known.probabilities[:, column], rule)


def finish_run(run: RunFolder, folds: int, evaluate: Mapping[str, Any]) -> None:
    """Writes predictions_oof.csv, metrics.json and report.html from the folds' predictions."""
    if find_place().rank > 0:
        return
    tables = [read_predictions(run.fold(number) / TEST_PREDICTIONS) for number in range(folds)]
    pooled = pd.concat(tables, ignore_index=True)
    write_predictions(pooled, run.predictions_oof)
    thresholds, method = read_thresholds(run, folds, pooled, evaluate)
    metrics = evaluate_predictions(
        pooled,
        positive=evaluate["positive"],
        thresholds=thresholds,
        threshold_method=method,
        resamples=evaluate["resamples"],
        level=evaluate["level"],
    )
    write_json(run.metrics, metrics)
    write_report(run.path)


def read_thresholds(
    run: RunFolder, folds: int, pooled: pd.DataFrame, evaluate: Mapping[str, Any]
) -> tuple[dict[int, float] | None, str]:
    """Returns every fold's operating point, and how it was chosen."""
    outcomes = read_outcomes(pooled)
    if outcomes.multilabel or len(outcomes.classes) != 2:
        return None, "fixed at 0.5"
    rule = evaluate["operating_point"]
    notes = [
        load_checkpoint(run.fold(number) / "best.ckpt")["medvid"].get("threshold")
        for number in range(folds)
    ]
    if all(note is not None for note in notes):
        chosen = {number: float(note) for number, note in enumerate(notes) if note is not None}
        return chosen, f"{rule}, on each fold's validation part"
    column = find_positive(outcomes.classes, evaluate["positive"])
    if folds == 1:
        return {0: 0.5}, "fixed at 0.5: nothing was held back to choose on"
    return (
        cross_fit_thresholds(outcomes, column, rule),
        f"{rule}, for each fold on the out-of-fold predictions of the others",
    )
