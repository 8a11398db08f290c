"""From values to one self-contained page, whole or not at all."""

import base64
import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from medvid.contract import DataError
from medvid.report.page import FRAME, MACROS
from medvid.report.page_comparison import COMPARISON
from medvid.report.page_player import PLAYER, PLAYER_SCRIPT
from medvid.report.page_record import RECORD
from medvid.report.page_run import RUN
from medvid.report.page_study import STUDY
from medvid.report.style import STYLE

TEMPLATES = {
    "frame": FRAME,
    "macros": MACROS,
    "player": PLAYER,
    "record": RECORD,
    "run": RUN,
    "study": STUDY,
    "comparison": COMPARISON,
}


@dataclass
class Figures:
    """The figures of a page in the order of their numbers.

    Args:
        items: what the templates show, see `add`.
    """

    items: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, key: str, path: Path, caption: str, *, wide: bool = False) -> None:
        """Takes a figure into the page.

        Args:
            key: by which the template asks for it.
            path: of the SVG.
            caption: without the number.
            wide: takes the whole width of the page.
        """
        self.items[key] = {
            "source": "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode(),
            "caption": caption,
            "number": str(len(self.items) + 1),
            "wide": "wide-figure" if wide else "",
        }


def render(name: str, **values: Any) -> str:
    """Returns a page. All text but our own style and script is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text: str = environment.get_template(name).render(
        style=Markup(STYLE), script=Markup(PLAYER_SCRIPT), version=_own_version(), **values
    )
    return text


def write_page(path: Path, page: str) -> Path:
    """Writes a text file beside its place and moves it there.

    Raises:
        DataError: when it cannot be written.
    """
    beside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(page, encoding="utf-8", newline="\n")
        os.replace(beside, path)
    except OSError as error:
        raise DataError(
            f"{path} could not be written: {error.strerror or error}.",
            code="not_written",
            files=[path],
        ) from None
    return path


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Writes a table for a spreadsheet; None becomes an empty cell.

    Raises:
        DataError: when it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return write_page(path, text.getvalue())


def _own_version() -> str:
    try:
        return version("medvid")
    except PackageNotFoundError:  # a bare checkout
        return "from a checkout"
