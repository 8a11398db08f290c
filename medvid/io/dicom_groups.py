"""Headers of many files -> series that are regular stacks, and refusals of all that are not.

A refusal is fixable where the user can make a stack of the images today, by moving files, asking
for a missing one or installing a decoder; that this would work is tried out on the headers first.
"""

import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np

from medvid.contract import GeometryError
from medvid.io.dicom_headers import SPLITTING, SliceHeader
from medvid.io.dicom_refusals import EXPORT_AGAIN, FOREIGN, refuse_image
from medvid.io.dicom_regularity import (
    differing_tags,
    head,
    list_places,
    longest_even_run,
    name_files,
    normal_of,
    position,
)
from medvid.io.dicom_series import Refusal, Series, build_series
from medvid.io.wording import agree, count

PLACE_DECIMALS = 2
"""Of a position in mm: copies of an image agree to the last digit, and slices lie further apart."""

EVEN_SHARE = 0.5
"""A run of even steps is offered as a stack of its own when it holds this share of the slices."""

APART_BY_FOLDER = frozenset(
    {
        "duplicate_slice",
        "mixed_matrix",
        "mixed_orientation",
        "mixed_spacing",
        "repeated_positions",
        "uneven_steps",
    }
)
"""What is no fault where every folder holds a stack of its own under one series' UID. Missing
slices stay one: half of a series in each of two folders must not become two stacks."""


def group_series(headers: Iterable[SliceHeader]) -> list[Series | Refusal]:
    """Sorts images into series, and each series into stacks and refusals."""
    return [found for images in part_by_series(headers) for found in sort_series(images)]


def part_by_series(headers: Iterable[SliceHeader]) -> list[list[SliceHeader]]:
    """Returns the images of each series UID, sorted by path."""
    by_uid: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in sorted(headers, key=lambda header: str(header.path)):
        by_uid[header.uid].append(header)
    return list(by_uid.values())


def sort_series(images: Sequence[SliceHeader]) -> list[Series | Refusal]:
    """Sorts the images of one series UID into stacks and refusals.

    A series may be spread over folders, and it may lie in several of them as a copy each. Copies
    are kept apart, as are stacks that only their folders tell apart.
    """
    branches = _part_by_branch(images)
    if len(branches) == 1:
        return _sort_out(images)
    if _are_copies(branches):
        return [found for branch in branches for found in sort_series(branch)]
    together = _sort_out(images)
    if any(isinstance(one, Refusal) and one.code in APART_BY_FOLDER for one in together):
        apart = [sort_series(branch) for branch in branches]
        if all(any(isinstance(one, Series) for one in found) for found in apart):
            return [one for found in apart for one in found]
    return together


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


def _sort_out(images: Sequence[SliceHeader]) -> list[Series | Refusal]:
    """Parts one series' slices from what else came under its UID."""
    slices: list[SliceHeader] = []
    refused: dict[tuple[str, str], list[SliceHeader]] = defaultdict(list)
    for image in images:
        why = refuse_image(image)
        if why is None:
            slices.append(image)
        else:
            refused[why].append(image)
    found: list[Series | Refusal] = []
    broken: list[Refusal] = []
    for (code, sentence), members in refused.items():
        files = tuple(member.path for member in members)
        subject = name_files(files)
        if len(files) > 1:
            subject = f"each of {len(files)} files ({subject})"
        reason = f"{head(members[0])}{subject} {sentence}"
        refusal = Refusal(tuple(members), code, reason, files)
        (found if code in FOREIGN else broken).append(refusal)
    if broken:
        found.append(_judge_broken(broken, slices))
    elif slices:
        found.append(_build(slices))
    return found


def _build(slices: Sequence[SliceHeader]) -> Series | Refusal:
    try:
        return build_series(slices)
    except GeometryError as error:
        more, fixable = _find_way(slices, error)
        files = tuple(Path(file) for file in error.files)
        return Refusal(tuple(slices), error.code, f"{error.message}{more}", files, fixable)


