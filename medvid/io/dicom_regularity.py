"""Whether slices of one kind form a regular stack; a `GeometryError` for what they lack.

Order comes from positions along the slice normal alone: InstanceNumber is often renumbered, and
SliceThickness is not the distance of slices.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medvid.contract import DataError, GeometryError
from medvid.io.dicom_pixels import read_slices
from medvid.io.dicom_refusals import refuse_image
from medvid.io.dicom_slice import SPLITTING, SliceHeader, list_paths
from medvid.io.wording import agree, count, name_first

SAME_PLACE_MM = 0.01
"""Slices nearer than this lie at one place: no scanner steps below 0.1 mm."""

STEP_TOLERANCE = 0.05
"""Largest relative difference of a step from the usual step."""

ROUNDING_MM = 0.1
"""Positions written with one decimal shift a step by up to this; allowed up to `ROUNDING_SHARE` of
the step, so that it never hides a missing slice."""

ROUNDING_SHARE = 0.25

DRIFT_SHARE = 0.5
"""Largest distance of a slice from the regular grid, in steps: beyond half a step a slice would be
nearer to its neighbour's place."""

MISSING_SHARE = 0.25
"""A step is called a gap when it is a whole number of steps within this share of one."""

SIDEWAYS_PIXELS = 0.5
"""Largest distance of a slice's corner from the straight line through all corners."""

NAMED_FILES = 4
"""So many file names stand in a message; all are in `files`."""

NAMED_GAPS = 3
"""So many gaps are described in a message; the files around all of them are in `files`."""


def may_hide_gaps(left: int, lost: int) -> bool:
    """Whether of so many lost images one may have lain between each two that are left.

    Slices 0, 2, 4 are as even as 0, 1, 2: even steps then prove no more that nothing is missing.
    """
    return 0 < lost >= left - 1


def name_images(images: Sequence[SliceHeader]) -> str:
    """Returns the names of the first few images for a message."""
    return name_first(list(dict.fromkeys(image.name for image in images)), NAMED_FILES)


def head(header: SliceHeader) -> str:
    """Returns how a message on a series begins: its token, never its UID."""
    return f"series …{header.token}: "


def position(image: SliceHeader) -> NDArray[np.float64]:
    """Returns (x, y, z) in mm of the first pixel's centre."""
    return np.array(image.position)


def directions(image: SliceHeader) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the unit directions of a row (towards rising columns) and of a column."""
    both = np.array(image.orientation)
    return both[:3] / np.linalg.norm(both[:3]), both[3:] / np.linalg.norm(both[3:])


def normal_of(image: SliceHeader) -> NDArray[np.float64]:
    """Returns the unit vector across an image, `row x column`."""
    row, column = directions(image)
    across = np.cross(row, column)
    return across / np.linalg.norm(across)


def order_slices(
    images: Sequence[SliceHeader],
) -> tuple[list[SliceHeader], NDArray[np.float64]]:
    """Returns images by rising position along their normal, and the positions in mm."""
    normal = normal_of(images[0])
    along = np.array([image.position for image in images]) @ normal
    order = np.argsort(along, kind="stable")
    return [images[int(i)] for i in order], along[order]


def list_places(images: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Returns the images of each place, in order along the normal."""
    ordered, along = order_slices(images)
    places: list[list[SliceHeader]] = []
    for index, image in enumerate(ordered):
        if index and along[index] - along[index - 1] < SAME_PLACE_MM:
            places[-1].append(image)
        else:
            places.append([image])
    return places


def drop_duplicates(images: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[str]]:
    """Returns the images in order, one of several equal ones at a place, with a note.

    Raises:
        GeometryError: for different images at one place.
    """
    places = list_places(images)
    crowded = [place for place in places if len(place) > 1]
    differing = [place for place in crowded if not _are_equal(place)]
    if differing:
        raise _explain_crowd(places, differing)
    notes = []
    if crowded:
        extra = [image for place in crowded for image in place[1:]]
        notes.append(
            f"{count(len(extra), 'identical duplicate')} {agree(len(extra), 'was', 'were')} left "
            f"out ({name_images(extra)})."
        )
    return [place[0] for place in places], notes


def _explain_crowd(
    places: Sequence[Sequence[SliceHeader]], differing: Sequence[Sequence[SliceHeader]]
) -> GeometryError:
    images = [image for place in differing for image in place]
    start = head(images[0])
    tags = _list_differing(differing)
    why = (
        f"; they differ in {', '.join(tags)}, which does not sort them into stacks" if tags else ""
    )
    if len(differing) < len(places):
        why = why or ", and nothing in their headers says which of them belongs to the stack"
        return GeometryError(
            f"{start}different images lie at one place ({name_images(images)}){why}. Look at them "
            "and move the wrong ones out of the folder, or leave the series out.",
            code="duplicate_slice",
            files=list_paths(images),
        )
    what = (
        f"all {len(places[0])} images lie at one place ({name_images(images)})"
        if len(places) == 1
        else f"every place holds {len(places[0])} different images"
    )
    return GeometryError(
        f"{start}{what}{why}. Export its phases, echoes or b-values as series of their own, or "
        "leave the series out.",
        code="repeated_positions",
        files=list_paths(images),
    )


def differing_tags(images: Sequence[SliceHeader]) -> list[str]:
    """Returns which of the `SPLITTING` tags tell images at one place apart."""
    return [
        keyword
        for number, keyword in enumerate(SPLITTING)
        if len({image.splitting[number] for image in images}) > 1
    ]


