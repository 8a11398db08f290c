"""Whether the slices of one series form a regular stack; a `GeometryError` for what they lack.

Order comes from positions along the slice normal alone: InstanceNumber is often renumbered, and
SliceThickness is not the distance of slices.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medvid.contract import GeometryError
from medvid.io.dicom_headers import SPLITTING, SliceHeader
from medvid.io.wording import agree, count

SAME_DIRECTION = 1e-3
"""Largest difference of a direction's cosine within a stack (0.06 degrees); reconstructions of one
scan differ by rounding only, separately planned blocks by degrees."""

SAME_SPACING = 1e-3
"""Largest relative difference of pixel sizes within a stack: 0.5 pixels over 512."""

USUAL_DECIMALS = 2
"""Directions and pixel sizes are counted to this many decimals to find the commonest ones, which
are then compared by the tolerances above."""

SAME_PLACE_MM = 0.01
"""Slices nearer than this lie at one place: no scanner steps below 0.1 mm."""

STEP_TOLERANCE = 0.05
"""Largest relative difference of a step from the median step."""

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


def name_files(files: Sequence[Path]) -> str:
    """Returns the first few file names for a message."""
    named = ", ".join(file.name for file in files[:NAMED_FILES])
    return named if len(files) <= NAMED_FILES else f"{named} and {len(files) - NAMED_FILES} more"


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


def require_alike(images: Sequence[SliceHeader]) -> None:
    """Raises `GeometryError` when images differ in what slices of a stack share."""
    checks: tuple[tuple[str, str, str, Callable[[SliceHeader], bool]], ...] = (
        ("mixed_matrix", "number of rows or columns", "sizes", _unlike(images, _shape)),
        ("mixed_modality", "modality", "modalities", _unlike(images, _modality)),
        ("mixed_patients", "patient's number", "patients", _unlike(images, _patient)),
        ("mixed_orientation", "direction", "directions", _turned(images)),
        ("mixed_spacing", "pixel size", "pixel sizes", _scaled(images)),
    )
    for code, what, plural, is_odd in checks:
        odd = [image.path for image in images if is_odd(image)]
        if not odd:
            continue
        usual = [image.path for image in images if not is_odd(image)]
        if len(odd) < len(usual):
            found = (
                f"{len(odd)} of {count(len(images), 'image')} ({name_files(odd)}) "
                f"{agree(len(odd), 'has', 'have')} another {what} than the others. Move "
                f"{agree(len(odd), 'it', 'them')} out of the folder, or leave the series out."
            )
        else:
            found = (
                f"its {len(images)} images have different {plural} ({usual[0].name} against "
                f"{odd[0].name}). Move them into a folder for each {what}, or leave the series out."
            )
        raise GeometryError(f"{head(images[0])}{found}", code=code, files=odd)


def _shape(image: SliceHeader) -> Hashable:
    return image.shape


def _modality(image: SliceHeader) -> Hashable:
    return image.modality


def _patient(image: SliceHeader) -> Hashable:
    return image.patient


def _unlike(
    images: Sequence[SliceHeader], key: Callable[[SliceHeader], Hashable]
) -> Callable[[SliceHeader], bool]:
    usual = Counter(key(image) for image in images).most_common(1)[0][0]
    return lambda image: key(image) != usual


def _usual(values: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Returns the middle of the commonest values; a median of all would lie between two kinds."""
    rows = np.array(values)
    keys = [tuple(row) for row in np.round(rows, USUAL_DECIMALS).tolist()]
    commonest = Counter(keys).most_common(1)[0][0]
    middle: NDArray[np.float64] = np.median(rows[[key == commonest for key in keys]], axis=0)
    return middle


def _turned(images: Sequence[SliceHeader]) -> Callable[[SliceHeader], bool]:
    usual = _usual([image.orientation or () for image in images])
    return lambda image: bool(np.abs(np.array(image.orientation) - usual).max() > SAME_DIRECTION)


def _scaled(images: Sequence[SliceHeader]) -> Callable[[SliceHeader], bool]:
    usual = _usual([image.pixel_spacing or () for image in images])
    return lambda image: bool(
        (np.abs(np.array(image.pixel_spacing) / usual - 1) > SAME_SPACING).any()
    )


def list_places(
    ordered: Sequence[SliceHeader], along: NDArray[np.float64]
) -> list[list[SliceHeader]]:
    """Returns the images of each place, in order along the normal."""
    places: list[list[SliceHeader]] = []
    for index, image in enumerate(ordered):
        if index and along[index] - along[index - 1] < SAME_PLACE_MM:
            places[-1].append(image)
        else:
            places.append([image])
    return places


def drop_duplicates(
    ordered: Sequence[SliceHeader], along: NDArray[np.float64]
) -> tuple[list[SliceHeader], list[str]]:
    """Keeps one of several equal images at a place, with a note.

    Raises:
        GeometryError: for different images at one place.
    """
    places = list_places(ordered, along)
    crowded = [place for place in places if len(place) > 1]
    differing = [place for place in crowded if len({_pixel_bytes(image) for image in place}) > 1]
    if differing:
        files = [image.path for place in differing for image in place]
        start = head(ordered[0])
        if len(differing) == len(places):
            tags = differing_tags(places[0])
            why = f"; they differ in {', '.join(tags)}" if tags else ""
            what = (
                f"all {len(places[0])} images lie at one place"
                if len(places) == 1
                else f"every place holds {len(places[0])} different images"
            )
            raise GeometryError(
                f"{start}{what}{why}. Several phases, "
                "echoes or b-values share one series; export them as series of their own.",
                code="repeated_positions",
                files=files,
            )
        raise GeometryError(
            f"{start}different images lie at one place ({name_files(files)}). Look at them and "
            "move the wrong ones out of the folder, or leave the series out.",
            code="duplicate_slice",
            files=files,
        )
    notes = []
    if crowded:
        extra = [image.path for place in crowded for image in place[1:]]
        notes.append(
            f"{count(len(extra), 'identical duplicate')} {agree(len(extra), 'was', 'were')} left "
            f"out ({name_files(extra)})."
        )
    return [place[0] for place in places], notes


