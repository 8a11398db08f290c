"""Several scans of one patient as the channels of one case: MR sequences, phases, CT and PET.

A network compares channels voxel by voxel, so they must lie on one grid. Scans of one examination
often do; others are refused, or resampled onto the grid of the first channel where the config says
so. Either way positions in the patient are trusted as the files state them: scans between which the
patient moved, or of different examinations, must be registered first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from medvid.contract import Channel, ConfigError, DataError, GeometryError, Record, Stack
from medvid.data.resample import resample_stack
from medvid.io.geometry import Plane, nearest_plane

SAME_GRID_SHARE = 0.1
"""Of a voxel, how far corners of two grids may lie apart. Positions rounded to 0.1 mm differ by
less; a tenth of a voxel moves no edge that a network could see."""

SAME_POSITION = 1e-3
"""Of a step, how much the positions of frames without patient axes (videos) may differ."""

SMALLEST_OVERLAP = 0.5
"""Of the first channel's voxels, the share that another must cover to be resampled onto it. Less
comes from scans of different parts of the body."""

COARSER = 1.05
"""From this ratio of steps on, a channel is averaged over the coarser grid before it is resampled;
nearer to 1, averaging would blur more than it prevents."""

LATTICE = 8
"""Points along each axis at which the overlap is counted: 512 in all, good to a few per cent."""

AIR_HU = -1024
"""Where a CT does not reach; other modalities are 0 there."""


@dataclass(frozen=True)
class Reading:
    """How the channels of cases are read.

    Args:
        names: the channels, in their order.
        align: `refuse` channels of another grid than the first's, or `resample` them onto it.
        modality: of single channels, where the files do not say (NIfTI).
    """

    names: tuple[str, ...]
    align: Literal["refuse", "resample"] = "refuse"
    modality: tuple[tuple[str, str], ...] = ()


def channel_options(
    *,
    names: list[str] | None = None,
    align: Literal["refuse", "resample"] = "refuse",
    modality: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The options of `data.channels`.

    Args:
        names: which channels are read, in this order; None takes all of the manifest.
        align: what becomes of a channel that is not on the first one's grid.
        modality: channel -> modality, for files that do not say.
    """
    return dict(locals())


def name_channels(given: Mapping[str, Any] | None, records: Sequence[Record]) -> dict[str, Any]:
    """Returns `data.channels` with its names filled in; empty where cases are single scans.

    Args:
        given: the options, checked; None where the config says nothing.
        records: all cases; the first one's channels are the rule.

    Raises:
        ConfigError: for channels that the manifest lacks.
    """
    there = [channel.name for channel in records[0].channels] if records else []
    if not there and given is None:
        return {}
    if not there:
        raise ConfigError(
            "`data.channels` is for manifests with columns `path_<channel>`, and this one has "
            "`path`. Leave the option out.",
            code="no_channels",
        )
    options = channel_options(**(given or {}))
    names = options["names"] or there
    unknown = [name for name in (*names, *(options["modality"] or {})) if name not in there]
    if unknown:
        raise ConfigError(
            f"`data.channels` names `{unknown[0]}`, and the manifest has the channels "
            f"{', '.join(there)}.",
            code="unknown_channel",
        )
    return options | {"names": list(names)}


def read_options(options: Mapping[str, Any] | None) -> Reading | None:
    """Returns how channels are read, of the options that `name_channels` completed."""
    if not options:
        return None
    modality = tuple(sorted((options["modality"] or {}).items()))
    return Reading(tuple(options["names"]), options["align"], modality)


def find_parts(record: Record, reading: Reading | None) -> tuple[Channel, ...]:
    """Returns the channels of a record that are read; () for a single scan.

    Raises:
        DataError: when the record lacks one, or has channels where single scans are read.
    """
    if reading is None:
        if record.channels:
            raise DataError(
                f"{record.path}: the case has the channels "
                f"{', '.join(channel.name for channel in record.channels)}, and single scans are "
                "read here. Give a table with one column `path`.",
                code="channels",
                files=[record.path],
            )
        return ()
    known = {channel.name: channel for channel in record.channels}
    lacking = [name for name in reading.names if name not in known]
    if lacking:
        columns = ", ".join(f"path_{name}" for name in reading.names)
        raise DataError(
            f"{record.path}: the case has no channel `{lacking[0]}`. Every case is read with the "
            f"channels {', '.join(reading.names)}: give a table with the columns {columns}.",
            code="no_channel",
            files=[record.path],
        )
    return tuple(known[name] for name in reading.names)


