"""Random rotations, scalings and shifts, the same for all frames of a clip."""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as nnf
from einops import rearrange
from pydantic import Field
from torch import Tensor

from medvid.contract import ConfigError, DataError
from medvid.transforms.planes import MODALITIES, refuse_flow
from medvid.transforms.protocol import OutputSize, Probability, Randomizable, Sample

Fill = Literal["edge", "min"]
"""What is seen beyond the picture: its edge, or the clip's smallest value (air, black)."""

NotNegative = Annotated[float, Field(ge=0)]


class Affine(Randomizable):
    """Rotates, scales and shifts a clip a little, all frames alike: patients lie differently.

    Works in the plane of the slices unless a through-plane angle is asked for: with 5 mm slices a
    tilt mixes tissues that lie 5 mm apart. Angles are true angles in mm, also where pixels are not
    square. `spacing` is not changed: the body is.

    Args:
        rotate_degrees: largest angle in the plane, either way.
        scale: largest change of size; 0.1 draws from 0.9 to 1.1.
        translate: largest shift along H and W, as a share of their length.
        through_plane_degrees: largest tilt about H and about W; 0 stays in the plane. For scans
            only.
        prob: that the clip is changed at all.
        fill: what is seen beyond the picture, `edge` or `min`.

    Shape:
        (C, T, H, W) -> (C, T, H, W), linear interpolation.

    Raises:
        DataError: where the sample holds `flow`; for a tilt of a video, whose T is no length.
    """

    output_size: OutputSize = "kept"

    def __init__(
        self,
        rotate_degrees: NotNegative = 10.0,
        scale: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        translate: NotNegative = 0.05,
        through_plane_degrees: NotNegative = 0.0,
        prob: Probability = 0.5,
        fill: Fill = "edge",
    ) -> None:
        self.rotate_degrees = rotate_degrees
        self.scale = scale
        self.translate = translate
        self.through_plane_degrees = through_plane_degrees
        self.prob = prob
        self.fill: Fill = fill

    def __call__(self, sample: Sample) -> Sample:
        """Returns the changed sample."""
        changed = self.R.uniform() < self.prob
        turn, size, shift_h, shift_w, tilt_h, tilt_w = self.R.uniform(-1, 1, size=6).tolist()
        if not changed:
            return sample
        refuse_flow(sample, "affine")
        matrix = rotation(
            turn * self.rotate_degrees,
            tilt_h * self.through_plane_degrees,
            tilt_w * self.through_plane_degrees,
        )
        matrix[1:, 1:] /= 1 + size * self.scale
        # A shift by half of the frame is 1 on the scale that `warp` uses, from -1 to 1.
        shift = (0.0, 2 * shift_h * self.translate, 2 * shift_w * self.translate)
        if self.through_plane_degrees and sample.get("modality") == "video":
            raise DataError(
                "`affine` was asked to tilt a video through its frames, but time is no length. "
                "Set `through_plane_degrees: 0`.",
                code="tilted_video",
            )
        return warp(sample, matrix, shift, self.fill, tilted=self.through_plane_degrees > 0)


class Zoom(Randomizable):
    """Enlarges or shrinks all frames of a clip by one random factor, about their centre.

    Args:
        low: smallest factor.
        high: largest factor.
        prob: that the clip is changed at all.
        fill: what is seen beyond the picture when it shrinks, `edge` or `min`.

    Shape:
        (C, T, H, W) -> (C, T, H, W), linear interpolation. `spacing` is not changed: the body is.

    Raises:
        ConfigError: when `low` is larger than `high`.
    """

    output_size: OutputSize = "kept"

    def __init__(
        self,
        low: Annotated[float, Field(gt=0)] = 0.9,
        high: Annotated[float, Field(gt=0)] = 1.1,
        prob: Probability = 0.5,
        fill: Fill = "edge",
    ) -> None:
        if low > high:
            raise ConfigError(
                f"The transform `zoom` needs low <= high, and got {low:g} and {high:g}.",
                code="wrong_range",
            )
        self.low = low
        self.high = high
        self.prob = prob
        self.fill: Fill = fill

    def __call__(self, sample: Sample) -> Sample:
        """Returns the zoomed sample."""
        changed = self.R.uniform() < self.prob
        factor = float(self.R.uniform(self.low, self.high))
        if not changed:
            return sample
        matrix = torch.diag(torch.tensor([1.0, 1 / factor, 1 / factor], dtype=torch.float64))
        return warp(sample, matrix, (0.0, 0.0, 0.0), self.fill, tilted=False)


def rotation(turn: float, tilt_h: float, tilt_w: float) -> Tensor:
    """Returns the matrix of rotations by degrees about T, H and W, for vectors (t, h, w).

    Shape:
        (3, 3) float64.
    """
    matrix = torch.eye(3, dtype=torch.float64)
    for degrees, (first, second) in ((turn, (1, 2)), (tilt_h, (0, 2)), (tilt_w, (0, 1))):
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        single = torch.eye(3, dtype=torch.float64)
        single[first, first] = single[second, second] = cos
        single[first, second], single[second, first] = -sin, sin
        matrix = matrix @ single
    return matrix


def warp(
    sample: Sample, matrix: Tensor, shift: tuple[float, float, float], fill: Fill, *, tilted: bool
) -> Sample:
    """Moves every voxel of a clip: the voxel at p shows what was at matrix @ p + shift.

    Args:
        sample: one clip and its further modalities.
        matrix: for vectors (t, h, w) from the centre of the clip, in mm.
        shift: along (t, h, w) on a scale from -1 to 1 across the clip.
        fill: what is seen from beyond the edge.
        tilted: whether the matrix leaves the plane of the frames.

    Shape:
        matrix: (3, 3).
    """
    size = torch.tensor(sample["clip"].shape[1:], dtype=torch.float64)
    spacing = sample.get("spacing", torch.ones(3)).to(torch.float64)
    half = size * spacing / 2  # torch measures from -1 to 1 across the clip, along (w, h, t)
    normalised = matrix * half[None, :] / half[:, None]
    theta = torch.cat([normalised, torch.tensor(shift, dtype=torch.float64)[:, None]], dim=1)
    axes = theta if tilted else theta[1:, 1:]
    axes = axes.flip(0)
    reversed_theta = torch.cat([axes[:, :-1].flip(1), axes[:, -1:]], dim=1).float()
    changed = dict(sample)
    for key in MODALITIES:
        if key in sample:
            clip = sample[key]
            # In the plane, all frames together are one picture of many channels: see `planes`.
            picture = clip if tilted else rearrange(clip, "c t h w -> (c t) h w")
            # Differences are zero where nothing is.
            floor = float(clip.min()) if key == "clip" else 0.0
            moved = _sample_grid(picture, reversed_theta, fill, floor)
            changed[key] = moved.reshape(clip.shape)
    return changed


def _sample_grid(picture: Tensor, theta: Tensor, fill: Fill, floor: float) -> Tensor:
    """Shape: picture (channels, *axes); theta (axes, axes + 1), with the axes reversed."""
    size = [1, *picture.shape]
    grid = nnf.affine_grid(theta[None], size, align_corners=False)
    if fill == "edge":
        return nnf.grid_sample(picture[None], grid, padding_mode="border", align_corners=False)[0]
    above = nnf.grid_sample((picture - floor)[None], grid, align_corners=False)[0]
    return above + floor  # what lies beyond counts as zero above the floor
