"""All windows of 16 slices of a scan of 120, one slice apart: every slice encoded once, or again.

Run: python benchmarks/bench_sliding.py

The peer is the same network called window by window on the same 105 windows, eight at a time. The
two take turns; the largest difference of their logits is in the table.
"""

import statistics
import time
from collections.abc import Callable

import torch
from results import write_section
from torch import Tensor, nn

from medvid.config import read_config
from medvid.models import build_model
from medvid.train.sliding import slide_windows

SCAN = (1, 1, 120, 64, 64)
FRAMES = 16
ROUNDS = 3
AT_ONCE = 8

CONFIGS = (
    "model/slicewise",
    "model/conv_pooling_scan",
    "model/late_pooling_scan",
    "model/lstm_scan",
    "model/lrcn_scan",
    "model/actionvlad_scan",
)


def score_each(model: nn.Module, scan: Tensor) -> Tensor:
    """Cuts every window out and scores it."""
    windows = scan[0].unfold(1, FRAMES, 1).permute(1, 0, 4, 2, 3)
    return torch.cat([model(part) for part in torch.split(windows, AT_ONCE)])


def measure(name: str, scan: Tensor) -> list[str]:
    """Returns the row of a network."""
    torch.manual_seed(0)
    model = build_model(
        read_config(name)["model"], in_channels=1, num_classes=2, clip_size=(FRAMES, 64, 64)
    ).eval()
    if not hasattr(model, "encode_frames"):
        raise ValueError(f"{name} mixes slices from the start.")
    ways: dict[str, Callable[[], Tensor]] = {
        "each": lambda: score_each(model, scan),
        "shared": lambda: slide_windows(model, scan, frames=FRAMES)[0],
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    logits: dict[str, Tensor] = {}
    for _ in range(ROUNDS):
        for way, score in ways.items():
            started = time.perf_counter()
            logits[way] = score()
            seconds[way].append(time.perf_counter() - started)
    each, shared = (statistics.median(seconds[way]) for way in ("each", "shared"))
    apart = float((logits["each"] - logits["shared"]).abs().max())
    return [
        name,
        f"{1000 * each:.0f}",
        f"{1000 * shared:.0f}",
        f"{each / shared:.1f}",
        f"{apart:.0e}",
    ]


def main() -> None:
    """Measures, prints, and writes the section of RESULTS.md."""
    scan = torch.randn(SCAN, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        rows = [measure(name, scan) for name in CONFIGS]
    write_section(
        "All windows of 16 slices of a scan of 120 x 64 x 64",
        ["network", "ms, window by window", "ms, slices shared", "times", "largest difference"],
        rows,
        "python benchmarks/bench_sliding.py",
        "105 windows, one slice apart; medians of 3 alternating rounds. Nets of 3D convolutions "
        "pad a window with zeros along T, so their features are not those of the whole stack: they "
        "are scored window by window.",
    )


if __name__ == "__main__":
    main()
