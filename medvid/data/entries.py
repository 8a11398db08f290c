"""One entry of the store: voxels as one raw map, and a JSON sidecar that says what they are.

Voxels stay small: int16 for CT, uint8 for video. Floating-point volumes become int16 with a slope
and an intercept where that is precise enough, see `FLOAT_LEVELS`.
"""

import hashlib
import json
import math
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvid.contract import DataError, Stack

READER_VERSION = 5
"""Raise it when the reader gives other voxels for the same file; all entries are then rebuilt."""

FLOAT_LEVELS = 4096
"""A float volume is kept as int16 only where 98 % of its voxels span this many steps (12 bits, what
scanners deliver); a heavy-tailed one stays float32."""

CHUNK_BYTES = 256 * 2**20
"""A video longer than this is decoded and written in pieces."""

HASH_BYTES = 2**20
"""Pieces in which the pixels are hashed."""

AS_THEY_ARE = frozenset(map(np.dtype, (np.uint8, np.int8, np.int16, np.uint16)))
"""Types that are small already."""

Scale = tuple[float, float, np.dtype[Any]]
"""Slope, intercept and type of one part's stored voxels."""


@dataclass(frozen=True)
class Storage:
    """How an entry keeps its voxels.

    Args:
        dtype: of all channels; one map has one type.
        slope: of every channel; native value = stored value * slope + intercept.
        intercept: see `slope`.
    """

    dtype: np.dtype[Any]
    slope: tuple[float, ...]
    intercept: tuple[float, ...]


@dataclass(frozen=True)
class Prepared:
    """What the sidecar says of a stored stack, besides the stack's own geometry.

    Args:
        slope: of every channel, see `Storage`.
        intercept: of every channel.
        pixels: sha256 of the stored voxels; equal for identical scans under different names.
    """

    slope: tuple[float, ...]
    intercept: tuple[float, ...]
    pixels: str


def choose_storage(parts: Sequence[Stack], path: str) -> Storage:
    """Returns how the channels of one case are kept.

    Where 16 bits do not hold every part, as of CT beside a PET of many orders of magnitude, all are
    kept as float32, which holds 16-bit values exactly.

    Args:
        parts: the scans whose channels are joined, in their order.
        path: of the case, for the error.

    Raises:
        DataError: for voxels that are NaN or infinite.
    """
    chosen = [_choose_scale(part, path) for part in parts]
    dtype = np.result_type(*(kind for _, _, kind in chosen))
    if len(parts) > 1 and dtype.itemsize > np.dtype(np.int16).itemsize:
        dtype = np.dtype(np.float32)
        chosen = [(1.0, 0.0, dtype)] * len(parts)
    counted = [one for one, part in zip(chosen, parts, strict=True) for _ in range(part.channels)]
    return Storage(
        dtype, tuple(slope for slope, _, _ in counted), tuple(start for _, start, _ in counted)
    )


def write_entry(sidecar: Path, stack: Stack, storage: Storage) -> None:
    """Writes the voxels and then the sidecar, each beside its place and renamed.

    Args:
        sidecar: the voxels go to the same name with the ending `.raw`.
        stack: what is kept.
        storage: how.

    Raises:
        OSError: when the disk is full or the folder cannot be written to; nothing half-written is
            left then.
    """
    sidecar.parent.mkdir(parents=True, exist_ok=True)
    pixels = _write_voxels(sidecar.with_suffix(".raw"), stack, storage)
    _write_beside(sidecar, json.dumps(_describe(stack, storage, pixels)).encode())


def _choose_scale(stack: Stack, path: str) -> Scale:
    if stack.dtype in AS_THEY_ARE:
        return 1.0, 0.0, stack.dtype
    voxels = stack.read()
    if np.issubdtype(stack.dtype, np.floating):
        broken = int(voxels.size - np.count_nonzero(np.isfinite(voxels)))
        if broken:
            raise DataError(
                f"{path} holds {broken} voxels that are NaN or infinite, of {voxels.size}. "
                "Mend the file, or leave the case out with `data.on_bad: quarantine`.",
                code="nan_voxels",
                files=[path],
            )
    return _choose_range(voxels)


def _choose_range(voxels: NDArray[Any]) -> Scale:
    low, high = float(voxels.min()), float(voxels.max())
    info = np.iinfo(np.int16)
    whole = np.issubdtype(voxels.dtype, np.integer) or bool(np.all(voxels == np.rint(voxels)))
    if whole and info.min <= low and high <= info.max:
        return 1.0, 0.0, np.dtype(np.int16)
    slope = max((high - low) / (info.max - info.min), float(np.finfo(np.float32).tiny))
    body_low, body_high = np.percentile(voxels, [1, 99])
    if (body_high - body_low) / slope < FLOAT_LEVELS:
        return 1.0, 0.0, np.dtype(np.float32)
    return slope, low - info.min * slope, np.dtype(np.int16)


