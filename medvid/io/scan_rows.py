"""One thing that was found -> the row of the scan that describes it.

Whatever goes wrong becomes a row: a refusal of the reader with its own code and sentence, and any
other error of a library as `unreadable`.
"""

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from medvid.contract import DataError, MedvidError, Stack
from medvid.io.dicom import stack_from_series
from medvid.io.dicom_groups import common_folder, sort_series
from medvid.io.dicom_headers import SliceHeader
from medvid.io.dicom_regularity import head, name_files
from medvid.io.dicom_series import Refusal, Series
from medvid.io.geometry import nearest_plane
from medvid.io.open import open_stack
from medvid.io.wording import agree, count

Verdict = Literal["ok", "fixable", "refused", "ignored"]

FIXABLE_FILES = frozenset({"several_arrays"})
"""Refusals of single files that the user can mend without another program's help."""


@dataclass(frozen=True)
class ScanRow:
    """One thing that was found.

    Args:
        path: what `open_stack` is given.
        kind: dicom, nifti, nrrd, mha, array, video, frames or other.
        series: its token where a folder may hold several; "" otherwise.
        patient_id: the patient's token; "" where the format has none.
        modality: DICOM's word, `video` or `unknown`.
        frames: T; of a refused series the number of images, else 0 when refused.
        height: H.
        width: W.
        spacing_t: mm or seconds.
        spacing_h: mm.
        spacing_w: mm.
        extent_mm: from the first to the last slice, with their thickness; 0 for videos.
        plane: of the slices; "" where there is no patient.
        verdict: `ok`, `fixable` (what `reason` advises makes it readable), `refused`, or
            `ignored` (no scan at all).
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


def describe_stack(path: Path, kind: str, pixels: bool) -> ScanRow:
    """Describes a volume file, a video or a folder of frames."""
    try:
        stack = open_stack(path)
        if pixels:
            _decode(stack, path)
        return _fill(ScanRow(str(path), kind), stack)
    except MedvidError as error:
        return refuse(path, kind, error)
    except Exception as error:
        return refuse(path, kind, explain_unexpected(path, error))


def describe_series(images: Sequence[SliceHeader], pixels: bool) -> Iterator[ScanRow]:
    """Describes what the images of one series UID make."""
    row = _start_row(images)
    try:
        rows = [_describe_found(found, pixels) for found in sort_series(images)]
    except Exception as error:
        files = [image.path for image in images]
        reason = (
            f"{head(images[0])}{count(len(files), 'image')} ({name_files(files)}) cannot be "
            f"sorted into a stack: {_name_error(error)}. Export the series again, or leave it out."
        )
        names = tuple(file.name for file in files)
        rows = [replace(row, frames=len(files), code="unreadable", reason=reason, files=names)]
    yield from rows


def refuse(path: Path, kind: str, error: MedvidError) -> ScanRow:
    """Makes the row of something that the reader refused."""
    return ScanRow(
        path=str(path),
        kind=kind,
        verdict="fixable" if error.code in FIXABLE_FILES else "refused",
        code=error.code,
        reason=error.message,
        files=tuple(Path(file).name for file in error.files),
    )


def explain_unexpected(path: Path, error: Exception) -> DataError:
    """Puts an error that no reader foresaw into a sentence.

    The error's own text stays out: it may quote what the file says of a patient.
    """
    if isinstance(error, OSError) and error.strerror:
        message = f"{path} cannot be read: {error.strerror}."
        return DataError(message, code="unreadable", files=[path])
    return DataError(
        f"{path} cannot be read: {_name_error(error)}. The file is probably damaged; copy or "
        "export it again, or leave it out.",
        code="unreadable",
        files=[path],
    )


def _name_error(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(where[-1].filename).name}, line {where[-1].lineno})" if where else ""
    return f"a {type(error).__name__} stopped its reader{place}"


def _start_row(images: Sequence[SliceHeader]) -> ScanRow:
    first = images[0]
    return ScanRow(
        path=str(common_folder(images)),
        kind="dicom",
        series=first.token,
        patient_id=first.patient,
        modality=first.modality,
        height=first.shape[0],
        width=first.shape[1],
    )


def _describe_found(found: Series | Refusal, pixels: bool) -> ScanRow:
    row = _start_row(found.images)
    if isinstance(found, Refusal):
        return replace(
            row,
            frames=len(found.images),
            verdict="fixable" if found.fixable else "refused",
            code=found.code,
            reason=found.reason,
            files=tuple(file.name for file in found.files),
        )
    folder = common_folder(found.images)
    try:
        stack = stack_from_series(found)
        broken = _find_broken(stack) if pixels else []
        if not broken:
            return _fill(row, stack)
        return _describe_broken(row, stack.num_frames, broken)
    except MedvidError as error:
        refused = refuse(folder, "dicom", error)
    except Exception as error:
        refused = refuse(folder, "dicom", explain_unexpected(folder, error))
    return replace(
        row,
        frames=len(found.images),
        code=refused.code,
        reason=refused.reason,
        files=refused.files,
    )


def _find_broken(stack: Stack) -> list[DataError]:
    """Returns what each frame that cannot be decoded says."""
    broken = []
    for frame in range(stack.num_frames):
        try:
            stack.read([frame])
        except DataError as error:
            broken.append(error)
    return broken


def _describe_broken(row: ScanRow, frames: int, broken: Sequence[DataError]) -> ScanRow:
    """A few undecodable files among good ones can be asked for again; a series of them not."""
    files = [Path(file) for error in broken for file in error.files]
    reason = broken[0].message
    if len(broken) > 1:
        more = len(broken) - 1
        reason += f" So {agree(more, 'is', 'are')} {count(more, 'other file')} of the series."
    fixable = len(broken) < frames - len(broken)
    if fixable:
        reason += f" The other {count(frames - len(broken), 'slice')} can be decoded."
    return replace(
        row,
        frames=frames,
        verdict="fixable" if fixable else "refused",
        code=broken[0].code,
        reason=reason,
        files=tuple(file.name for file in files),
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
            f"{path} holds {count(broken, 'voxel')} that {agree(broken, 'is', 'are')} NaN or "
            "infinite.",
            code="nan_voxels",
            files=[path],
        )
