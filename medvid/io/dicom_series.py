"""Headers of many files -> series that are regular stacks, and refusals of all that are not.

Order comes from positions along the slice normal alone: InstanceNumber is often renumbered, and
SliceThickness is not the distance of slices.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medvid.contract import GeometryError
from medvid.io.dicom_headers import SPLITTING, SliceHeader
from medvid.io.dicom_refusals import FOREIGN, refuse_image
from medvid.io.geometry import Affine, Orientation, PlaneOrAuto, nearest_plane, orient

SAME_DIRECTION = 1e-3
"""Largest difference of a direction's cosine within a stack (0.06 degrees); reconstructions of one
scan differ by rounding only, separately planned blocks by degrees."""

SAME_SPACING = 1e-3
"""Largest relative difference of pixel sizes within a stack: 0.5 pixels over 512."""

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

SMALLEST_SERIES = 2
"""One image has no slice axis."""

NAMED_FILES = 4
"""So many file names stand in a message; all are in `files`."""


@dataclass(frozen=True)
class Series:
    """One regular stack.

    Args:
        slices: in order along rising positions on the normal `row x column`.
        affine: (slice, row, column) index -> (x, y, z) mm.
        notes: what was found and mended.
    """

    slices: tuple[SliceHeader, ...]
    affine: Affine
    notes: tuple[str, ...]

    @property
    def first(self) -> SliceHeader:
        """The slice whose header stands for all in what they share."""
        return self.slices[0]

    def orient(self, plane: PlaneOrAuto) -> Orientation:
        """Returns the way to the canonical axes; T is the slice axis unless `plane` differs."""
        own = nearest_plane(_normal(self.first))
        rows, columns = self.first.shape
        return orient(
            self.affine,
            (len(self.slices), rows, columns),
            plane="auto" if plane == own else plane,
            through=0,
        )


@dataclass(frozen=True)
class Refusal:
    """Images that are no stack, and why.

    Args:
        images: the images concerned.
        code: the reason in a word.
        reason: the reason in a sentence.
        files: the offending ones, worst first.
    """

    images: tuple[SliceHeader, ...]
    code: str
    reason: str
    files: tuple[Path, ...]

    @property
    def first(self) -> SliceHeader:
        """The image whose header stands for all."""
        return self.images[0]


def name_files(files: Sequence[Path]) -> str:
    """Returns the first few file names for a message."""
    named = ", ".join(file.name for file in files[:NAMED_FILES])
    return named if len(files) <= NAMED_FILES else f"{named} and {len(files) - NAMED_FILES} more"


def group_series(headers: Iterable[SliceHeader]) -> list[Series | Refusal]:
    """Sorts images into series, and each series into a stack or a refusal."""
    by_uid: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in sorted(headers, key=lambda header: str(header.path)):
        by_uid[header.uid].append(header)
    found: list[Series | Refusal] = []
    for images in by_uid.values():
        found.extend(_sort_out(images))
    return found


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
        reason = f"{_head(members[0])}{name_files(files)} {sentence}"
        refusal = Refusal(tuple(members), code, reason, files)
        (found if code in FOREIGN else broken).append(refusal)
    if broken:
        worst = max(broken, key=lambda refusal: len(refusal.files))
        everything = (*(image for one in broken for image in one.images), *slices)
        found.append(Refusal(everything, worst.code, worst.reason, worst.files))
    elif slices:
        try:
            found.append(build_series(slices))
        except GeometryError as error:
            files = tuple(Path(file) for file in error.files)
            found.append(Refusal(tuple(slices), error.code, error.message, files))
    return found


def _head(header: SliceHeader) -> str:
    return f"series …{header.token}: "


def build_series(images: Sequence[SliceHeader]) -> Series:
    """Orders slices of one series along their normal.

    Raises:
        GeometryError: when they are not one regular stack; names the files.
    """
    head = _head(images[0])
    _require_alike(images, head)
    normal = _normal(images[0])
    ordered = sorted(images, key=lambda image: float(normal @ _position(image)))
    along = np.array([float(normal @ _position(image)) for image in ordered])
    slices, notes = _drop_duplicates(ordered, along, head)
    if len(slices) < SMALLEST_SERIES:
        raise GeometryError(
            f"{head}{slices[0].path.name} is the only image, and one image is not a stack.",
            code="single_image",
            files=[slices[0].path],
        )
    corners = np.array([_position(image) for image in slices])
    _require_steps(slices, corners @ normal, head)
    _require_straight(slices, corners, head)
    affine = np.eye(4)
    affine[:3, 0] = (corners[-1] - corners[0]) / (len(slices) - 1)
    row, column = _directions(slices[0])
    height, width = slices[0].pixel_spacing or (1.0, 1.0)
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = column * height, row * width, corners[0]
    if any(image.lenient for image in slices):
        notes.append("Numbers longer than 16 characters or with a decimal comma were read.")
    return Series(tuple(slices), affine, tuple(notes))


def _position(image: SliceHeader) -> NDArray[np.float64]:
    return np.array(image.position)


def _directions(image: SliceHeader) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    both = np.array(image.orientation)
    return both[:3] / np.linalg.norm(both[:3]), both[3:] / np.linalg.norm(both[3:])


def _normal(image: SliceHeader) -> NDArray[np.float64]:
    row, column = _directions(image)
    across = np.cross(row, column)
    return across / np.linalg.norm(across)


def _require_alike(images: Sequence[SliceHeader], head: str) -> None:
    usual_direction = np.median([image.orientation for image in images], axis=0)
    usual_pixel = np.median([image.pixel_spacing for image in images], axis=0)

    def odd_direction(image: SliceHeader) -> bool:
        return bool(np.abs(np.array(image.orientation) - usual_direction).max() > SAME_DIRECTION)

    def odd_pixel(image: SliceHeader) -> bool:
        return bool((np.abs(np.array(image.pixel_spacing) / usual_pixel - 1) > SAME_SPACING).any())

    def unlike(key: Callable[[SliceHeader], Hashable]) -> Callable[[SliceHeader], bool]:
        usual = Counter(key(image) for image in images).most_common(1)[0][0]
        return lambda image: key(image) != usual

    checks: tuple[tuple[str, str, Callable[[SliceHeader], bool]], ...] = (
        ("mixed_matrix", "another number of rows or columns", unlike(lambda image: image.shape)),
        ("mixed_modality", "another modality", unlike(lambda image: image.modality)),
        ("mixed_patients", "another patient's number", unlike(lambda image: image.patient)),
        ("mixed_orientation", "another direction", odd_direction),
        ("mixed_spacing", "another pixel size", odd_pixel),
    )
    for code, what, is_odd in checks:
        odd = [image.path for image in images if is_odd(image)]
        if odd:
            raise GeometryError(
                f"{head}{len(odd)} of {len(images)} images ({name_files(odd)}) have {what} than "
                "the others. Move them out of the series, or leave the series out.",
                code=code,
                files=odd,
            )


def _drop_duplicates(
    ordered: Sequence[SliceHeader], along: NDArray[np.float64], head: str
) -> tuple[list[SliceHeader], list[str]]:
    """Keeps one of several equal images at a place; refuses different ones."""
    places: list[list[SliceHeader]] = []
    for index, image in enumerate(ordered):
        if index and along[index] - along[index - 1] < SAME_PLACE_MM:
            places[-1].append(image)
        else:
            places.append([image])
    crowded = [place for place in places if len(place) > 1]
    differing = [place for place in crowded if len({_pixel_bytes(image) for image in place}) > 1]
    if differing:
        files = [image.path for place in differing for image in place]
        if len(differing) == len(places) and len(places[0]) > 1:
            differences = [
                keyword
                for number, keyword in enumerate(SPLITTING)
                if len({image.splitting[number] for image in places[0]}) > 1
            ]
            why = f"; they differ in {', '.join(differences)}" if differences else ""
            raise GeometryError(
                f"{head}every place holds {len(places[0])} different images{why}. Several phases, "
                "echoes or b-values share one series; export them as series of their own.",
                code="repeated_positions",
                files=files,
            )
        raise GeometryError(
            f"{head}different images lie at one place ({name_files(files)}). Remove the wrong "
            "ones, or leave the series out.",
            code="duplicate_slice",
            files=files,
        )
    notes = []
    if crowded:
        extra = [image.path for place in crowded for image in place[1:]]
        notes.append(f"{len(extra)} identical duplicates were left out ({name_files(extra)}).")
    return [place[0] for place in places], notes


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


def _require_steps(slices: Sequence[SliceHeader], along: NDArray[np.float64], head: str) -> None:
    steps = np.diff(along)
    step = float(np.median(steps))
    allowed = max(STEP_TOLERANCE * step, min(ROUNDING_MM, ROUNDING_SHARE * step))
    odd = [int(i) for i in np.flatnonzero(np.abs(steps - step) > allowed)]
    if odd:
        files = [slices[i + side].path for i in odd for side in (0, 1)]
        ratios = [float(steps[i]) / step for i in odd]
        gaps = all(r > 1.5 and abs(r - round(r)) <= MISSING_SHARE for r in ratios)
        at = along[odd[0]]
        between = f"{slices[odd[0]].path.name}, {slices[odd[0] + 1].path.name}"
        if gaps:
            missing = sum(round(ratio) - 1 for ratio in ratios)
            raise GeometryError(
                f"{head}{missing} of {len(slices) + missing} slices are missing, the first between "
                f"{at:.1f} and {along[odd[0] + 1]:.1f} mm ({between}); the step is {step:.2f} mm "
                "elsewhere. Export the series again, or leave it out.",
                code="missing_slices",
                files=files,
            )
        raise GeometryError(
            f"{head}steps of {steps.min():.2f} to {steps.max():.2f} mm between slices, mostly "
            f"{step:.2f} mm; the first other one is at {at:.1f} mm ({between}). Export the series "
            "with even steps, or leave it out.",
            code="uneven_steps",
            files=files,
        )
    grid = np.linspace(along[0], along[-1], len(along))
    worst = int(np.argmax(np.abs(along - grid)))
    if abs(along[worst] - grid[worst]) > DRIFT_SHARE * step:
        raise GeometryError(
            f"{head}the steps drift: {slices[worst].path.name} lies "
            f"{abs(along[worst] - grid[worst]):.2f} mm off an even grid of {step:.2f} mm. Export "
            "the series with even steps, or leave it out.",
            code="uneven_steps",
            files=[slices[worst].path],
        )


def _require_straight(
    slices: Sequence[SliceHeader], corners: NDArray[np.float64], head: str
) -> None:
    share = np.linspace(0, 1, len(slices))[:, None]
    line = corners[0] + share * (corners[-1] - corners[0])
    normal = _normal(slices[0])
    off = corners - line
    sideways = np.linalg.norm(off - np.outer(off @ normal, normal), axis=1)
    allowed = SIDEWAYS_PIXELS * max(slices[0].pixel_spacing or (1.0,))
    if sideways.max() > allowed:
        odd = [slices[int(i)].path for i in np.argsort(-sideways) if sideways[i] > allowed]
        raise GeometryError(
            f"{head}the slices are shifted sideways against each other, by up to "
            f"{sideways.max():.1f} mm ({name_files(odd)}), so they do not form one volume.",
            code="shifted_slices",
            files=odd,
        )
