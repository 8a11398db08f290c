"""What a network is built for: learnt from one sample and the spacing of all scans."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medvid.contract import DataError
from medvid.data.sight import Context
from medvid.jobs.task import TaskData


@dataclass(frozen=True)
class ClipShape:
    """What a network is built for.

    Args:
        channels: C of the clips.
        size: (T, H, W) of a training clip.
        spacing: (T, H, W) in mm between neighbours in the clip; None for videos.
    """

    channels: int
    size: tuple[int, int, int]
    spacing: tuple[float, float, float] | None


def read_clip_shape(data: TaskData) -> ClipShape:
    """Reads one training sample to learn what the network will be given.

    Raises:
        DataError: when the first case has no labelled slice.
    """
    dataset = data.dataset([data.records[0].case_id], training=True, seed=0)
    if not len(dataset):
        raise DataError(
            f"Case {data.records[0].case_id} has no labelled slice. A slice task needs the "
            "manifest column `slice`.",
            code="no_slice_labels",
        )
    sample = dataset[0]
    channels, t, h, w = (int(n) for n in sample["clip"].shape[-4:])
    stack = data.store.open(data.records[0])
    spacing = None
    if stack.unit == "mm":
        # What sampler and transforms make of one scan's spacing they make of the median's.
        # Copies of the target lie no distance apart, and all arms of a study are of one step.
        copies = isinstance(data.sampler, Context)
        step = float(sample["spacing"][0]) if copies else _median_step(sample)
        first = (step, *(float(s) for s in sample["spacing"][1:]))
        middle = np.median([data.store.open(r).spacing for r in data.records], axis=0)
        t_mm, h_mm, w_mm = (
            new * typical / own
            for new, typical, own in zip(first, middle.tolist(), stack.spacing, strict=True)
        )
        spacing = (t_mm, h_mm, w_mm)
    return ClipShape(channels, (t, h, w), spacing)


def _median_step(sample: Mapping[str, Any]) -> float:
    """Returns the distance of neighbouring frames in the clip, which a stride makes larger."""
    positions = sample["positions"].reshape(-1, sample["positions"].shape[-1])[0]
    mask = sample["mask"].reshape(-1, sample["mask"].shape[-1])[0]
    steps = torch.diff(positions[mask]).abs()
    return float(statistics.median(steps.tolist())) if len(steps) else float(sample["spacing"][0])
