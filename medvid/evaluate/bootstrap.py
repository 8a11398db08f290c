"""Patient-cluster bootstrap: patients are drawn with replacement, with all that belongs to them.

Two scans of one patient are not two independent observations; an interval that draws scans is too
narrow. Patients are drawn within their outcome, so that every resample has the study's prevalence
(a patient with several outcomes counts by the highest class). A single patient of an outcome is
drawn with those of the commonest one: many resamples then lack the outcome, and what needs it has
no interval. Percentile intervals.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvid.evaluate.predictions import Outcomes, Texts

Floats = NDArray[np.float64]
Measure = Callable[[Outcomes, Floats], Mapping[str, Floats]]
"""Rows and weights (R, n) -> every metric as (R,)."""

CHUNK_VALUES = 4_000_000
"""Weights held at once, 32 MB in float64."""

MIN_STRATUM = 2
"""Patients; a single one would be in every resample, as if it were known not to vary."""

MIN_DEFINED = 0.9
"""An interval is given only where so large a share of the resamples defines the metric."""

METHOD = "patient-cluster bootstrap, percentile"


@dataclass(frozen=True)
class Draws:
    """Resampled patients, shared by everything that is to be compared.

    Args:
        patients: (P,) names.
        counts: (R, P), how often each was drawn.
        freedom: degrees of freedom of a variance over these patients.
    """

    patients: Texts
    counts: NDArray[np.int16]
    freedom: float

    def place(self, rows: Texts) -> NDArray[np.int64]:
        """Returns (n,): the column of every row's patient."""
        return np.searchsorted(self.patients, rows).astype(np.int64)

    def weights(self, rows: Texts, resamples: slice) -> Floats:
        """Returns (R, n): the weight of every row by its patient."""
        return self.counts[resamples][:, self.place(rows)].astype(np.float64)


def draw_patients(outcomes: Outcomes, resamples: int, seed: int) -> Draws:
    """Draws patients with replacement, stratified by outcome.

    Args:
        outcomes: whose patients.
        resamples: R.
        seed: the same seed and cases give the same draws, whatever the patients are called and in
            whatever order the rows stand.
    """
    patients, place = np.unique(outcomes.patients, return_inverse=True)
    cases = np.unique(outcomes.keys, return_inverse=True)[1]
    first = np.full(len(patients), len(cases))
    np.minimum.at(first, place, cases)
    if outcomes.multilabel:
        strata = _stratify_findings(outcomes.labels, place, len(patients))
    else:
        strata = _stratify_classes(outcomes.labels.astype(np.int64), place, len(patients))
    rng = np.random.default_rng(seed)
    counts = np.empty((resamples, len(patients)), dtype=np.int16)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        members = members[np.argsort(first[members])]
        share = np.full(len(members), 1 / len(members))
        counts[:, members] = rng.multinomial(len(members), share, size=resamples)
    return Draws(patients, counts, _count_freedom(strata))


def _stratify_classes(
    labels: NDArray[np.int64], place: NDArray[np.int64], patients: int
) -> NDArray[np.int64]:
    """Returns (P,): the highest class that a patient shows; the commonest of a class's only one."""
    strata = np.zeros(patients, dtype=np.int64)
    np.maximum.at(strata, place, labels)
    sizes = np.bincount(strata)
    strata[sizes[strata] < MIN_STRATUM] = sizes.argmax()
    return strata


def _stratify_findings(
    labels: NDArray[Any], place: NDArray[np.int64], patients: int
) -> NDArray[np.int64]:
    """Returns (P,): the rarest of what a patient shows, be it a finding or its absence.

    Without it a finding of two patients is missing from one resample in seven, and the mean over
    findings is undefined there.
    """
    shown = np.zeros((patients, 2 * labels.shape[1]), dtype=np.bool_)
    np.logical_or.at(shown, place, np.concatenate([labels == 1, labels == 0], axis=1))
    strata = np.full(patients, -1, dtype=np.int64)
    for stratum, side in enumerate(np.argsort(shown.sum(axis=0), kind="stable")):
        members = shown[:, side] & (strata < 0)
        if members.sum() >= MIN_STRATUM:
            strata[members] = stratum
    strata[strata < 0] = strata.max()
    return strata


def draw_seeds(seeds: int, resamples: int, key: Sequence[int]) -> Floats:
    """Draws weights of seeds: normal, (R, S), each row with the sum 1.

    The mean of S values varies by them as much as by drawing S with replacement, (S - 1) / S of
    what it should, but takes any value: three drawn seeds have ten combinations.

    Args:
        seeds: S.
        resamples: R.
        key: the same key gives the same weights.
    """
    normal = np.random.default_rng(key).normal(size=(resamples, seeds))
    weights: Floats = (1 + normal - normal.mean(axis=1, keepdims=True)) / seeds
    return weights


def _count_freedom(strata: NDArray[np.int64]) -> float:
    """Returns the degrees of freedom of a variance over patients, 1 or more.

    Welch's for means of as many patients as each outcome has, if all patients vary alike.
    """
    sizes = np.unique(strata, return_counts=True)[1].astype(np.float64)
    if sizes.min() < MIN_STRATUM:  # a study of one patient
        return 1.0
    return float((1 / sizes).sum() ** 2 / (1 / sizes**2 / (sizes - 1)).sum())


def estimate(outcomes: Outcomes, measure: Measure) -> dict[str, float]:
    """Returns every metric; with several seeds the mean of the seeds' metrics."""
    return {
        name: float(values.mean()) for name, values in estimate_seeds(outcomes, measure).items()
    }


def estimate_seeds(outcomes: Outcomes, measure: Measure) -> dict[str, Floats]:
    """Returns every metric of every seed, (S,)."""
    found = _by_seed(outcomes, measure, lambda rows: np.ones((1, len(rows))))
    return {name: values[0] for name, values in found.items()}


def resample(outcomes: Outcomes, measure: Measure, draws: Draws) -> dict[str, Floats]:
    """Returns every metric of every resample, (R,); with several seeds the mean over them."""
    found = resample_seeds(outcomes, measure, draws)
    return {name: values.mean(axis=1) for name, values in found.items()}


def resample_seeds(outcomes: Outcomes, measure: Measure, draws: Draws) -> dict[str, Floats]:
    """Returns every metric of every resample of patients and every seed, (R, S)."""
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
    columns: dict[str, list[Floats]] = {}
    for seed in seeds:
        rows = outcomes if len(seeds) == 1 else outcomes.select(outcomes.seeds == seed)
        for name, values in measure(rows, weigh(rows)).items():
            columns.setdefault(name, []).append(values)
    return {name: np.stack(values, axis=1) for name, values in columns.items()}


def _chunks(resamples: int, rows: int) -> Iterator[slice]:
    size = max(1, CHUNK_VALUES // max(1, rows))
    for start in range(0, resamples, size):
        yield slice(start, min(start + size, resamples))