def open_parts(
    parts: Sequence[Channel],
    reading: Reading,
    plane: Any,
    open_scan: Callable[[str, str | None, Any, str | None], Stack],
) -> list[Stack]:
    """Opens the channels of a case, all on the grid of the first; decodes nothing yet.

    Args:
        parts: the channels.
        reading: how they are read.
        plane: which axis of a volume file is T.
        open_scan: opens one scan by path, series, plane and modality.

    Raises:
        DataError: when one cannot be read or is a colour video; names channel and file.
        GeometryError: when one is on another grid and `align` is `refuse`.
    """
    modality = dict(reading.modality)
    stacks: list[Stack] = []
    for part in parts:
        try:
            own: Any = plane if not stacks or plane != "auto" else _plane_of(stacks[0])
            stack = open_scan(part.path, part.series, own, modality.get(part.name))
            if stack.channels != 1:
                raise DataError(
                    f"{part.path} has {stack.channels} colours, and a channel is one grey value a "
                    "voxel.",
                    code="not_grey",
                    files=[part.path],
                )
            if stacks:
                stack = _align(stack, stacks[0], parts[0].name, reading.align)
        except (DataError, GeometryError) as error:
            files = error.files or (part.path,)
            told = "" if part.path in error.message else f"{part.path}: "
            raise type(error)(
                f"channel {part.name}: {told}{error.message}", code=error.code, files=files
            ) from error
        stacks.append(stack)
    return stacks


def join_parts(parts: Sequence[Stack], names: Sequence[str]) -> Stack:
    """Makes one stack of channels on one grid; frames are called as those of the first.

    Its type holds every channel exactly: int16 beside float32 is float32.
    """
    first = parts[0]
    dtype = np.result_type(*(part.dtype for part in parts))
    dtype = np.dtype(np.float32) if dtype == np.float64 else dtype

    def read_frames(frames: Sequence[int]) -> NDArray[Any]:
        return np.concatenate([part.read(frames) for part in parts]).astype(dtype, copy=False)

    return replace(
        first,
        channels=sum(part.channels for part in parts),
        dtype=dtype,
        modality="/".join(dict.fromkeys(part.modality for part in parts)),
        read_frames=read_frames,
        array=None,
        notes=tuple(
            f"{name}: {note}"
            for name, part in zip(names, parts, strict=True)
            for note in part.notes
        ),
    )


def _plane_of(stack: Stack) -> Plane | Literal["auto"]:
    if stack.affine is None:
        return "auto"
    return nearest_plane(stack.affine[:3, 0] / np.linalg.norm(stack.affine[:3, 0]))


def _size(stack: Stack) -> tuple[int, int, int]:
    return stack.num_frames, stack.height, stack.width


def _align(stack: Stack, grid: Stack, first: str, align: str) -> Stack:
    difference = _describe_difference(stack, grid)
    if not difference:
        return stack
    if align == "refuse" or stack.affine is None or grid.affine is None:
        way = (
            "Have them put onto it with `data.channels: {align: resample}`, or resample the files."
            if stack.affine is not None and grid.affine is not None
            else "Without patient axes they cannot be put onto it: resample the files."
        )
        raise GeometryError(
            f"its voxels do not lie on those of the channel {first}: {difference}. {way}",
            code="other_grid",
        )
    return resample_onto(stack, grid)


def _describe_difference(stack: Stack, grid: Stack) -> str:
    """Returns how two grids differ; "" for one grid."""
    if (stack.affine is None) != (grid.affine is None):
        return "one has a place in the patient and the other has none"
    if _size(stack) != _size(grid) and (stack.affine is None or grid.affine is None):
        return f"{_size(stack)} frames, rows and columns against {_size(grid)}"
    if stack.affine is None or grid.affine is None:
        apart = np.abs(stack.positions - grid.positions).max() / grid.spacing[0]
        return "" if apart <= SAME_POSITION else "their frames were taken at other times"
    told = ""
    if _size(stack) != _size(grid):
        told = f"{' x '.join(map(str, _size(stack)))} voxels against "
        told += f"{' x '.join(map(str, _size(grid)))}"
    shift = _measure_shift(stack, grid)
    if not told and np.abs(shift).max() > SAME_GRID_SHARE:
        mm = np.linalg.norm(shift * np.array(grid.spacing), axis=1).max()
        told = f"they lie up to {mm:.2f} mm apart"
    return told


def _measure_shift(stack: Stack, grid: Stack) -> NDArray[np.float64]:
    """Returns how far the corners of equally numbered frames lie apart, (corners, 3) in voxels.

    All frames are compared: each of two stacks may lack another slice between equal ends.
    """
    frames, height, width = _size(grid)
    corners = np.array([*product(range(frames), (0, height - 1), (0, width - 1))], dtype=np.float64)
    own = corners.copy()
    own[:, 0] = stack.count_steps(corners[:, 0])
    return _to_steps(stack, grid, corners) - own


