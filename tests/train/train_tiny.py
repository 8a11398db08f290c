"""A training in a process of its own, to be killed: `python -m tests.train.train_tiny FOLDER`."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from medvid.train.distributed import find_place
from medvid.train.fit import FitResult, fit_fold
from tests.train.tiny import build_loader, build_net

OPTIONS: dict[str, Any] = {
    "classes": ("a", "b"),
    "multilabel": False,
    "seed": 3,
    "epochs": 12,
    "accumulate": 3,
    "clip_gradient": 1.0,
    "optimizer": {"name": "sgd", "lr": 0.05, "nesterov": True},
    "schedule": {"name": "cosine", "warmup_epochs": 2.0},
    "accelerator": "cpu",
    "monitor": "val_loss",
    "resume": True,
}


class SlowBatches:
    """Yields a loader's batches with a pause, so that a kill falls into the middle of something."""

    def __init__(self, loader: Any, pause: float) -> None:
        self.loader = loader
        self.batch_sampler = loader.batch_sampler
        self.pause = pause

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Any:
        for batch in self.loader:
            time.sleep(self.pause)
            yield batch


def train(folder: Path, pause: float = 0.0, **options: Any) -> FitResult:
    train_loader = SlowBatches(build_loader(20, shuffle=True), pause)
    val_loader = SlowBatches(build_loader(8, shuffle=False), pause)
    return fit_fold(build_net(), train_loader, val_loader, folder, **(OPTIONS | options))


if __name__ == "__main__":
    print("ready", flush=True)
    result = train(Path(sys.argv[1]), pause=float(sys.argv[2]))
    os.write(1, f"done {find_place().rank} {result.epochs}\n".encode())
