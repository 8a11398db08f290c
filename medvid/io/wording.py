"""Numbers in sentences: `1 file is`, `3 files are`; names in sentences."""

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """Returns `1 file` or `3 files`, for nouns with a regular plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def name_first(names: Sequence[str], limit: int) -> str:
    """Returns the first few names, as in `a, b and 3 more`."""
    named = ", ".join(names[:limit])
    return named if len(names) <= limit else f"{named} and {len(names) - limit} more"


def agree(number: int, one: str, many: str) -> str:
    """Returns the word that agrees with a number, such as `is` or `are`."""
    return one if number == 1 else many
