import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvid.contract import ConfigError
from medvid.evaluate import (
    choose_threshold,
    cross_fit_thresholds,
    evaluate_predictions,
    explain_cross_fit,
    explain_fallback,
    read_outcomes,
)
from medvid.evaluate.operating_point import split_by_fold
from tests.evaluate.conftest import MakeTable

laws = settings(max_examples=50, deadline=None)


def shares(labels: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float]:
    called = scores >= threshold
    return float(called[labels == 1].mean()), float((~called)[labels == 0].mean())


@laws
@given(st.integers(0, 10**6), st.floats(0.05, 1.0))
def test_a_target_is_reached_and_no_candidate_that_reaches_it_gives_more_of_the_other(
    seed: int, target: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(0, 2, 40)]
    scores = np.round(rng.random(42), 2)
    every = [shares(labels, scores, t) for t in [*np.unique(scores), 1.5]]
    sensitivity, specificity = shares(
        labels, scores, choose_threshold(labels, scores, {"sensitivity": target})
    )
    assert sensitivity >= target - 1e-9
    assert specificity == max(sp for se, sp in every if se >= target - 1e-9)
    sensitivity, specificity = shares(
        labels, scores, choose_threshold(labels, scores, {"specificity": target})
    )
    assert specificity >= target - 1e-9
    assert sensitivity == max(se for se, sp in every if sp >= target - 1e-9)
    assert sum(shares(labels, scores, choose_threshold(labels, scores))) == pytest.approx(
        max(se + sp for se, sp in every)
    )


def test_a_number_is_the_threshold() -> None:
    assert choose_threshold(np.array([0, 1]), np.array([0.1, 0.2]), 0.7) == 0.7


@pytest.mark.parametrize("rule", ["best", 1.5, {"ppv": 0.9}, {"sensitivity": 2.0}, {}])
def test_a_rule_that_cannot_be_meant_is_refused(rule: object) -> None:
    with pytest.raises(ConfigError, match="operating point"):
        choose_threshold(np.array([0, 1]), np.array([0.1, 0.2]), rule)  # type: ignore[arg-type]


def test_a_case_takes_no_part_in_the_choice_of_its_own_threshold(make_table: MakeTable) -> None:
    table = make_table()
    before = cross_fit_thresholds(read_outcomes(table), 1, "youden")
    own = table["fold"] == 2
    table.loc[own, ["prob_vessel", "prob_nodule"]] = [0.999, 0.001]
    after = cross_fit_thresholds(read_outcomes(table), 1, "youden")
    assert after[2] == before[2]
    assert any(after[fold] != before[fold] for fold in (0, 1, 3, 4))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 0, 0], "0.5, since all 3 cases to choose on (youden) are negative"),
        ([1, 1], "0.5, since all 2 cases to choose on (youden) are positive"),
        ([], "0.5, since there is no case to choose on (youden)"),
    ],
)
def test_a_threshold_that_nothing_could_be_chosen_on_is_said(labels: list[int], said: str) -> None:
    truth = np.array(labels, dtype=np.int64)
    assert explain_fallback(truth, "youden") == said
    with pytest.warns(UserWarning, match="The operating point is 0.5, since"):
        assert choose_threshold(truth, np.linspace(0, 1, len(labels))) == 0.5


def test_nothing_is_said_of_a_threshold_that_was_chosen_or_given() -> None:
    assert explain_fallback(np.array([0, 1]), "youden") == ""
    assert explain_fallback(np.array([1, 1]), 0.7) == ""
    assert choose_threshold(np.array([1, 1]), np.array([0.1, 0.2]), 0.7) == 0.7


def test_the_fold_whose_others_have_one_class_is_named(make_table: MakeTable) -> None:
    table = make_table()
    outcomes = read_outcomes(table[(table["fold"] == 3) | (table["label"] == "vessel")])
    with pytest.warns(UserWarning, match="are negative"):
        chosen = cross_fit_thresholds(outcomes, 1, "youden")
    (note,) = explain_cross_fit(outcomes, 1, "youden")
    assert note.startswith("The operating point of fold 3 is 0.5, since all ")
    assert chosen[3] == 0.5
    found = evaluate_predictions(
        table, thresholds=chosen, notes=explain_cross_fit(outcomes, 1, "youden"), resamples=20
    )
    assert found["notes"][0] == note
    assert explain_cross_fit(read_outcomes(table), 1, "youden") == []


def test_no_case_takes_part_in_its_own_threshold_when_folds_are_repeated() -> None:
    labels = np.array(["a", "b"] * 4)
    table = pd.DataFrame(
        {
            "case_id": [f"c{k}" for k in range(8)] * 2,
            "patient_id": [f"p{k}" for k in range(8)] * 2,
            "fold": np.r_[np.repeat([0, 1], 4), np.tile([2, 3], 4)],
            "seed": np.repeat([0, 1], 8),
            "label": np.tile(labels, 2),
            "prob_a": 0.4,
            "prob_b": 0.6,
            "logit_a": 0.0,
            "logit_b": 0.0,
        }
    )
    outcomes = read_outcomes(table)
    for fold, others, _ in split_by_fold(outcomes, 1):
        own = set(outcomes.patients[outcomes.folds == fold])
        left = [p for p in outcomes.patients[outcomes.folds != fold] if p not in own]
        assert len(others) == len(left)
