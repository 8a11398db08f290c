"""What a process of `medvid scan` does at a time: a handful of files, or one series."""

from dataclasses import dataclass, field
from pathlib import Path

from medvid.contract import DataError, MedvidError
from medvid.io.dicom_frames import expand_frames
from medvid.io.dicom_groups import Lost
from medvid.io.dicom_headers import read_header
from medvid.io.dicom_regularity import head
from medvid.io.dicom_slice import SliceHeader
from medvid.io.scan_rows import (
    ScanRow,
    describe_series,
    describe_stack,
    explain_unexpected,
    refuse,
    refuse_series,
)
from medvid.io.sidecars import has_dicom_mark


@dataclass(frozen=True)
class FileTask:
    """Files of one kind.

    Args:
        kind: as in `ScanRow`, by name; of `dicom` only the headers are read.
        paths: DICOM files, or one other file, or a folder of frames.
        files: how many files that are.
        pixels: whether volumes and videos are decoded.
    """

    kind: str
    paths: tuple[Path, ...]
    files: int
    pixels: bool


@dataclass(frozen=True)
class FileResult:
    """What was found in them.

    Args:
        headers: of DICOM images.
        rows: of everything else, and of what cannot be read.
    """

    headers: list[SliceHeader] = field(default_factory=list)
    rows: list[ScanRow] = field(default_factory=list)


def run_task(task: FileTask) -> FileResult:
    """Reads files; whatever goes wrong becomes a row."""
    named = task.kind not in ("dicom", "frames")
    if task.kind != "dicom" and not (named and has_dicom_mark(task.paths[0])):
        return FileResult(rows=[describe_stack(task.paths[0], task.kind, task.pixels)])
    result = FileResult()
    for file in task.paths:
        try:
            result.headers.extend(expand_frames(read_header(file)))
        except MedvidError as error:
            result.rows.append(refuse(file, "other", error))
        except Exception as error:
            result.rows.append(refuse(file, "other", explain_unexpected(file, error)))
    return result


def describe_crash(task: FileTask) -> FileResult:
    """Describes files on which the reading process died."""
    return FileResult(rows=[refuse(path, task.kind, _explain_crash(path)) for path in task.paths])


@dataclass(frozen=True)
class SeriesTask:
    """The images of one series.

    Args:
        images: with one SeriesInstanceUID.
        lost: files in their folders that may have been slices too.
        pixels: whether they are decoded.
    """

    images: tuple[SliceHeader, ...]
    lost: Lost
    pixels: bool


def run_series(task: SeriesTask) -> list[ScanRow]:
    """Describes a series."""
    return describe_series(task.images, task.lost, task.pixels)


def describe_series_crash(task: SeriesTask) -> list[ScanRow]:
    """Describes a series on which the decoding process died."""
    reason = (
        f"{head(task.images[0])}a decoder crashed on one of its {len(task.images)} images. Export "
        "the series again, or leave it out."
    )
    return [refuse_series(task.images, "decoder_crashed", reason)]


def _explain_crash(path: Path) -> DataError:
    return DataError(
        f"{path}: its reader crashed. The file is probably damaged; copy or export it again, or "
        "leave it out.",
        code="reader_crashed",
        files=[path],
    )
