"""Patient-cluster bootstrap: patients are drawn with replacement, with all that belongs to them.

Two scans of one patient are not two independent observations; an interval that draws scans is too
narrow. Patients are drawn within their outcome, so that every resample has the study's prevalence
(a patient with several outcomes counts by the highest class). Percentile intervals.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from medvid.evaluate.predictions import Outcomes, Texts

Floats = NDArray[np.float64]
Measure = Callable[[Outcomes, Floats], Mapping[str, Floats]]
"""Rows and weights (R, n) -> every metric as (R,)."""

CHUNK_VALUES = 4_000_000
"""Weights held at once, 32 MB in float64."""

MIN_DEFINED = 0.9
"""An interval is given only where so large a share of the resamples defines the metric."""

METHOD = "patient-cluster bootstrap, percentile"


@dataclass(frozen=True)
class Draws:
    """Resampled patients, shared by everything that is to be compared.

    Args:
        patients: (P,) names.
        counts: (R, P), how often each was drawn.
    """

    patients: Texts
    counts: NDArray[np.int16]

    def weights(self, rows: Texts, resamples: slice) -> Floats:
        """Returns (R, n): the weight of every row by its patient."""
        place = np.searchsorted(self.patients, rows)
        return self.counts[resamples][:, place].astype(np.float64)


def draw_patients(outcomes: Outcomes, resamples: int, seed: int) -> Draws:
    """Draws patients with replacement, stratified by outcome.

    Args:
        outcomes: whose patients.
        resamples: R.
        seed: the same seed and patients give the same draws.
    """
    patients, place = np.unique(outcomes.patients, return_inverse=True)
    strata = np.zeros(len(patients), dtype=np.int64)
    if not outcomes.multilabel:
        np.maximum.at(strata, place, outcomes.labels.astype(np.int64))
    rng = np.random.default_rng(seed)
    counts = np.empty((resamples, len(patients)), dtype=np.int16)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        share = np.full(len(members), 1 / len(members))
        counts[:, members] = rng.multinomial(len(members), share, size=resamples)
    return Draws(patients, counts)


def estimate(outcomes: Outcomes, measure: Measure) -> dict[str, float]:
    """Returns every metric; with several seeds the mean of the seeds' metrics."""
    found = _by_seed(outcomes, measure, lambda rows: np.ones((1, len(rows))))
    return {name: float(values[0]) for name, values in found.items()}


def resample(outcomes: Outcomes, measure: Measure, draws: Draws) -> dict[str, Floats]:
    """Returns every metric of every resample, (R,); with several seeds the mean over them."""
    parts: dict[str, list[Floats]] = {}
    for piece in _chunks(len(draws.counts), len(outcomes)):
        weigh = partial(_weigh, draws, piece)
        found = _by_seed(outcomes, measure, weigh)
        for name, values in found.items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def percentile_interval(values: Floats, level: float) -> tuple[float, float]:
    """Returns the central interval of a metric's resamples; NaN where too few define it."""
    defined = values[np.isfinite(values)]
    if len(defined) < MIN_DEFINED * len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _weigh(draws: Draws, resamples: slice, rows: Outcomes) -> Floats:
    return draws.weights(rows.patients, resamples)


def _by_seed(
    outcomes: Outcomes, measure: Measure, weigh: Callable[[Outcomes], Floats]
) -> dict[str, Floats]:
    seeds = np.unique(outcomes.seeds)
    sums: dict[str, Floats] = {}
    for seed in seeds:
        rows = outcomes if len(seeds) == 1 else outcomes.select(outcomes.seeds == seed)
        for name, values in measure(rows, weigh(rows)).items():
            sums[name] = sums.get(name, 0.0) + values / len(seeds)
    return sums


def _chunks(resamples: int, rows: int) -> Iterator[slice]:
    size = max(1, CHUNK_VALUES // max(1, rows))
    for start in range(0, resamples, size):
        yield slice(start, min(start + size, resamples))
