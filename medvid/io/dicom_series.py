"""Slices of one series -> a regular stack."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medvid.contract import GeometryError
from medvid.io.dicom_headers import SliceHeader
from medvid.io.dicom_regularity import (
    directions,
    drop_duplicates,
    head,
    normal_of,
    position,
    require_alike,
    require_steps,
    require_straight,
)
from medvid.io.geometry import Affine, Orientation, PlaneOrAuto, nearest_plane, orient

SMALLEST_SERIES = 2
"""One image has no slice axis."""


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
    def images(self) -> tuple[SliceHeader, ...]:
        """The slices, under the name that a refusal has for them."""
        return self.slices

    @property
    def first(self) -> SliceHeader:
        """The slice whose header stands for all in what they share."""
        return self.slices[0]

    def orient(self, plane: PlaneOrAuto) -> Orientation:
        """Returns the way to the canonical axes; T is the slice axis unless `plane` differs."""
        own = nearest_plane(normal_of(self.first))
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
        reason: the reason in a sentence, and what can be done.
        files: the offending ones, worst first.
        fixable: whether what the sentence advises makes a stack of them.
    """

    images: tuple[SliceHeader, ...]
    code: str
    reason: str
    files: tuple[Path, ...]
    fixable: bool = False

    @property
    def first(self) -> SliceHeader:
        """The image whose header stands for all."""
        return self.images[0]


def build_series(images: Sequence[SliceHeader]) -> Series:
    """Orders slices of one series along their normal.

    Raises:
        GeometryError: when they are not one regular stack; names the files.
    """
    require_alike(images)
    normal = normal_of(images[0])
    ordered = sorted(images, key=lambda image: float(normal @ position(image)))
    along = np.array([float(normal @ position(image)) for image in ordered])
    slices, notes = drop_duplicates(ordered, along)
    if len(slices) < SMALLEST_SERIES:
        raise GeometryError(
            f"{head(images[0])}{slices[0].path.name} is the only image, and one image is not a "
            "stack.",
            code="single_image",
            files=[slices[0].path],
        )
    corners = np.array([position(image) for image in slices])
    require_steps(slices, corners @ normal)
    require_straight(slices, corners)
    affine = np.eye(4)
    affine[:3, 0] = (corners[-1] - corners[0]) / (len(slices) - 1)
    row, column = directions(slices[0])
    height, width = slices[0].pixel_spacing or (1.0, 1.0)
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = column * height, row * width, corners[0]
    if any(image.lenient for image in slices):
        notes.append("Numbers longer than 16 characters or with a decimal comma were read.")
    return Series(tuple(slices), affine, tuple(notes))
