"""Headers of many files -> series that are stacks, and refusals of all that are not.

A refusal is fixable where an option of `open_stack` makes a stack of the images; that it does is
tried out on the headers first.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medvid.contract import GeometryError
from medvid.io.dicom_elements import NO_PIXELS
from medvid.io.dicom_parts import is_stack, part_slices
from medvid.io.dicom_refusals import FOREIGN, NO_RIVALS, refuse_image
from medvid.io.dicom_regularity import (
    head,
    list_places,
    longest_even_run,
    may_hide_gaps,
    name_images,
    normal_of,
    order_slices,
)
from medvid.io.dicom_series import Fix, OnBad, OnGap, Refusal, Series, build_series
from medvid.io.dicom_slice import SliceHeader, list_paths
from medvid.io.geometry import nearest_plane
from medvid.io.sidecars import is_other_kind
from medvid.io.wording import agree, count

PLACE_DECIMALS = 2
"""Of a position in mm: copies of an image agree to the last digit, and slices lie further apart."""

EVEN_SHARE = 0.5
"""A run of even steps is offered as a stack of its own when it holds this share of the slices."""

SCOUT_IMAGES = 3
"""So few images in another direction than the stack's are a localizer, whatever they call
themselves: scouts come one, two or three at a time."""

APART_BY_FOLDER = frozenset({"duplicate_slice", "repeated_positions", "uneven_steps"})
"""What is no fault where every folder holds a stack of its own under one series' UID. Missing
slices stay one: half of a series in each of two folders must not become two stacks."""

PLACED = frozenset({"truncated", "bits", "modality_lut", "rescale_invalid"})
PLACED |= {"high_bit", "no_rescale", "not_hu"}
PLACED |= {"syntax_unsupported", "codec_missing"}
"""Faults of an image's pixels: its place is known all the same."""

LOST = frozenset({"header_damaged", "empty_file"})
"""Reason codes of files that may have been slices."""

Lost = Mapping[Path, int]
"""How many files of a folder may have been slices."""

Found = Series | Refusal


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


def count_lost(
    headers: Iterable[SliceHeader], refused: Iterable[tuple[str, str]]
) -> Counter[Path]:
    """Counts, for each folder, files that may have been slices, of whichever series.

    Args:
        headers: of images; one that was cut off before it named its series is counted.
        refused: reason code and file of what has no header.
    """
    files = [Path(file) for code, file in refused if code in LOST]
    files += [one.path for one in headers if one.offset == NO_PIXELS and not one.uid]
    return Counter(file.parent for file in files if not is_other_kind(file))


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
    """Counts files in the images' folders that may have been slices between them."""
    files = list_paths(images)
    if len(files) == 1:
        return 0  # there is nothing between the frames of one file
    return sum(lost.get(folder, 0) for folder in {file.parent for file in files})


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
        (found if code in FOREIGN else broken).append(_refuse(members, code, sentence))
        placed += members if code in PLACED else []
    parts = part_slices([*whole, *placed]) if whole else []
    if not parts:
        return [*found, *([_merge(broken)] if broken else [])]
    lost = {id(image) for one in broken for image in one.images} - {id(image) for image in placed}
    usable = {id(image) for image in whole}
    for number, (label, members) in enumerate(parts):
        known = {id(image) for image in members} | (lost if number == 0 else set())
        bad = [_keep_only(one, known) for one in broken]
        good = [image for image in members if id(image) in usable]
        one = _judge(good, [one for one in bad if one.images], beside, on_gap, on_bad)
        found.append(replace(one, part=label))
    return _collect_singles(found)


def _refuse(members: Sequence[SliceHeader], code: str, sentence: str) -> Refusal:
    subject = name_images(members)
    if len(members) > 1:
        subject = f"each of {count(len(members), 'image')} ({subject})"
    reason = f"{head(members[0])}{subject} {sentence}"
    return Refusal(tuple(members), code, reason, tuple(list_paths(members)))


def _keep_only(refusal: Refusal, known: set[int]) -> Refusal:
    images = tuple(image for image in refusal.images if id(image) in known)
    return replace(refusal, images=images, files=tuple(list_paths(images)))


def _merge(broken: Sequence[Refusal]) -> Refusal:
    """Makes one refusal of several; the commonest fault stands first."""
    worst, *others = sorted(broken, key=lambda refusal: -len(refusal.images))
    rest = [image for one in others for image in one.images]
    reason = worst.reason
    if rest:
        reason += (
            f" {count(len(rest), 'other image')} {agree(len(rest), 'has', 'have')} other faults "
            f"({name_images(rest)})."
        )
    files = tuple(list_paths([*worst.images, *rest]))
    return replace(worst, images=(*worst.images, *rest), reason=reason, files=files)


