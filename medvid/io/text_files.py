"""Text that people and spreadsheets wrote: its encoding, its quotes and its numbers.

Excel writes UTF-8 with a byte order mark, UTF-16 or the code page of the machine; exports are cut
off, quotes are left open. What cannot be read for certain is refused with the line and what to do:
a table that loses rows, or a number that means another one, shows in no result.
"""

import codecs
import csv
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from medvid.contract import SourceError

DIGITS = 9
"""So many digits has a number that counts something; longer ones are identifiers or damage."""

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(rf"\d{{1,{DIGITS}}}([.,]0{{1,2}})?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?\d{1,3},\d{3}", re.ASCII)
_SAVE = "Save it as UTF-8 (in Excel `CSV UTF-8`), or copy it again from its source."


def read_text(path: Path) -> str:
    """Returns the text of a file in UTF-8, UTF-16 or a western Windows' code page.

    Raises:
        SourceError: when it cannot be read, is cut off, or holds no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        text = data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError:
        if data.startswith(_UTF16):
            raise _no_text(path, "as UTF-16, which it says it is") from None
        # What Excel writes on a western Windows. Five bytes mean nothing there: shown as \ufffd.
        text = data.decode("cp1252", errors="replace")
    if "\0" in text:
        raise _no_text(path, "as text: it holds zero bytes")
    return text


def read_lines(path: Path) -> Iterator[str]:
    """Yields the lines of a file in UTF-8 or UTF-16, one after the other, with their ends.

    For tables of which the whole text should not be held in memory.

    Raises:
        SourceError: when the file cannot be read, or not as text.
    """
    try:
        with path.open("rb") as file:
            marked = file.read(2) in _UTF16
        with path.open(newline="", encoding="utf-16" if marked else "utf-8-sig") as lines:
            for line in lines:
                if "\0" in line:
                    raise _no_text(path, "as text: it holds zero bytes")
                yield line
    except OSError as error:
        raise _unreadable(path, error) from None
    except UnicodeError:
        raise _no_text(path, "as UTF-16" if marked else "as UTF-8") from None


def read_cells(
    path: Path, lines: Iterable[str], delimiter: str = ",", before: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a table and the number of the line in which each begins, from 1.

    Args:
        path: for messages.
        lines: with their ends.
        delimiter: between cells.
        before: lines of the file that are passed over.

    Raises:
        SourceError: for quotes that are not closed or stand amid text; names the line.
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = before + 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + before + 1
    except csv.Error as error:
        raise SourceError(
            f"{path.name}, line {line}: the row that begins here cannot be read ({error}). A quote "
            "is probably opened and not closed. Close it or take it out; within quotes a quote is "
            "written twice.",
            code="bad_quotes",
            files=[path],
        ) from None


def read_decimal(text: str, *, comma: bool = False) -> float | None:
    """Returns the finite number that a text is, None for any other text.

    Python alone takes `1_0` for ten, and `nan` for a number. A decimal comma is understood, but
    for `1,234`, which may as well be a thousand and more.

    Args:
        text: without blanks at either end.
        comma: whether `1,234` is a decimal number too, as where other marks part a table's cells.
    """
    decimal = "." not in text and (comma or not _THOUSANDS.fullmatch(text))
    plain = text.replace(",", ".", 1) if decimal else text
    if _DECIMAL.fullmatch(plain) is None:
        return None
    value = float(plain)
    return value if math.isfinite(value) else None


def read_whole(text: str) -> int | None:
    """Returns the number from 0 that a text counts to, None for any other text.

    Spreadsheets that once held other numbers write 1 as `1.0` or `1,0`; `1.000` and `1,000` may be
    a thousand.

    Args:
        text: without blanks at either end.
    """
    return int(re.split("[.,]", text)[0]) if _WHOLE.fullmatch(text) else None


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"{path} cannot be read: {error.strerror}.", code="unreadable", files=[path])


def _no_text(path: Path, how: str) -> SourceError:
    return SourceError(
        f"{path} cannot be read {how}. It is damaged or in another encoding. {_SAVE}",
        code="no_text",
        files=[path],
    )
