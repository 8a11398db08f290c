"""What the text header of an NRRD or MetaImage says of its spacing and its unit.

SimpleITK takes 1 mm where a header states no spacing, or one that is no number, and passes over
the unit; neither can be told from what it returns.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from medvid.contract import GeometryError
from medvid.io.endings import NRRD

LONGEST_LINE = 2**20
"""Bytes of a header's line; behind a header that does not end there may be voxels without one."""

VECTOR = re.compile(r"\(([^()]*)\)")

LAST_FIELD = "ElementDataFile"
"""Of a MetaImage; the voxels follow it."""

MM = ("mm", 1.0)
CM = ("cm", 10.0)
METRES = ("metres", 1e3)
MICROMETRES = ("micrometres", 1e-3)
UNITS: Mapping[str, tuple[str, float]] = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), MM),
    **dict.fromkeys(("", "?", "???", "unknown", "none"), MM),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), CM),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), METRES),
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns"), MICROMETRES),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), MICROMETRES),
}
"""By what headers write: the name of a unit, and the mm in one. Without a word mm are meant, as in
NIfTI. The micro sign has two code points."""


def read_unit(path: Path) -> tuple[str, float]:
    """Returns the unit in which a header measures and the mm in one.

    Args:
        path: of an NRRD or MetaImage header that SimpleITK has read.

    Raises:
        GeometryError: when the header states no spacing along all three axes, or measures in
            something else than lengths, or in several units.
    """
    if path.suffix.lower() in NRRD:
        return _read_nrrd(path)
    return _read_meta_image(path)


def _read_nrrd(path: Path) -> tuple[str, float]:
    # Keys may be written with and without spaces, in capitals or not.
    fields = {key.replace(" ", "").lower(): value for key, value in _list_fields(path, ":")}
    # An axis of something else than space has `none` or `nan` in place of a step.
    steps = [vector.split(",") for vector in VECTOR.findall(fields.get("spacedirections", ""))]
    units = fields.get("spaceunits" if steps else "units", "")
    steps = steps or [[word] for word in fields.get("spacings", "").split()]
    _require_spacing(path, steps, "`spacings` or `space directions`")
    return _find_unit(path, re.findall(r'"([^"]*)"', units))


def _read_meta_image(path: Path) -> tuple[str, float]:
    fields = dict(_list_fields(path, "=:", ends_empty=False))
    # The format's own library takes the size of an element where its spacing does not stand.
    words = fields.get("ElementSpacing", fields.get("ElementSize", "")).split()
    _require_spacing(path, [[word] for word in words], "ElementSpacing")
    return _find_unit(path, [fields.get("DistanceUnits", "")])


def _list_fields(
    path: Path, separators: str, *, ends_empty: bool = True
) -> Iterator[tuple[str, str]]:
    """Yields keys and values of a text header, up to its last field, or of NRRD an empty line."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            text = line.decode("utf-8", "replace").strip()
            if not text:
                if ends_empty:
                    return
                continue
            key, _, value = re.sub(f"[{separators}]", "\n", text, count=1).partition("\n")
            yield key.strip(), value.strip()
            if key.strip() == LAST_FIELD:
                return


def _is_step(words: Sequence[str]) -> bool:
    """Whether words are the numbers of a step along an axis; negative ones lead the other way."""
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return False
    return any(numbers) and all(map(math.isfinite, numbers))


def _require_spacing(path: Path, steps: Sequence[Sequence[str]], fields: str) -> None:
    if sum(map(_is_step, steps)) < 3:
        raise GeometryError(
            f"{path} does not say how far its voxels lie apart along each axis: {fields} is "
            "absent from its header, or no number. Convert it again from its source, or write the "
            "spacing into the header.",
            code="no_spacing",
            files=[path],
        )


def _find_unit(path: Path, words: Sequence[str]) -> tuple[str, float]:
    found = {UNITS.get(word.strip().lower()) for word in words} or {MM}
    (unit, *others) = found
    if unit is None or others:
        raise GeometryError(
            f"{path} measures in {', '.join(dict.fromkeys(words))}, and medvid reads mm, cm, "
            "metres or micrometres, the same along all axes. Convert it again from its source.",
            code="unit_unknown",
            files=[path],
        )
    return unit
