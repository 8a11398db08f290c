import numpy as np
import pandas as pd
import pytest

from medvid.evaluate import evaluate_predictions, read_outcomes
from medvid.evaluate.bootstrap import draw_patients, percentile_interval, resample
from medvid.evaluate.measure import make_measure
from medvid.evaluate.metrics import weighted_auc
from tests.evaluate.conftest import MakeTable

STUDIES = 300
COVERAGE = (0.91, 0.98)
"""What 300 studies may cover of a 95 % interval: 0.95 -+ 3 standard errors of 0.0126, rounded."""


def auc_width(table: pd.DataFrame) -> float:
    auc = evaluate_predictions(table, resamples=800)["metrics"]["auc"]
    return float(auc["high"] - auc["low"])


def test_every_resample_has_the_patients_of_each_outcome_that_the_study_has(
    make_table: MakeTable,
) -> None:
    outcomes = read_outcomes(make_table(patients=31))
    draws = draw_patients(outcomes, 50, seed=1)
    positive = np.array([int(name) % 2 == 1 for name in draws.patients])
    assert (draws.counts[:, positive].sum(axis=1) == positive.sum()).all()
    assert (draws.counts[:, ~positive].sum(axis=1) == (~positive).sum()).all()
    assert (draws.counts == 0).any()


def make_findings(has: dict[str, list[int]], n: int) -> pd.DataFrame:
    """Returns a table of `n` patients with one case each and the findings that `has` says."""
    columns: dict[str, object] = {"case_id": np.arange(n).astype(str)}
    columns["patient_id"] = columns["case_id"]
    for name, members in has.items():
        columns[f"label_{name}"] = np.isin(np.arange(n), members).astype(float)
        columns[f"prob_{name}"] = np.linspace(0, 1, n)
    return pd.DataFrame(columns)


def test_every_resample_has_as_many_patients_of_the_rarest_finding() -> None:
    has = {"common": list(range(10)), "rare": [1, 7], "nearly all": list(range(2, 30))}
    draws = draw_patients(read_outcomes(make_findings(has, 30)), 50, seed=1)
    order = draws.patients.astype(int)
    assert (draws.counts[:, np.isin(order, [1, 7])].sum(axis=1) == 2).all()
    # Patient 0 alone is left of those without `nearly all`: it is drawn among the others.
    assert len(np.unique(draws.counts[:, order == 0])) > 1
    assert (draws.counts.sum(axis=1) == 30).all()


def test_a_patients_cases_are_drawn_together(make_table: MakeTable) -> None:
    outcomes = read_outcomes(make_table(cases=4))
    weights = draw_patients(outcomes, 20, seed=0).weights(outcomes.patients, slice(0, 20))
    for name in np.unique(outcomes.patients):
        own = weights[:, outcomes.patients == name]
        assert (own == own[:, :1]).all()


def test_a_resample_is_the_metric_of_the_repeated_rows(make_table: MakeTable) -> None:
    outcomes = read_outcomes(make_table(patients=12))
    draws = draw_patients(outcomes, 5, seed=3)
    found = resample(outcomes, make_measure(outcomes, 1, 0.5), draws)["auc"]
    for row, value in enumerate(found):
        times = draws.weights(outcomes.patients, slice(row, row + 1))[0].astype(int)
        labels = np.repeat(outcomes.labels.astype(np.int64), times)
        scores = np.repeat(outcomes.probabilities[:, 1], times)
        assert value == pytest.approx(weighted_auc(labels, scores, np.ones((1, len(labels))))[0])


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others(
    make_table: MakeTable,
) -> None:
    table = make_table()
    first = evaluate_predictions(table, resamples=200, seed=4)
    assert first == evaluate_predictions(table, resamples=200, seed=4)
    other = evaluate_predictions(table, resamples=200, seed=5)
    assert other["metrics"]["auc"]["low"] != first["metrics"]["auc"]["low"]
    assert other["metrics"]["auc"]["value"] == first["metrics"]["auc"]["value"]


def test_intervals_hold_the_estimate(make_table: MakeTable) -> None:
    found = evaluate_predictions(make_table(), resamples=500)["metrics"]
    for name, entry in found.items():
        # the calibration error is biased upwards in every resample
        if name != "ece":
            assert entry["low"] <= entry["value"] <= entry["high"], name


def test_drawing_patients_is_wider_than_drawing_cases_when_cases_of_a_patient_are_alike(
    make_table: MakeTable,
) -> None:
    table = make_table(patients=40, cases=8, shared=2.0)
    naive = table.assign(patient_id=table["case_id"])
    # eight nearly equal cases carry little more than one: up to sqrt(8) in width
    assert auc_width(table) > 1.5 * auc_width(naive)


def test_several_seeds_are_averaged_by_metric_and_do_not_count_as_more_cases(
    make_table: MakeTable,
) -> None:
    a = make_table(seed=1)
    b = make_table(seed=2).assign(seed=1)
    both = evaluate_predictions(pd.concat([a, b]), resamples=400)
    values = [evaluate_predictions(t, resamples=1)["metrics"]["auc"]["value"] for t in (a, b)]
    assert both["metrics"]["auc"]["value"] == pytest.approx(np.mean(values))
    assert both["n_cases"] == len(a)
    assert both["metrics"]["auc"]["n"] == len(a)
    twice = evaluate_predictions(pd.concat([a, a.assign(seed=1)]), resamples=400)
    once = evaluate_predictions(a, resamples=400)
    assert twice["metrics"]["auc"]["low"] == pytest.approx(once["metrics"]["auc"]["low"])


def test_no_interval_is_given_where_too_few_resamples_define_the_metric() -> None:
    values = np.r_[np.full(20, np.nan), np.linspace(0, 1, 80)]
    assert np.isnan(percentile_interval(values, 0.95)).all()
    low, high = percentile_interval(np.linspace(0, 1, 101), 0.95)
    assert (low, high) == pytest.approx((0.025, 0.975))


@pytest.mark.slow
def test_95_per_cent_intervals_cover_the_true_auc_of_clustered_cases(
    make_table: MakeTable,
) -> None:
    # the shared effect and the noise have variance 1 each, so two cases of different patients
    # differ by N(1.5, 2 * 2), and the true AUC is Phi(1.5 / 2)
    truth = 0.7733726
    hits = 0
    for study in range(STUDIES):
        table = make_table(seed=1000 + study, patients=80, cases=3)
        auc = evaluate_predictions(table, resamples=500, seed=study)["metrics"]["auc"]
        hits += auc["low"] <= truth <= auc["high"]
    assert COVERAGE[0] <= hits / STUDIES <= COVERAGE[1]
