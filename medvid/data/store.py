"""Decoded stacks on disk, memory-mapped: decode once, then cut clips out of the map.

The first use of a stack decodes and orients it, optionally resamples it, and writes it raw beside a
JSON sidecar. The key is made of the source's fingerprint, the options and the reader's version, so
a changed file or option never meets an old entry. An entry is whole or absent: both files are
written beside and renamed, the sidecar last. Workers and processes may build the same entry at the
same time; they write the same bytes.

Voxels stay small: int16 for CT, uint8 for video. Floating-point volumes become int16 with a slope
and an intercept where that is precise enough, see `FLOAT_LEVELS`.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medvid.contract import Channel, ConfigError, DataError, MedvidError, Record, Stack
from medvid.data.channels import Reading, find_parts, join_parts, open_parts
from medvid.data.resample import resample_stack
from medvid.io import open_stack
from medvid.io.names import check_name
from medvid.io.series_list import ENDING, read_series_list
from medvid.io.sidecars import list_images

OWN_FOLDERS = frozenset({"medvid_store", "medvid_series", "runs"})
"""Folders that medvid itself makes where it is called, perhaps beside the slices."""

READER_VERSION = 5
"""Raise it when the reader gives other voxels for the same file; all entries are then rebuilt."""

FLOAT_LEVELS = 4096
"""A float volume is kept as int16 only where 98 % of its voxels span this many steps (12 bits, what
scanners deliver); a heavy-tailed one stays float32."""

OPEN_MAPS = 64
"""Maps a process keeps open. Bounds resident memory: pages of a closed map are given back."""

CHUNK_BYTES = 256 * 2**20
"""A video longer than this is decoded and written in pieces."""

HASH_BYTES = 2**20
"""Pieces in which the pixels are hashed."""

Plane = Literal["auto", "axial", "coronal", "sagittal"]
OnGap = Literal["refuse", "resample", "keep"]
OnBad = Literal["stop", "quarantine"]
Source = tuple[str, str | None, tuple[Channel, ...]]
"""Path, series and channels of a record."""

Storage = tuple[float, float, np.dtype[Any]]
"""Slope, intercept and type of stored voxels."""


@dataclass(frozen=True)
class Prepared:
    """What the sidecar says of a stored stack, besides the stack's own geometry.

    Args:
        slope: of every channel; native value = stored value * slope + intercept.
        intercept: see `slope`.
        pixels: sha256 of the stored voxels; equal for identical scans under different names.
    """

    slope: tuple[float, ...]
    intercept: tuple[float, ...]
    pixels: str


@dataclass
class Store:
    """Opens records through an on-disk cache of decoded stacks.

    Args:
        root: folder of the entries; made when needed.
        plane: which axis of a volume file is T; DICOM series keep their own.
        modality: overrides what the files say (NIfTI does not tell CT from MR).
        spacing: (T, H, W) in mm to resample to; 0 keeps an axis as it is.
        size: (H, W) in pixels to resize every frame to, as the video papers do.
        channels: how cases of several scans are read; None for single scans.
        on_gap: what to do with missing slices and uneven steps, see `medvid.io.open_stack`.
        on_bad: what to do with broken images of a series, likewise.
        detilt: whether a gantry's tilt is resampled away, likewise.
        select: which of several series of a folder is meant, likewise.
    """

    root: Path
    plane: Plane = "auto"
    modality: str | None = None
    spacing: tuple[float, float, float] | None = None
    size: tuple[int, int] | None = None
    channels: Reading | None = None
    on_gap: OnGap = "refuse"
    on_bad: OnBad = "stop"
    detilt: bool = False
    select: Mapping[str, Any] | None = None
    _opened: OrderedDict[Path, tuple[Stack, Prepared]] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )
    _keys: dict[Source, Path] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        # Open maps stay in the process that opened them; keys are worth taking along.
        return {**self.__dict__, "_opened": OrderedDict()}

    def open(self, record: Record) -> Stack:
        """Returns the record's stack, mapped; prepares it on first use.

        Raises:
            MedvidError: when the source cannot be read; the message names it.
        """
        return self._open(record)[0]

    def open_prepared(self, record: Record) -> tuple[Stack, Prepared]:
        """Returns the stack and what is needed to turn stored values into native ones."""
        return self._open(record)

    def prepare(self, record: Record) -> Path:
        """Writes the record's entry unless it is there; returns its sidecar.

        Raises:
            MedvidError: when the source cannot be read.
            DataError: for voxels that are not numbers, or a full disk.
        """
        sidecar = self._sidecar(record)
        if not _is_whole(sidecar):
            self._write(record, sidecar)
        return sidecar

    def prepare_all(
        self, records: Iterable[Record], progress: Callable[[int], None] | None = None
    ) -> list[tuple[Record, MedvidError]]:
        """Prepares every record; returns those that cannot be read, with the reason.

        Args:
            records: several may share a stack; it is prepared once.
            progress: called with the number of records done.
        """
        refused: list[tuple[Record, MedvidError]] = []
        failed: dict[Source, MedvidError] = {}
        for done, record in enumerate(records, start=1):
            source = name_source(record)
            try:
                if source in failed:
                    raise failed[source]
                self.prepare(record)
            except MedvidError as error:
                # Neither a full disk nor a wrong option is the fault of this one case.
                if error.code == "disk_full" or isinstance(error, ConfigError):
                    raise
                failed[source] = error
                refused.append((record, error))
            if progress is not None:
                progress(done)
        return refused

    def _sidecar(self, record: Record) -> Path:
        source = name_source(record)
        if source not in self._keys:
            options: list[Any] = [
                *(self.plane, self.modality, self.spacing, self.size, record.series),
                *(self.on_gap, self.on_bad, self.detilt, self.select),
            ]
            parts = find_parts(record, self.channels)
            if self.channels is not None:
                options += [self.channels.align, self.channels.modality]
                options += [[part.name, part.series] for part in parts]
            known = fingerprint_parts(record, parts)
            text = json.dumps([READER_VERSION, known, options], sort_keys=True)
            key = hashlib.sha256(text.encode()).hexdigest()[:32]
            self._keys[source] = self.root / key[:2] / f"{key}.json"
        return self._keys[source]

    def _open(self, record: Record) -> tuple[Stack, Prepared]:
        sidecar = self._sidecar(record)
        if sidecar in self._opened:
            self._opened.move_to_end(sidecar)
            return self._opened[sidecar]
        self.prepare(record)
        opened = _map_entry(sidecar)
        self._opened[sidecar] = opened
        if len(self._opened) > OPEN_MAPS:
            self._opened.popitem(last=False)
        return opened

    def open_source(self, record: Record) -> Stack:
        """Opens the record's own files, on their own grid; stores nothing.

        Raises:
            MedvidError: when the source cannot be read; the message names it.
        """
        stacks = self._open_parts(record)
        return stacks[0] if self.channels is None else join_parts(stacks, self.channels.names)

    def _open_parts(self, record: Record) -> list[Stack]:
        parts = find_parts(record, self.channels)
        if self.channels is not None:
            return open_parts(parts, self.channels, self.plane, self._open_scan)
        return [self._open_scan(record.path, record.series, self.plane, self.modality)]

    def _open_scan(
        self, path: str, series: str | None, plane: Plane, modality: str | None
    ) -> Stack:
        return open_stack(
            path,
            series=series,
            plane=plane,
            modality=modality,
            on_gap=self.on_gap,
            on_bad=self.on_bad,
            detilt=self.detilt,
            # A token says more than any description.
            select=None if series else self.select,
        )

    def _write(self, record: Record, sidecar: Path) -> None:
        parts = self._open_parts(record)
        if self.spacing is not None or self.size is not None:
            parts = [resample_stack(one, spacing=self.spacing, size=self.size) for one in parts]
        stack = parts[0] if self.channels is None else join_parts(parts, self.channels.names)
        slope, intercept, dtype = _join_storage(parts, [_choose_storage(p, record) for p in parts])
        raw = sidecar.with_suffix(".raw")
        try:
            sidecar.parent.mkdir(parents=True, exist_ok=True)
            pixels = _write_voxels(raw, stack, dtype, slope, intercept)
            _write_beside(
                sidecar, json.dumps(_describe(stack, dtype, slope, intercept, pixels)).encode()
            )
        except PermissionError as error:
            # Windows refuses to replace a file that another process has mapped; it is then whole.
            if not sidecar.exists():
                raise _explain_disk(error, self.root, stack) from error
        except OSError as error:
            raise _explain_disk(error, self.root, stack) from error


def name_source(record: Record) -> Source:
    """Returns what tells the stack of a record from others: several records may share one."""
    return record.path, record.series, record.channels


def fingerprint_records(records: Sequence[Record]) -> dict[str, str]:
    """Returns the fingerprint of every case, by its id.

    Raises:
        DataError: when there is nothing at a path.
    """
    known: dict[Source, str] = {}
    for record in records:
        source = name_source(record)
        if source not in known:
            known[source] = fingerprint_parts(record, record.channels)
    return {record.case_id: known[name_source(record)] for record in records}


def fingerprint_parts(record: Record, parts: Sequence[Channel]) -> str:
    """Returns the fingerprint of a record's files, or of all its channels' files.

    Raises:
        DataError: when there is nothing at a path.
    """
    if not parts:
        return fingerprint(Path(record.path))
    every = "|".join(fingerprint(Path(part.path)) for part in parts)
    return hashlib.sha256(every.encode()).hexdigest()[:32]


def fingerprint(path: Path) -> str:
    """Returns a short hash of a source's files: names, sizes and times of change, not contents.

    Raises:
        DataError: when there is nothing at `path`, or its name is not UTF-8.
    """
    check_name(path)  # no manifest of a run could name it
    if not path.exists():
        raise DataError(
            f"{path} does not exist. Paths of a manifest are relative to the manifest's folder.",
            code="missing_file",
            files=[path],
        )
    listed = _list_scans(path) if path.is_dir() else _files_of(path)
    digest = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogatepass"))
    for file in listed:
        try:
            state = file.stat()
            told = f"{file.name}|{state.st_size}|{state.st_mtime_ns}\n"
        except OSError:  # a link to nowhere; the reader says what it thinks of it
            told = f"{file.name}|gone\n"
        digest.update(told.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def _list_scans(folder: Path) -> list[Path]:
    """Returns the files of a folder that may be scans.

    What medvid or a user writes beside the slices does not make another scan of them.
    """
    return [
        file
        for file in list_images(folder)
        if not OWN_FOLDERS & set(file.relative_to(folder).parts)
    ]


def _files_of(path: Path) -> list[Path]:
    # .mhd and .nhdr are headers; the voxels lie beside under the same stem.
    if path.suffix.lower() in {".mhd", ".nhdr"}:
        return sorted(path.parent.glob(f"{path.stem}.*"))
    return [path, *read_series_list(path)] if path.suffix == ENDING else [path]


def _join_storage(
    parts: Sequence[Stack], chosen: Sequence[Storage]
) -> tuple[list[float], list[float], np.dtype[Any]]:
    """Returns slope and intercept of every channel, and the type of all.

    One map has one type. Where 16 bits do not hold every channel, as of CT beside a PET of many
    orders of magnitude, all are kept as float32, which holds 16-bit values exactly.
    """
    dtype = np.result_type(*(kind for _, _, kind in chosen))
    if len(chosen) > 1 and dtype.itemsize > np.dtype(np.int16).itemsize:
        dtype = np.dtype(np.float32)
        chosen = [(1.0, 0.0, dtype)] * len(parts)
    counted = [one for one, part in zip(chosen, parts, strict=True) for _ in range(part.channels)]
    return [slope for slope, _, _ in counted], [start for _, start, _ in counted], dtype


def _choose_storage(stack: Stack, record: Record) -> Storage:
    """Returns slope, intercept and the stored type for a stack's voxels."""
    if stack.dtype in (np.dtype(np.uint8), np.dtype(np.int8), np.dtype(np.int16)):
        return 1.0, 0.0, stack.dtype
    if stack.dtype == np.dtype(np.uint16):
        return 1.0, 0.0, stack.dtype
    voxels = stack.read()
    if np.issubdtype(stack.dtype, np.floating):
        broken = int(voxels.size - np.count_nonzero(np.isfinite(voxels)))
        if broken:
            raise DataError(
                f"{record.path} holds {broken} voxels that are NaN or infinite, of {voxels.size}. "
                "Mend the file, or leave the case out with `data.on_bad: quarantine`.",
                code="nan_voxels",
                files=[record.path],
            )
    return _choose_range(voxels)


