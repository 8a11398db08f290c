"""What a training says while it runs: a bar on a terminal, one plain line an epoch elsewhere."""

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medvid.train.history import EpochRow


class ProgressReporter:
    """Reports epochs to a console, or to nobody.

    Args:
        console: None is silent.
        title: before every line, such as `fold 1/5`.
        epochs: of the whole training.
    """

    def __init__(self, console: Console | None, title: str, epochs: int) -> None:
        self.console = console
        self.title = title
        self.epochs = epochs
        self._bar: Progress | None = None

    def begin_epoch(self, epoch: int, batches: int) -> None:
        """Shows a bar of `batches` steps, on a terminal."""
        if self.console is None or not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=self.console,
            transient=True,
        )
        self._bar.start()
        self._bar.add_task(self._name(epoch), total=batches, loss="")

    def advance(self, losses: Sequence[float]) -> None:
        """Moves the bar by as many steps as there are losses."""
        if self._bar is not None and losses:
            task = self._bar.task_ids[0]
            self._bar.update(task, advance=len(losses), loss=f"loss {losses[-1]:.4f}")

    def end_epoch(self, row: EpochRow) -> None:
        """Prints the epoch's line."""
        self.close()
        if self.console is not None:
            line = f"{self._name(row.epoch)}  {format_row(row)}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _name(self, epoch: int) -> str:
        name = f"epoch {epoch}/{self.epochs}"
        return f"{self.title} {name}" if self.title else name


def format_row(row: EpochRow) -> str:
    """Returns an epoch's numbers as one line."""
    parts = [f"loss {row.train_loss:.4f}"]
    named = (("val_loss", row.val_loss, 4), ("val_auc", row.val_auc, 3))
    parts += [f"{name} {value:.{digits}f}" for name, value, digits in named if value == value]
    if not math.isnan(row.val_accuracy):
        parts.append(f"accuracy {row.val_accuracy:.1%}".replace("%", " %"))
    parts += [f"{row.seconds:.1f} s", f"data wait {row.data_wait:.0%}".replace("%", " %")]
    return "  ".join(parts)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silences Lightning's tips and notices, and the warnings that do not apply here.

    Its notices are about GPUs, loggers and the Trainer's own checkpoints and loaders, which medvid
    does not use. Warnings of anybody else pass.
    """
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            # With 16-bit precision the first steps may be skipped while the scale is found.
            warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler.step\(\)` before")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
