"""Slices of one kind -> a stack in the order in which they lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medvid.contract import GeometryError
from medvid.io.dicom_regularity import (
    allowed_difference,
    drop_duplicates,
    find_uneven,
    head,
    name_images,
    normal_of,
    order_slices,
    require_straight,
    usual_step,
)
from medvid.io.dicom_scale import require_one_scale
from medvid.io.dicom_slice import NEVER_MIXED, SECONDARY_CAPTURE, SPLITTING, SliceHeader
from medvid.io.wording import agree, count, name_first

SMALLEST_SERIES = 2
"""One image has no slice axis."""

MADE_UP_SHARE = 0.5
"""Largest share of frames that `on_gap: resample` may make up; beyond it more would be invented
than was scanned."""

NAMED_VALUES = 4
"""So many values of a tag stand in a note."""

OnGap = Literal["refuse", "resample", "keep"]
OnBad = Literal["stop", "quarantine"]
Fix = Mapping[str, str]
"""Options of `open_stack` that make a refused series readable."""


@dataclass(frozen=True)
class Series:
    """One stack.

    Args:
        slices: in order along rising positions on the normal `row x column`.
        notes: what was found and mended.
        filled: whether the frames lie on an even grid between the slices.
        part: what tells it from other stacks under its UID, such as `EchoTime=80`; "" for the
            only one.
        place: what `open_stack` is given: a folder, or a multi-frame file.
        left_out: broken images that are no slices of it any more.
    """

    slices: tuple[SliceHeader, ...]
    notes: tuple[str, ...]
    filled: bool = False
    part: str = ""
    place: Path = Path()
    left_out: int = 0

    @property
    def images(self) -> tuple[SliceHeader, ...]:
        """The slices, under the name that a refusal has for them."""
        return self.slices

    @property
    def first(self) -> SliceHeader:
        """The slice whose header stands for all in what they share."""
        return self.slices[0]

    @property
    def token(self) -> str:
        """What `series=` is given."""
        return _join_token(self.first, self.part)

    @property
    def along(self) -> NDArray[np.float64]:
        """Positions of the slices along their normal, mm."""
        return order_slices(self.slices)[1]

    @property
    def thickness(self) -> float:
        """Of the slices, or their distance where the header does not state it, mm."""
        return self.first.thickness or float(np.ptp(self.along)) / (len(self.slices) - 1)


@dataclass(frozen=True)
class Refusal:
    """Images that are no stack, and why.

    Args:
        images: the images concerned.
        code: the reason in a word.
        reason: the reason in a sentence, and what can be done.
        files: the offending ones, worst first.
        fix: the options that make a stack of them; empty where there are none.
        part: see `Series`.
        place: see `Series`.
    """

    images: tuple[SliceHeader, ...]
    code: str
    reason: str
    files: tuple[Path, ...]
    fix: Fix = field(default_factory=dict)
    part: str = ""
    place: Path = Path()

    @property
    def first(self) -> SliceHeader:
        """The image whose header stands for all."""
        return self.images[0]

    @property
    def token(self) -> str:
        """What `series=` is given."""
        return _join_token(self.first, self.part)


Found = Series | Refusal
"""What images turn out to be."""


def _join_token(image: SliceHeader, part: str) -> str:
    return f"{image.token}:{part}" if part else image.token


def build_series(images: Sequence[SliceHeader], *, on_gap: OnGap = "refuse") -> Series:
    """Orders slices of one kind along their normal.

    Args:
        images: of one matrix, direction and pixel size, see `part_slices`.
        on_gap: `refuse` uneven steps, `resample` them to even ones, or `keep` the slices with
            their true positions.

    Raises:
        GeometryError: when they are no stack; names the files.
    """
    _require_one_patient(images)
    slices, notes = drop_duplicates(images)
    if len(slices) < SMALLEST_SERIES:
        raise GeometryError(
            f"{head(images[0])}{slices[0].name} is the only image, and one image is not a stack.",
            code="single_image",
            files=[slices[0].path],
        )
    slices, along = order_slices(slices)
    uneven = find_uneven(slices, along)
    if uneven is not None and on_gap == "refuse":
        raise uneven
    require_straight(slices, along)
    require_one_scale(slices)
    if any(image.lenient for image in slices):
        notes.append("Numbers longer than 16 characters or with a decimal comma were read.")
    notes += [*_describe_mixture(slices), *describe_writing(slices)]
    if uneven is None:
        return Series(tuple(slices), tuple(notes))
    if on_gap == "keep":
        steps = np.diff(along)
        notes.append(
            f"Steps of {steps.min():.2f} to {steps.max():.2f} mm were kept, with the slices' true "
            "positions (on_gap: keep)."
        )
        return Series(tuple(slices), tuple(notes))
    notes.append(_describe_filling(slices, along, uneven))
    return Series(tuple(slices), tuple(notes), filled=True)


def _describe_mixture(slices: Sequence[SliceHeader]) -> list[str]:
    """Returns a sentence for each tag that two stacks on top of each other would differ in."""
    notes = []
    for keyword in NEVER_MIXED:
        values = list(dict.fromkeys(image.state(keyword) or "none" for image in slices))
        if len(values) > 1:
            # People write names into other tags.
            told = f" ({name_first(values, NAMED_VALUES)})" if keyword in SPLITTING else ""
            notes.append(f"Its slices differ in {keyword}{told}.")
    return notes


def describe_writing(images: Sequence[SliceHeader]) -> list[str]:
    """Returns a sentence for each way in which headers admit that pixels may hold writing."""
    notes = []
    if any(image.burned_in for image in images):
        notes.append("Burned-in annotation: the header says that text is part of the pixels.")
    if any(image.sop_class.startswith(SECONDARY_CAPTURE) for image in images):
        notes.append(
            "Secondary capture: a program made the pixels, not a scanner; text may be part of them."
        )
    return notes


def is_stack(images: Sequence[SliceHeader], on_gap: OnGap = "refuse") -> bool:
    """Whether images are a regular stack, as they are or with their gaps filled."""
    try:
        return bool(images) and bool(build_series(images, on_gap=on_gap).slices)
    except GeometryError:
        return False


def lay_grid(along: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lays even frames between uneven slices.

    Returns:
        Positions of the frames in mm, and their places between the slices: 2.25 is a quarter of
        the way from slice 2 to slice 3. A frame that falls on a slice takes it as it is.
    """
    grid = np.linspace(along[0], along[-1], _count_frames(along))
    places = np.interp(grid, along, np.arange(len(along)))
    nearest = np.rint(places).astype(int)
    on_slice = np.abs(along[nearest] - grid) <= allowed_difference(float(grid[1] - grid[0]))
    return grid, np.where(on_slice, nearest, places)


