"""Whether networks that were trained on dealt labels are at chance, training by training.

It checks that training, prediction and scoring give chance where labels tell nothing. It finds no
leak across the split: of a scan on both sides the network remembers a dealt label, which is chance
as well. Shared patients and pixels are looked for by the audit of the folds.

Such a network is no noise: it is some function of the image, and where all patients are built alike
(a hippocampus from its head to its tail) that function orders their slices alike. One training may
then have an AUC of .8 and the next of .3, on however many patients. Patients that are drawn anew
say nothing of that; only further trainings do. So the trainings are the sample: each one's AUC on
its own test part is .5 in expectation, and t gives the limits of their mean.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from medvid.evaluate.folds import list_fold_aucs
from medvid.evaluate.measure import find_positive
from medvid.evaluate.predictions import read_outcomes

REACH = 0.2
"""Of the limits from the mean: with wider ones an error that makes an AUC .7 passes as chance."""


@dataclass(frozen=True)
class Chance:
    """The AUCs of trainings on dealt labels.

    Args:
        mean: of their AUCs.
        low: limit of the mean.
        high: limit of the mean.
        trainings: how many there are.
    """

    mean: float
    low: float
    high: float
    trainings: int

    @property
    def holds(self) -> bool:
        """Says whether they may be at chance."""
        return self.low <= 0.5 <= self.high

    @property
    def tells(self) -> bool:
        """Says whether the trainings are enough to tell: they exclude 0.5, or what is far off."""
        return not self.holds or max(self.mean - self.low, self.high - self.mean) <= REACH


def measure_chance(
    table: pd.DataFrame, *, positive: str | None = None, level: float = 0.95
) -> Chance | None:
    """Returns the mean AUC of the trainings (folds and seeds) with its limits.

    None with fewer than two trainings whose test part has both classes.

    Args:
        table: predictions, see `medvid.evaluate.predictions`.
        positive: the positive class of two; the last one when None.
        level: of the interval.
    """
    outcomes = read_outcomes(table).known()
    found = list_fold_aucs(outcomes, find_positive(outcomes.classes, positive))
    values = np.array([one.value for one in found if math.isfinite(one.value)])
    if len(values) < 2:
        return None
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = float(stdtrit(len(values) - 1, (1 + level) / 2)) * error
    mean = float(values.mean())
    return Chance(mean, max(0.0, mean - reach), min(1.0, mean + reach), len(values))
