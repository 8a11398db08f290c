"""One fold of a run: trained, then its validation and held-out sides predicted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from medvid.data.labels import list_labels
from medvid.data.splits import Fold
from medvid.evaluate import read_outcomes, write_predictions
from medvid.jobs.clip_shape import read_clip_shape
from medvid.jobs.decisions import choose_operating_point
from medvid.jobs.job import Job
from medvid.jobs.lineage import Origin
from medvid.jobs.messages import say
from medvid.jobs.network import build_network, describe_for_checkpoint, find_model_section
from medvid.jobs.start import begin_fold, find_head
from medvid.jobs.task import TaskData, choose_cases
from medvid.train.checkpoint import load_checkpoint, load_weights, update_checkpoint_meta
from medvid.train.distributed import find_place, share_from_first
from medvid.train.fit import fit_fold
from medvid.train.losses import count_classes
from medvid.train.predict import predict_loader
from medvid.train.runfolder import TEST_PREDICTIONS, VAL_PREDICTIONS


def plan_folds(job: Job, data: TaskData) -> list[Fold]:
    """Returns the folds of a training; of one by heart, its few cases on both sides.

    Args:
        job: of the training.
        data: its data, prepared.
    """
    if not job.overfit:
        return data.folds(job.seed)
    cases = choose_cases(data.records, data.space, job.overfit)
    return [Fold(0, 0, train=cases, val=(), test=cases)]


def train_fold(
    job: Job,
    folder: Path,
    number: int,
    fold: Fold,
    *,
    seed: int,
    title: str,
    console: Console | None = None,
    origin: Origin | None = None,
) -> None:
    """Trains a fold and predicts its held-out side, unless that was done before.

    Args:
        job: with its data prepared.
        folder: of the fold; made, or gone on with.
        number: of the fold, from 0.
        fold: its cases.
        seed: of weights, order and augmentation.
        title: before every line of progress, such as `fold 1/5`.
        console: where progress is shown.
        origin: the weights that the network is started from, of `plan_starts`.

    Raises:
        TrainingInterrupted: on Ctrl+C.
    """
    if (folder / TEST_PREDICTIONS).exists():
        return
    data = job.data
    shape = read_clip_shape(data)
    network = build_network(find_model_section(job.config), data.space, shape, seed)
    meta = describe_for_checkpoint(job.config, data, shape) | {"fold": number}
    if job.init is not None:
        meta["init"], said = begin_fold(
            network,
            job.init,
            origin,
            folder,
            space=data.space,
            head=find_head(find_model_section(job.config), data.space, shape),
            channels=shape.channels,
            write=find_place().rank == 0,
        )
        if said and find_place().rank == 0:
            say(console, f"{title} {said}")
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
        meta=meta,
        seed=seed,
        resume=True,
        console=console,
        title=title,
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
        table = predict_loader(
            network,
            loader,
            classes=space.classes,
            multilabel=space.multilabel,
            average=job.evaluate["average"],
        )
        table.insert(2, "fold", number)
        table.insert(3, "seed", seed)
        return table

    if fold.val:
        validation = predict(fold.val)
        write_predictions(validation, folder / VAL_PREDICTIONS)
        if not space.multilabel and len(space.classes) == 2:
            point = choose_operating_point(read_outcomes(validation), job.evaluate)
            update_checkpoint_meta(folder / "best.ckpt", **point)
    # The last file: with it the fold is finished.
    write_predictions(predict(fold.test), folder / TEST_PREDICTIONS)