def _write_voxels(raw: Path, stack: Stack, storage: Storage) -> str:
    """Writes (C, T, H, W) raw, frame by frame where it is large; returns the sha256."""
    frame_bytes = stack.height * stack.width * stack.dtype.itemsize * stack.channels
    chunk = max(1, CHUNK_BYTES // max(1, frame_bytes))
    shape = (stack.channels, stack.num_frames, stack.height, stack.width)
    beside = raw.with_name(f"{raw.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        # Reserves the blocks first: a full disk is an error now, not a crash in the map later.
        with beside.open("wb") as file:
            _reserve(file.fileno(), int(np.prod(shape)) * storage.dtype.itemsize)
        voxels = np.memmap(beside, dtype=storage.dtype, mode="r+", shape=shape)
        for start in range(0, stack.num_frames, chunk):
            frames = range(start, min(start + chunk, stack.num_frames))
            piece = stack.read(frames)
            scales = zip(storage.slope, storage.intercept, strict=True)
            for channel, (slope, intercept) in enumerate(scales):
                plain = slope == 1.0 and intercept == 0.0
                voxels[channel, frames.start : frames.stop] = (
                    piece[channel]
                    if plain
                    else np.rint((piece[channel].astype(np.float64) - intercept) / slope)
                )
        voxels.flush()
        digest = hashlib.sha256(str(shape).encode())
        flat = voxels.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, HASH_BYTES):
            digest.update(flat[start : start + HASH_BYTES].tobytes())
        del voxels, flat
        os.replace(beside, raw)
    finally:
        beside.unlink(missing_ok=True)
    return digest.hexdigest()


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # Windows allocates when a file grows by truncate
        os.truncate(descriptor, size)


def _write_beside(path: Path, content: bytes) -> None:
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _describe(stack: Stack, storage: Storage, pixels: str) -> dict[str, Any]:
    return {
        "reader_version": READER_VERSION,
        "shape": [stack.channels, stack.num_frames, stack.height, stack.width],
        "dtype": storage.dtype.str,
        "spacing": list(stack.spacing),
        "positions": stack.positions.tolist(),
        "unit": stack.unit,
        "modality": stack.modality,
        "affine": None if stack.affine is None else stack.affine.tolist(),
        "frame_keys": list(stack.frame_keys),
        "notes": list(stack.notes),
        "left_out": stack.left_out,
        "slope": list(storage.slope),
        "intercept": list(storage.intercept),
        "pixels": pixels,
    }


def is_whole(sidecar: Path) -> bool:
    """Returns whether an entry can be used; one that was cut or half deleted is made anew."""
    try:
        entry = json.loads(sidecar.read_text(encoding="utf-8"))
        size = math.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
        return sidecar.with_suffix(".raw").stat().st_size == size
    except (OSError, ValueError, KeyError, TypeError):
        return False


def map_entry(sidecar: Path) -> tuple[Stack, Prepared]:
    """Returns the stack of a whole entry, its voxels mapped, and what the sidecar adds."""
    entry = json.loads(sidecar.read_text(encoding="utf-8"))
    channels, num_frames, height, width = entry["shape"]
    dtype = np.dtype(entry["dtype"])
    voxels = np.memmap(
        sidecar.with_suffix(".raw"), dtype=dtype, mode="r", shape=tuple(entry["shape"])
    )
    # A plain view: numpy's memmap subclass makes every slice many times slower.
    array = voxels.view(np.ndarray)
    stack = Stack(
        num_frames=num_frames,
        height=height,
        width=width,
        channels=channels,
        dtype=dtype,
        spacing=tuple(entry["spacing"]),
        positions=np.array(entry["positions"], dtype=np.float64),
        unit=entry["unit"],
        modality=entry["modality"],
        read_frames=lambda frames: array[:, list(frames)],
        array=array,
        affine=None if entry["affine"] is None else np.array(entry["affine"]),
        frame_keys=tuple(entry["frame_keys"]),
        notes=tuple(entry["notes"]),
        left_out=entry["left_out"],
    )
    scale = tuple(entry["slope"]), tuple(entry["intercept"])
    return stack, Prepared(*scale, entry["pixels"])
