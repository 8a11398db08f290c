"""Which series of a study is meant, said by what it is instead of by a token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from medvid.contract import ConfigError
from medvid.io.dicom_regularity import normal_of
from medvid.io.dicom_series import Found, Series
from medvid.io.geometry import Plane, nearest_plane

THICKNESS_MM = 0.05
"""Largest difference of a slice's thickness from the one asked for: 0.625 is often written 0.6."""

Prefer = Literal["most_slices", "thinnest", "thickest"]
KEYS = ("modality", "description", "kernel", "plane", "thickness", "prefer")


@dataclass(frozen=True)
class Selection:
    """What the wanted series must be like.

    Args:
        modality: DICOM's word, such as CT.
        description: the series' description; `*` stands for any text, case does not matter.
        kernel: the reconstruction kernel, likewise.
        plane: of the slices.
        thickness: (least, most) of the slices' thickness in mm.
        prefer: of several that fit, the one with `most_slices`, the `thinnest` or the `thickest`
            slices; where a header states no thickness, the distance of the slices counts.
    """

    modality: str | None = None
    description: str | None = None
    kernel: str | None = None
    plane: Plane | None = None
    thickness: tuple[float, float] | None = None
    prefer: Prefer | None = None

    def choose(self, found: Sequence[Found]) -> list[Found]:
        """Returns what fits; only the preferred stacks of it, where there is a preference."""
        fitting = [one for one in found if self._fits(one)]
        stacks = [one for one in fitting if isinstance(one, Series)]
        if self.prefer is None or not stacks:
            return fitting
        best = max(self._rank(one) for one in stacks)
        return [one for one in stacks if self._rank(one) == best]

    def _rank(self, one: Series) -> float:
        if self.prefer == "most_slices":
            return float(len(one.slices))
        return one.thickness if self.prefer == "thickest" else -one.thickness

    def _fits(self, one: Found) -> bool:
        image = one.first
        if self.thickness is not None:
            low, high = self.thickness
            thickness = image.thickness
            if thickness is None or not low - THICKNESS_MM <= thickness <= high + THICKNESS_MM:
                return False
        if self.plane is not None and (
            not isinstance(one, Series) or nearest_plane(normal_of(image)) != self.plane
        ):
            return False
        return all(
            pattern is None or fnmatchcase(text.casefold(), pattern.casefold())
            for pattern, text in (
                (self.modality, image.modality),
                (self.description, image.description),
                (self.kernel, image.kernel),
            )
        )


def read_selection(select: Mapping[str, Any]) -> Selection:
    """Checks the option `select`.

    Args:
        select: the arguments of `Selection`; `thickness` may be one number or a pair.

    Raises:
        ConfigError: for a key or a value that cannot be meant.
    """
    given = dict(select)
    unknown = sorted(set(given) - set(KEYS))
    if unknown:
        raise ConfigError(
            f"`select` has no key `{unknown[0]}`. Its keys: {', '.join(KEYS)}.",
            code="unknown_key",
        )
    for key, choices in (("plane", get_args(Plane)), ("prefer", get_args(Prefer))):
        if given.get(key) is not None and given[key] not in choices:
            raise ConfigError(
                f"`select.{key}` is one of {', '.join(choices)}; it was given `{given[key]}`.",
                code="bad_value",
            )
    for key in ("modality", "description", "kernel"):
        if given.get(key) is not None and not isinstance(given[key], str):
            raise ConfigError(f"`select.{key}` is a text, such as `*thin*`.", code="bad_value")
    if given.get("thickness") is not None:
        given["thickness"] = _read_range(given["thickness"])
    return Selection(**given)


def _read_range(value: Any) -> tuple[float, float]:
    numbers = value if isinstance(value, Sequence) and not isinstance(value, str) else [value] * 2
    usable = len(numbers) == 2 and all(
        isinstance(one, int | float) and not isinstance(one, bool) and one >= 0 for one in numbers
    )
    if not usable or numbers[0] > numbers[1]:
        raise ConfigError(
            f"`select.thickness` is a number of mm, or [least, most]; it was given `{value}`.",
            code="bad_value",
        )
    return float(numbers[0]), float(numbers[1])


def describe_found(one: Found) -> str:
    """Returns what a list of series says of one, without any text that a person typed."""
    image = one.first
    words = [image.modality]
    if isinstance(one, Series):
        words += [f"{nearest_plane(normal_of(image))}", f"{len(one.slices)} slices"]
    else:
        words += [f"{len(one.images)} image{'' if len(one.images) == 1 else 's'}"]
    if image.thickness is not None:
        words.append(f"{image.thickness:g} mm thick")
    if image.kernel:
        words.append(f"kernel {image.kernel}")
    if not isinstance(one, Series):
        words.append(f"refused: {one.code}")
    return f"{one.token} ({', '.join(words)})"