def differing_tags(images: Sequence[SliceHeader]) -> list[str]:
    """Returns which of the `SPLITTING` tags tell images at one place apart."""
    return [
        keyword
        for number, keyword in enumerate(SPLITTING)
        if len({image.splitting[number] for image in images}) > 1
    ]


def _pixel_bytes(image: SliceHeader) -> bytes:
    """Returns what decides whether two images are one: pixels, and how they are scaled."""
    scale = f"{image.slope} {image.intercept} {image.syntax}".encode()
    with image.path.open("rb") as file:
        if image.offset < 0:
            data = file.read()
            start = data.rfind(b"\xe0\x7f\x10\x00")
            return scale + data[max(start, 0) :]
        file.seek(image.offset)
        return scale + file.read(image.length)


def _allowed(step: float) -> float:
    """Returns by how many mm a step may differ from the usual one."""
    return max(STEP_TOLERANCE * step, min(ROUNDING_MM, ROUNDING_SHARE * step))


def longest_even_run(along: NDArray[np.float64]) -> tuple[int, int]:
    """Returns the first and the last slice of the longest run of even steps."""
    steps = np.diff(along)
    best = (0, 0)
    start = 0
    for end in range(1, len(steps) + 1):
        if end == len(steps) or abs(steps[end] - steps[start]) > _allowed(float(steps[start])):
            best = max(best, (start, end), key=lambda run: run[1] - run[0])
            start = end
    return best


def require_steps(slices: Sequence[SliceHeader], along: NDArray[np.float64]) -> None:
    """Raises `GeometryError` where slices are missing or their steps are uneven."""
    steps = np.diff(along)
    step = float(np.median(steps))
    odd = [int(i) for i in np.flatnonzero(np.abs(steps - step) > _allowed(step))]
    if odd:
        raise _explain_steps(slices, along, odd, step)
    grid = np.linspace(along[0], along[-1], len(along))
    worst = int(np.argmax(np.abs(along - grid)))
    if abs(along[worst] - grid[worst]) > DRIFT_SHARE * step:
        raise GeometryError(
            f"{head(slices[0])}the steps drift: {slices[worst].path.name} lies "
            f"{abs(along[worst] - grid[worst]):.2f} mm off an even grid of {step:.2f} mm. Export "
            "the series with even steps, or leave it out.",
            code="uneven_steps",
            files=[slices[worst].path],
        )


def _explain_steps(
    slices: Sequence[SliceHeader], along: NDArray[np.float64], odd: Sequence[int], step: float
) -> GeometryError:
    steps = np.diff(along)
    files = [slices[i + side].path for i in odd for side in (0, 1)]
    ratios = [float(steps[i]) / step for i in odd]
    at = f"{along[odd[0]]:.1f}"
    between = f"{slices[odd[0]].path.name}, {slices[odd[0] + 1].path.name}"
    if all(r > 1.5 and abs(r - round(r)) <= MISSING_SHARE for r in ratios):
        missing = sum(round(ratio) - 1 for ratio in ratios)
        where = "" if missing == 1 else "the first "
        return GeometryError(
            f"{head(slices[0])}{missing} of {len(slices) + missing} slices "
            f"{agree(missing, 'is', 'are')} missing, {where}between {at} and "
            f"{along[odd[0] + 1]:.1f} mm ({between}); the step is {step:.2f} mm elsewhere. Ask for "
            f"the missing {agree(missing, 'slice', 'slices')} and put "
            f"{agree(missing, 'it', 'them')} into the folder, or leave the series out.",
            code="missing_slices",
            files=files,
        )
    return GeometryError(
        f"{head(slices[0])}steps of {steps.min():.2f} to {steps.max():.2f} mm between slices, "
        f"mostly {step:.2f} mm; the first other one is at {at} mm ({between}). Export the series "
        "with even steps, or leave it out.",
        code="uneven_steps",
        files=files,
    )


def require_straight(slices: Sequence[SliceHeader], corners: NDArray[np.float64]) -> None:
    """Raises `GeometryError` where slices are shifted against each other within their planes."""
    share = np.linspace(0, 1, len(slices))[:, None]
    line = corners[0] + share * (corners[-1] - corners[0])
    normal = normal_of(slices[0])
    off = corners - line
    sideways = np.linalg.norm(off - np.outer(off @ normal, normal), axis=1)
    allowed = SIDEWAYS_PIXELS * max(slices[0].pixel_spacing or (1.0,))
    if sideways.max() > allowed:
        odd = [slices[int(i)].path for i in np.argsort(-sideways) if sideways[i] > allowed]
        raise GeometryError(
            f"{head(slices[0])}the slices are shifted sideways against each other, by up to "
            f"{sideways.max():.1f} mm ({name_files(odd)}), so they do not form one volume. Export "
            "the series again, or leave it out.",
            code="shifted_slices",
            files=odd,
        )
