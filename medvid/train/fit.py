"""Trains one fold, from scratch or from where it was interrupted."""

import contextlib
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from pydantic import BeforeValidator, Field
from rich.console import Console
from torch import nn

from medvid.build import Spec, validate_options
from medvid.contract import ConfigError, DataError
from medvid.train.checkpoint import load_checkpoint, load_weights
from medvid.train.descriptors import start_from_data
from medvid.train.distributed import Place, find_place, refuse_unsharded, shard_loader
from medvid.train.freeze import freeze_parameters
from medvid.train.history import (
    EpochRow,
    Monitor,
    find_best,
    has_stalled,
    list_values,
    write_history,
)
from medvid.train.keeper import FoldKeeper, Loader
from medvid.train.loop import (
    Accelerator,
    Strategy,
    check_accelerator,
    name_device,
    place_options,
    run_trainer,
)
from medvid.train.losses import Counts, build_loss
from medvid.train.module import ClipClassifier
from medvid.train.optim import build_schedule, check_optimizer
from medvid.train.predict import Precision, choose_device
from medvid.train.progress import ProgressReporter

PrecisionOption = Annotated[Precision, BeforeValidator(str)]
"""YAML reads `precision: 32` as a number."""

AtLeastOne = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]

INF = math.inf


@runtime_checkable
class BatchLoader(Protocol):
    """A torch DataLoader, or anything else with a length that yields batches."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


@dataclass(frozen=True)
class FitResult:
    """How the training of a fold ended.

    Args:
        best_epoch: the epoch of best.ckpt, counted from 1.
        best_value: its monitored value; NaN without validation.
        epochs: epochs trained in all.
        seconds: wall time of all epochs, also of those before an interruption.
        folder: holds last.ckpt, best.ckpt and history.csv.
    """

    best_epoch: int
    best_value: float
    epochs: int
    seconds: float
    folder: Path


GIVEN = (
    "model",
    "train_loader",
    "val_loader",
    "folder",
    "classes",
    "multilabel",
    "class_counts",
    "meta",
    "seed",
    "resume",
    "console",
    "title",
)
"""What the program gives to `fit_fold`; all its other arguments are the config's `train`."""


def validate_train_options(
    options: Mapping[str, Any], *, num_classes: int, multilabel: bool
) -> dict[str, Any]:
    """Returns the section `train` of a config as keyword arguments of `fit_fold`.

    Loss, optimizer and schedule are built once on the side, so that a wrong option in them is
    told now and not after the data were prepared.

    Raises:
        ConfigError: for an unknown option, or a value that cannot be meant.
    """
    checked = validate_options(fit_fold, options, "section `train`", GIVEN)
    settings = {
        name: checked.get(name, parameter.default)
        for name, parameter in inspect.signature(fit_fold).parameters.items()
        if name not in GIVEN
    }
    check_accelerator(settings["accelerator"])
    counts: Counts = [(1, 1)] * num_classes if multilabel else [1] * num_classes
    build_loss(
        settings["loss"], num_classes=num_classes, multilabel=multilabel, class_counts=counts
    )
    check_optimizer(settings["optimizer"])
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters())
    build_schedule(
        settings["schedule"], optimizer, steps_per_epoch=1, total_steps=1, watch=lambda _: ()
    )
    return checked


