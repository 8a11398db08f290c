"""The slices under one series UID -> parts that may each be a stack.

Scanners and archives put several stacks under one UID: planes of a localizer, phases, echoes,
b-values, magnitude beside phase, two reconstructions. What tells them apart is looked for in a
fixed order, and only what leaves every place with one image counts as an explanation.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from medvid.contract import GeometryError
from medvid.io.dicom_regularity import (
    differing_tags,
    list_places,
    normal_of,
    order_slices,
    usual_step,
)
from medvid.io.dicom_series import OnGap, build_series
from medvid.io.dicom_slice import SPLITTING, TIMES, SliceHeader
from medvid.io.geometry import nearest_plane
from medvid.io.identity import series_token

SAME_DIRECTION = 1e-3
"""Largest difference of a direction's cosine within a stack (0.06 degrees); reconstructions of one
scan differ by rounding only, separately planned blocks by degrees."""

SAME_SPACING = 1e-3
"""Largest relative difference of pixel sizes within a stack: 0.5 pixels over 512."""

NEVER_MIXED = (
    *("ConvolutionKernel", "EchoTime", "TemporalPositionIdentifier", "DiffusionBValue"),
    *("InversionTime", "FrameOfReferenceUID", "StudyInstanceUID"),
)
"""What never alternates from slice to slice of one stack, unlike the acquisition's number or time,
which do where even slices are acquired before odd ones."""

OVERLAP = 1.5
"""Slices this much thicker than their step overlap. Even and odd slices that were acquired in turn
do not: they were parted so as not to touch each other."""

LABEL_CHARACTERS = 24
"""Of a value in a part's name."""

Part = tuple[str, list[SliceHeader]]
"""What tells the part from the others, "" for the only one; and its images."""


@dataclass(frozen=True)
class _Kind:
    """What slices of a stack share; directions and pixel sizes by the number of their cluster."""

    shape: tuple[int, int]
    modality: str
    spacing: int
    direction: int


def part_slices(images: Sequence[SliceHeader]) -> list[Part]:
    """Parts placed images of one series UID; the largest part comes first."""
    kinds: dict[_Kind, list[SliceHeader]] = defaultdict(list)
    spacings = _cluster([image.pixel_spacing or () for image in images], _scaled)
    directions = _cluster([image.orientation or () for image in images], _turned)
    for image in images:
        kinds[
            _Kind(
                image.shape,
                image.modality,
                spacings[image.pixel_spacing or ()],
                directions[image.orientation or ()],
            )
        ].append(image)
    names = _name_kinds(kinds)
    parts = []
    for kind, members in kinds.items():
        for label, found in _part_places(members):
            parts.append((",".join(word for word in (names[kind], label) if word), found))
    return sorted(parts, key=lambda part: -len(part[1]))


def _turned(values: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(values - value).max(axis=1) > SAME_DIRECTION)


def _scaled(values: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(values / value - 1) > SAME_SPACING).any(axis=1))


def _cluster(
    values: Sequence[tuple[float, ...]],
    differ: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]],
) -> dict[tuple[float, ...], int]:
    """Numbers values; those that agree with a commoner one have its number."""
    numbers: dict[tuple[float, ...], int] = {}
    known: list[tuple[float, ...]] = []
    for value, _ in Counter(values).most_common():
        alike = ~differ(np.array(known), np.array(value)) if known else np.zeros(0, bool)
        if alike.any():
            numbers[value] = int(np.argmax(alike))
        else:
            numbers[value] = len(known)
            known.append(value)
    return numbers


def _name_kinds(kinds: Mapping[_Kind, Sequence[SliceHeader]]) -> dict[_Kind, str]:
    """Names kinds by what they differ in: size, modality, pixel size, plane."""
    words: dict[_Kind, list[str]] = {kind: [] for kind in kinds}
    say: tuple[tuple[str, Callable[[SliceHeader], str]], ...] = (
        ("shape", lambda image: "x".join(map(str, image.shape))),
        ("modality", lambda image: image.modality),
        ("spacing", lambda image: f"{(image.pixel_spacing or (0.0,))[0]:.3g}mm"),
        ("direction", lambda image: nearest_plane(normal_of(image))),
    )
    for name, describe in say:
        if len({getattr(kind, name) for kind in kinds}) > 1:
            for kind, members in kinds.items():
                words[kind].append(_clean(describe(members[0])))
    return dict(zip(kinds, _number(["-".join(words[kind]) for kind in kinds]), strict=True))


