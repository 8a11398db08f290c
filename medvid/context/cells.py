"""A cell is one training: an arm, a seed and a fold. It is one folder, with one JSON at its end."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvid.context.arms import Arm
from medvid.contract import DataError
from medvid.train.runfolder import read_json, write_json

END = "cell.json"
"""Written last: a cell that has it is finished."""


@dataclass(frozen=True)
class Cell:
    """One training.

    Args:
        arm: its name.
        seed: of weights, order and augmentation.
        fold: from 0.
    """

    arm: str
    seed: int
    fold: int

    def folder(self, study: Path) -> Path:
        """Returns where it lies in a study."""
        return study / "cells" / self.arm / f"seed_{self.seed}_fold_{self.fold}"

    def is_finished(self, study: Path) -> bool:
        """Tells whether it was trained to its end."""
        return (self.folder(study) / END).is_file()


def list_seeds(seed: int, number: int) -> list[int]:
    """Returns the seeds of a study, the config's own first."""
    return [seed + place for place in range(number)]


def list_cells(arms: Iterable[Arm], seeds: Sequence[int], folds: int) -> list[Cell]:
    """Lists what is to be trained; arms that share another's cells have none.

    Seeds come first: after the first seed every arm has a whole cross-validation.
    """
    own = [arm for arm in arms if arm.same_as is None]
    return [Cell(arm.name, seed, fold) for seed in seeds for arm in own for fold in range(folds)]


def finish_cell(cell: Cell, study: Path, facts: Mapping[str, Any]) -> None:
    """Writes the cell's JSON; with it the cell is finished."""
    write_json(
        cell.folder(study) / END,
        {"arm": cell.arm, "seed": cell.seed, "fold": cell.fold, **facts},
    )


def read_cell(cell: Cell, study: Path) -> dict[str, Any]:
    """Reads what a finished cell says of itself.

    Raises:
        DataError: when it is not finished, or its file is damaged or that of another cell.
    """
    path = cell.folder(study) / END
    with tell_remedy(cell, study):
        read = read_json(path)
        facts: dict[str, Any] = read if isinstance(read, dict) else {}
        said = facts.get("arm"), facts.get("seed"), facts.get("fold")
        if said != (cell.arm, cell.seed, cell.fold):
            raise DataError(
                f"{path} belongs to another cell: {said[0]}, seed {said[1]}, fold {said[2]}.",
                code="wrong_cell",
                files=[path],
            )
    return facts


@contextmanager
def tell_remedy(cell: Cell, study: Path) -> Iterator[None]:
    """Adds to an error in a file of a finished cell what to do about it."""
    try:
        yield
    except DataError as error:
        raise DataError(
            f"{error.message.rstrip('.')}. Delete the cell's folder {cell.folder(study)}, and "
            "`medvid context --resume` trains it anew.",
            code=error.code,
            files=error.files,
        ) from None
