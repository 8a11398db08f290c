"""Resamples a whole stack once, before it goes into the store."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from medvid.contract import ConfigError, Stack


def resample_stack(
    stack: Stack,
    *,
    spacing: tuple[float, float, float] | None = None,
    size: tuple[int, int] | None = None,
) -> Stack:
    """Returns a stack on another grid that covers the same extent.

    In plane: bilinear, with an antialiasing filter where it shrinks. Through plane: linear between
    the slices' true positions, averaging over the new thickness where it shrinks.

    Args:
        stack: scan or video.
        spacing: (T, H, W) in mm; 0 keeps an axis as it is.
        size: (H, W) in pixels; excludes an in-plane `spacing`.

    Raises:
        ConfigError: for a grid that cannot be, a spacing in mm on a video, or both ways of saying
            the in-plane grid.
    """
    _check(stack, spacing, size)
    step, height, width = stack.num_frames, stack.height, stack.width
    if spacing is not None:
        lengths = (stack.num_frames, stack.height, stack.width)
        step, height, width = (
            n if not new else max(1, round(n * old / new))
            for n, old, new in zip(lengths, stack.spacing, spacing, strict=True)
        )
    if size is not None:
        height, width = size
    resampled = replace(
        stack,
        num_frames=step,
        height=height,
        width=width,
        spacing=_scale(stack, step, height, width),
        positions=_positions(stack, step),
        affine=_affine(stack, step, height, width),
        array=None,
        frame_keys=stack.frame_keys if step == stack.num_frames else (),
        read_frames=lambda frames: _read(stack, frames, step, height, width),
        notes=(
            *stack.notes,
            f"resampled from {stack.num_frames} x {stack.height} x {stack.width} "
            f"to {step} x {height} x {width}",
        ),
    )
    return resampled


def _check(
    stack: Stack, spacing: tuple[float, float, float] | None, size: tuple[int, int] | None
) -> None:
    if spacing is not None and min(spacing) < 0:
        raise ConfigError(
            f"`data.spacing: {list(spacing)}` must hold mm above 0, or 0 to keep an axis.",
            code="spacing",
        )
    if size is not None and min(size) < 1:
        raise ConfigError(f"`data.size: {list(size)}` must hold pixels, 1 or more.", code="size")
    if spacing is not None and stack.unit != "mm":
        raise ConfigError(
            "`data.spacing` is in mm and cannot be used on videos. Use `data.size: [H, W]`.",
            code="spacing_on_video",
        )
    if spacing is not None and size is not None and any(spacing[1:]):
        raise ConfigError(
            "`data.spacing` and `data.size` both set the in-plane grid. Set the in-plane spacing "
            "to 0 or leave `size` out.",
            code="two_grids",
        )


def _ratios(stack: Stack, step: int, height: int, width: int) -> tuple[float, float, float]:
    return stack.num_frames / step, stack.height / height, stack.width / width


def _scale(stack: Stack, step: int, height: int, width: int) -> tuple[float, float, float]:
    t, h, w = _ratios(stack, step, height, width)
    return stack.spacing[0] * t, stack.spacing[1] * h, stack.spacing[2] * w


def _centres(old: int, new: int) -> NDArray[np.float64]:
    """Returns where the new voxel centres lie, as old indices; both grids share their edges."""
    return (np.arange(new) + 0.5) * old / new - 0.5


def _positions(stack: Stack, step: int) -> NDArray[np.float64]:
    if step == stack.num_frames:
        return stack.positions
    index = _centres(stack.num_frames, step)
    inside = np.interp(index, np.arange(stack.num_frames), stack.positions)
    beyond = index - np.clip(index, 0, stack.num_frames - 1)
    return inside + beyond * stack.spacing[0]


def _affine(stack: Stack, step: int, height: int, width: int) -> NDArray[np.float64] | None:
    if stack.affine is None:
        return None
    ratios = _ratios(stack, step, height, width)
    to_old = np.diag([*ratios, 1.0])
    to_old[:3, 3] = [(ratio - 1) / 2 for ratio in ratios]
    # An affine knows even steps alone; the first new slice lies where its position says.
    to_old[0, 3] = stack.count_steps(float(to_old[0, 3]))
    return stack.affine @ to_old


def _read(stack: Stack, frames: Sequence[int], step: int, height: int, width: int) -> NDArray[Any]:
    weights = _frame_weights(stack.num_frames, step)[list(frames)]
    needed = np.flatnonzero(weights.any(axis=0))
    voxels = torch.from_numpy(np.ascontiguousarray(stack.read(needed.tolist()), dtype=np.float32))
    if (height, width) != (stack.height, stack.width):
        voxels = interpolate(voxels, size=(height, width), mode="bilinear", antialias=True)
    mix = torch.from_numpy(weights[:, needed].astype(np.float32))
    mixed = torch.einsum("f n, c n h w -> c f h w", mix, voxels).numpy()
    if np.issubdtype(stack.dtype, np.integer):
        limits = np.iinfo(stack.dtype)
        mixed = np.clip(np.rint(mixed), limits.min, limits.max)
    return mixed.astype(stack.dtype)


def _frame_weights(old: int, new: int) -> NDArray[np.float64]:
    """Returns (new, old): how much every old frame gives to every new one; rows sum to 1."""
    if new == old:
        return np.eye(old)
    reach = max(1.0, old / new)  # a triangle filter, as wide as the coarser of the two grids
    distance = np.abs(_centres(old, new)[:, None] - np.arange(old)[None, :])
    weights = np.clip(1 - distance / reach, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)
