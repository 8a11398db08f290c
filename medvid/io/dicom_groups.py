"""Headers of many files -> series that are stacks, and refusals of all that are not."""

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medvid.io.dicom_elements import NO_PIXELS
from medvid.io.dicom_judge import UNCOUNTED, judge, keep_only, merge, refuse
from medvid.io.dicom_parts import part_slices
from medvid.io.dicom_refusals import FOREIGN, NO_RIVALS, refuse_image
from medvid.io.dicom_series import Found, OnBad, OnGap, Refusal, Series
from medvid.io.dicom_singles import collect_singles
from medvid.io.dicom_slice import SliceHeader, list_paths
from medvid.io.sidecars import LOCKED, is_other_kind

PLACE_DECIMALS = 2
"""Of a position in mm: copies of an image agree to the last digit, and slices lie further apart."""

APART_BY_FOLDER = frozenset({"duplicate_slice", "repeated_positions", "uneven_steps"})
"""What is no fault where every folder holds a stack of its own under one series' UID. Missing
slices stay one: half of a series in each of two folders must not become two stacks."""

PLACED = frozenset({"truncated", "bits", "modality_lut", "rescale_invalid"})
PLACED |= {"high_bit", "no_rescale", "no_air", "not_hu"}
PLACED |= {"samples", "photometric", "syntax_unsupported", "codec_missing"}
"""Faults of an image's pixels: its place is known all the same."""

LOST = frozenset({"header_damaged", "empty_file", "unreadable", "reader_crashed"})
"""Reason codes of files that may have been slices. Most of what cannot be opened is a link whose
file was not fetched."""

REPLACED = frozenset({"not_dicom", "only_zeros"})
"""Those of files that may have been anything."""

Lost = Mapping[Path, int]
"""How many files of a folder may have been slices; `UNCOUNTED` or more where nobody knows."""


def group_series(
    headers: Iterable[SliceHeader],
    lost: Lost | None = None,
    *,
    on_gap: OnGap = "refuse",
    on_bad: OnBad = "stop",
) -> list[Found]:
    """Sorts images into series, and each series into stacks and refusals.

    Args:
        headers: of the images.
        lost: see `sort_series`.
        on_gap: see `build_series`.
        on_bad: see `sort_series`.
    """
    return [
        found
        for images in part_by_series(headers)
        for found in sort_series(images, lost, on_gap=on_gap, on_bad=on_bad)
    ]


def count_lost(headers: Sequence[SliceHeader], refused: Iterable[tuple[str, str]]) -> Counter[Path]:
    """Counts, for each folder, files that may have been slices, of whichever series.

    Args:
        headers: of images; one that was cut off before it named its series is counted.
        refused: reason code and file of what has no header; one without any trace of DICOM is
            counted where the images beside it are called alike. A folder that cannot be searched
            counts as `UNCOUNTED` files of the folder that it lies in.
    """
    refused = list(refused)
    found = [(code, Path(name)) for code, name in refused if code in LOST | REPLACED]
    folders = {file.parent for code, file in found if code in REPLACED}
    endings = {
        (one.path.parent, _ending(one.path)) for one in headers if one.path.parent in folders
    }
    lost = Counter(
        file.parent
        for code, file in found
        if (code in LOST or (file.parent, _ending(file)) in endings) and not is_other_kind(file)
    )
    nameless = (one.path for one in headers if one.offset == NO_PIXELS and not one.uid)
    lost.update(file.parent for file in nameless if not is_other_kind(file))
    for code, name in refused:
        if code == LOCKED:
            lost[Path(name).parent] += UNCOUNTED
    return lost


def _ending(file: Path) -> str:
    """Returns the ending of a name; numbers, as UIDs end in them, are one ending."""
    ending = file.suffix.lower()
    return "" if ending.removeprefix(".").isdecimal() else ending


def part_by_series(headers: Iterable[SliceHeader]) -> list[list[SliceHeader]]:
    """Returns the images of each series UID, sorted by path.

    Images without a UID are held together by their folder.
    """
    by_uid: dict[Hashable, list[SliceHeader]] = defaultdict(list)
    for header in sorted(headers, key=lambda header: (str(header.path), header.frame)):
        by_uid[header.uid or (header.path.parent, header.patient)].append(header)
    return list(by_uid.values())


def sort_series(
    images: Sequence[SliceHeader],
    lost: Lost | None = None,
    *,
    on_gap: OnGap = "refuse",
    on_bad: OnBad = "stop",
) -> list[Found]:
    """Sorts the images of one series UID into stacks and refusals.

    A series may be spread over folders, and it may lie in several of them as a copy each. Copies
    are kept apart, as are stacks that only their folders tell apart.

    Args:
        images: with one SeriesInstanceUID.
        lost: files in their folders that may have been slices too.
        on_gap: see `build_series`.
        on_bad: `stop` at a broken image of a series, or `quarantine`: leave it out, with a note.
    """
    sorted_out: list[Found] = []
    for members in _part_by_folder(images):
        beside = _count_beside(members, lost or {})
        for one in _name_parts(_sort_out(members, beside, on_gap, on_bad)):
            # A part is only a part where all others lie too.
            place = locate(members if one.part else one.images)
            sorted_out.append(replace(one, place=place))
    return sorted_out


