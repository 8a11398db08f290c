"""How many cases, slices and patients a page is about."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medvid.evaluate import read_outcomes, read_predictions
from medvid.report.mistakes import FRAME
from medvid.report.wording import say_count


@dataclass(frozen=True)
class Counts:
    """What was predicted.

    Args:
        cases: of the manifest.
        patients: whose they are.
        per_class: predictions by class: of slices, where slices are what is predicted.
        slices: how many slices were predicted; None where a prediction is of a whole case.
    """

    cases: int
    patients: int
    per_class: Mapping[str, int]
    slices: int | None = None

    def say_seen(self) -> str:
        """Returns what a number was measured on, such as `108 slices of 12 patients`."""
        seen = say_count(self.cases, "case") if self.slices is None else self._say_slices()
        return f"{seen} of {say_count(self.patients, 'patient')}"

    def say_classes(self) -> str:
        """Returns the classes, such as `no 8, yes 4` or `108 slices: no 72, yes 36`."""
        classes = ", ".join(f"{name} {number}" for name, number in self.per_class.items())
        return classes if self.slices is None else f"{self._say_slices()}: {classes}"

    def say_all(self) -> str:
        """Returns a sentence on all of it."""
        mark = ":" if self.slices is None else ";"
        cases = f"{say_count(self.cases, 'case')} of {say_count(self.patients, 'patient')}"
        return f"{cases}{mark} {self.say_classes()}."

    def _say_slices(self) -> str:
        return say_count(self.slices or 0, "slice")


def count_study(result: Mapping[str, Any]) -> Counts:
    """Returns the counts of a study, from its result.json."""
    predicted, cases = result["n_predictions"], result["n_cases"]
    slices = None if predicted == cases else predicted
    return Counts(cases, result["n_patients"], result["n_per_class"], slices)


def count_run(run: Path, metrics: Mapping[str, Any]) -> Counts:
    """Returns the counts of a run; metrics.json counts slices as cases, the predictions tell.

    Args:
        run: its folder, with predictions_oof.csv where slices are to be told from cases.
        metrics: of metrics.json.
    """
    counts = Counts(metrics["n_cases"], metrics["n_patients"], metrics["n_per_class"])
    path = run / "predictions_oof.csv"
    table = read_predictions(path) if path.is_file() else None
    if table is None or "frame" not in table.columns:
        return counts
    keys = np.unique(read_outcomes(table, str(path)).known().keys)
    cases = {FRAME.sub("", str(key)) for key in keys}
    return replace(counts, cases=len(cases), slices=len(keys))