def _count_frames(along: NDArray[np.float64]) -> int:
    return max(round(float(along[-1] - along[0]) / usual_step(along)) + 1, SMALLEST_SERIES)


def _describe_filling(
    slices: Sequence[SliceHeader], along: NDArray[np.float64], uneven: GeometryError
) -> str:
    # Counted before it is laid: a damaged position far away makes a grid that no memory holds.
    frames = _count_frames(along)
    if frames - len(slices) > MADE_UP_SHARE * frames:
        raise GeometryError(
            f"{uneven.message} An even grid has {frames} frames, most of them made up.",
            code=uneven.code,
            files=uneven.files,
        )
    grid, places = lay_grid(along)
    made = grid[places != np.rint(places)]
    where = ", ".join(f"{at:.1f}" for at in made[:3]) + (", ..." if len(made) > 3 else "")
    return (
        f"{len(made)} of {count(len(grid), 'frame')} {agree(len(made), 'was', 'were')} "
        f"interpolated between {len(slices)} slices, at {where} mm (on_gap: resample)."
    )


def _require_one_patient(images: Sequence[SliceHeader]) -> None:
    patients = {image.patient for image in images}
    if len(patients) == 1:
        return
    odd = [image for image in images if image.patient != images[0].patient]
    raise GeometryError(
        f"{head(images[0])}its {len(images)} images have different patients' numbers "
        f"({images[0].name} against {name_images(odd)}). Find out whose they are, move them into "
        "folders of their own, or leave the series out.",
        code="mixed_patients",
        files=[image.path for image in odd],
    )


def end_to_end(slices: Sequence[SliceHeader]) -> NDArray[np.float64]:
    """Returns the way from one slice to the next for every mm along the normal, (x, y, z)."""
    corners = np.array([slices[0].position, slices[-1].position])
    way: NDArray[np.float64] = corners[1] - corners[0]
    return way / float(way @ normal_of(slices[0]))
