"""The callback that keeps a fold's folder: validates, writes the files, decides when to stop.

The order at the end of an epoch makes a kill at any moment harmless: best.ckpt, then last.ckpt
(which carries the history), then history.csv. A kill between two of them repeats the last epoch,
with the same numbers, or rewrites history.csv from last.ckpt.
"""

import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.distributed
from lightning import Callback, LightningModule, Trainer

from medvid.contract import DataError
from medvid.train.checkpoint import describe_checkpoint, refuse_writing, save_weights
from medvid.train.forward import Batch
from medvid.train.history import (
    EpochRow,
    Monitor,
    find_best,
    has_stalled,
    judge_predictions,
    write_history,
)
from medvid.train.predict import (
    Key,
    Precision,
    Scores,
    autocast,
    collect_scores,
    evaluating,
    move_batch,
    tabulate_scores,
)
from medvid.train.progress import ProgressReporter

CASES_SHOWN = 8  # in the message about a loss that is no number; batches may be large


class Loader:
    """Any sized iterable of batches, told the epoch, with the time spent waiting for it.

    `set_epoch(epoch)` is called on the batch sampler and the data set where they have it. Nothing
    happens before the first batch is asked for: Lightning makes iterators long before an epoch.

    Args:
        batches: usually a torch DataLoader.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.epoch = 0
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for part in ("batch_sampler", "dataset"):
            set_epoch = getattr(getattr(self.batches, part, None), "set_epoch", None)
            if set_epoch is not None:
                set_epoch(self.epoch)
        self.waited = 0.0
        start = time.perf_counter()
        for batch in self.batches:
            self.waited += time.perf_counter() - start
            yield batch
            start = time.perf_counter()


class FoldKeeper(Callback):
    """Validates after every epoch and keeps last.ckpt, best.ckpt and history.csv.

    Args:
        folder: where they go.
        train_loader: what Lightning trains on.
        val_loader: None goes without validation.
        val_sharded: every process validates its own share.
        classes: names, in the order of the logits.
        multilabel: several findings an item.
        meta: what checkpoints say under `medvid`.
        history: rows of the epochs before, when a training is continued.
        monitor: which validation number chooses the best epoch.
        select: whether best.ckpt is the best epoch or simply the last one.
        patience: stop after so many epochs without a better one.
        max_steps: stop after so many optimizer steps.
        precision: of the arithmetic, as in training.
        log_every: steps between two looks at the losses on a GPU, and between TensorBoard points.
        seed: with the epoch, starts all random numbers.
        reporter: says how it goes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        train_loader: Loader,
        val_loader: Any | None,
        val_sharded: bool,
        classes: Sequence[str],
        multilabel: bool,
        meta: dict[str, Any],
        history: list[EpochRow],
        monitor: Monitor,
        select: Literal["best", "last"],
        patience: int | None,
        max_steps: int | None,
        precision: Precision,
        log_every: int,
        seed: int,
        reporter: ProgressReporter,
    ) -> None:
        self.folder = folder
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.val_sharded = val_sharded
        self.classes = classes
        self.multilabel = multilabel
        self.meta = meta
        self.history = history
        self.monitor = monitor
        self.select = select
        self.patience = patience
        self.max_steps = max_steps
        self.precision = precision
        self.log_every = log_every
        self.seed = seed
        self.reporter = reporter
        self.exception: BaseException | None = None
        self._lr = 0.0
        self._sums = np.zeros(2)
        self._pending: list[tuple[list[str], torch.Tensor]] = []
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the random numbers of the epoch."""
        epoch = trainer.current_epoch
        self.train_loader.epoch = epoch
        seed_everything(self.seed, epoch, trainer.global_rank)
        self._sums = np.zeros(2)
        self._pending.clear()
        self._start = time.perf_counter()
        self.reporter.begin_epoch(epoch + 1, len(self.train_loader))

    def on_before_optimizer_step(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Notes the learning rate of the step."""
        self._lr = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Looks at the loss; stops after the last wanted step."""
        self._pending.append((batch["case_id"], outputs["total"]))
        # Reading a loss waits for the GPU, so there it is done for many steps at once.
        if pl_module.device.type == "cpu" or len(self._pending) >= self.log_every:
            self._read_losses(trainer)
        if trainer.logger is not None and (batch_idx + 1) % self.log_every == 0:
            points = {name: float(v) for name, v in outputs.items() if name.startswith("part_")}
            trainer.logger.log_metrics(points | {"lr": self._lr}, step=trainer.global_step)
        if self.max_steps is not None and trainer.global_step >= self.max_steps:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validates, writes the files, decides whether to go on."""
        self._read_losses(trainer)
        training_seconds = time.perf_counter() - self._start
        sums = torch.tensor(self._sums, dtype=torch.float32, device=pl_module.device)
        total, cases = trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        row = EpochRow(
            epoch=trainer.current_epoch + 1,
            step=trainer.global_step,
            train_loss=total / cases,
            **self._validate(pl_module),
            lr=self._lr,
            seconds=time.perf_counter() - self._start,
            data_wait=min(self.train_loader.waited / training_seconds, 1.0),
        )
        self.history.append(row)
        self._write(trainer, pl_module)
        self.reporter.end_epoch(row)
        if trainer.logger is not None:
            values = {name: value for name, value in asdict(row).items() if value == value}
            trainer.logger.log_metrics(values, step=trainer.global_step)
        if has_stalled(self.history, self.monitor, self.patience):
            trainer.should_stop = True

    def on_save_checkpoint(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        """Adds the history and what the checkpoint says about itself."""
        checkpoint["medvid"] = describe_checkpoint(self.meta)
        checkpoint["history"] = [asdict(row) for row in self.history]

    def on_exception(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        exception: BaseException,
    ) -> None:
        """Remembers why the training ended."""
        self.exception = exception
        self.reporter.close()

    def _read_losses(self, trainer: Trainer) -> None:
        if not self._pending:
            return
        losses = torch.stack([loss for _, loss in self._pending]).double().tolist()
        for (cases, _), loss in zip(self._pending, losses, strict=True):
            if not np.isfinite(loss):
                raise self._refuse_loss(trainer, cases, loss)
            self._sums += [loss * len(cases), len(cases)]
        self._pending.clear()
        self.reporter.advance(losses)

    def _refuse_loss(self, trainer: Trainer, cases: list[str], loss: float) -> DataError:
        shown = ", ".join(cases[:CASES_SHOWN]) + (", ..." if len(cases) > CASES_SHOWN else "")
        low = " and a precision other than 16-mixed" if self.precision == "16-mixed" else ""
        return DataError(
            f"The loss became {loss} in epoch {trainer.current_epoch + 1}, at a learning rate of "
            f"{self._lr:.3g}, on the cases {shown}. Look for NaN voxels in them (`medvid check`); "
            f"if they are clean, try a tenth of the learning rate, clip_gradient: 1{low}.",
            code="loss_not_finite",
        )

    def _validate(self, pl_module: LightningModule) -> dict[str, float]:
        if self.val_loader is None:
            return dict.fromkeys(("val_loss", "val_auc", "val_accuracy"), float("nan"))
        table = self._predict(pl_module)
        numbers = judge_predictions(table, self.classes, multilabel=self.multilabel)
        needed = self.select == "best" or self.patience is not None
        if needed and np.isnan(numbers[self.monitor]):
            raise DataError(
                f"{self.monitor} cannot be computed: the {len(table)} validation items do not "
                "hold two known classes. Choose other splits or monitor: val_loss, or take the "
                "last epoch with select: last and no early stopping.",
                code="one_class",
            )
        return {str(name): value for name, value in numbers.items()}

    def _predict(self, pl_module: LightningModule) -> pd.DataFrame:
        model, device = pl_module.model, pl_module.device
        assert isinstance(model, torch.nn.Module)
        if self.val_sharded:
            _agree_on_buffers(model)
        scores: dict[Key, Scores] = {}
        with evaluating(model), torch.inference_mode(), autocast(device, self.precision):
            for batch in self.val_loader or ():
                collect_scores(scores, model, move_batch(batch, device), self.multilabel)
        if self.val_sharded:
            scores = _merge_shares(scores)
        return tabulate_scores(scores, self.classes, multilabel=self.multilabel)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        best = find_best(self.history, self.monitor)
        model = pl_module.model
        assert isinstance(model, torch.nn.Module)
        if trainer.is_global_zero and (self.select == "last" or best is self.history[-1]):
            save_weights(
                model, self.folder / "best.ckpt", self.meta | {"epoch": self.history[-1].epoch}
            )
        last = self.folder / "last.ckpt"
        try:
            trainer.save_checkpoint(last.with_name(last.name + ".part"))
            if trainer.is_global_zero:
                os.replace(last.with_name(last.name + ".part"), last)
        except OSError as error:
            raise refuse_writing(last, error) from None
        if trainer.is_global_zero:
            write_history(self.folder / "history.csv", self.history)


def seed_everything(seed: int, epoch: int, rank: int = 0) -> None:
    """Starts all random numbers anew, keyed by (seed, epoch, rank).

    An epoch then does not depend on what was drawn before it, and a training continued at its
    start repeats it.
    """
    words = np.random.SeedSequence([seed, epoch, rank]).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 -- the global generator of other people's code
    random.seed(int(words[2]))


def _agree_on_buffers(model: torch.nn.Module) -> None:
    """Gives all processes the first one's running statistics of norms.

    Each process updates its own on its own batches, and best.ckpt holds those of the first.
    """
    for buffer in model.buffers():
        torch.distributed.broadcast(buffer, src=0)


def _merge_shares(scores: dict[Key, Scores]) -> dict[Key, Scores]:
    """Gathers the scores of all processes, in the order of the keys."""
    shares: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, scores)
    merged: dict[Key, Scores] = {}
    for share in shares:
        for key, found in share.items():
            whole = merged.setdefault(key, Scores(found.patient_id, found.label))
            whole.logits += found.logits
            whole.clips += found.clips
    return dict(sorted(merged.items()))
