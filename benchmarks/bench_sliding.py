"""All windows of 16 slices of a scan of 120, one slice apart: every slice encoded once, or again.

Run: python benchmarks/bench_sliding.py

Both ways are `score_clips`, through which all commands score; the peer's batch does not say which
slices its windows show, so that it is scored window by window. The two take turns; seconds of one
thread's own time, which other work on the machine disturbs least.
"""

import statistics
import time

import torch
from results import write_section
from torch import Tensor, nn

from medvid.config import list_configs, read_config
from medvid.models import build_model
from medvid.train.forward import score_clips
from medvid.train.sliding import shares_frames

SCAN = (1, 120, 64, 64)
FRAMES = 16
ROUNDS = 3
SKIPPED = ("model/single_frame_scan",)
"""Looks at one slice of a window, and windows one slice apart have as many as the scan."""


def list_networks() -> list[tuple[str, nn.Module]]:
    """Returns the scan presets that look at every slice alone and answer window by window."""
    networks = []
    for name in list_configs():
        if not name.startswith("model/") or not name.endswith(("_scan", "/slicewise")):
            continue
        torch.manual_seed(0)
        model = build_model(
            read_config(name)["model"], in_channels=1, num_classes=2, clip_size=(FRAMES, 64, 64)
        ).eval()
        if shares_frames(model) and name not in SKIPPED:
            networks.append((name, model))
    return networks


def cut_windows() -> dict[str, Tensor]:
    """Returns the batch that the sampler `sliding` makes of the scan."""
    scan = torch.randn(SCAN, generator=torch.Generator().manual_seed(0))
    window = torch.arange(SCAN[1] - FRAMES + 1)[:, None] + torch.arange(FRAMES)
    clip = scan[:, window].transpose(0, 1).contiguous()[None]
    return {"clip": clip, "window": window[None], "mask": torch.ones(1, *window.shape).bool()}


def measure(name: str, model: nn.Module, batch: dict[str, Tensor]) -> list[str]:
    """Returns the row of a network."""
    ways = {"each": {key: batch[key] for key in ("clip", "mask")}, "shared": batch}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    logits: dict[str, Tensor] = {}
    for _ in range(ROUNDS):
        for way, given in ways.items():
            started = time.process_time()
            logits[way] = score_clips(model, given, dense=False)
            seconds[way].append(time.process_time() - started)
    each, shared = (statistics.median(seconds[way]) for way in ways)
    ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
    apart = float((logits["each"] - logits["shared"]).abs().max())
    return [name, f"{1000 * each:.0f}", f"{1000 * shared:.0f}", f"{ratio:.1f}", f"{apart:.0e}"]


def main() -> None:
    """Measures, prints, and writes the section of RESULTS.md."""
    torch.set_num_threads(1)
    batch = cut_windows()
    with torch.inference_mode():
        rows = [measure(name, model, batch) for name, model in list_networks()]
    write_section(
        "All windows of 16 slices of a scan of 120 x 64 x 64",
        ["network", "ms, window by window", "ms, slices shared", "times", "largest difference"],
        rows,
        "python benchmarks/bench_sliding.py",
        f"105 windows, one slice apart, by `score_clips` as in every command; one thread's own "
        f"time, medians of {ROUNDS} alternating rounds. late_fusion looks at two slices of a "
        "window, the others at all; single_frame at one, so nothing is shared. actionvlad puts "
        "all windows in one bag. Networks of 3D convolutions are scored window by window: most "
        "pad a window with zeros along T or skip slices, so their features are not those of the "
        "whole stack; where that is not so, `medvid/train/sliding.py` says why they are not "
        "shared either.",
    )


if __name__ == "__main__":
    main()
