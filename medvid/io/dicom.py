"""A folder of DICOM files -> a Stack.

Whatever cannot be placed for certain is refused with a reason code and the files named: mixed or
missing slices must never become a plausible volume.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from medvid.contract import DataError, GeometryError, Stack
from medvid.io.dicom_frames import expand_frames
from medvid.io.dicom_groups import Lost, common_folder, count_lost, group_series
from medvid.io.dicom_headers import read_header
from medvid.io.dicom_pixels import choose_dtype, read_slices
from medvid.io.dicom_refusals import NO_RIVALS
from medvid.io.dicom_regularity import head, may_hide_gaps, name_images
from medvid.io.dicom_select import Selection, describe_found, read_selection
from medvid.io.dicom_series import Found, OnBad, OnGap, Refusal, Series
from medvid.io.dicom_slice import Interner, SliceHeader, list_paths
from medvid.io.dicom_stack import stack_from_series
from medvid.io.geometry import PlaneOrAuto
from medvid.io.series_list import ENDING, read_series_list
from medvid.io.sidecars import Tree, search_tree
from medvid.io.wording import agree, count

__all__ = ["open_dicom", "read_headers", "stack_from_series"]


def read_headers(files: Sequence[Path]) -> tuple[list[SliceHeader], list[DataError]]:
    """Returns the headers of the DICOM files' images, and an error for each file that is none."""
    headers: list[SliceHeader] = []
    errors = []
    share = Interner()
    for file in files:
        try:
            headers.extend(share(one) for one in expand_frames(read_header(file)))
        except DataError as error:
            errors.append(error)
    return headers, errors


def open_dicom(
    path: Path,
    *,
    series: str | None = None,
    plane: PlaneOrAuto = "auto",
    modality: str | None = None,
    on_gap: OnGap = "refuse",
    on_bad: OnBad = "stop",
    detilt: bool = False,
    select: Mapping[str, Any] | None = None,
) -> Stack:
    """Opens the series of a folder, subfolders included, of a list, or of a multi-frame file.

    Args:
        path: a folder with the files of one series, or of several; a list of files (.series); or
            one file.
        series: the token of the wanted one, as `medvid scan` prints it.
        plane: `auto` makes the series' own slices the frames; another one cuts them across, and
            then every read decodes the whole series.
        modality: only series of this modality are considered.
        on_gap: `refuse` missing slices and uneven steps, `resample` to even ones, or `keep` the
            slices with their true positions.
        on_bad: `stop` at a broken image of the series, or `quarantine`: leave it out, with a note.
        detilt: whether a gantry's tilt is resampled away; else slices keep their pixels.
        select: which of several series is meant, see `medvid.io.dicom_select.Selection`.

    Raises:
        ConfigError: for a `select` that cannot be meant.
        DataError: when no file is DICOM, or the series cannot be decoded.
        GeometryError: when there are several series, or the slices are not one stack.
    """
    selection = None if select is None else read_selection(select)
    tree = search_tree(path) if path.is_dir() else Tree()
    headers, errors = read_headers(tree.images if path.is_dir() else _list_given(path))
    if not headers:
        raise _nothing_readable(path, [*tree.locked, *errors])
    find = partial(_find_series, path, series, modality, selection, on_gap, on_bad)
    refused = ((error.code, error.files[0]) for error in (*errors, *tree.locked))
    beside = count_lost(headers, refused)
    chosen, lost = find(headers, beside), []
    if on_bad == "quarantine":
        while broken := _list_undecodable(chosen):
            lost += broken
            _require_majority(chosen, lost)
            gone = {id(one) for one in broken}
            headers = [one for one in headers if id(one) not in gone]
            beside.update(one.path.parent for one in broken)
            chosen = find(headers, beside)
    if lost:
        note = (
            f"{count(len(lost), 'undecodable image')} {agree(len(lost), 'was', 'were')} left out "
            f"({name_images(lost)}; on_bad: quarantine)."
        )
        left_out = chosen.left_out + len(lost)
        chosen = replace(chosen, notes=(*chosen.notes, note), left_out=left_out)
    if chosen.first.uid:
        # Images that lost the number of their series with the rest of their header.
        nameless = sum(not one.uid for one in headers)
        chosen = replace(chosen, left_out=chosen.left_out + nameless)
    notes, left_out = (*chosen.notes, *tree.describe()), chosen.left_out + len(tree.locked)
    chosen = replace(chosen, notes=notes, left_out=left_out)
    unreadable = [Path(error.files[0]) for error in errors]
    return stack_from_series(chosen, plane=plane, detilt=detilt, beside=unreadable)


def _list_given(path: Path) -> list[Path]:
    return read_series_list(path) if path.suffix == ENDING else [path]


def _find_series(
    path: Path,
    series: str | None,
    modality: str | None,
    selection: Selection | None,
    on_gap: OnGap,
    on_bad: OnBad,
    headers: Sequence[SliceHeader],
    lost: Lost,
) -> Series:
    found = group_series(headers, lost, on_gap=on_gap, on_bad=on_bad)
    wanted = _list_wanted(path, found, series, modality)
    if selection is None:
        return _choose(path, wanted, series)
    fitting = selection.choose(wanted)
    if not fitting:
        raise _nothing_fits(path, wanted, "series that fits `select`")
    chosen = _choose(path, fitting, series)
    if len(wanted) == 1:
        return chosen
    others = len(wanted) - 1
    note = f"Chosen among {count(others, 'other')} by `select`."
    return replace(chosen, notes=(*chosen.notes, note))