def fit_fold(
    model: nn.Module,
    train_loader: BatchLoader,
    val_loader: BatchLoader | None,
    folder: Path,
    *,
    classes: Sequence[str],
    multilabel: bool,
    class_counts: Counts | None = None,
    meta: Mapping[str, Any] | None = None,
    seed: int = 0,
    resume: bool = False,
    console: Console | None = None,
    title: str = "",
    loss: Spec | None = None,
    optimizer: Spec = "adamw",
    schedule: Spec = "cosine",
    epochs: AtLeastOne = 30,
    max_steps: AtLeastOne | None = None,
    precision: PrecisionOption = "32",
    memory_format: Literal["contiguous", "channels_last"] = "contiguous",
    accumulate: AtLeastOne = 1,
    freeze: Sequence[str] = (),
    clip_gradient: Positive | None = None,
    monitor: Monitor = "val_auc",
    select: Literal["best", "last"] = "best",
    early_stopping_patience: AtLeastOne | None = None,
    accelerator: Accelerator = "auto",
    strategy: Strategy = "ddp",
    deterministic: bool = False,
    tensorboard: bool = False,
    log_every: AtLeastOne = 20,
) -> FitResult:
    """Trains a model on one fold and keeps last.ckpt, best.ckpt and history.csv in `folder`.

    The model ends with the weights of its last epoch; the selected ones are in best.ckpt.
    On the same device a training that is killed at any moment and resumed ends with the same
    history (but for times) and the same weights as one that never stopped.

    Args:
        model: a `VideoModel`, on the CPU.
        train_loader: batches for training.
        val_loader: batches for validation after every epoch; None goes without.
        folder: of this fold; made if need be.
        classes: names, in the order of the logits.
        multilabel: several findings an item instead of one class.
        class_counts: of the training cases, see `count_classes`; for balanced weights.
        meta: plain values that checkpoints carry (model, transforms, window, spacing, ...).
        seed: of dropout and the like; with the epoch it keys all random numbers.
        resume: go on from last.ckpt where there is one.
        console: where progress goes; None is silent.
        title: before every line of progress, such as `fold 1/5`.
        loss: name and options; None is cross_entropy, or bce for several findings.
        optimizer: name and options.
        schedule: of the learning rate, name and options.
        epochs: at most so many.
        max_steps: at most so many optimizer steps.
        precision: of the arithmetic; `bf16-mixed` is about twice as fast on recent GPUs.
        memory_format: in which 3D kernels lie; on a CPU `channels_last` took a fifth off the steps
            of `c3d_scan`, two off those of `res3d_scan` and nothing off `i3d_scan` and
            `densenet3d_scan` (benchmarks/RESULTS.md). Results differ by rounding. No preset sets
            it: a config does not know where it will train, nothing was measured on GPUs, and the
            published tables were trained without. On a CPU ask for it with these two.
        accumulate: batches before an optimizer step, to train as with larger batches.
        freeze: patterns of parameters that stay as they are, such as `trunk.*`; batch norms among
            them keep their statistics.
        clip_gradient: largest norm of the gradient.
        monitor: the validation number that chooses the best epoch.
        select: whether best.ckpt holds the best epoch or the last one.
        early_stopping_patience: stop after so many epochs without a better one.
        accelerator: what to compute on.
        strategy: how several processes work together; the second for models that leave
            parameters out of some steps.
        deterministic: take only GPU kernels that repeat exactly, where there are such; slower.
        tensorboard: also log to folder/tensorboard. Its file names hold the computer's name.
        log_every: steps between two points in TensorBoard.

    Raises:
        ConfigError: for options that contradict each other.
        DataError: when the loss is no number, no best epoch can be told, last.ckpt is of another
            model, or a file cannot be written.
        TrainingInterrupted: on Ctrl+C.
    """
    _check_selection(val_loader, select, early_stopping_patience)
    if len(train_loader) == 0:
        raise DataError("There is no training batch: the fold has no case.", code="no_batch")
    folder.mkdir(parents=True, exist_ok=True)
    history = _resume_history(model, folder, resume)
    stalled = bool(history) and has_stalled(history, monitor, early_stopping_patience)
    if history and (stalled or len(history) >= epochs or history[-1].step >= (max_steps or INF)):
        write_history(folder / "history.csv", history)
        return _summarize(history, monitor, select, folder)
    place = find_place()
    freeze_parameters(model, freeze)
    if memory_format == "channels_last":  # a convolution's maps lie as its kernels do
        model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    batches = Loader(train_loader)
    if not history:
        device = choose_device(name_device(accelerator, place))
        given = start_from_data(model, batches, seed=seed, device=device)
        if given and console is not None and place.rank == 0:
            console.print(f"{title} started from {given:,} descriptors of training cases".strip())
    criterion = build_loss(
        loss, num_classes=len(classes), multilabel=multilabel, class_counts=class_counts
    )
    with _sharded(train_loader, val_loader, place) as val_sharded:
        steps_per_epoch = math.ceil(len(train_loader) / accumulate)
        module = ClipClassifier(
            model.train(),
            criterion,
            multilabel=multilabel,
            optimizer=optimizer,
            schedule=schedule,
            steps_per_epoch=steps_per_epoch,
            total_steps=int(min(epochs * steps_per_epoch, max_steps or INF)),
            watch=None if val_loader is None else lambda step: list_values(history, monitor, step),
        )
        keeper = FoldKeeper(
            folder,
            train_loader=batches,
            val_loader=val_loader,
            val_sharded=val_sharded,
            classes=classes,
            multilabel=multilabel,
            meta={**(meta or {}), "classes": list(classes), "multilabel": multilabel},
            history=history,
            monitor=monitor,
            select=select,
            patience=early_stopping_patience,
            max_steps=max_steps,
            precision=precision,
            log_every=log_every,
            seed=seed,
            reporter=ProgressReporter(console if place.rank == 0 else None, title, epochs),
        )
        trainer_options = {
            "logger": TensorBoardLogger(folder, name="tensorboard", version="")
            if tensorboard
            else False,
            "max_epochs": epochs,
            "accumulate_grad_batches": accumulate,
            "gradient_clip_val": clip_gradient,
            "precision": "32-true" if precision == "32" else precision,
            "deterministic": "warn" if deterministic else None,
            **place_options(place, accelerator, strategy),
        }
        run_trainer(module, keeper, trainer_options)
    return _summarize(history, monitor, select, folder)