def _count_beside(images: Sequence[SliceHeader], lost: Lost) -> int:
    """Counts files that may have been slices between images.

    They lie in the images' folder; where these are spread over several, anywhere below the lowest
    folder that holds all.
    """
    if len({image.path for image in images}) == 1:
        return 0  # there is nothing between the frames of one file
    return sum(pick_lost(lost, images).values())


def pick_lost(lost: Lost, images: Sequence[SliceHeader]) -> Lost:
    """Returns of what was lost what may have lain between images."""
    common = common_folder(images)
    if all(image.path.parent == common for image in images):
        return {common: lost[common]} if common in lost else {}
    return {folder: number for folder, number in lost.items() if folder.is_relative_to(common)}


def locate(images: Sequence[SliceHeader]) -> Path:
    """Returns what `open_stack` is given for images: their folder, or their multi-frame file."""
    files = list_paths(images)
    return files[0] if len(files) == 1 and images[0].frame >= 0 else common_folder(images)


def _part_by_folder(images: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Parts copies of a series and stacks that only their folders tell apart.

    The options of reading have no say here: a gap that may be filled is still no reason to take
    two stacks for one.
    """
    branches = _part_by_branch(images)
    if len(branches) == 1:
        return branches
    apart = [part for branch in branches for part in _part_by_folder(branch)]
    if _are_copies(branches):
        return apart
    together = _sort_out(images, 0, "refuse", "stop")
    if any(isinstance(one, Refusal) and one.code in APART_BY_FOLDER for one in together):
        found = [_sort_out(branch, 0, "refuse", "stop") for branch in branches]
        if all(any(isinstance(one, Series) for one in branch) for branch in found):
            return apart
    return [list(images)]


def common_folder(images: Sequence[SliceHeader]) -> Path:
    """Returns the lowest folder that holds all images."""
    return Path(os.path.commonpath([image.path.parent for image in images]))


def _part_by_branch(images: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Parts images by the subfolder of their common folder; those right in it come first."""
    depth = len(common_folder(images).parts)
    branches: dict[str, list[SliceHeader]] = defaultdict(list)
    for image in images:
        below = image.path.parent.parts[depth:]
        branches[below[0] if below else ""].append(image)
    return [branches[name] for name in sorted(branches)]


def _are_copies(branches: Sequence[Sequence[SliceHeader]]) -> bool:
    """Whether each branch holds the same places as another one, or a part of them."""
    places = [{_place(image) for image in branch} for branch in branches]
    return all(
        any(own <= other or other <= own for j, other in enumerate(places) if i != j)
        for i, own in enumerate(places)
    )


def _place(image: SliceHeader) -> Hashable:
    if image.position is None or not np.isfinite(image.position).all():
        return image.instance
    return tuple(round(value, PLACE_DECIMALS) for value in image.position)


def _name_parts(found: list[Found]) -> list[Found]:
    """Takes the name off the only part that may be wanted: the series' token is enough for it."""
    wanted = [one for one in found if isinstance(one, Series) or one.code not in NO_RIVALS]
    if len(wanted) != 1:
        return found
    return [replace(one, part="") if one is wanted[0] else one for one in found]


def _sort_out(
    images: Sequence[SliceHeader], beside: int, on_gap: OnGap, on_bad: OnBad
) -> list[Found]:
    """Parts one series' slices from what else came under its UID, and stacks from each other.

    Files `beside` them may have been slices of any of these stacks.
    """
    refused: dict[tuple[str, str], list[SliceHeader]] = defaultdict(list)
    whole: list[SliceHeader] = []
    for image in images:
        why = refuse_image(image)
        if why is None:
            whole.append(image)
        else:
            refused[why].append(image)
    found: list[Found] = []
    broken: list[Refusal] = []
    placed: list[SliceHeader] = []
    for (code, sentence), members in refused.items():
        (found if code in FOREIGN else broken).append(refuse(members, code, sentence))
        placed += members if code in PLACED else []
    parts = part_slices([*whole, *placed]) if whole else []
    if not parts:
        return [*found, *([merge(broken)] if broken else [])]
    lost = {id(image) for one in broken for image in one.images} - {id(image) for image in placed}
    usable = {id(image) for image in whole}
    for number, (label, members) in enumerate(parts):
        known = {id(image) for image in members} | (lost if number == 0 else set())
        bad = [keep_only(one, known) for one in broken]
        good = [image for image in members if id(image) in usable]
        one = judge(good, [one for one in bad if one.images], beside, on_gap, on_bad)
        found.append(replace(one, part=label))
    return collect_singles(found)
