"""Stacks whose slices lie between each other's -> each by itself.

Together they are as even as one stack, or nearly. Two phases, two kernels, or two series that an
archive put under one UID.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise

from medvid.io.dicom_part_names import name_values, number_names
from medvid.io.dicom_regularity import list_places, order_slices, usual_step
from medvid.io.dicom_series import OnGap, is_stack
from medvid.io.dicom_slice import MARKS, NEVER_MIXED, SPLITTING, TIMES, SliceHeader
from medvid.io.dicom_times import read_moments
from medvid.io.ordering import natural_key

OVERLAP = 1.5
"""Slices this much thicker than their step overlap. Where stacks of touching slices lie between
each other, slices are as many times thicker than the step as there are stacks."""

SAME_STEP = 0.1
"""Of the step: by how much the one that images state may differ from the one at which they lie."""

MOST_STACKS = 4
"""So many stacks at most are looked for between each other, of slices that overlap."""

SMALLEST_PARTED = 4
"""Slices; each of two stacks has two."""

APART = 1.5
"""By how many times at least the step of one of several such stacks exceeds that of all. Runs of
slices that share a tag have the same step."""

Part = tuple[str, list[SliceHeader]]
"""What tells the part from the others, "" for the only one; and its images."""

Moments = Mapping[int, float]
"""Seconds from any beginning, for the `id` of an image."""


def part_alternating(places: Sequence[Sequence[SliceHeader]]) -> list[Part]:
    """Parts stacks whose slices lie between each other; [] where there are none.

    Args:
        places: images of one kind by their place along the normal, one for each.
    """
    return [
        (",".join(word for word in (label, more) if word), further)
        for label, part in _part_once(places)
        for more, further in part_alternating(list_places(part)) or [("", part)]
    ]


def _part_once(places: Sequence[Sequence[SliceHeader]]) -> list[Part]:
    """Parts stacks by one tag, or by their times."""
    images = [image for place in places for image in place]
    for keyword in NEVER_MIXED:
        values = [image.state(keyword) for image in images]
        if _takes_turns(values) and _are_apart(parts := _group(images, values)):
            return _name_parts(keyword, parts)
    return _part_overlapping(places)


def _group(images: Sequence[SliceHeader], values: Sequence[str]) -> dict[str, list[SliceHeader]]:
    parts: dict[str, list[SliceHeader]] = defaultdict(list)
    for image, value in zip(images, values, strict=True):
        parts[value].append(image)
    return parts


def _takes_turns(values: Sequence[str]) -> bool:
    """Whether every value returns: of stacks on top of each other each has its one run."""
    runs = Counter(value for value, _ in groupby(values))
    return len(runs) > 1 and min(runs.values()) > 1


def _are_apart(parts: Mapping[str, Sequence[SliceHeader]]) -> bool:
    """Whether every part is a stack of its own.

    Gaps are no reason to take two stacks for one: filling them would mix the two.
    """
    images = [image for part in parts.values() for image in part]
    return _are_stacks(parts.values(), "refuse" if is_stack(images) else "resample")


def _are_stacks(parts: Iterable[Sequence[SliceHeader]], on_gap: OnGap) -> bool:
    return all(len(part) > 1 and is_stack(part, on_gap) for part in parts)


def _part_overlapping(places: Sequence[Sequence[SliceHeader]]) -> list[Part]:
    """Parts stacks of slices that are too thick to be neighbours; [] where there are none.

    They differ in a tag that is the same for all slices of each, or were made one after another.
    An overlapping reconstruction has one value for all its slices, or as many as slices.
    """
    images = [image for place in places for image in place]
    if len(places) < SMALLEST_PARTED:
        return []
    step = _find_step(places)
    if min(image.thickness or 0.0 for image in images) < OVERLAP * step:
        return []
    if all(_states_step(image, step) for image in images):
        # Overlapping MR is acquired in packs, every second or third slice at a time (fetal and
        # cardiac scans). Stacks of their own would have stated their own, wider step.
        return []
    for keyword in (*SPLITTING, *MARKS, *TIMES):
        values = [image.state(keyword) for image in images]
        if not 1 < len(set(values)) <= MOST_STACKS or not _takes_turns(values):
            continue
        parts = _group(images, values)
        if _are_apart(parts) and all(
            _find_step(list_places(part)) >= APART * step for part in parts.values()
        ):
            return _name_parts(keyword, parts)
    return _part_in_turn(places)


def _states_step(image: SliceHeader, step: float) -> bool:
    return image.step is not None and abs(abs(image.step) - step) <= SAME_STEP * step


def _find_step(places: Sequence[Sequence[SliceHeader]]) -> float:
    return usual_step(order_slices([place[0] for place in places])[1])


def _name_parts(keyword: str, parts: Mapping[str, list[SliceHeader]]) -> list[Part]:
    """Names parts by a tag's values, or by numbers where a value may name a person or a day."""
    if keyword in SPLITTING:
        names = number_names([f"{keyword}={name}" for name in name_values(list(parts))])
        return list(zip(names, parts.values(), strict=True))
    order = sorted(parts, key=natural_key)
    moments = read_moments(order) if keyword in TIMES else None
    if moments is not None:
        order = [value for _, value in sorted(zip(moments, order, strict=True))]
    return [(f"{keyword}#{number}", parts[value]) for number, value in enumerate(order, 1)]


def _part_in_turn(places: Sequence[Sequence[SliceHeader]]) -> list[Part]:
    """Parts stacks that only their times tell apart: each was made before the next."""
    images = [image for place in places for image in place]
    for keyword in TIMES:
        if (moments := read_times(images, keyword)) is None:
            continue
        for stacks in range(2, MOST_STACKS + 1):
            parts = [
                [image for place in places[start::stacks] for image in place]
                for start in range(stacks)
            ]
            parts.sort(key=lambda part: moments[id(part[0])])
            if follow_each_other(parts, moments) and _are_stacks(parts, "refuse"):
                return [(f"{keyword}#{number}", part) for number, part in enumerate(parts, 1)]
    return []


def read_times(images: Sequence[SliceHeader], keyword: str) -> Moments | None:
    """Returns when images were made, by one of `TIMES`; None where that is not known."""
    moments = read_moments([image.times[TIMES.index(keyword)] for image in images])
    if moments is None:
        return None
    return {id(image): moment for image, moment in zip(images, moments, strict=True)}


def follow_each_other(parts: Sequence[Sequence[SliceHeader]], moments: Moments) -> bool:
    """Whether all images of each part were made before all of the next."""
    ends = [
        (min(moments[id(image)] for image in part), max(moments[id(image)] for image in part))
        for part in parts
    ]
    return all(before[1] < after[0] for before, after in pairwise(ends))