def _list_undecodable(series: Series) -> list[SliceHeader]:
    """Returns slices whose packed pixels do not unpack; plain ones are known to be whole."""
    broken = []
    dtype = choose_dtype(series.slices)
    for header in series.slices:
        if header.offset < 0:
            try:
                read_slices([header], dtype)
            except DataError:
                broken.append(header)
    return broken


def _require_majority(series: Series, lost: Sequence[SliceHeader]) -> None:
    """Raises `DataError` where most of a series is broken: what is left is no scan any more."""
    left = len(series.slices) - sum(header in lost for header in series.slices)
    if may_hide_gaps(left, len(lost)):
        raise DataError(
            f"{head(series.first)}{count(len(lost), 'image')} ({name_images(lost)}) cannot be "
            f"decoded, and only {left} can. Export the series again, or leave it out.",
            code="pixels_damaged",
            files=list_paths(lost),
        )


def _nothing_readable(folder: Path, errors: Sequence[DataError]) -> DataError:
    if errors:
        first = "" if len(errors) == 1 else f"The first of {len(errors)} that cannot be read: "
        return DataError(
            f"{folder} holds no readable DICOM file. {first}{errors[0].message}",
            code=errors[0].code,
            files=[file for error in errors for file in error.files],
        )
    return DataError(
        f"{folder} is empty: it holds no scan and no video. Give the folder of a DICOM series, a "
        "folder of frames, or a volume or video file.",
        code="empty_folder",
        files=[folder],
    )


def _list_wanted(
    folder: Path, found: Sequence[Found], token: str | None, modality: str | None
) -> list[Found]:
    wanted = [
        one
        for one in found
        if (token is None or token in (one.token, one.first.token))
        and (modality is None or one.first.modality.lower() == modality.lower())
    ]
    if not wanted:
        asked = f"series {token}" if token is not None else f"series of modality {modality}"
        raise _nothing_fits(folder, found, asked)
    return wanted


def _nothing_fits(folder: Path, found: Sequence[Found], asked: str) -> DataError:
    return DataError(
        f"{folder} holds no {asked}. There are: {_list(found)}.",
        code="unknown_series",
        files=[folder],
    )


def _choose(folder: Path, wanted: Sequence[Found], token: str | None) -> Series:
    kept = _leave_copies(folder, wanted)
    copies = [one for one in wanted if not any(one is other for other in kept)]
    stacks = [one for one in kept if isinstance(one, Series)]
    refusals = [one for one in kept if isinstance(one, Refusal)]
    # A refused stack beside a good one is a second candidate, unless it never was a stack.
    rivals = [one for one in refusals if one.code not in NO_RIVALS]
    if len(stacks) + len(rivals) > 1:
        raise GeometryError(
            f"{folder} holds several series. Choose one with `series=`, or say which with "
            f"`select`: {_list(wanted)}.",
            code="several_series",
            files=[folder],
        )
    if len(stacks) == 1:
        left = [
            f"{count(len(one.images), 'image')} {agree(len(one.images), 'was', 'were')} left out: "
            f"{one.reason}"
            for one in refusals
            if one.first.uid == stacks[0].first.uid or token is None
        ]
        left += [
            f"{count(len(one.images), 'image')} of the same series in "
            f"{_name_place(common_folder(one.images), folder)} "
            f"{agree(len(one.images), 'was', 'were')} left out."
            for one in copies
        ]
        return replace(stacks[0], notes=(*stacks[0].notes, *left))
    worst = (rivals or refusals)[0]
    raise GeometryError(
        f"{folder}: {worst.reason}", code=worst.code, files=[*worst.files] or [folder]
    )


def _leave_copies(folder: Path, wanted: Sequence[Found]) -> list[Found]:
    """Leaves out what subfolders hold of a series that lies right in the folder as a stack.

    Raises:
        GeometryError: when a series lies in several subfolders, as a stack in each.
    """
    kept = list(wanted)
    for token in {one.token for one in wanted}:
        same = [one for one in wanted if one.token == token]
        places = {common_folder(one.images) for one in same if isinstance(one, Series)}
        if folder in places:
            kept = [
                one for one in kept if one.token != token or common_folder(one.images) == folder
            ]
        elif len(places) > 1:
            named = ", ".join(_name_place(place, folder) for place in sorted(places))
            raise GeometryError(
                f"{folder} holds series …{token} {len(places)} times, in {named}. Give one of "
                "these folders.",
                code="several_copies",
                files=sorted(places),
            )
    return kept


def _name_place(place: Path, folder: Path) -> str:
    """Returns the name of a folder, seen from the one (or the list) that was given."""
    return os.path.relpath(place, folder if folder.is_dir() else folder.parent)


def _list(found: Sequence[Found]) -> str:
    return "; ".join(describe_found(one) for one in found)
