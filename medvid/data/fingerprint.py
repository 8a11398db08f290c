"""What tells one source from another: its place and the names, sizes and times of its files.

Contents are not read: a data set of a terabyte is told from its changed copy in seconds.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from medvid.contract import Channel, DataError, Record
from medvid.io.names import check_name
from medvid.io.series_list import ENDING, read_series_list
from medvid.io.sidecars import list_images

OWN_FOLDERS = frozenset({"medvid_store", "medvid_series", "runs"})
"""Folders that medvid itself makes where it is called, perhaps beside the slices."""

Source = tuple[str, str | None, tuple[Channel, ...]]
"""Path, series and channels of a record."""


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
