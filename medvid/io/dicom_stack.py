"""The slices of a series -> a Stack: filled, uprighted and turned as asked, decoded when read.

Everything between is a `Native`: slices as they were acquired, rising along their normal. Filling
gaps and taking a gantry's tilt out make another `Native` of one; turning to the canonical axes
comes last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvid.contract import GeometryError, Stack
from medvid.io.dicom_bits import AIR_HU
from medvid.io.dicom_pixels import choose_dtype, describe_pixels, read_slices
from medvid.io.dicom_regularity import (
    directions,
    head,
    is_even,
    normal_of,
    usual_step,
)
from medvid.io.dicom_series import Series, end_to_end, lay_grid
from medvid.io.dicom_slice import SliceHeader
from medvid.io.geometry import (
    TILT_DEGREES,
    Affine,
    Orientation,
    PlaneOrAuto,
    nearest_plane,
    orient,
)
from medvid.io.sidecars import is_other_kind
from medvid.io.slice_truth import instance_key
from medvid.io.wording import agree, count

Reader = Callable[[Sequence[int]], NDArray[Any]]


@dataclass(frozen=True)
class Native:
    """A stack in the order and the axes of its acquisition.

    Args:
        shape: (slices, rows, columns).
        along: positions of the slices along their normal, mm, rising.
        affine: (slice, row, column) index -> (x, y, z) mm; of uneven slices the first column is
            the usual step, counted from the first slice.
        dtype: of the values.
        read: indices of slices -> (slices, rows, columns).
        keys: by which labels call the slices; "" for one that no file holds.
        notes: one sentence each.
    """

    shape: tuple[int, int, int]
    along: NDArray[np.float64]
    affine: Affine
    dtype: np.dtype[Any]
    read: Reader
    keys: tuple[str, ...]
    notes: tuple[str, ...]


def stack_from_series(
    series: Series,
    *,
    plane: PlaneOrAuto = "auto",
    detilt: bool = False,
    beside: Sequence[Path] = (),
) -> Stack:
    """Makes the Stack of a series.

    Args:
        series: from `group_series`.
        plane: see `open_dicom`.
        detilt: whether a gantry's tilt is resampled away.
        beside: files of the folder that could not be read, for a note.

    Raises:
        GeometryError: when uneven slices are to be cut across.
    """
    native = _start(series)
    if series.filled:
        native = _fill(native)
    if detilt:
        native = _upright(native, series.first.modality)
    orientation = _orient(native, series, plane)
    notes = [*native.notes, *describe_pixels(series.first), *orientation.describe()]
    if beside:
        were = agree(len(beside), "was", "were")
        files = count(len(beside), "unreadable file")
        names = ", ".join(file.name for file in beside[:4]) + (", ..." if len(beside) > 4 else "")
        notes.append(f"{files} {were} left out ({names}).")
    positions = orientation.positions
    keys: tuple[str, ...] = ()
    if orientation.order[0] == 0:
        keys = native.keys[::-1] if orientation.flips[0] else native.keys
        sign = 1.0 if normal_of(series.first) @ orientation.normal > 0 else -1.0
        positions = np.sort(sign * native.along)
    return Stack(
        num_frames=orientation.shape[0],
        height=orientation.shape[1],
        width=orientation.shape[2],
        channels=1,
        dtype=native.dtype,
        spacing=orientation.spacing,
        positions=positions,
        unit="mm",
        modality=series.first.modality,
        read_frames=lambda frames: _read(native, orientation, frames),
        affine=orientation.affine,
        frame_keys=keys,
        notes=tuple(notes),
        left_out=series.left_out + sum(not is_other_kind(file) for file in beside),
    )


def _start(series: Series) -> Native:
    slices = series.slices
    along = series.along
    dtype = choose_dtype(slices)
    row, column = directions(slices[0])
    height, width = slices[0].pixel_spacing or (1.0, 1.0)
    mean = (along[-1] - along[0]) / (len(along) - 1)
    affine = np.eye(4)
    # Rounded positions average out over an even stack; an uneven one has no step but its usual.
    affine[:3, 0] = end_to_end(slices) * (mean if is_even(along) else usual_step(along))
    affine[:3, 1], affine[:3, 2] = column * height, row * width
    affine[:3, 3] = slices[0].position
    return Native(
        shape=(len(slices), *slices[0].shape),
        along=along,
        affine=affine,
        dtype=dtype,
        read=lambda indices: read_slices([slices[index] for index in indices], dtype),
        keys=tuple(_name_slice(header) for header in slices),
        notes=series.notes,
    )


def _name_slice(header: SliceHeader) -> str:
    return instance_key(header.instance, None if header.frame < 0 else header.frame + 1)


def _fill(native: Native) -> Native:
    grid, places = lay_grid(native.along)
    low = np.floor(places).astype(int)
    share = places - low

    def read(indices: Sequence[int]) -> NDArray[Any]:
        needed = sorted(
            {int(low[i]) for i in indices} | {int(low[i]) + 1 for i in indices if share[i] > 0}
        )
        slices = dict(zip(needed, native.read(needed), strict=True))
        frames = np.empty((len(indices), *native.shape[1:]), dtype=native.dtype)
        for number, index in enumerate(indices):
            below = slices[int(low[index])]
            if share[index] == 0:
                frames[number] = below
            else:
                above = slices[int(low[index]) + 1]
                frames[number] = _blend(below, above, float(share[index]), native.dtype)
        return frames

    affine = native.affine.copy()
    affine[:3, 0] *= (grid[1] - grid[0]) / usual_step(native.along)
    shape = (len(grid), *native.shape[1:])
    keys = tuple(
        native.keys[index] if part == 0 else "" for index, part in zip(low, share, strict=True)
    )
    return replace(native, shape=shape, along=grid, affine=affine, read=read, keys=keys)


def _blend(
    one: NDArray[Any], other: NDArray[Any], share: float, dtype: np.dtype[Any]
) -> NDArray[Any]:
    mixed = one.astype(np.float64) * (1 - share) + other.astype(np.float64) * share
    return (np.rint(mixed) if dtype.kind in "iu" else mixed).astype(dtype)


def _upright(native: Native, modality: str) -> Native:
    """Shifts every slice within its plane until all corners lie on one line along the normal."""
    row, column = native.affine[:3, 2], native.affine[:3, 1]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    way = native.affine[:3, 0] / float(native.affine[:3, 0] @ normal)
    tilt = float(np.degrees(np.arccos(min(1.0, 1 / float(np.linalg.norm(way))))))
    if tilt < TILT_DEGREES:
        return native
    sideways = way - normal
    # In pixels for every mm along the normal.
    drift = np.array([sideways @ column / (column @ column), sideways @ row / (row @ row)])
    shifts = (native.along - native.along[0])[:, None] * drift
    first = np.floor(shifts.min(axis=0)).astype(int)
    size = np.ceil(shifts.max(axis=0)).astype(int) - first + native.shape[1:]
    air = AIR_HU if modality == "CT" else 0

    def read(indices: Sequence[int]) -> NDArray[Any]:
        frames = np.full((len(indices), *size), air, dtype=native.dtype)
        for frame, index, pixels in zip(frames, indices, native.read(indices), strict=True):
            _shift_into(frame, pixels, shifts[index] - first, air)
        return frames

    affine = native.affine.copy()
    affine[:3, 0] = normal * float(native.affine[:3, 0] @ normal)
    affine[:3, 3] += column * first[0] + row * first[1]
    note = f"A gantry tilt of {tilt:.1f} degrees was resampled away (detilt: true)."
    return replace(
        native,
        shape=(native.shape[0], int(size[0]), int(size[1])),
        affine=affine,
        read=read,
        notes=(*native.notes, note),
    )


def _shift_into(
    frame: NDArray[Any], pixels: NDArray[Any], shift: NDArray[np.float64], air: int
) -> None:
    """Writes a slice into a larger frame, moved by fractions of a pixel along both axes."""
    whole = np.floor(shift + 1e-9).astype(int)
    part = np.clip(shift - whole, 0.0, None)
    moved = pixels.astype(np.float64)
    for axis in (0, 1):
        if part[axis] > 1e-6:
            edge = [(0, 0), (0, 0)]
            edge[axis] = (1, 1)
            padded = np.pad(moved, edge, constant_values=air)
            length = padded.shape[axis]
            later, earlier = (
                np.take(padded, range(*ends), axis=axis) for ends in ((1, length), (0, length - 1))
            )
            moved = later * (1 - part[axis]) + earlier * part[axis]
    rows, columns = moved.shape
    values = np.rint(moved) if frame.dtype.kind in "iu" else moved
    frame[whole[0] : whole[0] + rows, whole[1] : whole[1] + columns] = values[
        : frame.shape[0] - whole[0], : frame.shape[1] - whole[1]
    ]


def _orient(native: Native, series: Series, plane: PlaneOrAuto) -> Orientation:
    own = nearest_plane(normal_of(series.first))
    orientation = orient(
        native.affine, native.shape, plane="auto" if plane == own else plane, through=0
    )
    if is_even(native.along):
        return orientation
    if orientation.order[0] != 0:
        raise GeometryError(
            f"{head(series.first)}its slices are unevenly apart and kept so (on_gap: keep), so "
            f"they cannot be cut across into {plane} frames. Use `on_gap: resample`, or `plane: "
            "auto`.",
            code="uneven_steps",
            files=[series.first.path],
        )
    if orientation.flips[0]:
        # The first frame is the last slice, and that lies where it says, not where steps lead.
        step = usual_step(native.along)
        beyond = native.along[-1] - native.along[0] - step * (native.shape[0] - 1)
        orientation.affine[:3, 3] += native.affine[:3, 0] / step * beyond
    return orientation


def _read(native: Native, orientation: Orientation, frames: Sequence[int]) -> NDArray[Any]:
    asked = [int(frame) for frame in frames]
    if orientation.order[0] != 0:
        volume = orientation.apply(native.read(range(native.shape[0])))
        return np.ascontiguousarray(volume[asked])[None]
    if not asked:
        return np.empty((1, 0, *orientation.shape[1:]), dtype=native.dtype)
    if orientation.flips[0]:
        asked = [native.shape[0] - 1 - frame for frame in asked]
    _, *order = orientation.order
    _, *flips = orientation.flips
    steps = tuple(slice(None, None, -1 if flip else None) for flip in flips)
    decoded = native.read(asked)
    return np.ascontiguousarray(decoded.transpose(0, *order)[:, *steps])[None]