def _choose_range(voxels: NDArray[Any]) -> Storage:
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


def _write_voxels(
    raw: Path,
    stack: Stack,
    dtype: np.dtype[Any],
    slope: Sequence[float],
    intercept: Sequence[float],
) -> str:
    """Writes (C, T, H, W) raw, frame by frame where it is large; returns the sha256."""
    frame_bytes = stack.height * stack.width * stack.dtype.itemsize * stack.channels
    chunk = max(1, CHUNK_BYTES // max(1, frame_bytes))
    shape = (stack.channels, stack.num_frames, stack.height, stack.width)
    beside = raw.with_name(f"{raw.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        # Reserves the blocks first: a full disk is an error now, not a crash in the map later.
        with beside.open("wb") as file:
            _reserve(file.fileno(), int(np.prod(shape)) * dtype.itemsize)
        voxels = np.memmap(beside, dtype=dtype, mode="r+", shape=shape)
        for start in range(0, stack.num_frames, chunk):
            frames = range(start, min(start + chunk, stack.num_frames))
            piece = stack.read(frames)
            for channel, (scale, start_value) in enumerate(zip(slope, intercept, strict=True)):
                plain = scale == 1.0 and start_value == 0.0
                voxels[channel, frames.start : frames.stop] = (
                    piece[channel]
                    if plain
                    else np.rint((piece[channel].astype(np.float64) - start_value) / scale)
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


def _explain_disk(error: OSError, root: Path, stack: Stack) -> MedvidError:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DataError(f"The store at {root} cannot be written: {error}.", code="store")
    needed = stack.num_frames * stack.height * stack.width * stack.channels * stack.dtype.itemsize
    free = shutil.disk_usage(root).free
    return DataError(
        f"The disk is full: a stack of {needed / 1e6:.0f} MB was to be written to the store at "
        f"{root}, which has {free / 1e6:.0f} MB left. Free some space, or name a folder on "
        "another disk with `data.store=FOLDER`. Nothing half-written was kept; the same command "
        "goes on where it stopped.",
        code="disk_full",
        files=[root],
    )


def _describe(
    stack: Stack,
    dtype: np.dtype[Any],
    slope: Sequence[float],
    intercept: Sequence[float],
    pixels: str,
) -> dict[str, Any]:
    return {
        "reader_version": READER_VERSION,
        "shape": [stack.channels, stack.num_frames, stack.height, stack.width],
        "dtype": dtype.str,
        "spacing": list(stack.spacing),
        "positions": stack.positions.tolist(),
        "unit": stack.unit,
        "modality": stack.modality,
        "affine": None if stack.affine is None else stack.affine.tolist(),
        "frame_keys": list(stack.frame_keys),
        "notes": list(stack.notes),
        "left_out": stack.left_out,
        "slope": list(slope),
        "intercept": list(intercept),
        "pixels": pixels,
    }


def _is_whole(sidecar: Path) -> bool:
    """Returns whether an entry can be used; one that was cut or half deleted is made anew."""
    try:
        entry = json.loads(sidecar.read_text(encoding="utf-8"))
        size = math.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
        return sidecar.with_suffix(".raw").stat().st_size == size
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _map_entry(sidecar: Path) -> tuple[Stack, Prepared]:
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