def _check_selection(val_loader: BatchLoader | None, select: str, patience: int | None) -> None:
    if val_loader is None and (select == "best" or patience is not None):
        raise ConfigError(
            "There is no validation set, so there is no best epoch to select and none to stop "
            "early at. Set train.select: last and no train.early_stopping_patience, or let the "
            "splits have validation cases.",
            code="no_validation",
        )


def _resume_history(model: nn.Module, folder: Path, resume: bool) -> list[EpochRow]:
    """Returns the rows of last.ckpt, its weights put into the model; none where there is none."""
    last = folder / "last.ckpt"
    if not last.exists():
        return []
    if not resume:
        raise ConfigError(
            f"{folder} holds a training already. Go on with it with --resume, or train into "
            "another folder; nothing is overwritten.",
            code="fold_exists",
            files=[last],
        )
    checkpoint = load_checkpoint(last)
    load_weights(model, checkpoint, last)
    return [EpochRow(**row) for row in checkpoint["history"]]


@contextlib.contextmanager
def _sharded(
    train_loader: BatchLoader, val_loader: BatchLoader | None, place: Place
) -> Iterator[bool]:
    """Shares the batches out among the processes; afterwards everybody sees all again."""
    try:
        refuse_unsharded(train_loader, place)
        yield val_loader is not None and shard_loader(val_loader, place)
    finally:
        if place.world_size > 1:
            for loader in (train_loader, val_loader or ()):
                shard_loader(loader, Place())


def _summarize(
    history: Sequence[EpochRow], monitor: Monitor, select: str, folder: Path
) -> FitResult:
    best = find_best(history, monitor)
    selected = history[-1] if select == "last" or best is None else best
    return FitResult(
        best_epoch=selected.epoch,
        best_value=float(getattr(selected, monitor)),
        epochs=len(history),
        seconds=sum(row.seconds for row in history),
        folder=folder,
    )
