"""A training step of 3D networks against other libraries' networks of the same architecture.

Run: python benchmarks/bench_training_step.py [--own-time]

--own-time counts the processor time of a single thread in place of the time on the clock: for a
machine that has other work, where the clock tells more of that work than of the networks.

torchvision is compared where it is installed (`pip install --no-deps torchvision`, into another
folder on PYTHONPATH). Of its video networks R3D-18 has the same parameters; its R(2+1)D-18 has
31,296,741, where the formula of the paper for every convolution gives 33,162,255.

MONAI's stems are set to those of the papers that medvid follows (ResNet-18: 3 x 7 x 7 kernel and no
maximum; DenseNet-121: 3 x 7 x 7 kernel, a maximum that keeps T), so that both have the same
parameters and shapes. Forward, backward and SGD step on the same batch; the two take turns.
"""

import argparse
import importlib
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from monai.networks.nets import DenseNet121, resnet18
from results import write_section
from torch import Tensor, nn

from medvid.models.densenet3d import DenseNet3D
from medvid.models.res3d import Res3D

ROUNDS = 7
BATCH = (2, 1, 16, 96, 96)


def build_monai_resnet() -> nn.Module:
    """Returns ResNet-18 with the stem of R3D."""
    return resnet18(
        spatial_dims=3,
        n_input_channels=1,
        num_classes=2,
        conv1_t_size=[3, 7, 7],
        conv1_t_stride=[1, 2, 2],
        no_max_pool=True,
        shortcut_type="B",
        bias_downsample=False,
    )


def build_monai_densenet() -> nn.Module:
    """Returns DenseNet-121 with the stem of DenseNet3D."""
    model = DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)
    model.features.conv0 = nn.Conv3d(1, 64, (3, 7, 7), 2, (1, 3, 3), bias=False)
    model.features.pool0 = nn.MaxPool3d(3, (1, 2, 2), 1)
    return model


def build_torchvision_resnet() -> nn.Module:
    """Returns R3D-18 for one channel and two classes."""
    # A wheel built for CUDA brings no operators beside a torch without it, and cannot be imported
    # until they are declared. The network needs none of them.
    if not torch.cuda.is_available():
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor x) -> Tensor")
    model: Any = importlib.import_module("torchvision.models.video").r3d_18(weights=None)
    model.stem[0] = nn.Conv3d(1, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
    model.fc = nn.Linear(512, 2)
    return cast("nn.Module", model)


Build = Callable[[], nn.Module]
PAIRS: dict[tuple[str, str], tuple[Build, Build]] = {
    ("ResNet-18", "MONAI"): (lambda: Res3D(project_res2a=False), build_monai_resnet),
    ("ResNet-18", "torchvision"): (
        lambda: Res3D(project_res2a=False),
        build_torchvision_resnet,
    ),
    ("DenseNet-121", "MONAI"): (DenseNet3D, build_monai_densenet),
}


class Stepper:
    """A network with its optimizer."""

    def __init__(self, build: Build) -> None:
        torch.manual_seed(0)
        self.model = build().train()
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)

    def step(self, clips: Tensor, labels: Tensor, clock: Callable[[], float]) -> float:
        """Trains on one batch; returns the seconds it took."""
        started = clock()
        self.optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(self.model(clips), labels))
        self.optimizer.step()
        return clock() - started


def measure(name: str, library: str, clock: Callable[[], float]) -> list[str]:
    """Returns the row of an architecture and a library."""
    own, peer = (Stepper(build) for build in PAIRS[name, library])
    if own.parameters != peer.parameters:
        raise ValueError(f"{name}: {own.parameters} parameters against {peer.parameters}.")
    generator = torch.Generator().manual_seed(0)
    clips, labels = torch.randn(BATCH, generator=generator), torch.tensor([0, 1])
    seconds = [
        (own.step(clips, labels, clock), peer.step(clips, labels, clock)) for _ in range(ROUNDS + 1)
    ][1:]
    medians = [statistics.median(values) for values in zip(*seconds, strict=True)]
    ratio = statistics.median(ours / theirs for ours, theirs in seconds)
    return [
        name,
        library,
        f"{own.parameters:,}",
        f"{1000 * medians[0]:.0f}",
        f"{1000 * medians[1]:.0f}",
        f"{ratio:.3f}",
    ]


def main() -> None:
    """Measures, prints, and writes the section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--own-time", action="store_true")
    own = parser.parse_args().own_time
    torch.set_num_threads(1 if own else os.cpu_count() or 1)
    pairs = [pair for pair in PAIRS if importlib.util.find_spec(pair[1].lower())]
    write_section(
        "A training step against other libraries' networks of the same architecture",
        ["architecture", "library", "parameters", "medvid, ms", "library, ms", "medvid / library"],
        [measure(*pair, time.process_time if own else time.perf_counter) for pair in pairs],
        f"python benchmarks/bench_training_step.py{' --own-time' if own else ''}",
        f"Batches of {' x '.join(map(str, BATCH))}, float32 on the CPU; medians of {ROUNDS} "
        f"alternating rounds{', processor time of one thread' if own else ''}. Below 1 medvid is "
        "faster. R3D-18 is the only net of torchvision with equal parameters.",
    )


if __name__ == "__main__":
    main()
