"""A training step of 3D networks against MONAI's networks of the same architecture.

Run: python benchmarks/bench_training_step.py

MONAI's stems are set to those of the papers that medvid follows (ResNet-18: 3 x 7 x 7 kernel and no
maximum; DenseNet-121: 3 x 7 x 7 kernel, a maximum that keeps T), so that both have the same
parameters and shapes. Forward, backward and SGD step on the same batch; the two take turns.
"""

import os
import statistics
import time
from collections.abc import Callable

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


PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "ResNet-18": (lambda: Res3D(project_res2a=False), build_monai_resnet),
    "DenseNet-121": (DenseNet3D, build_monai_densenet),
}


class Stepper:
    """A network with its optimizer."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        torch.manual_seed(0)
        self.model = build().train()
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)

    def step(self, clips: Tensor, labels: Tensor) -> float:
        """Trains on one batch; returns the seconds it took."""
        started = time.perf_counter()
        self.optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(self.model(clips), labels))
        self.optimizer.step()
        return time.perf_counter() - started


def measure(name: str) -> list[str]:
    """Returns the row of an architecture."""
    own, peer = (Stepper(build) for build in PAIRS[name])
    if own.parameters != peer.parameters:
        raise ValueError(f"{name}: {own.parameters} parameters against {peer.parameters}.")
    generator = torch.Generator().manual_seed(0)
    clips, labels = torch.randn(BATCH, generator=generator), torch.tensor([0, 1])
    seconds = [(own.step(clips, labels), peer.step(clips, labels)) for _ in range(ROUNDS + 1)][1:]
    medians = [statistics.median(values) for values in zip(*seconds, strict=True)]
    ratio = statistics.median(ours / theirs for ours, theirs in seconds)
    return [
        name,
        f"{own.parameters:,}",
        f"{1000 * medians[0]:.0f}",
        f"{1000 * medians[1]:.0f}",
        f"{ratio:.3f}",
    ]


def main() -> None:
    """Measures, prints, and writes the section of RESULTS.md."""
    torch.set_num_threads(os.cpu_count() or 1)
    write_section(
        "A training step against MONAI's network of the same architecture",
        ["architecture", "parameters", "medvid, ms", "MONAI, ms", "medvid / MONAI"],
        [measure(name) for name in PAIRS],
        "python benchmarks/bench_training_step.py",
        f"Batches of {' x '.join(map(str, BATCH))}, float32 on the CPU; medians of {ROUNDS} "
        "alternating rounds. Below 1 medvid is faster.",
    )


if __name__ == "__main__":
    main()