def _number(names: Sequence[str]) -> list[str]:
    """Adds a number to names that stand for several things."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return numbered


def _clean(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", value)[:LABEL_CHARACTERS].strip("_") or "none"


def _part_places(images: Sequence[SliceHeader]) -> list[Part]:
    """Parts images of one kind where a place holds several, or where two stacks alternate."""
    places = list_places(images)
    crowded = [place for place in places if len({image.key for image in place}) > 1]
    if not crowded:
        return _part_alternating(places) or [("", list(images))]
    best: list[Part] = []
    for parts in (*_list_tag_parts(images, crowded), _part_by_time(places)):
        if parts and all(_has_one_image_a_place(part) for _, part in parts):
            in_stacks = sum(len(part) for _, part in parts if is_stack(part))
            if in_stacks == len(images):
                return parts
            if not best and in_stacks > len(images) / 2:
                best = parts
    return best or [("", list(images))]


def is_stack(images: Sequence[SliceHeader], on_gap: OnGap = "refuse") -> bool:
    """Whether images are a regular stack, as they are or with their gaps filled."""
    try:
        return bool(images) and bool(build_series(images, on_gap=on_gap).slices)
    except GeometryError:
        return False


def _has_one_image_a_place(images: Sequence[SliceHeader]) -> bool:
    """Whether nothing is left to explain, of at least two slices."""
    places = len(list_places(images))
    return places > 1 and places == len({image.key for image in images})


def _list_tag_parts(
    images: Sequence[SliceHeader], crowded: Sequence[Sequence[SliceHeader]]
) -> Iterator[list[Part]]:
    """Yields the parts that single tags make, then those that pairs of tags make."""
    differing = {keyword for place in crowded for keyword in differing_tags(place)}
    tags = [keyword for keyword in SPLITTING if keyword in differing]
    for chosen in (*((tag,) for tag in tags), *combinations(tags, 2)):
        places = [SPLITTING.index(tag) for tag in chosen]
        parts: dict[Hashable, list[SliceHeader]] = defaultdict(list)
        for image in images:
            parts[tuple(image.splitting[place] for place in places)].append(image)
        words = [
            _name_values([members[0].splitting[place] for members in parts.values()])
            for place in places
        ]
        names = [
            ",".join(f"{tag}={value}" for tag, value in zip(chosen, values, strict=True))
            for values in zip(*words, strict=True)
        ]
        yield list(zip(_number(names), parts.values(), strict=True))


def _name_values(values: Sequence[str]) -> list[str]:
    """Names values of one tag; of several words in a value only those that differ are named."""
    split = [value.split("\\") for value in values]
    if len({len(words) for words in split}) == 1:
        odd = [i for i in range(len(split[0])) if len({words[i] for words in split}) > 1]
        split = [[words[i] for i in odd] for words in split]
    return [_clean("-".join(words)) for words in split]


def _part_by_time(places: Sequence[Sequence[SliceHeader]]) -> list[Part]:
    """Parts phases that only their times tell apart; [] where the times overlap."""
    phases = len(places[0])
    if phases < 2 or any(len(place) != phases for place in places):
        return []
    for number, keyword in enumerate(TIMES):
        if not all(image.times[number] for place in places for image in place):
            continue
        ordered = [sorted(place, key=lambda image: image.times[number]) for place in places]
        parts = [[place[phase] for place in ordered] for phase in range(phases)]
        ends = [
            (min(image.times[number] for image in part), max(image.times[number] for image in part))
            for part in parts
        ]
        if all(before[1] < after[0] for before, after in pairwise(ends)):
            return [(f"{keyword}#{phase + 1}", part) for phase, part in enumerate(parts)]
    return []


def _part_alternating(places: Sequence[Sequence[SliceHeader]]) -> list[Part]:
    """Parts two stacks whose slices lie between each other; [] where there are none."""
    images = [image for place in places for image in place]
    mended: OnGap = "refuse" if is_stack(images) else "resample"
    for keyword in NEVER_MIXED:
        values = [_read_never_mixed(image, keyword) for image in images]
        switches = sum(one != other for one, other in pairwise(values))
        if switches < len(set(values)):
            continue
        parts: dict[str, list[SliceHeader]] = defaultdict(list)
        for image, value in zip(images, values, strict=True):
            parts[value].append(image)
        # Gaps are no reason to take two stacks for one: filling them would mix the two.
        if all(len(part) > 1 and is_stack(part, mended) for part in parts.values()):
            names = _name_values(list(parts))
            return [
                (f"{keyword}={name}", part)
                for name, part in zip(_number(names), parts.values(), strict=True)
            ]
    return _part_overlapping(places)


def _read_never_mixed(image: SliceHeader, keyword: str) -> str:
    """Returns the value of a tag of `NEVER_MIXED`; a token in place of a UID."""
    uids = {"FrameOfReferenceUID": image.space, "StudyInstanceUID": image.study}
    if keyword in uids:
        return series_token(uids[keyword]) if uids[keyword] else ""
    return image.splitting[SPLITTING.index(keyword)]


def _part_overlapping(places: Sequence[Sequence[SliceHeader]]) -> list[Part]:
    """Parts two phases of which one lies half a step beside the other; [] where there are none.

    Every second slice differs in a tag or was made later than all others, and the slices are too
    thick to be neighbours.
    """
    halves = [[image for place in places[start::2] for image in place] for start in (0, 1)]
    along = order_slices([place[0] for place in places])[1]
    thickness = min((image.thickness or 0.0 for half in halves for image in half), default=0.0)
    if len(along) < 4 or thickness < OVERLAP * usual_step(along):
        return []
    if not all(is_stack(half) for half in halves):
        return []
    for number, keyword in enumerate(SPLITTING):
        values = [{image.splitting[number] for image in half} for half in halves]
        if len(values[0]) == len(values[1]) == 1 and values[0] != values[1]:
            names = _number(_name_values([*values[0], *values[1]]))
            return [(f"{keyword}={name}", half) for name, half in zip(names, halves, strict=True)]
    for number, keyword in enumerate(TIMES):
        times = [[image.times[number] for image in half] for half in halves]
        first, second = sorted(zip(times, halves, strict=True), key=lambda one: min(one[0]))
        if all(map(all, times)) and max(first[0]) < min(second[0]):
            return [(f"{keyword}#1", first[1]), (f"{keyword}#2", second[1])]
    return []
