"""Noise of float32 is no order: what it alone tells apart is tied, everywhere alike."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medvid.evaluate import (
    average_seeds,
    choose_threshold,
    compare_arms,
    evaluate_predictions,
    read_outcomes,
    roc_band,
)
from medvid.evaluate.decision import measure_net_benefit, trace_precision
from medvid.evaluate.ties import settle_probabilities
from medvid.jobs.ensemble import OperatingPoint, average_tables
from tests.evaluate.conftest import MakeTable

PROBABILITIES = st.one_of(
    st.floats(0, 1), st.floats(-700, 700).map(lambda z: float(1 / (1 + np.exp(-z))))
)


@given(st.lists(PROBABILITIES, min_size=2, max_size=30))
@example([0.0, 5e-324, 1e-300, 0.5, float(np.nextafter(0.5, 1)), 1 - 1e-11, 1 - 2**-53, 1.0])
def test_settling_keeps_the_order_the_ends_and_what_was_settled(values: list[float]) -> None:
    rising = np.sort(np.array(values))
    settled = settle_probabilities(rising)
    assert (np.diff(settled) >= 0).all()
    assert ((settled == 0) == (rising == 0)).all()
    assert ((settled == 1) == (rising == 1)).all()
    assert np.array_equal(settle_probabilities(settled), settled)
    assert np.abs(settled - rising).max() <= 5.1e-6


@given(st.integers(0, 10**5))
def test_a_probability_of_five_digits_stays_as_it_is(hundred_thousandths: int) -> None:
    value = np.array([hundred_thousandths / 10**5])
    assert settle_probabilities(value) == value


def make_blind(*, noise: float) -> pd.DataFrame:
    """Returns one answer for all, but for noise in a last batch that holds one class alone."""
    truth = np.arange(40) >= 20
    log_odds = np.where(np.arange(40) >= 32, 0.021073 + noise, 0.021073)
    p = 1 / (1 + np.exp(-log_odds))
    return pd.DataFrame(
        {
            "case_id": [f"c{k}" for k in range(40)],
            "patient_id": [f"p{k}" for k in range(40)],
            "label": np.where(truth, "nodule", "artery"),
            "prob_artery": 1 - p,
            "prob_nodule": p,
        }
    )


@pytest.mark.parametrize("noise", [3e-8, 5e-7, -3e-8])
def test_a_network_that_sees_nothing_has_an_auc_of_a_half_in_a_sorted_manifest(
    noise: float,
) -> None:
    table = make_blind(noise=noise)
    outcomes = read_outcomes(table)
    metrics = evaluate_predictions(table, resamples=50)["metrics"]
    assert metrics["auc"]["value"] == 0.5
    assert metrics["average_precision"]["value"] == 0.5
    assert roc_band(outcomes, 1, resamples=20).auc == 0.5
    assert trace_precision(outcomes, 1).precision.tolist() == [0.5, 0.5]
    acted = measure_net_benefit(outcomes, 1, resamples=20).value
    assert acted[49] == 0  # at .5 all are acted on, of whom half are ill
    assert (acted[50:] == 0).all()  # above .51 none is
    (row,) = compare_arms({"a": table, "b": make_blind(noise=0)}, [("a", "b")], margin=0.02)
    assert row["difference"] == 0
    assert row["delong"]["difference"] == 0


def test_what_is_more_than_noise_still_tells_the_classes_apart() -> None:
    assert evaluate_predictions(make_blind(noise=1e-3))["metrics"]["auc"]["value"] == 0.7


def test_several_classes_and_findings_are_settled_column_by_column() -> None:
    rows = [[1 / 3, 1 / 3 + 3e-9, 1 / 3 - 3e-9], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]]
    chances = pd.DataFrame(rows, columns=["prob_a", "prob_b", "prob_c"])
    named = chances.assign(case_id=["x", "y", "z"], patient_id=["x", "y", "z"])
    found = read_outcomes(named.assign(label=["a", "b", "c"])).probabilities
    assert found.tolist() == [[0.33333] * 3, [1, 0, 0], [0.2, 0.3, 0.5]]
    findings = named.assign(label_a=1, label_b=0, label_c=1)
    assert read_outcomes(findings).probabilities.tolist() == found.tolist()


def test_seeds_in_another_order_from_case_to_case_have_one_mean() -> None:
    chances = [0.1, 0.2, 0.7]
    rows = [
        {"case_id": case, "patient_id": case, "seed": seed, "label": "b", "prob_b": chances[seed]}
        for case, order in {"x": (0, 1, 2), "y": (2, 1, 0)}.items()
        for seed in order
    ]
    table = pd.DataFrame(rows).assign(prob_a=lambda held: 1 - held["prob_b"])
    mean = average_seeds(read_outcomes(table)).probabilities
    assert mean[0].tolist() == mean[1].tolist()


@pytest.mark.parametrize("noise", [-4e-8, 0.0, 4e-8])
@pytest.mark.parametrize("limit", [0.3, 0.5, 0.7, 0.95])
def test_a_case_at_the_threshold_is_called_alike_by_metrics_and_by_predict(
    noise: float, limit: float
) -> None:
    p = limit + noise
    table = pd.DataFrame(
        [["x", "x", "sick", 1 - p, p], ["y", "y", "well", 1.0, 0.0]],
        columns=["case_id", "patient_id", "label", "prob_well", "prob_sick"],
    )
    point = OperatingPoint("sick", limit, "fixed")
    meta = {"classes": ["well", "sick"], "multilabel": False}
    assert average_tables([table], meta, point)["called"].tolist() == ["sick", "well"]
    measured = evaluate_predictions(table, positive="sick", thresholds=limit, resamples=10)
    assert measured["metrics"]["sensitivity"]["value"] == 1


def test_a_chosen_threshold_parts_the_scores_that_it_was_chosen_on(make_table: MakeTable) -> None:
    table = make_table(separation=6.0, shared=0.1)
    outcomes = read_outcomes(table)
    scores, labels = outcomes.probabilities[:, 1], np.asarray(outcomes.labels == 1, dtype=np.int64)
    limit = choose_threshold(labels, scores, {"sensitivity": 1.0})
    assert scores[labels == 1].min() >= limit
    meta = {"classes": ["vessel", "nodule"], "multilabel": False}
    called = average_tables([table], meta, OperatingPoint("nodule", limit, "chosen"))["called"]
    assert (called[table["label"] == "nodule"] == "nodule").all()
