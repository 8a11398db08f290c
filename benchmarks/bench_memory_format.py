"""A training step by memory format and compiler: the CPU's case for `train.memory_format`.

Run: python benchmarks/bench_memory_format.py

Forward, backward and SGD step on the same batch, the variants take turns; seconds of one thread's
own time, which other work on the machine disturbs least. `channels last` is channels_last_3d for
the kernels alone, as `train.memory_format` sets it; `compiled` is torch.compile with its defaults.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from results import write_section
from torch import Tensor, nn

from medvid.config import read_config
from medvid.models import build_model

ROUNDS = 5
BATCH = (8, 1, 16, 32, 32)
NETS = ("model/c3d_scan", "model/res3d_scan", "model/i3d_scan", "model/densenet3d_scan")
COMPILED = ("model/c3d_scan",)
"""Compilation of a ResNet took four minutes here, and its steps were no faster."""


class Variant:
    """A network in one memory format, compiled or not."""

    def __init__(self, config: str, last: bool, compiled: bool) -> None:
        torch.manual_seed(0)
        options = read_config(config)["model"]
        model = build_model(options, in_channels=1, num_classes=2, clip_size=BATCH[2:])
        if last:
            model = cast("Any", model).to(memory_format=torch.channels_last_3d)
        model.train()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        self.score: Callable[[Tensor], Tensor] = (
            cast("Any", torch.compile(model)) if compiled else model
        )

    def step(self, clips: Tensor, labels: Tensor) -> float:
        """Trains on one batch; returns the seconds it took."""
        started = time.process_time()
        self.optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(self.score(clips), labels))
        self.optimizer.step()
        return time.process_time() - started


VARIANTS = {
    "contiguous": (False, False),
    "channels last": (True, False),
    "contiguous, compiled": (False, True),
}


def measure(config: str) -> list[str]:
    """Returns the row of a network."""
    names = [name for name in VARIANTS if config in COMPILED or not VARIANTS[name][1]]
    variants = [Variant(config, *VARIANTS[name]) for name in names]
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(BATCH, generator=generator)
    labels = torch.arange(BATCH[0]) % 2
    rounds = [[one.step(clips, labels) for one in variants] for _ in range(ROUNDS + 1)][1:]
    medians = [statistics.median(values) for values in zip(*rounds, strict=True)]
    told = [f"{1000 * seconds:.0f}" for seconds in medians]
    return [config, *told, *["not measured"] * (len(VARIANTS) - len(told))]


def main() -> None:
    """Measures, prints, and writes the section of RESULTS.md."""
    torch.set_num_threads(1)
    write_section(
        "A training step by memory format and compiler",
        ["network", *(f"{name}, ms" for name in VARIANTS)],
        [measure(config) for config in NETS],
        "python benchmarks/bench_memory_format.py",
        f"Batches of {' x '.join(map(str, BATCH))}, float32 on one thread, its own time; "
        f"medians of {ROUNDS} alternating rounds.",
    )


if __name__ == "__main__":
    main()
