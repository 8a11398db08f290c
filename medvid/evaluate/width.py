"""How wide the interval of a paired AUC difference will be: what n patients allow to say.

Scores of both arms are normal with equal variance in either class, and correlated (the arms see
the same patients). Then the variance of each AUC and the covariance of the two have a closed form:
two pairs that share a positive patient are both in order with a bivariate normal probability, and
so for a negative one.

References:
    DeLong, DeLong, Clarke-Pearson, Biometrics 44, 1988 (the variance, of which this is the
    expectation); Owen, Tables for Computing Bivariate Normal Probabilities, Annals of Mathematical
    Statistics 27(4), 1956.
"""

import math
from typing import Any

from scipy.special import ndtr, ndtri, owens_t, stdtrit

from medvid.contract import ConfigError


def expected_width(
    n_patients: int,
    prevalence: float,
    auc: float = 0.88,
    correlation: float = 0.8,
    level: float = 0.95,
) -> float:
    """Returns the width of the interval of a difference of two AUCs on the same patients.

    One row a patient, one seed, and both arms at `auc`, where no difference is to be seen.

    Args:
        n_patients: of both classes.
        prevalence: share of the positive ones.
        auc: of both arms.
        correlation: of the two arms' scores, within a class.
        level: of the interval.

    Raises:
        ConfigError: for an `auc`, `prevalence`, `correlation` or `level` outside 0 to 1, or fewer
            than two patients of a class.
    """
    for name, value in (("auc", auc), ("prevalence", prevalence), ("level", level)):
        if not 0 < value < 1:
            raise ConfigError(f"`{name}: {value}` must lie between 0 and 1.", code="bad_value")
    if not 0 <= correlation <= 1:
        raise ConfigError(
            f"`correlation: {correlation}` must lie between 0 and 1.", code="bad_value"
        )
    positive = round(n_patients * prevalence)
    negative = n_patients - positive
    if min(positive, negative) < 2:
        raise ConfigError(
            f"Of {n_patients} patients at a prevalence of {prevalence:g}, {positive} are positive "
            f"and {negative} negative; an interval needs two of each.",
            code="too_few_patients",
        )
    # Var(a - b) = 2 (Var(a) - Cov(a, b)); the square of the AUC cancels
    alone = auc - _both_in_order(auc, correlation)
    shared = _both_in_order(auc, 0.5) - _both_in_order(auc, correlation / 2)
    variance = 2 * (alone + (positive + negative - 2) * shared) / (positive * negative)
    quantile = float(stdtrit(n_patients - 2, (1 + level) / 2))
    return 2 * quantile * math.sqrt(variance)


def plan_comparison(
    n_patients: int,
    prevalence: float,
    *,
    margin: float,
    n_rows: int | None = None,
    auc: float = 0.88,
    correlation: float = 0.8,
    level: float = 0.95,
) -> dict[str, Any]:
    """Returns `expected_width` with what it was computed from, and a sentence before training.

    Several rows of a patient, cases or slices, are worth something between one row, if they are all
    alike, and as many patients, if they have nothing in common. How alike they are nobody knows
    beforehand, so both widths are told: with 12 slices each, 48 patients had .05 to .10 in made-up
    studies, where one row each has .20 and 576 patients have .05.

    Args:
        n_patients: see `expected_width`.
        prevalence: see `expected_width`; of the rows where patients have several.
        margin: the difference that matters, declared beforehand.
        n_rows: of all patients; None for one each.
        auc: see `expected_width`.
        correlation: see `expected_width`.
        level: see `expected_width`.

    Raises:
        ConfigError: see `expected_width`.
    """
    width = expected_width(n_patients, prevalence, auc, correlation, level)
    least = expected_width(n_rows or n_patients, prevalence, auc, correlation, level)
    several = n_rows is not None and n_rows > n_patients
    who = f"{n_patients} patients with {n_rows} rows" if several else f"{n_patients} patients"
    wide = f"{least:.3f} to {width:.3f} wide" if several else f"about {width:.3f} wide"
    sentence = (
        f"{who} at a prevalence of {prevalence:.2f} allow a {level:.0%} interval of an AUC "
        f"difference {wide} (at AUC {auc:.2f}, scores correlated by {correlation:.1f}"
        f"{'; the more alike the rows of a patient, the wider' if several else ''})."
    )
    warned = width > 2 * margin
    if warned:
        sentence += (
            f" {'That is' if least > 2 * margin else 'That may be'} wider than twice the margin of "
            f"{margin:g}: even arms that are equal will then mostly come out as inconclusive. "
            "Declare a wider margin or gather more patients."
        )
    return {
        "interval_width": width,
        "narrowest": least,
        "auc": auc,
        "correlation": correlation,
        "prevalence": prevalence,
        "n_patients": n_patients,
        "n_rows": n_rows or n_patients,
        "margin": margin,
        "level": level,
        "warning": warned,
        "sentence": sentence,
    }


def _both_in_order(auc: float, correlation: float) -> float:
    """Returns the chance that two pairs, whose differences correlate so, are both in order.

    Phi2(h, h; r) = Phi(h) - 2 T(h, sqrt((1 - r) / (1 + r))), with Owen's T.
    """
    h = float(ndtri(auc))
    return float(ndtr(h) - 2 * owens_t(h, math.sqrt((1 - correlation) / (1 + correlation))))
