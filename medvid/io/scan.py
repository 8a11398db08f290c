"""What lies below a folder: a row for every series, volume, video and folder of frames.

Headers only, unless pixels are asked for. Nothing found is dropped: what cannot be used has a row
with a reason code, and files that are clearly no scans (tables, texts) are counted in a last row.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from medvid.contract import DataError, MedvidError
from medvid.io.dicom_frames import expand_frames
from medvid.io.dicom_groups import part_by_series
from medvid.io.dicom_headers import SliceHeader, read_header
from medvid.io.frames import is_frame_folder
from medvid.io.open import ARRAYS, NIFTI
from medvid.io.scan_rows import (
    ScanRow,
    describe_series,
    describe_stack,
    explain_unexpected,
    refuse,
)
from medvid.io.sidecars import is_sidecar
from medvid.io.video import is_video
from medvid.io.wording import agree, count

__all__ = ["ScanRow", "scan_tree"]

Progress = Callable[[int, int], None]

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
"""Single pictures are no stack; a folder of nothing else is one."""

VOXEL_FILES = (".raw", ".zraw")
"""Belong to an .mhd or .nhdr header beside them."""

NOT_A_STACK = "not_a_stack"

LISTED = 12
"""So many endings and names of files that are no scans stand in their row."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "nifti": NIFTI,
    "nrrd": (".nrrd", ".nhdr"),
    "mha": (".mha", ".mhd"),
    "array": ARRAYS,
}
"""A row's kind by the ending of the file's name."""


def scan_tree(
    root: str | Path, *, pixels: bool = False, progress: Progress | None = None
) -> list[ScanRow]:
    """Finds every stack below a folder, whatever the files are called.

    Args:
        root: a folder, or a single file.
        pixels: also decode everything, which finds broken pixels and missing decoders.
        progress: called with (files done, files in all).

    Returns:
        Rows sorted by path; the last one counts the files that are no scans.

    Raises:
        DataError: when there is nothing at `root`.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root} does not exist.", code="missing_file", files=[root])
    rows: list[ScanRow] = []
    folders = _list_folders(root, rows) if root.is_dir() else {root: [root]}
    total = sum(map(len, folders.values()))
    headers: list[SliceHeader] = []
    ignored: list[Path] = []
    done = 0
    for folder, files in folders.items():
        if _holds_frames(folder, files):
            rows.append(describe_stack(folder, "frames", pixels))
            done += len(files)
            if progress is not None:
                progress(done, total)
        else:
            for file in files:
                _sort_file(file, pixels, rows, headers, ignored)
                done += 1
                if progress is not None:
                    progress(done, total)
    for images in part_by_series(headers):
        rows.extend(describe_series(images, pixels))
    rows.sort(key=lambda row: (row.path, row.series, row.code))
    if ignored:
        rows.append(_count_ignored(root, ignored))
    return rows


def _list_folders(root: Path, rows: list[ScanRow]) -> dict[Path, list[Path]]:
    """Returns every folder below `root` with its own files, both sorted.

    A folder that may not be entered, and a link to one, get their row here.
    """

    def refuse_folder(error: OSError) -> None:
        folder = Path(error.filename)
        why = error.strerror or "the disk reported an error"
        message = f"{folder} cannot be searched: {why}. Its files are unknown."
        rows.append(refuse(folder, "other", DataError(message, code="unreadable", files=[folder])))

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


def _sort_file(
    file: Path,
    pixels: bool,
    rows: list[ScanRow],
    headers: list[SliceHeader],
    ignored: list[Path],
) -> None:
    try:
        if not file.is_file() and not file.is_symlink():
            ignored.append(file)  # a pipe or a device: opening it might wait for ever
            return
        kind = _name_kind(file)
        if kind == "ignored":
            ignored.append(file)
        elif kind == "dicom":
            headers.extend(expand_frames(read_header(file)))
        else:
            rows.append(describe_stack(file, kind, pixels))
    except MedvidError as error:
        rows.append(refuse(file, "other", error))
    except Exception as error:
        rows.append(refuse(file, "other", explain_unexpected(file, error)))


def _name_kind(file: Path) -> str:
    name = file.name.lower()
    for kind, endings in KINDS.items():
        if name.endswith(endings):
            return kind
    if is_video(file):
        return "video"
    header_beside = any(file.with_suffix(ending).exists() for ending in (".mhd", ".nhdr"))
    if name.endswith(VOXEL_FILES) and header_beside:
        return "ignored"
    return "ignored" if is_sidecar(file) or name.endswith(PICTURES) else "dicom"


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