def _to_steps(stack: Stack, grid: Stack, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turns (t, h, w) indices of `grid` into even steps of `stack`; both have patient axes."""
    assert stack.affine is not None
    assert grid.affine is not None
    across = np.linalg.solve(stack.affine, grid.affine)
    steps = points.copy()
    steps[:, 0] = grid.count_steps(points[:, 0])
    counted: NDArray[np.float64] = steps @ across[:3, :3].T + across[:3, 3]
    return counted


def _to_index(stack: Stack, grid: Stack, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turns (t, h, w) indices of `grid` into those of `stack`; both have patient axes."""
    indices = _to_steps(stack, grid, points)
    indices[:, 0] = stack.count_frames(indices[:, 0])
    return indices


def _is_even(stack: Stack) -> bool:
    frames = np.arange(stack.num_frames, dtype=np.float64)
    return bool(np.abs(stack.count_steps(frames) - frames).max() <= SAME_GRID_SHARE)


def resample_onto(stack: Stack, grid: Stack) -> Stack:
    """Returns a scan on the grid of another one, linearly interpolated at the true positions.

    Where the grid is coarser, the scan is averaged over the coarser steps first. Where the scan
    does not reach, it is 0, and air in CT.

    Args:
        stack: with patient axes.
        grid: likewise.

    Raises:
        GeometryError: when the scan covers less than half of the grid.
    """
    lattice = [np.linspace(0, n - 1, LATTICE) for n in _size(grid)]
    points = np.stack(np.meshgrid(*lattice, indexing="ij"), axis=-1).reshape(-1, 3)
    covered = float(_inside(_to_index(stack, grid, points), _size(stack)).mean())
    if covered < SMALLEST_OVERLAP:
        raise GeometryError(
            f"it covers {covered:.0%} of the first channel, which is too little to be the same "
            "part of the body. Are both of one examination?",
            code="no_overlap",
        )
    ratios = [new / old for new, old in zip(grid.spacing, stack.spacing, strict=True)]
    t, h, w = (
        new if ratio > COARSER else 0.0 for new, ratio in zip(grid.spacing, ratios, strict=True)
    )
    if not _is_even(stack):
        t = 0.0  # an average over so many slices would mix those on both sides of a gap
    source = resample_stack(stack, spacing=(t, h, w)) if any((t, h, w)) else stack

    return replace(
        stack,
        num_frames=grid.num_frames,
        height=grid.height,
        width=grid.width,
        spacing=grid.spacing,
        positions=grid.positions,
        affine=grid.affine,
        array=None,
        frame_keys=(),
        read_frames=lambda frames: _interpolate(source, grid, frames),
        notes=(*stack.notes, f"resampled onto the first channel, of which it covers {covered:.0%}"),
    )


def _inside(indices: NDArray[np.float64], size: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Tells which (t, h, w) indices lie in a voxel of a stack: half a step around its centre."""
    inside = (indices >= -0.5) & (indices <= np.array(size) - 0.5)
    return np.asarray(inside.all(axis=-1))


def _interpolate(source: Stack, grid: Stack, frames: Sequence[int]) -> NDArray[Any]:
    outside = AIR_HU if source.modality == "CT" else 0
    planes = [_interpolate_frame(source, grid, frame, outside) for frame in frames]
    values = np.stack(planes, axis=1) if planes else np.empty((1, 0, grid.height, grid.width))
    if np.issubdtype(source.dtype, np.integer):
        limits = np.iinfo(source.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(source.dtype)


def _interpolate_frame(source: Stack, grid: Stack, frame: int, outside: int) -> NDArray[Any]:
    """Returns one frame of the grid, (1, H, W), reading the source's frames around it alone."""
    rows, columns = np.meshgrid(np.arange(grid.height), np.arange(grid.width), indexing="ij")
    points = np.stack([np.full(rows.shape, frame), rows, columns], axis=-1).astype(np.float64)
    indices = _to_index(source, grid, points.reshape(-1, 3)).reshape(*rows.shape, 3)
    inside = _inside(indices, _size(source))
    low, high = np.clip(
        [np.floor(indices[..., 0].min()), np.ceil(indices[..., 0].max())], 0, source.num_frames - 1
    ).astype(int)
    if not inside.any():
        return np.full((1, *rows.shape), outside, dtype=np.float32)
    block = np.ascontiguousarray(source.read(range(low, high + 1)), dtype=np.float32)
    local = indices - np.array([low, 0, 0])
    spans = np.maximum(np.array(block.shape[1:]) - 1, 1)
    # grid_sample counts from -1 to 1 between the outermost centres, and in the order w, h, t.
    places = torch.from_numpy((2 * local / spans - 1)[..., ::-1].astype(np.float32).copy())
    sampled = grid_sample(
        torch.from_numpy(block)[None],
        places[None, None],
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return np.where(inside, sampled[0, :, 0].numpy(), np.float32(outside))
