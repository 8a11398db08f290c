"""Lightning's loop around a fold: on which devices it runs, and what it may not do by itself."""

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from medvid.contract import ConfigError, MedvidError
from medvid.train.distributed import Place
from medvid.train.keeper import FoldKeeper
from medvid.train.module import ClipClassifier
from medvid.train.progress import quiet_lightning

Accelerator = Literal["auto", "cpu", "gpu", "mps"]
Strategy = Literal["ddp", "ddp_find_unused_parameters_true"]


class TrainingInterrupted(MedvidError):  # noqa: N818 -- nothing went wrong
    """Somebody pressed Ctrl+C; last.ckpt is whole and the training can be continued."""

    exit_code = 130


def check_accelerator(accelerator: Accelerator) -> None:
    """Stops at an accelerator that torch does not find on this machine.

    Raises:
        ConfigError: when it is not there; names those that are.
    """
    there = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(accelerator, True):
        known = ["auto", "cpu", *(name for name, found in there.items() if found)]
        raise ConfigError(
            f"`train.accelerator: {accelerator}` was asked, and torch finds none here. Possible on "
            f"this machine: {', '.join(known)}.",
            code="no_accelerator",
        )


def place_options(place: Place, accelerator: str, strategy: str) -> dict[str, Any]:
    """Returns the Trainer's arguments about processes; one device unless torchrun started us."""
    if place.world_size == 1:
        return {"accelerator": accelerator, "devices": 1, "plugins": [LightningEnvironment()]}
    return {
        "accelerator": accelerator,
        "devices": place.local_world_size,
        "num_nodes": place.machines,
        "strategy": strategy,
        "plugins": [TorchElasticEnvironment()],
    }


def name_device(accelerator: str, place: Place) -> str:
    """Returns the device of this process in the words of `choose_device`."""
    if accelerator == "cpu" or place.local_world_size == 1:
        return "auto" if accelerator == "gpu" else accelerator
    # torchrun numbers the processes of a machine one after the other.
    return f"cuda:{place.rank % place.local_world_size}" if torch.cuda.is_available() else "cpu"


def run_trainer(module: ClipClassifier, keeper: FoldKeeper, options: Mapping[str, Any]) -> None:
    """Runs Lightning's loop; everything that it writes or prints by itself is switched off.

    Args:
        module: what is trained.
        keeper: writes the fold's files; where it has a history, last.ckpt is gone on with.
        options: further arguments of the Trainer.

    Raises:
        TrainingInterrupted: on Ctrl+C.
    """
    with quiet_lightning(), _kept_interrupt_handler():
        trainer = lightning.Trainer(
            callbacks=[keeper],
            default_root_dir=keeper.folder,
            log_every_n_steps=keeper.log_every,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **options,
        )
        last = keeper.folder / "last.ckpt" if keeper.history else None
        try:
            trainer.fit(module, keeper.train_loader, ckpt_path=last, weights_only=True)
        except SystemExit:
            # Lightning turns Ctrl+C into an exit of its own.
            if not isinstance(keeper.exception, KeyboardInterrupt):
                raise
            raise TrainingInterrupted(
                f"Interrupted after {len(keeper.history)} whole epochs. Nothing of them is lost: "
                "go on with --resume.",
                code="interrupted",
            ) from None


@contextlib.contextmanager
def _kept_interrupt_handler() -> Iterator[None]:
    """Gives Ctrl+C its meaning back; Lightning leaves it switched off after it was pressed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