def _list_differing(places: Sequence[Sequence[SliceHeader]]) -> list[str]:
    """Returns which of the `SPLITTING` tags tell images at any of some places apart."""
    found = {keyword for place in places for keyword in differing_tags(place)}
    return [keyword for keyword in SPLITTING if keyword in found]


def _are_equal(place: Sequence[SliceHeader]) -> bool:
    """Whether images have the same values, after rescale, inversion and padding."""
    if any(refuse_image(image) for image in place):
        return False  # what its pixels show is not known
    try:
        first, *others = read_slices(place, np.dtype(np.float64))
    except DataError:
        return False  # what cannot be decoded cannot be shown to be equal
    return all(np.array_equal(first, other) for other in others)


def allowed_difference(step: float) -> float:
    """Returns by how many mm a step may differ from the usual one."""
    return max(STEP_TOLERANCE * step, min(ROUNDING_MM, ROUNDING_SHARE * step))


def usual_step(along: NDArray[np.float64]) -> float:
    """Returns the commonest step between slices, mm; of two equally common ones the smaller.

    Where every second slice is missing here and there, no step need be the median one.
    """
    steps = np.sort(np.diff(along))
    margins = np.array([allowed_difference(float(step)) for step in steps])
    low = np.searchsorted(steps, steps - margins, side="left")
    high = np.searchsorted(steps, steps + margins, side="right")
    commonest = int(np.argmax(high - low))
    return float(np.median(steps[low[commonest] : high[commonest]]))


def longest_even_run(along: NDArray[np.float64]) -> tuple[int, int]:
    """Returns the first and the last slice of the longest run of even steps."""
    steps = np.diff(along)
    best = (0, 0)
    start = 0
    for end in range(1, len(steps) + 1):
        first = float(steps[start])
        if end == len(steps) or abs(steps[end] - first) > allowed_difference(first):
            best = max(best, (start, end), key=lambda run: run[1] - run[0])
            start = end
    return best


def find_uneven(slices: Sequence[SliceHeader], along: NDArray[np.float64]) -> GeometryError | None:
    """Returns an error where slices are missing or their steps are uneven, else None."""
    step = usual_step(along)
    odd = _odd_steps(along, step)
    if odd:
        return _explain_steps(slices, along, odd, step)
    grid = np.linspace(along[0], along[-1], len(along))
    worst = int(np.argmax(np.abs(along - grid)))
    if not is_even(along):
        return GeometryError(
            f"{head(slices[0])}the steps drift: {slices[worst].name} lies "
            f"{abs(along[worst] - grid[worst]):.2f} mm off an even grid of {step:.2f} mm.",
            code="uneven_steps",
            files=[slices[worst].path],
        )
    return None


def _odd_steps(along: NDArray[np.float64], step: float) -> list[int]:
    off = np.abs(np.diff(along) - step) > allowed_difference(step)
    return [int(i) for i in np.flatnonzero(off)]


def is_even(along: NDArray[np.float64]) -> bool:
    """Whether slices lie on an even grid, each within tolerance of its place and its neighbour."""
    step = usual_step(along)
    grid = np.linspace(along[0], along[-1], len(along))
    return not _odd_steps(along, step) and bool(np.abs(along - grid).max() <= DRIFT_SHARE * step)


def _explain_steps(
    slices: Sequence[SliceHeader], along: NDArray[np.float64], odd: Sequence[int], step: float
) -> GeometryError:
    steps = np.diff(along)
    files = list_paths([slices[i + side] for i in odd for side in (0, 1)])
    gaps = [
        f"between {along[i]:.1f} and {along[i + 1]:.1f} mm ({slices[i].name}, {slices[i + 1].name})"
        for i in odd[:NAMED_GAPS]
    ]
    if len(odd) > NAMED_GAPS:
        gaps.append(f"in {count(len(odd) - NAMED_GAPS, 'more place')}")
    where = ", ".join(gaps[:-1]) + (" and " if len(gaps) > 1 else "") + gaps[-1]
    ratios = [float(steps[i]) / step for i in odd]
    if all(r > 1.5 and abs(r - round(r)) <= MISSING_SHARE for r in ratios):
        missing = sum(round(ratio) - 1 for ratio in ratios)
        return GeometryError(
            f"{head(slices[0])}{missing} of {len(slices) + missing} slices "
            f"{agree(missing, 'is', 'are')} missing, {where}; the step is {step:.2f} mm "
            "elsewhere.",
            code="missing_slices",
            files=files,
        )
    return GeometryError(
        f"{head(slices[0])}steps of {steps.min():.2f} to {steps.max():.2f} mm between slices, "
        f"mostly {step:.2f} mm; another one {where}.",
        code="uneven_steps",
        files=files,
    )


def require_straight(slices: Sequence[SliceHeader], along: NDArray[np.float64]) -> None:
    """Raises `GeometryError` where slices are shifted against each other within their planes."""
    corners = np.array([image.position for image in slices])
    share = ((along - along[0]) / (along[-1] - along[0]))[:, None]
    line = corners[0] + share * (corners[-1] - corners[0])
    normal = normal_of(slices[0])
    off = corners - line
    sideways = np.linalg.norm(off - np.outer(off @ normal, normal), axis=1)
    allowed = SIDEWAYS_PIXELS * max(slices[0].pixel_spacing or (1.0,))
    if sideways.max() > allowed:
        odd = [slices[int(i)] for i in np.argsort(-sideways) if sideways[i] > allowed]
        raise GeometryError(
            f"{head(slices[0])}the slices are shifted sideways against each other, by up to "
            f"{sideways.max():.1f} mm ({name_images(odd)}), so they do not form one volume. Export "
            "the series again, or leave it out.",
            code="shifted_slices",
            files=list_paths(odd),
        )
