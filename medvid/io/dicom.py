"""A folder of DICOM files -> a Stack.

Whatever cannot be placed for certain is refused with a reason code and the files named: mixed or
missing slices must never become a plausible volume.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvid.contract import DataError, GeometryError, Stack
from medvid.io.dicom_groups import common_folder, group_series
from medvid.io.dicom_headers import SliceHeader, read_header
from medvid.io.dicom_pixels import choose_dtype, describe_pixels, read_slices
from medvid.io.dicom_regularity import name_files
from medvid.io.dicom_series import Refusal, Series
from medvid.io.geometry import PlaneOrAuto
from medvid.io.identity import instance_token
from medvid.io.sidecars import is_sidecar, list_files
from medvid.io.wording import agree, count


def read_headers(files: Sequence[Path]) -> tuple[list[SliceHeader], list[DataError]]:
    """Returns the headers of the DICOM files, and an error for each that is none."""
    headers, errors = [], []
    for file in files:
        try:
            headers.append(read_header(file))
        except DataError as error:
            errors.append(error)
    return headers, errors


def open_dicom(
    folder: Path,
    *,
    series: str | None = None,
    plane: PlaneOrAuto = "auto",
    modality: str | None = None,
) -> Stack:
    """Opens the series of a folder, subfolders included.

    Args:
        folder: with the files of one series, or of several.
        series: the token of the wanted one, as `medvid scan` prints it.
        plane: `auto` makes the series' own slices the frames; another one cuts them across, and
            then every read decodes the whole series.
        modality: only series of this modality are considered.

    Raises:
        DataError: when no file is DICOM, or the series cannot be decoded.
        GeometryError: when there are several series, or the slices are not one regular stack.
    """
    files = [file for file in list_files(folder) if not is_sidecar(file)]
    headers, errors = read_headers(files)
    if not headers:
        raise _nothing_readable(folder, errors)
    chosen = _choose(folder, group_series(headers), series, modality)
    beside = [Path(error.files[0]) for error in errors]
    return stack_from_series(chosen, plane=plane, beside=beside)


def stack_from_series(
    series: Series, *, plane: PlaneOrAuto = "auto", beside: Sequence[Path] = ()
) -> Stack:
    """Makes the Stack of a regular series.

    Args:
        series: from `group_series`.
        plane: see `open_dicom`.
        beside: files of the folder that could not be read, for a note.
    """
    orientation = series.orient(plane)
    dtype = choose_dtype(series.slices)
    across = orientation.order[0] != 0
    slices = series.slices[::-1] if orientation.flips[0] and not across else series.slices

    def read_frames(frames: Sequence[int]) -> NDArray[Any]:
        if across:
            volume = orientation.apply(read_slices(series.slices, dtype))
            return np.ascontiguousarray(volume[list(frames)])[None]
        if not frames:
            return np.empty((1, 0, *orientation.shape[1:]), dtype=dtype)
        _, *order = orientation.order
        _, *flips = orientation.flips
        steps = tuple(slice(None, None, -1 if flip else None) for flip in flips)
        decoded = read_slices([slices[frame] for frame in frames], dtype)
        return np.ascontiguousarray(decoded.transpose(0, *order)[:, *steps])[None]

    positions = orientation.positions
    if not across:
        corners = np.array([header.position for header in slices])
        positions = corners @ orientation.normal
    notes = [*series.notes, *describe_pixels(series.first), *orientation.describe()]
    if beside:
        were = agree(len(beside), "was", "were")
        files = count(len(beside), "unreadable file")
        notes.append(f"{files} {were} left out ({name_files(beside)}).")
    return Stack(
        num_frames=orientation.shape[0],
        height=orientation.shape[1],
        width=orientation.shape[2],
        channels=1,
        dtype=dtype,
        spacing=orientation.spacing,
        positions=positions,
        unit="mm",
        modality=series.first.modality,
        read_frames=read_frames,
        affine=orientation.affine,
        frame_keys=() if across else tuple(instance_token(one.instance) for one in slices),
        notes=tuple(notes),
    )


def _nothing_readable(folder: Path, errors: Sequence[DataError]) -> DataError:
    if errors:
        return DataError(
            f"{folder} holds no readable DICOM file. "
            f"{agree(len(errors), 'The only file', f'The first of {len(errors)}')}: "
            f"{errors[0].message}",
            code=errors[0].code,
            files=[file for error in errors for file in error.files],
        )
    return DataError(
        f"{folder} is empty: it holds no scan and no video. Give the folder of a DICOM series, a "
        "folder of frames, or a volume or video file.",
        code="empty_folder",
        files=[folder],
    )


def _choose(
    folder: Path,
    found: Sequence[Series | Refusal],
    token: str | None,
    modality: str | None,
) -> Series:
    wanted = [
        one
        for one in found
        if (token is None or one.first.token == token)
        and (modality is None or one.first.modality.lower() == modality.lower())
    ]
    if not wanted:
        asked = f"series {token}" if token is not None else f"series of modality {modality}"
        raise DataError(
            f"{folder} holds no {asked}. There are: {_list(found)}.",
            code="unknown_series",
            files=[folder],
        )
    kept = _leave_copies(folder, wanted)
    copies = [one for one in wanted if not any(one is other for other in kept)]
    stacks = [one for one in kept if isinstance(one, Series)]
    refusals = [one for one in kept if isinstance(one, Refusal)]
    # A refused stack beside a good one is a second candidate, unless it never was a stack.
    rivals = [one for one in refusals if one.code not in _NO_RIVALS]
    if len(stacks) + len(rivals) > 1 and token is None:
        raise GeometryError(
            f"{folder} holds several series. Choose one with `series=`: {_list(wanted)}.",
            code="several_series",
            files=[folder],
        )
    if len(stacks) == 1 and not rivals:
        left = [
            f"{count(len(one.images), 'image')} {agree(len(one.images), 'was', 'were')} left out: "
            f"{one.reason}"
            for one in refusals
            if one.first.uid == stacks[0].first.uid or token is None
        ]
        left += [
            f"{count(len(one.images), 'image')} of the same series in "
            f"{common_folder(one.images).relative_to(folder)} "
            f"{agree(len(one.images), 'was', 'were')} left out."
            for one in copies
        ]
        return Series(stacks[0].slices, stacks[0].affine, (*stacks[0].notes, *left))
    worst = (rivals or refusals)[0]
    raise GeometryError(
        f"{folder}: {worst.reason}", code=worst.code, files=[*worst.files] or [folder]
    )


def _leave_copies(folder: Path, wanted: Sequence[Series | Refusal]) -> list[Series | Refusal]:
    """Leaves out what subfolders hold of a series that lies right in the folder as a stack.

    Raises:
        GeometryError: when a series lies in several subfolders, as a stack in each.
    """
    kept = list(wanted)
    for token in {one.first.token for one in wanted}:
        same = [one for one in wanted if one.first.token == token]
        places = {common_folder(one.images) for one in same if isinstance(one, Series)}
        if folder in places:
            kept = [
                one
                for one in kept
                if one.first.token != token or common_folder(one.images) == folder
            ]
        elif len(places) > 1:
            named = ", ".join(str(place.relative_to(folder)) for place in sorted(places))
            raise GeometryError(
                f"{folder} holds series …{token} {len(places)} times, in {named}. Give one of "
                "these folders.",
                code="several_copies",
                files=sorted(places),
            )
    return kept


_NO_RIVALS = frozenset(
    {
        "single_image",
        "localizer",
        "color",
        "secondary_capture",
        "segmentation",
        "radiotherapy",
        "report",
        "presentation_state",
        "directory",
    }
)


def _list(found: Sequence[Series | Refusal]) -> str:
    return "; ".join(
        f"{one.first.token} ({one.first.modality}, "
        + (
            f"{len(one.slices)} slices)"
            if isinstance(one, Series)
            else f"{count(len(one.images), 'image')}, refused: {one.code})"
        )
        for one in found
    )