def _is_stack(images: Sequence[SliceHeader]) -> bool:
    try:
        return bool(images) and bool(build_series(images).slices)
    except GeometryError:
        return False


def _judge_broken(broken: Sequence[Refusal], slices: Sequence[SliceHeader]) -> Refusal:
    """Makes one refusal of a series with broken files, with a way out where there is one."""
    order = sorted(broken, key=lambda refusal: -len(refusal.files))
    worst, others = order[0], [file for one in order[1:] for file in one.files]
    files = (*worst.files, *others)
    reason = worst.reason
    if others:
        reason += (
            f" {count(len(others), 'other file')} {agree(len(others), 'has', 'have')} other faults "
            f"({name_files(others)})."
        )
    fixable = {one.code for one in broken} == {"codec_missing"}
    if {one.code for one in broken} <= EXPORT_AGAIN and len(slices) > len(files):
        rest = _build(slices)
        it = agree(len(files), "it", "them")
        fixable = isinstance(rest, Series) or rest.code == "missing_slices"
        if isinstance(rest, Series):
            reason += (
                f" The other {count(len(slices), 'image')} are a regular stack: export {it} again, "
                f"or move {it} out of the folder."
            )
        elif fixable:
            reason += f" Slices are missing without {it}: export {it} again."
    everything = (*(image for one in order for image in one.images), *slices)
    return Refusal(everything, worst.code, reason, files, fixable)


def _find_way(slices: Sequence[SliceHeader], error: GeometryError) -> tuple[str, bool]:
    """Returns a further sentence for an irregular series, and whether a way out leads to a stack.

    An error's message has advice of its own already where no sentence is added.
    """
    named = set(error.files)
    if error.code == "missing_slices":
        return "", True
    if error.code == "duplicate_slice":
        return "", _is_stack([place[0] for place in _places_of(slices)])
    if error.code in ("mixed_matrix", "mixed_orientation", "mixed_spacing"):
        odd = [image for image in slices if str(image.path) in named]
        usual = [image for image in slices if str(image.path) not in named]
        return "", _is_stack(usual) and (len(odd) < len(usual) or _is_stack(odd))
    if error.code == "repeated_positions":
        return _part_by_tag(slices)
    if error.code == "uneven_steps":
        return _offer_even_run(slices)
    return "", False


def _places_of(slices: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    normal = normal_of(slices[0])
    ordered = sorted(slices, key=lambda image: float(normal @ position(image)))
    return list_places(ordered, np.array([float(normal @ position(image)) for image in ordered]))


def _part_by_tag(slices: Sequence[SliceHeader]) -> tuple[str, bool]:
    for keyword in differing_tags(_places_of(slices)[0]):
        parts: dict[str, list[SliceHeader]] = defaultdict(list)
        for image in slices:
            parts[image.splitting[SPLITTING.index(keyword)]].append(image)
        if all(_is_stack(part) for part in parts.values()):
            more = (
                f" The {len(parts)} values of {keyword} have a stack each: moved into a folder for "
                "each value, they are read."
            )
            return more, True
    return "", False


def _offer_even_run(slices: Sequence[SliceHeader]) -> tuple[str, bool]:
    ordered = [place[0] for place in _places_of(slices)]
    normal = normal_of(ordered[0])
    along = np.array([float(normal @ position(image)) for image in ordered])
    first, last = longest_even_run(along)
    run = ordered[first : last + 1]
    if len(run) < EVEN_SHARE * len(ordered) or not _is_stack(run):
        return "", False
    step = (along[last] - along[first]) / (last - first)
    more = (
        f" The {len(run)} slices from {along[first]:.1f} to {along[last]:.1f} mm "
        f"({run[0].path.name} to {run[-1].path.name}) are evenly {step:.2f} mm apart: moved into a "
        "folder of their own, they are read."
    )
    return more, True
