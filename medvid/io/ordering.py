"""The order in which people count: `slice 2` before `slice 10`."""

import re

DIGITS = 1000
"""Longer numbers are words: Python refuses to read one of some thousand digits."""

NaturalKey = tuple[tuple[int, str], ...]


def natural_key(text: str) -> NaturalKey:
    """Returns a sorting key for names with numbers in them; case does not matter."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple(
        (int(part), "") if part.isdecimal() and len(part) <= DIGITS else (-1, part.casefold())
        for part in parts
    )
