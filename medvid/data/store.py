"""Decoded stacks on disk, memory-mapped: decode once, then cut clips out of the map.

The first use of a stack decodes and orients it, optionally resamples it, and writes it raw beside a
JSON sidecar. The key is made of the source's fingerprint, the options and the reader's version, so
a changed file or option never meets an old entry. An entry is whole or absent: both files are
written beside and renamed, the sidecar last. Workers and processes may build the same entry at the
same time; they write the same bytes.
"""

import errno
import hashlib
import json
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medvid.contract import ConfigError, DataError, MedvidError, Record, Stack
from medvid.data.channels import Reading, find_parts, join_parts, open_parts
from medvid.data.entries import (
    READER_VERSION,
    Prepared,
    choose_storage,
    is_whole,
    map_entry,
    write_entry,
)
from medvid.data.fingerprint import Source, fingerprint_parts, name_source
from medvid.data.resample import resample_stack
from medvid.io import open_stack

OPEN_MAPS = 64
"""Maps a process keeps open. Bounds resident memory: pages of a closed map are given back."""

Plane = Literal["auto", "axial", "coronal", "sagittal"]
OnGap = Literal["refuse", "resample", "keep"]
OnBad = Literal["stop", "quarantine"]


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
        if not is_whole(sidecar):
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
        opened = map_entry(sidecar)
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
        storage = choose_storage(parts, record.path)
        try:
            write_entry(sidecar, stack, storage)
        except PermissionError as error:
            # Windows refuses to replace a file that another process has mapped; it is then whole.
            if not sidecar.exists():
                raise _explain_disk(error, self.root, stack) from error
        except OSError as error:
            raise _explain_disk(error, self.root, stack) from error


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
