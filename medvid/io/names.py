r"""Names of files that are not UTF-8: how they are told, and where they cannot be used.

A disk holds names of any bytes; a zip packed on an old Windows and unpacked on Linux leaves a
folder `Sch\xe4del`. Python reads it, but no table, no JSON and not every library can name it.
"""

import os
import re
from pathlib import Path

from medvid.contract import DataError

CODE = "name_not_utf8"

_WORD = re.compile(r"""[^\s,;:'"]+""")


def is_writable(name: str) -> bool:
    """Whether a name can be written in UTF-8, as tables are."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def make_legible(text: str) -> str:
    r"""Returns the text with every byte that is not UTF-8 spelled, as in `Sch\xe4del`.

    What is UTF-8 comes back as it is.
    """
    if is_writable(text):
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair, as a disk of Windows may hold
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def explain_name(place: str | Path) -> DataError:
    """Returns the sentence for a file or folder whose name is not UTF-8."""
    return DataError(
        f"{make_legible(str(place))} has a name that is not UTF-8, so no table can name it and not "
        "every library opens it. Rename the file or folder; it was probably unpacked from an "
        "archive of another system.",
        code=CODE,
        files=[place],
    )


def explain_unwritten(error: UnicodeEncodeError) -> DataError:
    """Returns the sentence for a text that was to be written and holds such a name.

    Only the word that cannot be written is told: around it may stand what is nobody's business.
    """
    before, after = error.object[: error.start], error.object[error.start :]
    word = _WORD.findall(f"{before} ")[-1] if before and _WORD.fullmatch(before[-1]) else ""
    return explain_name(word + _WORD.findall(after)[0])


def check_name(path: Path) -> None:
    """Stops at a path that may not be handed to a library written in C++.

    Raises:
        DataError: when the path is not UTF-8.
    """
    if not is_writable(os.fspath(path)):
        raise explain_name(path)
