"""What lies below a folder: a row for every series, volume, video and folder of frames.

Headers only, unless pixels are asked for. Nothing found is dropped: what cannot be used has a row
with a reason code, and files that are clearly no scans (tables, texts) are counted in a last row.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medvid.contract import DataError
from medvid.io.dicom_groups import count_lost, part_by_series, pick_lost
from medvid.io.dicom_slice import Interner, SliceHeader
from medvid.io.endings import PICTURES, VOXEL_FILES
from medvid.io.frames import is_frame_folder
from medvid.io.kinds import name_kind
from medvid.io.names import explain_name, is_writable, make_legible
from medvid.io.scan_pool import CHUNK, PARALLEL_FROM, run_here, start_pool
from medvid.io.scan_rows import ScanRow, refuse
from medvid.io.scan_tasks import (
    FileTask,
    SeriesTask,
    describe_crash,
    describe_series_crash,
    run_series,
    run_task,
)
from medvid.io.sidecars import explain_locked, has_dicom_mark, is_sidecar
from medvid.io.wording import agree, count

__all__ = ["ScanRow", "scan_tree"]

Progress = Callable[[int, int], None]

NOT_A_STACK = "not_a_stack"

LISTED = 12
"""So many endings and names of files that are no scans stand in their row."""


def scan_tree(
    root: str | Path,
    *,
    pixels: bool = False,
    progress: Progress | None = None,
    workers: int = 1,
) -> list[ScanRow]:
    """Finds every stack below a folder, whatever the files are called.

    Args:
        root: a folder, or a single file.
        pixels: also decode everything, which finds broken pixels and missing decoders.
        progress: called with (files done, files in all).
        workers: processes that read. More than one need a main module that can be imported, as
            Python's `multiprocessing` does everywhere.

    Returns:
        Rows sorted by path; the last one counts the files that are no scans. Names that are not
        UTF-8 are spelled in them, and what has one is refused: no table could name it.

    Raises:
        DataError: when there is nothing at `root`.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root} does not exist.", code="missing_file", files=[root])
    rows: list[ScanRow] = []
    folders = _list_folders(root, rows) if root.is_dir() else {root: [root]}
    files = [file for members in folders.values() for file in members]
    tasks, ignored = _plan(folders, pixels)
    headers: list[SliceHeader] = []
    share = Interner()
    done = len(ignored)
    with start_pool(workers if len(files) >= PARALLEL_FROM or pixels else 1) as pool:
        for task, result in pool(run_task, tasks, describe_crash):
            headers.extend(share(header) for header in result.headers)
            rows.extend(result.rows)
            done += task.files
            if progress is not None:
                progress(done, len(files))
        lost = count_lost(headers, ((row.code, row.path) for row in rows))
        series = [
            SeriesTask(tuple(images), pick_lost(lost, images), pixels)
            for images in part_by_series(headers)
        ]
        headers.clear()
        # Whether headers make a stack is decided sooner than they are sent to another process.
        described = pool if pixels else run_here
        for _, found in described(run_series, series, describe_series_crash):
            rows.extend(found)
    rows.sort(key=lambda row: (row.path, row.series, row.code))
    if ignored:
        rows.append(_count_ignored(root, ignored))
    named = is_writable(os.path.abspath(root))
    return [_spell_names(row, named) for row in rows]


def _spell_names(row: ScanRow, named: bool) -> ScanRow:
    """Returns a row that can be written in UTF-8, whatever the names on the disk are.

    `named` says whether the folder that is searched can be named so, from the root of all.
    """
    told = replace(
        row,
        path=make_legible(row.path),
        reason=make_legible(row.reason),
        files=tuple(map(make_legible, row.files)),
    )
    if row.verdict not in ("ok", "fixable") or (named and is_writable(row.path)):
        return told
    # It can be read, but no manifest would lead back to it.
    error = explain_name(row.path if named else os.path.abspath(row.path))
    return replace(told, verdict="refused", fix="", code=error.code, reason=error.message)


def _plan(
    folders: Mapping[Path, Sequence[Path]], pixels: bool
) -> tuple[list[FileTask], list[Path]]:
    """Returns what is to be read, and the files that are no scans."""
    tasks: list[FileTask] = []
    ignored: list[Path] = []
    loose: list[Path] = []
    for folder, files in folders.items():
        if _holds_frames(folder, files):
            tasks.append(FileTask("frames", (folder,), len(files), pixels))
            continue
        for file in files:
            kind = _find_kind(file)
            if kind == "ignored":
                ignored.append(file)
            elif kind == "dicom":
                loose.append(file)
            else:
                tasks.append(FileTask(kind, (file,), 1, pixels))
    for start in range(0, len(loose), CHUNK):
        chunk = tuple(loose[start : start + CHUNK])
        tasks.append(FileTask("dicom", chunk, len(chunk), pixels))
    return tasks, ignored


def _find_kind(file: Path) -> str:
    try:
        if not file.is_file() and not file.is_symlink():
            return "ignored"  # a pipe or a device: opening it might wait for ever
        return _name_kind(file)
    except OSError:
        return "dicom"  # its reader then says why it cannot be read


def _list_folders(root: Path, rows: list[ScanRow]) -> dict[Path, list[Path]]:
    """Returns every folder below `root` with its own files, both sorted.

    A folder that may not be entered, and a link to one, get their row here.
    """

    def refuse_folder(error: OSError) -> None:
        rows.append(refuse(Path(error.filename), "other", explain_locked(error)))

    found: dict[Path, list[Path]] = {}
    for folder, subfolders, names in os.walk(root, onerror=refuse_folder):
        found[Path(folder)] = [Path(folder) / name for name in sorted(names)]
        rows.extend(
            _ignore_link(Path(folder) / name)
            for name in subfolders
            if (Path(folder) / name).is_symlink()
        )
    return dict(sorted(found.items()))


def _ignore_link(link: Path) -> ScanRow:
    return ScanRow(
        path=str(link),
        kind="other",
        verdict="ignored",
        code="linked_folder",
        reason=f"{link} links to another folder, and links are not followed. Scan that folder.",
        files=(link.name,),
    )


def _holds_frames(folder: Path, files: Sequence[Path]) -> bool:
    try:
        return bool(files) and folder.is_dir() and is_frame_folder(folder)
    except OSError:
        return False  # every file then says for itself why it cannot be read


def _name_kind(file: Path) -> str:
    """Returns a kind by the name alone where it may be; `run_task` looks whether it is DICOM."""
    if kind := name_kind(file.name):
        return kind
    name = file.name.lower()
    other = name.endswith(PICTURES) or (
        name.endswith(VOXEL_FILES)
        and any(file.with_suffix(ending).exists() for ending in (".mhd", ".nhdr"))
    )
    return "ignored" if is_sidecar(file) or (other and not has_dicom_mark(file)) else "dicom"


def _count_ignored(root: Path, files: Sequence[Path]) -> ScanRow:
    endings = sorted({file.suffix.lower() or file.name for file in files})
    more = f" and {len(endings) - LISTED} more kinds" if len(endings) > LISTED else ""
    return ScanRow(
        path=str(root),
        kind="other",
        verdict="ignored",
        code=NOT_A_STACK,
        reason=(
            f"{count(len(files), 'file')} {agree(len(files), 'is no scan', 'are no scans')} and no "
            f"{agree(len(files), 'video', 'videos')}: {', '.join(endings[:LISTED])}{more}."
        ),
        files=tuple(file.name for file in files[:LISTED]),
    )
