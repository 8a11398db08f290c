import numpy as np
import pytest
from scipy.special import ndtri

from medvid.contract import ConfigError
from medvid.evaluate import expected_width, plan_comparison

STUDIES = 4000
"""An SD of so many differences is known to 1.1 %."""


@pytest.mark.parametrize(("n", "width"), [(60, 0.14), (150, 0.08), (400, 0.05), (1000, 0.03)])
def test_the_width_that_n_patients_allow(n: int, width: float) -> None:
    assert expected_width(n, 0.3) == pytest.approx(width, abs=0.005)


@pytest.mark.parametrize(
    ("n", "prevalence", "auc", "correlation"),
    [(60, 0.3, 0.88, 0.8), (150, 0.5, 0.75, 0.5), (100, 0.2, 0.95, 0.0)],
)
def test_the_width_is_that_of_simulated_studies(
    n: int, prevalence: float, auc: float, correlation: float
) -> None:
    rng = np.random.default_rng(0)
    positives = round(n * prevalence)
    shared = rng.normal(size=(STUDIES, n))
    aucs = []
    for _ in "ab":
        own = rng.normal(size=(STUDIES, n))
        scores = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
        scores[:, :positives] += np.sqrt(2) * ndtri(auc)
        aucs.append((scores[:, :positives, None] > scores[:, None, positives:]).mean(axis=(1, 2)))
    normal = expected_width(n, prevalence, auc, correlation) / 2 / 1.99  # t of 58 to 148 freedom
    assert np.std(aucs[0] - aucs[1]) == pytest.approx(normal, rel=0.05)


def test_wide_intervals_are_warned_of_before_training() -> None:
    few, many = plan_comparison(60, 0.3, margin=0.02), plan_comparison(1000, 0.3, margin=0.02)
    assert few["warning"]
    assert "That is wider than twice the margin of 0.02" in few["sentence"]
    assert not many["warning"]
    assert "inconclusive" not in many["sentence"]


def test_no_interval_is_planned_from_one_patient_of_a_class() -> None:
    with pytest.raises(ConfigError, match="1 are positive and 9 negative") as caught:
        expected_width(10, 0.1)
    assert caught.value.code == "too_few_patients"
    with pytest.raises(ConfigError, match="auc: 1"):
        expected_width(100, 0.3, auc=1.0)
