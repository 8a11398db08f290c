"""Cells that take no training, in a module of their own: other processes import them."""

import os
import time
from pathlib import Path

from medvid.context.cells import Cell, finish_cell
from medvid.contract import DataError


def write_cell(study: Path, cell: Cell) -> None:
    if cell.is_finished(study):
        return
    cell.folder(study).mkdir(parents=True, exist_ok=True)
    finish_cell(cell, study, {"answer": cell.seed * 10 + cell.fold, "process": os.getpid()})


def write_slowly(study: Path, cell: Cell) -> None:
    time.sleep(0.2)
    write_cell(study, cell)


def refuse_fold_2(study: Path, cell: Cell) -> None:
    if cell.fold == 2:
        raise DataError("Fold 2 cannot be read.", code="unreadable", files=["scan.dcm"])
    write_cell(study, cell)


def interrupt(study: Path, cell: Cell) -> None:
    raise KeyboardInterrupt


def die(study: Path, cell: Cell) -> None:
    os._exit(1)
