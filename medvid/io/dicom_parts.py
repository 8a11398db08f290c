"""The slices under one series UID -> parts that may each be a stack.

Scanners and archives put several stacks under one UID: planes of a localizer, phases, echoes,
b-values, magnitude beside phase, two reconstructions. What tells them apart is looked for in a
fixed order, and only what leaves every place with one image counts as an explanation.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medvid.io.dicom_alternating import Part, follow_each_other, part_alternating, read_times
from medvid.io.dicom_part_names import clean, name_values, number_names
from medvid.io.dicom_regularity import differing_tags, list_places, normal_of
from medvid.io.dicom_series import is_stack
from medvid.io.dicom_slice import SPLITTING, TIMES, SliceHeader
from medvid.io.geometry import nearest_plane
from medvid.io.identity import series_token

SAME_DIRECTION = 1e-3
"""Largest difference of a direction's cosine within a stack (0.06 degrees); reconstructions of one
scan differ by rounding only, separately planned blocks by degrees."""

SAME_SPACING = 1e-3
"""Largest relative difference of pixel sizes within a stack: 0.5 pixels over 512."""


@dataclass(frozen=True)
class _Kind:
    """What slices of a stack share; directions and pixel sizes by the number of their cluster.

    Positions of two frames of reference count from two origins.
    """

    study: str
    space: str
    shape: tuple[int, int]
    modality: str
    spacing: int
    direction: int


def part_slices(images: Sequence[SliceHeader]) -> list[Part]:
    """Parts placed images of one series UID; the largest part comes first."""
    kinds: dict[_Kind, list[SliceHeader]] = defaultdict(list)
    spacings = _cluster([image.pixel_spacing or () for image in images], _scaled)
    directions = _cluster([image.orientation or () for image in images], _turned)
    studies = _keep_if_several([image.study for image in images])
    spaces = _keep_if_several([image.space for image in images])
    for image, study, space in zip(images, studies, spaces, strict=True):
        kinds[
            _Kind(
                study,
                space,
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


def _keep_if_several(uids: Sequence[str]) -> Sequence[str]:
    """Returns UIDs where they contradict each other; what is not stated contradicts nothing."""
    return uids if len(set(uids) - {""}) > 1 else [""] * len(uids)


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
    """Names kinds by what they differ in: study, axes, size, modality, pixel size, plane."""
    words: dict[_Kind, list[str]] = {kind: [] for kind in kinds}
    say: tuple[tuple[str, Callable[[SliceHeader], str]], ...] = (
        ("study", lambda image: f"StudyInstanceUID={_name_uid(image.study)}"),
        ("space", lambda image: f"FrameOfReferenceUID={_name_uid(image.space)}"),
        ("shape", lambda image: "x".join(map(str, image.shape))),
        ("modality", lambda image: clean(image.modality)),
        ("spacing", lambda image: f"{(image.pixel_spacing or (0.0,))[0]:.3g}mm"),
        ("direction", lambda image: nearest_plane(normal_of(image))),
    )
    for name, describe in say:
        if len({getattr(kind, name) for kind in kinds}) > 1:
            for kind, members in kinds.items():
                words[kind].append(describe(members[0]))
    return dict(zip(kinds, number_names(["-".join(words[kind]) for kind in kinds]), strict=True))


def _name_uid(uid: str) -> str:
    return series_token(uid) if uid else "none"


def _part_places(images: Sequence[SliceHeader]) -> list[Part]:
    """Parts images of one kind where a place holds several, or where two stacks alternate."""
    places = list_places(images)
    crowded = [place for place in places if len({image.key for image in place}) > 1]
    if not crowded:
        return part_alternating(places) or [("", list(images))]
    best: list[Part] = []
    for parts in (*_list_tag_parts(images, crowded), _part_by_time(places)):
        if parts and all(_has_one_image_a_place(part) for _, part in parts):
            in_stacks = sum(len(part) for _, part in parts if is_stack(part))
            if in_stacks == len(images):
                return parts
            if not best and in_stacks > len(images) / 2:
                best = parts
    return best or [("", list(images))]


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
            name_values([members[0].splitting[place] for members in parts.values()])
            for place in places
        ]
        names = [
            ",".join(f"{tag}={value}" for tag, value in zip(chosen, values, strict=True))
            for values in zip(*words, strict=True)
        ]
        yield list(zip(number_names(names), parts.values(), strict=True))


def _part_by_time(places: Sequence[Sequence[SliceHeader]]) -> list[Part]:
    """Parts phases that only their times tell apart; [] where the times overlap."""
    phases = len(places[0])
    if phases < 2 or any(len(place) != phases for place in places):
        return []
    images = [image for place in places for image in place]
    for keyword in TIMES:
        if (moments := read_times(images, keyword)) is None:
            continue
        ordered = [sorted(place, key=lambda image: moments[id(image)]) for place in places]
        parts = [[place[phase] for place in ordered] for phase in range(phases)]
        if follow_each_other(parts, moments):
            return [(f"{keyword}#{phase + 1}", part) for phase, part in enumerate(parts)]
    return []
