"""Reads tables of labels as spreadsheets write them.

Excel writes a "CSV" with semicolons in half of Europe, with tabs as "Unicode text", in UTF-8 with a
byte order mark, in UTF-16 or in the code page of the machine. Asking a clinician to know this
costs an afternoon; telling the cases apart costs twenty lines.
"""

import codecs
import csv
import difflib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medvid.contract import SourceError

_DELIMITERS = (",", ";", "\t")
# xlsx files are zip archives, xls files are OLE2 containers.
_WORKBOOK_STARTS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
# Below this ratio difflib offers words that share little more than a few letters.
_NEAR = 0.6


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
    """A table with named columns, all of it text."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

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


def read_sheet(path: Path) -> Sheet:
    """Reads a table that is separated by commas, semicolons or tabs.

    Blank rows and unnamed empty columns, which spreadsheets leave behind, are passed over.

    Args:
        path: a text file with the names of the columns in its first line.

    Raises:
        SourceError: when the file is absent, a workbook, empty, or not rectangular.
    """
    lines = _read_text(path).splitlines(keepends=True)
    skipped = 0
    told = None
    if lines and lines[0].lower().startswith("sep="):
        # Excel's own first line, by which it tells itself the delimiter.
        told, skipped = lines[0].rstrip("\r\n")[4:5], 1
    table = lines[skipped:]
    if not any(line.strip() for line in table):
        raise SourceError(f"{path.name} is empty.", code="empty_table", files=[path])
    delimiter = told or max(_DELIMITERS, key=lambda mark: _count_columns(table, mark))
    reader = csv.reader(io.StringIO("".join(table), newline=""), delimiter=delimiter)
    header = [name.strip() for name in next(reader)]
    _check_header(path, header)
    rows = []
    for cells in reader:
        texts = [cell.strip() for cell in cells]
        if any(texts):
            rows.append(_name_cells(path, header, texts, reader.line_num + skipped))
    return Sheet(path, tuple(name for name in header if name), tuple(rows))


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise SourceError(
            f"There is no file {path}. Give the path of a CSV file.", code="no_table", files=[path]
        )
    data = path.read_bytes()
    if data.startswith(_WORKBOOK_STARTS):
        raise SourceError(
            f"{path.name} is an Excel workbook. Save the sheet as `CSV UTF-8` and give that file.",
            code="workbook",
            files=[path],
        )
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # What Excel writes on a western Windows. Five bytes mean nothing there: shown as \ufffd.
        return data.decode("cp1252", errors="replace")


def _count_columns(lines: list[str], delimiter: str) -> int:
    return len(next(csv.reader(lines, delimiter=delimiter)))


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
