"""What lies below a folder: a row for every series, volume, video and folder of frames.

Headers only, unless pixels are asked for. Nothing found is dropped: what cannot be used has a row
with a reason code, and files that are clearly no scans (tables, texts) are counted in a last row.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from medvid.contract import DataError, MedvidError, Stack
from medvid.io.dicom import is_sidecar, read_headers, stack_from_series
from medvid.io.dicom_headers import SliceHeader
from medvid.io.dicom_series import Refusal, group_series
from medvid.io.frames import is_frame_folder
from medvid.io.geometry import nearest_plane
from medvid.io.open import ARRAYS, NIFTI, VOLUMES, open_stack
from medvid.io.video import is_video

Verdict = Literal["ok", "fixable", "refused", "ignored"]
Progress = Callable[[int, int], None]

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
"""Single pictures are no stack; a folder of nothing else is one."""

VOXEL_FILES = (".raw", ".zraw")
"""Belong to an .mhd or .nhdr header beside them."""

NOT_A_STACK = "not_a_stack"


@dataclass(frozen=True)
class ScanRow:
    """One thing that was found.

    Args:
        path: what `open_stack` is given.
        kind: dicom, nifti, itk, array, video, frames or other.
        series: its token where a folder may hold several; "" otherwise.
        patient_id: the patient's token; "" where the format has none.
        modality: DICOM's word, `video` or `unknown`.
        frames: T, 0 when refused.
        height: H.
        width: W.
        spacing_t: mm or seconds.
        spacing_h: mm.
        spacing_w: mm.
        extent_mm: from the first to the last slice, with their thickness; 0 for videos.
        plane: of the slices; "" where there is no patient.
        verdict: `ok`, `fixable` (an option mends it), `refused`, or `ignored` (no scan at all).
        code: reason code, "" when ok.
        reason: a sentence, or the notes of what was mended.
        files: names of the files concerned.
    """

    path: str
    kind: str
    series: str = ""
    patient_id: str = ""
    modality: str = ""
    frames: int = 0
    height: int = 0
    width: int = 0
    spacing_t: float = 0.0
    spacing_h: float = 0.0
    spacing_w: float = 0.0
    extent_mm: float = 0.0
    plane: str = ""
    verdict: Verdict = "refused"
    code: str = ""
    reason: str = ""
    files: tuple[str, ...] = ()


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
    folders = {root: [root]} if root.is_file() else _list_folders(root)
    total = sum(map(len, folders.values()))
    rows: list[ScanRow] = []
    headers: list[SliceHeader] = []
    ignored: list[Path] = []
    done = 0
    for folder, files in folders.items():
        if folder.is_dir() and files and is_frame_folder(folder):
            rows.append(_describe_stack(folder, "frames", pixels))
            done += len(files)
            if progress is not None:
                progress(done, total)
        else:
            for file in files:
                _sort_file(file, pixels, rows, headers, ignored)
                done += 1
                if progress is not None:
                    progress(done, total)
    rows.extend(_describe_series(headers, pixels))
    rows.sort(key=lambda row: (row.path, row.series, row.code))
    if ignored:
        rows.append(_count_ignored(root, ignored))
    return rows


def _list_folders(root: Path) -> dict[Path, list[Path]]:
    """Returns every folder below `root` with its own files, both sorted."""
    found = {
        Path(folder): [Path(folder) / name for name in sorted(names)]
        for folder, _, names in os.walk(root)
    }
    return dict(sorted(found.items()))


def _sort_file(
    file: Path,
    pixels: bool,
    rows: list[ScanRow],
    headers: list[SliceHeader],
    ignored: list[Path],
) -> None:
    kind = _name_kind(file)
    if kind == "ignored":
        ignored.append(file)
    elif kind == "dicom":
        found, errors = read_headers([file])
        headers.extend(found)
        rows.extend(_refuse(file, "other", error) for error in errors)
    else:
        rows.append(_describe_stack(file, kind, pixels))


def _name_kind(file: Path) -> str:
    name = file.name.lower()
    for kind, endings in (("nifti", NIFTI), ("itk", VOLUMES), ("array", ARRAYS)):
        if name.endswith(endings):
            return kind
    if is_video(file):
        return "video"
    header_beside = any(file.with_suffix(ending).exists() for ending in (".mhd", ".nhdr"))
    if name.endswith(VOXEL_FILES) and header_beside:
        return "ignored"
    return "ignored" if is_sidecar(file) or name.endswith(PICTURES) else "dicom"


def _describe_stack(path: Path, kind: str, pixels: bool) -> ScanRow:
    try:
        stack = open_stack(path)
        if pixels:
            _decode(stack, path)
    except MedvidError as error:
        return _refuse(path, kind, error)
    return _fill(ScanRow(str(path), kind), stack)


def _refuse(path: Path, kind: str, error: MedvidError) -> ScanRow:
    return ScanRow(
        path=str(path),
        kind=kind,
        verdict="refused",
        code=error.code,
        reason=error.message,
        files=tuple(Path(file).name for file in error.files),
    )


def _fill(row: ScanRow, stack: Stack) -> ScanRow:
    plane = ""
    if stack.affine is not None:
        along = stack.affine[:3, 0]
        plane = nearest_plane(along / np.linalg.norm(along))
    step, height, width = (round(float(value), 6) for value in stack.spacing)
    return replace(
        row,
        modality=stack.modality,
        frames=stack.num_frames,
        height=stack.height,
        width=stack.width,
        spacing_t=step,
        spacing_h=height,
        spacing_w=width,
        extent_mm=round(step * stack.num_frames, 3) if stack.unit == "mm" else 0.0,
        plane=plane,
        verdict="ok",
        reason=" ".join(stack.notes),
    )


def _describe_series(headers: Sequence[SliceHeader], pixels: bool) -> Iterator[ScanRow]:
    for found in group_series(headers):
        images = found.images if isinstance(found, Refusal) else found.slices
        first = images[0]
        row = ScanRow(
            path=str(_common_folder([image.path for image in images])),
            kind="dicom",
            series=first.token,
            patient_id=first.patient,
            modality=first.modality,
            height=first.shape[0],
            width=first.shape[1],
        )
        if isinstance(found, Refusal):
            names = tuple(file.name for file in found.files)
            yield replace(
                row, frames=len(images), code=found.code, reason=found.reason, files=names
            )
            continue
        try:
            stack = stack_from_series(found)
            if pixels:
                _decode(stack, images[0].path.parent)
        except MedvidError as error:
            names = tuple(Path(file).name for file in error.files)
            yield replace(row, code=error.code, reason=error.message, files=names)
        else:
            yield _fill(row, stack)


def _common_folder(files: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([file.parent for file in files]))


def _decode(stack: Stack, path: Path) -> None:
    """Decodes frame by frame, so that memory does not grow with the stack.

    Raises:
        DataError: for pixels that cannot be decoded or are no numbers.
    """
    broken = 0
    for frame in range(stack.num_frames):
        voxels = stack.read([frame])
        if np.issubdtype(voxels.dtype, np.floating):
            broken += int(voxels.size - np.count_nonzero(np.isfinite(voxels)))
    if broken:
        raise DataError(
            f"{path} holds {broken} voxels that are NaN or infinite.",
            code="nan_voxels",
            files=[path],
        )


def _count_ignored(root: Path, files: Sequence[Path]) -> ScanRow:
    endings = sorted({file.suffix.lower() or file.name for file in files})
    return ScanRow(
        path=str(root),
        kind="other",
        verdict="ignored",
        code=NOT_A_STACK,
        reason=f"{len(files)} files are no scans and no videos: {', '.join(endings[:12])}.",
        files=tuple(file.name for file in files[:12]),
    )
