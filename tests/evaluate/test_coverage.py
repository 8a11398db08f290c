"""What the intervals and words of a study promise, held against made-up studies of known truth.

Scores follow the binormal model: unit variance in each class, the AUC fixed by the distance of the
means. A part of the variance is common to both arms (their correlation), the rest is half the arm's
own and half that of each training; with several rows a patient, half of every part is the
patient's. The AUC of a training varies about the arm's AUC, which is the truth to be covered.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtri

from medvid.evaluate.bootstrap import Draws, draw_patients, draw_seeds
from medvid.evaluate.pairs import order_patients
from medvid.evaluate.predictions import Outcomes
from medvid.evaluate.spread import Part, Spread, logit_interval, spread_mean
from medvid.evaluate.verdict import decide

Floats = NDArray[np.float64]

STUDIES = 1000
COVERAGE = (0.93, 0.97)
"""The promise. Of 1000 studies 95 % -+ 2.9 standard errors of 0.69 % lie in it, so that a method
of exactly 95 % fails once in some 270 times, and one of 91.5 % or 98.5 % nearly always."""

RESAMPLES = 600
POOL = 10
"""Sets of draws that take turns; drawing costs more than measuring."""


@dataclass(frozen=True)
class Setting:
    """A kind of study: two arms on the same patients."""

    n: int
    prevalence: float
    correlation: float
    aucs: tuple[float, float]
    seeds: int = 1
    spread: float = 0.0
    rows: int = 1

    def __str__(self) -> str:
        return "-".join(map(str, vars(self).values()))


DIFFERENT = [
    Setting(60, 0.3, 0.8, (0.88, 0.88)),
    Setting(60, 0.5, 0.5, (0.95, 0.80)),
    Setting(60, 0.3, 0.8, (0.88, 0.83), seeds=3, spread=0.01),
    Setting(60, 0.3, 0.8, (0.92, 0.86), seeds=3, spread=0.01, rows=3),
    Setting(150, 0.5, 0.8, (0.88, 0.84), seeds=3, spread=0.01),
    Setting(150, 0.1, 0.5, (0.88, 0.84), seeds=3, spread=0.01),
    Setting(400, 0.3, 0.8, (0.86, 0.88), seeds=5, spread=0.02),
]
EQUAL = [
    Setting(60, 0.3, 0.8, (0.88, 0.88)),
    Setting(100, 0.5, 0.8, (0.80, 0.80), seeds=3),
    Setting(60, 0.3, 0.5, (0.88, 0.88), seeds=3, spread=0.01, rows=3),
]


def draw_pool(kind: Setting) -> list[tuple[Draws, Floats]]:
    positive = round(kind.n * kind.prevalence)
    names = np.array([f"{i:04d}" for i in range(kind.n)])
    zeros = np.zeros(kind.n, dtype=np.int64)
    labels = (np.arange(kind.n) < positive).astype(np.int64)
    outcomes = Outcomes(
        labels, np.zeros((kind.n, 2)), names, names, zeros, zeros, ("a", "b"), False
    )
    return [
        (draw_patients(outcomes, RESAMPLES, key), draw_seeds(kind.seeds, RESAMPLES, [key]))
        for key in range(POOL)
    ]


def draw_noise(rng: np.random.Generator, kind: Setting) -> Floats:
    if kind.rows == 1:
        return rng.normal(size=kind.n)
    of_patient, of_row = rng.normal(size=(kind.n, 1)), rng.normal(size=(kind.n, kind.rows))
    return ((of_patient + of_row) / np.sqrt(2)).ravel()


def make_study(rng: np.random.Generator, kind: Setting, draws: Draws, shares: Floats) -> list[Part]:
    place = np.repeat(np.arange(kind.n), kind.rows)
    truth = place < round(kind.n * kind.prevalence)
    counts = np.concatenate([np.ones((1, kind.n), dtype=np.int16), draws.counts])
    common = draw_noise(rng, kind)
    parts = []
    for auc in kind.aucs:
        own, columns = draw_noise(rng, kind), []
        for _ in range(kind.seeds):
            of_training = np.clip(auc + kind.spread * rng.normal(), 0.01, 0.99)
            rest = (own + draw_noise(rng, kind)) / np.sqrt(2)
            scores = (
                np.sqrt(2) * ndtri(of_training) * truth
                + np.sqrt(kind.correlation) * common
                + np.sqrt(1 - kind.correlation) * rest
            )
            columns.append(order_patients(truth, scores, place).auc(counts))
        found = np.stack(columns, axis=1)
        parts.append(Part(found[0], found[1:], shares, draws.freedom))
    return parts


def repeat_study(kind: Setting) -> list[tuple[Spread, Spread]]:
    """Returns of every study the first arm and the difference."""
    rng = np.random.default_rng(2024)
    pool = draw_pool(kind)
    made = []
    for study in range(STUDIES):
        a, b = make_study(rng, kind, *pool[study % POOL])
        made.append((spread_mean([a]), spread_mean([a - b])))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("kind", DIFFERENT, ids=str)
def test_95_per_cent_intervals_cover_the_truth_in_95_per_cent_of_the_studies(
    kind: Setting,
) -> None:
    difference = kind.aucs[0] - kind.aucs[1]
    hits = {"arm": 0, "difference": 0}
    for arm, both in repeat_study(kind):
        low, high = logit_interval(arm, 0.95)
        # an arm without an error has an exact bound instead, wider than this
        hits["arm"] += arm.value >= 1 or low <= kind.aucs[0] <= high
        low, high = both.interval(0.95)
        hits["difference"] += low <= difference <= high
    for name, number in hits.items():
        assert COVERAGE[0] <= number / STUDIES <= COVERAGE[1], name


@pytest.mark.slow
@pytest.mark.parametrize(("prevalence", "least"), [(0.5, 0.88), (0.25, 0.84)])
def test_near_1_of_few_patients_intervals_of_differences_are_too_short(
    prevalence: float, least: float
) -> None:
    # A known limit, see decision 0010: who sees few errors also sees them vary little. A method
    # that mends it fails here, and the decision and docs/context.md are to be changed with it.
    kind = Setting(60, prevalence, 0.8, (0.99, 0.965))
    covered = passed = 0
    for _, both in repeat_study(kind):
        low, high = both.interval(0.95)
        # two arms without an error have an exact bound, far wider than the margin
        covered += both.error == 0 or low <= 0.025 <= high
        passed += both.error > 0 and high < 0.02
    assert least <= covered / STUDIES < COVERAGE[0]
    # called not inferior at a margin of .02, though .025 lower: 2.5 % are promised
    assert 0.025 < passed / STUDIES <= 0.13


@pytest.mark.slow
@pytest.mark.parametrize(("rarest", "most"), [(2, 0.985), (6, COVERAGE[1])])
def test_intervals_of_a_mean_over_findings_cover_the_truth(rarest: int, most: float) -> None:
    # Two patients hardly know their own variance: their intervals are wide rather than short.
    n, truth, hits = 60, 0.86, 0
    names, zeros = np.arange(n).astype(str), np.zeros(n, dtype=np.int64)
    pool = []
    for key in range(POOL):
        rng = np.random.default_rng(key)
        labels = np.stack([rng.permutation(n) < size for size in (18, 18, 18, 18, rarest)], axis=1)
        outcomes = Outcomes(
            labels.astype(float), np.zeros((n, 5)), names, names, zeros, zeros, tuple("abcde"), True
        )
        pool.append((labels, draw_patients(outcomes, RESAMPLES, key)))
    rng = np.random.default_rng(7)
    for study in range(STUDIES):
        labels, draws = pool[study % POOL]
        counts = np.concatenate([np.ones((1, n), dtype=np.int16), draws.counts])
        place = draws.place(names)
        scores = np.sqrt(2) * ndtri(truth) * labels + rng.normal(size=labels.shape)
        aucs = [order_patients(labels[:, k], scores[:, k], place).auc(counts) for k in range(5)]
        mean = np.mean(aucs, axis=0)
        part = Part(mean[:1], mean[1:, None], np.ones((RESAMPLES, 1)), draws.freedom)
        low, high = logit_interval(spread_mean([part]), 0.95)
        hits += low <= truth <= high
    assert COVERAGE[0] <= hits / STUDIES <= most


@pytest.mark.slow
@pytest.mark.parametrize("kind", EQUAL, ids=str)
def test_equal_arms_seldom_help_or_hurt(kind: Setting) -> None:
    words = []
    for _, both in repeat_study(kind):
        low, high = both.interval(0.95)
        words.append(decide(low, high, both.p(), margin=0.0, level=0.95))
    assert words.count("helps") / STUDIES <= 0.05
    # both together promise 5 %; 3 standard errors are 2 %
    assert 1 - words.count("inconclusive") / STUDIES <= 0.07
    assert {"helps", "hurts"} <= set(words)  # the test can reject
