"""Reads tables of labels as spreadsheets write them.

Excel writes a "CSV" with semicolons in half of Europe, with tabs as "Unicode text", in UTF-8 with a
byte order mark, in UTF-16 or in the code page of the machine. Asking a clinician to know this
costs an afternoon; telling the cases apart costs twenty lines.
"""

import csv
import difflib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medvid.contract import SourceError
from medvid.io.text_files import read_cells, read_text

_DELIMITERS = (",", ";", "\t")
# xlsx files are zip archives, xls files are OLE2 containers.
_WORKBOOK_STARTS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
# Below this ratio difflib offers words that share little more than a few letters.
_NEAR = 0.6
# As pandas, R, databases and Excel write it (#NV in German, #N/D in Romance languages). `none` may
# be a class.
_MISSING = frozenset(
    {"n/a", "na", "nan", "-nan", "null", "<na>", "#n/a", "#n/a n/a", "#na", "#nv", "#n/d"}
)
_FORMULA_ERROR = re.compile(r"#\S+[!?]")
"""How Excel shows that a formula failed, in any language: #VALUE!, #WERT!, #NAME?."""


@dataclass(frozen=True)
class Row:
    """One row of a sheet.

    Args:
        line: number of the line in the file, from 1, as editors and spreadsheets count.
        cells: column -> text, without blanks at either end.
    """

    line: int
    cells: dict[str, str]

    def get(self, column: str) -> str:
        """Returns the text of a cell, empty where the column is absent."""
        return self.cells.get(column, "")


@dataclass(frozen=True)
class Sheet:
    """A table with named columns, all of it text.

    Args:
        path: the file.
        columns: their names.
        rows: without blank ones.
        decimal_comma: whether `1,5` may be a number: other marks part the cells.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    decimal_comma: bool

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def require(self, column: str, why: str) -> None:
        """Stops when a column is absent.

        Args:
            column: the name that must be in the header.
            why: a sentence that says what the column is for.

        Raises:
            SourceError: names the nearest header that is there.
        """
        if column in self.columns:
            return
        raise SourceError(
            f"{self.path.name} has no column `{column}`. {why}{nearest(column, self.columns)} "
            f"Its columns: {', '.join(self.columns)}.",
            code="missing_column",
            files=[self.path],
        )


def nearest(word: str, known: Sequence[str]) -> str:
    """Returns ` Is it `PatientID`?` for the known word that looks most alike, or nothing."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(known)}
    asked = re.sub(r"[^a-z0-9]", "", word.lower())
    near = difflib.get_close_matches(asked, plain, n=1, cutoff=_NEAR)
    return f" Is it `{plain[near[0]]}`? Then rename that one." if near else ""


def is_missing(text: str) -> bool:
    """Whether a word is how a program writes that nothing is known: as a class it is learned."""
    return text.casefold() in _MISSING or _FORMULA_ERROR.fullmatch(text) is not None


def read_sheet(path: Path, *, is_free: Callable[[str], bool] | None = None) -> Sheet:
    """Reads a table that is separated by commas, semicolons or tabs.

    Blank rows and unnamed empty columns, which spreadsheets leave behind, are passed over.

    Args:
        path: a text file with the names of the columns in its first line.
        is_free: tells the columns of free text, which alone may hold line breaks. Anywhere else
            one shows a quote that is not closed, and that the cell holds the rows below it.

    Raises:
        SourceError: when the file is absent, a workbook, empty, or not rectangular; for quotes
            that are not closed.
    """
    lines = _read_table(path).splitlines(keepends=True)
    skipped = 0
    told = None
    if lines and lines[0].lower().startswith("sep="):
        # Excel's own first line, by which it tells itself the delimiter.
        told, skipped = lines[0].rstrip("\r\n")[4:5], 1
    table = lines[skipped:]
    if not any(line.strip() for line in table):
        raise SourceError(f"{path.name} is empty.", code="empty_table", files=[path])
    delimiter = told or max(_DELIMITERS, key=lambda mark: _count_columns(table[0], mark))
    text = io.StringIO("".join(table), newline="")
    found = read_cells(path, text, delimiter, skipped)
    line, first = next(found)
    header = [name.strip() for name in first]
    _check_header(path, header)
    _check_breaks(path, header, Row(line, {name: name for name in header}), delimiter, None)
    rows = []
    for line, cells in found:
        texts = [cell.strip() for cell in cells]
        if any(texts):
            row = _name_cells(path, header, texts, line)
            _check_breaks(path, header, row, delimiter, is_free or (lambda _: False))
            rows.append(row)
    return Sheet(path, tuple(name for name in header if name), tuple(rows), delimiter != ",")


def _read_table(path: Path) -> str:
    if not path.is_file():
        raise SourceError(
            f"There is no file {path}. Give the path of a CSV file.", code="no_table", files=[path]
        )
    with path.open("rb") as file:
        start = file.read(max(map(len, _WORKBOOK_STARTS)))
    if start.startswith(_WORKBOOK_STARTS):
        raise SourceError(
            f"{path.name} is an Excel workbook. Save the sheet as `CSV UTF-8` and give that file.",
            code="workbook",
            files=[path],
        )
    return read_text(path)


def _check_breaks(
    path: Path, header: list[str], row: Row, delimiter: str, is_free: Callable[[str], bool] | None
) -> None:
    """Refuses cells with line breaks in columns that are not free, and cells that hold rows.

    `is_free` is None for the header itself.
    """
    for place, name in enumerate(header):
        text = row.get(name)
        if len(text.splitlines()) < 2:
            continue
        free = is_free is None or is_free(name)
        if free and not _holds_row(text, place, len(header), delimiter):
            continue
        column = f"column {place + 1}" if is_free is None else f"the column `{name}`"
        raise SourceError(
            f"{path.name}, line {row.line}: a cell of {column} reaches over "
            f"{len(text.splitlines())} lines. A quote is probably not closed, and the cell holds "
            "the rows below it: close it. Where the cell is meant so, take its line breaks out.",
            code="bad_quotes",
            files=[path],
        )


def _holds_row(text: str, place: int, columns: int, delimiter: str) -> bool:
    """Whether a line of a cell has as many cells as the table, up to the cell's own place.

    In prose a blank follows a comma or semicolon; between the cells of a row there is none.
    """
    _, *middle, last = text.splitlines()
    between = re.compile(rf"{re.escape(delimiter)}(?! )")
    whole = any(len(between.findall(line)) == columns - 1 for line in middle)
    return columns > 1 and (whole or (place > 0 and len(between.findall(last)) == place))


def _count_columns(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter)))
    except csv.Error:
        return 0  # reading the table says what is wrong


def _check_header(path: Path, header: list[str]) -> None:
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise SourceError(
            f"{path.name} has the column `{twice[0]}` more than once. Keep one of them.",
            code="double_column",
            files=[path],
        )


def _name_cells(path: Path, header: list[str], texts: list[str], line: int) -> Row:
    surplus = [text for name, text in zip(header, texts, strict=False) if not name and text]
    surplus += [text for text in texts[len(header) :] if text]
    if surplus:
        raise SourceError(
            f"{path.name}, line {line}: the cell `{surplus[0]}` stands in a column without a name. "
            "Name the column in the first line, or put a text that holds the separator in quotes.",
            code="unnamed_column",
            files=[path],
        )
    padded = texts + [""] * (len(header) - len(texts))
    return Row(line, {name: text for name, text in zip(header, padded, strict=False) if name})
