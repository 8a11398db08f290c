"""What a training step costs through `fit_fold`, against a bare torch loop on the same batches.

Run: python benchmarks/bench_lightning_overhead.py

Both train the same small C3D with AdamW on the same eight-clip batches in memory, 1 x 16 x 64 x 64
a clip. A timing starts before one batch is taken and ends before the next one is, in the middle of
an epoch: starting up and writing checkpoints is not part of a step. The two take turns; the
ratio of their medians is taken in every round, and the median of the ratios is the answer, because
a shared machine is not equally fast all the time. The aim is 1.1 at most.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from results import write_section
from torch import Tensor, nn

from medvid.train.fit import fit_fold

BATCH, STEPS, ROUNDS = 8, 8, 7
WARM_UP = 2  # steps of every round that are not counted: memory is allocated in them
AIM = 1.1  # the most a step may cost, as a multiple of the bare one


class SmallC3D(nn.Module):
    """Four convolutions with pooling, as the first blocks of C3D at an eighth of the width."""

    modalities = ("clip",)
    smallest = (8, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 8), (8, 16), (16, 32), (32, 32)):
            layers += [nn.Conv3d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(32, 2)

    def forward(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns logits."""
        return self.head(self.body(clip).mean(dim=(2, 3, 4)))


class TimedBatches:
    """Yields one batch again and again, and notes when each was asked for."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batch: dict[str, Any] = {
            "clip": torch.randn(BATCH, 1, 16, 64, 64, generator=generator),
            "mask": torch.ones(BATCH, 16, dtype=torch.bool),
            "label": torch.arange(BATCH) % 2,
            "case_id": [str(item) for item in range(BATCH)],
            "patient_id": [str(item) for item in range(BATCH)],
        }
        self.times: list[float] = []

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _ in range(STEPS):
            self.times.append(time.perf_counter())
            yield self.batch

    def measure(self) -> list[float]:
        """Returns the seconds of all steps but the first ones."""
        steps = [b - a for a, b in zip(self.times, self.times[1:], strict=False)]
        return steps[WARM_UP:]


def train_through_medvid() -> list[float]:
    """Returns the seconds of the steps of one epoch of `fit_fold`."""
    batches = TimedBatches()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        fit_fold(
            SmallC3D(),
            batches,
            None,
            Path(folder),
            classes=("a", "b"),
            multilabel=False,
            select="last",
            epochs=1,
            accelerator="cpu",
        )
    return batches.measure()


def train_bare() -> list[float]:
    """Returns the seconds of the same steps written out in torch."""
    batches = TimedBatches()
    torch.manual_seed(0)
    model = SmallC3D()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
    for batch in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch["clip"]), batch["label"])
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return batches.measure()


def main() -> None:
    """Measures and prints: milliseconds a step in every round, and the median ratio."""
    pairs = []
    for turn in range(ROUNDS):
        # Who goes first changes, so that a machine that slows down favours neither.
        order = (train_through_medvid, train_bare)[:: 1 if turn % 2 else -1]
        medians = {run: 1000 * statistics.median(run()) for run in order}
        pairs.append((medians[train_through_medvid], medians[train_bare]))
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    write_section(
        "A training step through lightning against a bare torch loop",
        ["loop", "ms a step, every round"],
        [
            ["medvid fit_fold", ", ".join(f"{ours:.1f}" for ours, _ in pairs)],
            ["bare torch", ", ".join(f"{bare:.1f}" for _, bare in pairs)],
            ["median of the rounds' ratios", f"{ratio:.3f} (aim: at most {AIM})"],
        ],
        "python benchmarks/bench_lightning_overhead.py",
        "Small C3D, eight clips of 1 x 16 x 64 x 64 a step; the two take turns.",
    )


if __name__ == "__main__":
    main()