def _judge(
    good: Sequence[SliceHeader],
    bad: Sequence[Refusal],
    beside: int,
    on_gap: OnGap,
    on_bad: OnBad,
) -> Found:
    """Builds the stack of one part; broken images among its slices are its fault or left out."""
    if not bad:
        found = _build(good, on_gap)
        hidden = isinstance(found, Series) and may_hide_gaps(len(good), beside)
        return _refuse_hidden_gaps(good, beside) if hidden else found
    worst = _merge(bad)
    everything = (*worst.images, *good)
    if may_hide_gaps(len(good), len(worst.images) + beside):
        return replace(worst, images=everything)
    rest = _build(good, on_gap)
    it = agree(len(worst.images), "it", "them")
    if on_bad == "quarantine":
        if isinstance(rest, Series):
            note = (
                f"{count(len(worst.images), 'broken image')} "
                f"{agree(len(worst.images), 'was', 'were')} left out "
                f"({name_images(worst.images)}; on_bad: quarantine)."
            )
            return replace(rest, notes=(*rest.notes, note), left_out=len(worst.images))
        return replace(rest, images=everything)
    reason = worst.reason
    fix: Fix = {}
    if isinstance(rest, Series):
        fix = {"on_bad": "quarantine"}
        reason += (
            f" The other {count(len(good), 'image')} {agree(len(good), 'is', 'are')} a regular "
            f"stack: leave {it} out with `on_bad: quarantine`, or export {it} again."
        )
    elif "on_gap" in rest.fix:
        fix = {"on_bad": "quarantine", **rest.fix}
        reason += (
            f" Slices are missing without {it}: export {it} again, or use `on_bad: quarantine` "
            f"with `on_gap: {rest.fix['on_gap']}`."
        )
    return replace(worst, images=everything, reason=reason, fix=fix)


def _refuse_hidden_gaps(good: Sequence[SliceHeader], beside: int) -> Refusal:
    reason = (
        f"{head(good[0])}{count(beside, 'file')} beside its {len(good)} images "
        f"{agree(beside, 'is', 'are')} damaged or empty, so that slices between them may be "
        "missing without a trace. Export the series again; or, if these files are none of its "
        "slices, move them elsewhere."
    )
    return Refusal(tuple(good), "header_damaged", reason, tuple(list_paths(good)))


def _build(slices: Sequence[SliceHeader], on_gap: OnGap) -> Found:
    try:
        return build_series(slices, on_gap=on_gap)
    except GeometryError as error:
        more, fix = _find_fix(slices, error)
        files = tuple(Path(file) for file in error.files)
        return Refusal(tuple(slices), error.code, f"{error.message}{more}", files, fix)


def _find_fix(slices: Sequence[SliceHeader], error: GeometryError) -> tuple[str, Fix]:
    """Returns a further sentence on uneven slices, and the option that makes a stack of them."""
    if error.code == "missing_slices":
        more = " Ask for what is missing,"
    elif error.code == "uneven_steps":
        more = f"{_offer_even_run(slices)} Export the series with even steps,"
    else:
        return "", {}
    keep = "keep the slices at their true positions with `on_gap: keep`, or leave the series out."
    if is_stack(slices, "resample"):
        return f"{more} fill such gaps with `on_gap: resample`, {keep}", {"on_gap": "resample"}
    if is_stack(slices, "keep"):
        return f"{more} {keep}", {"on_gap": "keep"}
    return f"{more.removesuffix(',')}, or leave it out.", {}


def _offer_even_run(slices: Sequence[SliceHeader]) -> str:
    ordered, along = order_slices([place[0] for place in list_places(slices)])
    first, last = longest_even_run(along)
    run = ordered[first : last + 1]
    if len(run) < max(2, EVEN_SHARE * len(ordered)) or not is_stack(run):
        return ""
    step = (along[last] - along[first]) / (last - first)
    return (
        f" The {len(run)} slices from {along[first]:.1f} to {along[last]:.1f} mm ({run[0].name} to "
        f"{run[-1].name}) are evenly {step:.2f} mm apart: in a folder of their own, they are a "
        "stack."
    )


def _is_broken_stack(one: Found) -> bool:
    return isinstance(one, Refusal) and len(one.images) > 1 and one.code not in FOREIGN


def _collect_singles(found: list[Found]) -> list[Found]:
    """Calls single images beside a stack what they are: no second stack, perhaps a scout."""
    stacks = [one for one in found if isinstance(one, Series)]
    main = max(stacks, key=lambda one: len(one.slices), default=None)
    singles = [one for one in found if isinstance(one, Refusal) and one.code == "single_image"]
    if main is None and len(singles) > 1:
        images = [image for one in singles for image in one.images]
        sentence = (
            "differs from all others in direction, size or pixel size, so no two of them make a "
            "stack (a turning view, or single pictures)."
        )
        return [*(one for one in found if one not in singles), _refuse(images, "mixed", sentence)]
    if main is None and not any(_is_broken_stack(one) for one in found):
        return found
    scouts = [] if main is None else [one for one in found if _is_scout(one, main)]
    kept = [one for one in found if not any(one is other for other in (*scouts, *singles))]
    alone = [image for one in singles for image in one.images]
    sentence = "is no slice of the series' stack: another matrix, pixel size or phase."
    if alone:
        kept.append(_refuse(alone, "single_image", sentence))
    turned = [image for one in scouts if one.first not in alone for image in one.images]
    if turned:
        sentence = "lies across the series' stack: a localizer (scout), not a slice."
        kept.append(_refuse(turned, "localizer", sentence))
    return kept


def _is_scout(found: Found, main: Series) -> bool:
    """Whether a few images lie across a stack under the same UID."""
    images = found.images
    if len(images) > SCOUT_IMAGES or len(main.slices) <= SCOUT_IMAGES:
        return False
    if any(image.orientation is None for image in images):
        return False
    plane = nearest_plane(normal_of(images[0]))
    return plane != nearest_plane(normal_of(main.first))
