"""One thing that was found -> the row of the scan that describes it.

Whatever goes wrong becomes a row: a refusal of the reader with its own code and sentence, and any
other error of a library as `unreadable`.
"""

import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from medvid.contract import DataError, MedvidError, Stack
from medvid.io.dicom_groups import Lost, group_series, locate, sort_series
from medvid.io.dicom_regularity import head, may_hide_gaps, name_images
from medvid.io.dicom_series import Fix, Refusal, Series, describe_writing
from medvid.io.dicom_slice import SliceHeader, list_paths
from medvid.io.dicom_stack import stack_from_series
from medvid.io.geometry import nearest_plane
from medvid.io.open import open_file, open_stack
from medvid.io.scan_extent import measure_images
from medvid.io.wording import agree, count

Verdict = Literal["ok", "fixable", "refused", "ignored"]


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
        spacing_t: mm or seconds; the commonest step where slices are uneven.
        spacing_h: mm.
        spacing_w: mm. All three are 0 where they are unknown.
        extent_mm: from the first to the last slice, with the step that both reach beyond their
            centres; 0 for videos.
        plane: of the slices; "" where there is no patient.
        thickness: of the slices in mm, as the header says; 0 when unknown.
        kernel: of the reconstruction, as the header says.
        verdict: `ok`, `fixable` (the options in `fix` make it readable), `refused`, or `ignored`
            (no scan at all).
        fix: options of `open_stack` and of a config's section `data`, such as `on_gap=resample`.
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
    thickness: float = 0.0
    kernel: str = ""
    verdict: Verdict = "refused"
    fix: str = ""
    code: str = ""
    reason: str = ""
    files: tuple[str, ...] = ()


def describe_stack(path: Path, kind: str, pixels: bool) -> ScanRow:
    """Describes a volume file, a video or a folder of frames."""
    try:
        stack = open_stack(path) if kind == "frames" else open_file(path, kind)
        if pixels:
            _decode(stack, path)
        return _fill(ScanRow(str(path), kind), stack)
    except MedvidError as error:
        return refuse(path, kind, error)
    except Exception as error:
        return refuse(path, kind, explain_unexpected(path, error))


def describe_series(images: Sequence[SliceHeader], lost: Lost, pixels: bool) -> list[ScanRow]:
    """Describes what the images of one series UID make."""
    try:
        return [_describe_found(found, lost, pixels) for found in sort_series(images, lost)]
    except Exception as error:
        reason = (
            f"{head(images[0])}{count(len(images), 'image')} ({name_images(images)}) cannot be "
            f"sorted into a stack: {_name_error(error)}. Export the series again, or leave it out."
        )
        return [refuse_series(images, "unreadable", reason)]


def refuse_series(images: Sequence[SliceHeader], code: str, reason: str) -> ScanRow:
    """Makes the row of a series that could not be looked into."""
    return replace(
        _start_row(images),
        frames=len(images),
        code=code,
        reason=reason,
        files=tuple(file.name for file in list_paths(images)),
    )


def refuse(path: Path, kind: str, error: MedvidError) -> ScanRow:
    """Makes the row of something that the reader refused."""
    return ScanRow(
        path=str(path),
        kind=kind,
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


def _start_row(images: Sequence[SliceHeader], token: str = "") -> ScanRow:
    first = images[0]
    return ScanRow(
        path=str(locate(images)),
        kind="dicom",
        series=token or first.token,
        patient_id=first.patient,
        modality=first.modality,
        height=first.shape[0],
        width=first.shape[1],
        thickness=first.thickness or 0.0,
        kernel=first.kernel,
    )


def _describe_found(found: Series | Refusal, lost: Lost, pixels: bool) -> ScanRow:
    row = replace(_start_row(found.images, found.token), path=str(found.place))
    if isinstance(found, Refusal):
        extent = measure_images(found.images)
        return replace(
            row,
            frames=len(found.images),
            spacing_t=extent.step,
            spacing_h=extent.height,
            spacing_w=extent.width,
            extent_mm=extent.along,
            plane=extent.plane,
            verdict="fixable" if found.fix else "refused",
            fix=write_fix(found.fix),
            code=found.code,
            reason=" ".join([found.reason, *describe_writing(found.images)]),
            files=tuple(file.name for file in found.files),
        )
    try:
        stack = stack_from_series(found)
        broken = _find_broken(stack, found) if pixels else []
        if not broken:
            return _fill(row, stack)
        return _describe_broken(row, found, broken, lost)
    except MedvidError as error:
        refused = refuse(Path(row.path), "dicom", error)
    except Exception as error:
        refused = refuse(Path(row.path), "dicom", explain_unexpected(Path(row.path), error))
    return replace(
        row,
        frames=len(found.images),
        code=refused.code,
        reason=refused.reason,
        files=refused.files,
    )


def write_fix(fix: Fix) -> str:
    """Returns options as they are written on a command line."""
    return " ".join(f"{name}={value}" for name, value in fix.items())


def _find_broken(stack: Stack, series: Series) -> list[tuple[SliceHeader, DataError]]:
    """Returns the slices that cannot be decoded, and what each of them says."""
    broken = []
    for frame in range(stack.num_frames):
        try:
            stack.read([frame])
        except DataError as error:
            # Frames may run from the last slice to the first; the error names its file.
            broken += [
                (image, error)
                for image in series.slices
                if str(image.path) in error.files and image.frame in (-1, frame)
            ]
    return broken


def _describe_broken(
    row: ScanRow, series: Series, broken: Sequence[tuple[SliceHeader, DataError]], lost: Lost
) -> ScanRow:
    """Undecodable files may be left out where the others are a stack without them."""
    gone = {id(image) for image, _ in broken}
    images = [image for image, _ in broken]
    rest = [image for image in series.slices if id(image) not in gone]
    reason = broken[0][1].message
    if len(broken) > 1:
        more = len(broken) - 1
        reason += f" So {agree(more, 'is', 'are')} {count(more, 'other image')} of the series."
    fix: dict[str, str] = {}
    if not may_hide_gaps(len(rest), len(broken)):
        beside = Counter(lost) + Counter(image.path.parent for image in images)
        found = group_series(rest, beside)
        if len(found) == 1 and isinstance(found[0], Series):
            fix = {"on_bad": "quarantine"}
        elif len(found) == 1 and isinstance(found[0], Refusal) and found[0].fix:
            fix = {"on_bad": "quarantine", **found[0].fix}
    if fix:
        words = " with ".join(f"`{name}: {value}`" for name, value in fix.items())
        reason += f" The other {count(len(rest), 'slice')} can be decoded: use {words}."
    return replace(
        row,
        frames=len(series.slices),
        verdict="fixable" if fix else "refused",
        fix=write_fix(fix),
        code=broken[0][1].code,
        reason=reason,
        files=tuple(file.name for file in list_paths(images)),
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
