"""The arms of a study, measured on the same resampled patients and seeds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvid.contract import ConfigError
from medvid.evaluate.bootstrap import Draws, draw_patients, draw_seeds
from medvid.evaluate.folds import list_truths
from medvid.evaluate.losses import average_by_patient, list_losses
from medvid.evaluate.matching import match_outcomes
from medvid.evaluate.measure import find_positive
from medvid.evaluate.pairs import order_patients
from medvid.evaluate.predictions import Outcomes, read_outcomes
from medvid.evaluate.spread import Part

Floats = NDArray[np.float64]

METRICS = ("auc", "log_loss", "brier")

SAME_CASES = (
    "Arms can only be paired on the same cases: finish the cells that are missing, or leave the "
    "arm out."
)


@dataclass(frozen=True)
class Arm:
    """One arm on the study's cases.

    Args:
        outcomes: its predictions.
        parts: its metrics, seed by seed and resample by resample.
    """

    outcomes: Outcomes
    parts: Mapping[str, Part]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, rising."""
        return tuple(int(seed) for seed in np.unique(self.outcomes.seeds))


@dataclass(frozen=True)
class Study:
    """Arms with what they share.

    Args:
        arms: by name, in the order given.
        positive: column of the positive class of two.
        draws: the resampled patients.
    """

    arms: Mapping[str, Arm]
    positive: int
    draws: Draws

    @property
    def outcomes(self) -> Outcomes:
        """The predictions of the first arm; cases, patients and labels are those of all."""
        return next(iter(self.arms.values())).outcomes

    @property
    def n_patients(self) -> int:
        """How many patients there are."""
        return len(self.draws.patients)


def draw_study(
    tables: Mapping[str, pd.DataFrame],
    *,
    positive: str | None,
    resamples: int,
    seed: int,
    metrics: tuple[str, ...] = METRICS,
) -> Study:
    """Measures every arm on the same draws; arms of the same seeds also share their seeds' weights.

    Args:
        tables: predictions by arm, see `medvid.evaluate.predictions`.
        positive: the positive class of two; the last one when None.
        resamples: R.
        seed: of the draws.
        metrics: of `METRICS`.

    Raises:
        ConfigError: without an arm, or for an unknown positive class.
        DataError: when classes, cases, labels or patients differ, or no row has a label.
    """
    if not tables:
        raise ConfigError("No arm was given, so there is nothing to measure.", code="no_arms")
    named = {f"arm {name}": read_outcomes(t, f"arm {name}").known() for name, t in tables.items()}
    matched, _ = match_outcomes(named, remedy=SAME_CASES)
    outcomes = dict(zip(tables, matched.values(), strict=True))
    first = next(iter(outcomes.values()))
    column = find_positive(first.classes, positive)
    draws = draw_patients(first, resamples, seed)
    weights = SeedWeights(resamples, seed)
    arms = {}
    for name, own in outcomes.items():
        each = [own.select(own.seeds == one) for one in np.unique(own.seeds)]
        shares = weights.of(own)
        parts = {}
        for metric in metrics:
            found = [_measure(metric, rows, column, draws) for rows in each]
            values = np.array([value for value, _ in found])
            resampled = np.stack([drawn for _, drawn in found], axis=1)
            parts[metric] = Part(values, resampled, shares, draws.freedom)
        arms[name] = Arm(own, parts)
    return Study(arms, column, draws)


class SeedWeights:
    """Weights of seeds: the same for the same seeds, drawn apart for others.

    Args:
        resamples: R.
        seed: of the draws.
    """

    def __init__(self, resamples: int, seed: int) -> None:
        self.resamples, self.seed = resamples, seed
        self.drawn: dict[tuple[int, ...], Floats] = {}

    def of(self, outcomes: Outcomes) -> Floats:
        """Returns (R, S) for the seeds of these predictions."""
        seeds = tuple(int(one) for one in np.unique(outcomes.seeds))
        if seeds not in self.drawn:
            key = [self.seed, len(self.drawn)]
            self.drawn[seeds] = draw_seeds(len(seeds), self.resamples, key)
        return self.drawn[seeds]


def subtract(first: Arm, second: Arm, metric: str) -> list[Part]:
    """Returns the difference of two arms: seed by seed where they have the same seeds."""
    a, b = first.parts[metric], second.parts[metric]
    return [a - b] if first.seeds == second.seeds else [a, -b]


def _measure(metric: str, rows: Outcomes, positive: int, draws: Draws) -> tuple[float, Floats]:
    """Returns a metric of one seed, and of every resample (R,)."""
    place = draws.place(rows.patients)
    counts = np.concatenate([np.ones_like(draws.counts[:1]), draws.counts])
    if metric == "auc":
        each = [
            order_patients(truth[own], rows.probabilities[own, k], place[own]).auc(counts)
            for k, truth, absent in list_truths(rows, positive)
            for own in [truth | absent]
        ]
    else:
        each = [
            average_by_patient(losses, place[own], counts)
            for own, losses in list_losses(metric, rows, positive)
        ]
    # no finding may be both present and absent
    found = np.mean(each, axis=0) if each else np.full(len(counts), np.nan)
    return float(found[0]), found[1:]
