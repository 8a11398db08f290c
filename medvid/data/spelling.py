"""Names that differ only in how they are written: `Control` and `control`, `7` and `7.0`.

Tables are typed by several hands and pass through spreadsheets. Two spellings of a class are two
outputs of the network, and two of a patient put him on both sides of a split.
"""

import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction

from medvid.io.text_files import read_decimal

_WHOLE = re.compile(r"0*(\d+)(?:[.,]0{1,2})?", re.ASCII)


def plain_class(name: str) -> str:
    """Returns a class's name as all its spellings are written: `Control` as control, `2.0` as 2.

    Numbers are exact, so that long codes are told apart by every digit.
    """
    if read_decimal(name) is None:
        return _fold(name)
    return str(Fraction(name.replace(",", ".")))


def plain_patient(patient: str) -> str:
    """Returns a patient's id as all its spellings are written: `P0` as p0, `07` and `7.0` as 7.

    Numbers with a fraction stay as they are: 1.1 and 1.10 may be two patients of one site.
    """
    whole = _WHOLE.fullmatch(patient)
    return _fold(patient) if whole is None else whole[1]


def _fold(name: str) -> str:
    """Returns a name without its case; an accent is one character or two, as programs like it."""
    return unicodedata.normalize("NFC", name.casefold())


def find_respelled(names: Iterable[str]) -> tuple[str, str] | None:
    """Returns the first two names of classes that are two spellings of one."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(plain_class(name), name)
        if other != name:
            return other, name
    return None
