"""Mirrors and quarter turns."""

from typing import Literal

import torch
from torch import Tensor

from medvid.contract import DataError
from medvid.transforms.planes import MODALITIES, change_planes, refuse_flow
from medvid.transforms.protocol import OutputSize, Probability, Randomizable, Sample

Axis = Literal["T", "H", "W"]


class Flip(Randomizable):
    """Mirrors a clip along some of its axes, each with the same probability, all frames alike.

    On axial scans W swaps the patient's left and right, H front and back, T head and feet. Leave W
    out where a label is lateralised ("left pleural effusion"), and where organs are to be told
    apart that lie on one side. Flow fields are mirrored as vectors; the frame difference of a
    clip mirrored in time changes its sign.

    Args:
        axes: any of T, H and W.
        prob: of every single axis. 1 mirrors always.

    Shape:
        (C, T, H, W) -> (C, T, H, W). With T, `mask` and `window` turn with the frames, and
        `positions` are mirrored so that they still rise.

    Raises:
        DataError: for T where the sample holds `flow`: the flow backwards is not the flow forward
            with its sign changed.
    """

    output_size: OutputSize = "kept"

    def __init__(self, axes: list[Axis], prob: Probability = 0.5) -> None:
        self.axes = axes
        self.prob = prob

    def __call__(self, sample: Sample) -> Sample:
        """Returns the mirrored sample."""
        chosen = [axis for axis in self.axes if self.R.uniform() < self.prob]
        return mirror(sample, chosen) if chosen else sample


class Rotate90(Randomizable):
    """Turns every frame by the same random number of quarter turns.

    For targets without an up: cells, nodules, specimens. Frames that are not square are turned by
    half a turn only.

    Args:
        prob: that the clip is turned at all.

    Shape:
        (C, T, H, W) -> (C, T, H, W).

    Raises:
        DataError: where the sample holds `flow`.
    """

    output_size: OutputSize = "kept"

    def __init__(self, prob: Probability = 0.5) -> None:
        self.prob = prob

    def __call__(self, sample: Sample) -> Sample:
        """Returns the turned sample."""
        turned = self.R.uniform() < self.prob
        turns = int(self.R.randint(1, 4))  # one to three quarters
        if not turned:
            return sample
        refuse_flow(sample, "rotate90")
        height, width = sample["clip"].shape[-2:]
        quarters = turns if height == width else 2
        return change_planes(sample, lambda planes: torch.rot90(planes, quarters, (-2, -1)))


def mirror(sample: Sample, axes: list[Axis]) -> Sample:
    """Returns a sample mirrored along `axes`, with everything that belongs to its frames."""
    dims = ["CTHW".index(axis) for axis in axes]
    mirrored = dict(sample)
    for key in MODALITIES:
        if key in sample:
            mirrored[key] = sample[key].flip(dims)
    if "flow" in sample:
        mirrored["flow"] = _turn_vectors(mirrored["flow"], axes)
    if "T" in axes:
        for key in ("mask", "window"):
            if key in sample:
                mirrored[key] = sample[key].flip(0)
        if "positions" in sample:
            positions = sample["positions"]
            mirrored["positions"] = positions[0] + positions[-1] - positions.flip(0)
        if "difference" in sample:
            # x[t] - x[t-1] turns into x[t] - x[t+1]: the sign changes, and the frame it belongs to.
            mirrored["difference"] = -mirrored["difference"].roll(1, dims=1)
    return mirrored


def _turn_vectors(flow: Tensor, axes: list[Axis]) -> Tensor:
    """Changes the sign of the components along mirrored axes; channels are (w, h, w, h, ...)."""
    if "T" in axes:
        raise DataError(
            "`flip` along T is not possible beside `flow`: the flow backwards is not the flow "
            "forward with its sign changed. Use the axes H and W.",
            code="flow_turned",
        )
    signs = flow.new_tensor([-1.0 if "W" in axes else 1.0, -1.0 if "H" in axes else 1.0])
    return flow * signs.repeat(flow.shape[0] // 2)[:, None, None, None]
