import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from medvid.contract import DataError
from medvid.evaluate import evaluate_predictions, read_outcomes, roc_band
from medvid.evaluate.bootstrap import draw_patients, resample
from medvid.evaluate.intervals import exact_interval, make_interval
from medvid.evaluate.measure import make_measure
from medvid.evaluate.terms import Term, count_trials
from tests.evaluate.conftest import MakeTable

STUDIES = 300
COVERAGE = 0.91
"""The least that 300 studies may cover of a 95 % interval: 3 standard errors of 0.0126 below."""


def perfect(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with every nodule above every vessel."""
    p = np.where(table["label"] == "nodule", 0.9, 0.1) + 0.05 * table["prob_nodule"]
    return table.assign(prob_nodule=p, prob_vessel=1 - p)


@given(trials=st.integers(1, 10_000), level=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_the_exact_interval_is_that_of_clopper_and_pearson(trials: int, level: float) -> None:
    low, high = exact_interval(1, trials, level)
    assert low == pytest.approx(beta.ppf((1 - level) / 2, trials, 1))
    assert high == 1
    low_of_0, high_of_0 = exact_interval(0, trials, level)
    assert low_of_0 == 0
    assert high_of_0 == pytest.approx(1 - low)


def test_an_exact_interval_needs_a_trial() -> None:
    with pytest.raises(ValueError, match="at least one"):
        exact_interval(1, 0, 0.95)


def test_perfect_separation_is_not_certainty(make_table: MakeTable) -> None:
    few = evaluate_predictions(perfect(make_table(patients=20)), resamples=100)
    many = evaluate_predictions(perfect(make_table(patients=200)), resamples=100)
    for found, pairs in ((few, 10), (many, 100)):
        auc = found["metrics"]["auc"]
        assert (auc["value"], auc["high"]) == (1, 1)
        # three cases of a patient are one trial, and a patient is in one pair only
        assert auc["low"] == pytest.approx(0.025 ** (1 / pairs))
        assert "Clopper-Pearson" in auc["method"]
        assert f"{pairs} independent trials" in auc["method"]
        assert "exact" in auc["reason"]
        assert any("bootstrap says nothing of auc" in note for note in found["notes"])
    assert few["metrics"]["sensitivity"]["low"] == pytest.approx(0.025 ** (1 / 10))
    assert few["metrics"]["accuracy"]["low"] == pytest.approx(0.025 ** (1 / 20))
    # no share of trials: no interval rather than one of no width
    precision = few["metrics"]["average_precision"]
    assert (precision["value"], precision["low"]) == (1, None)
    assert "all resamples are the same" in precision["reason"]


def test_scores_that_are_all_wrong_have_an_upper_bound(make_table: MakeTable) -> None:
    table = perfect(make_table(patients=20))
    upside_down = table.rename(columns={"prob_nodule": "prob_vessel", "prob_vessel": "prob_nodule"})
    auc = evaluate_predictions(upside_down, resamples=100)["metrics"]["auc"]
    assert (auc["value"], auc["low"]) == (0, 0)
    assert auc["high"] == pytest.approx(1 - 0.025 ** (1 / 10))


def test_a_usual_table_keeps_the_bootstrap(make_table: MakeTable) -> None:
    found = evaluate_predictions(make_table(), resamples=100)
    for name, entry in found["metrics"].items():
        assert entry["method"].startswith("patient-cluster bootstrap"), name
        assert "reason" not in entry
    assert not any("exact" in note for note in found["notes"])


def test_one_patient_of_each_class_gives_no_interval() -> None:
    table = pd.DataFrame(
        {
            "case_id": list("abcd"),
            "patient_id": list("ppqq"),
            "label": ["x", "x", "y", "y"],
            "prob_x": [0.9, 0.3, 0.6, 0.1],
            "prob_y": [0.1, 0.7, 0.4, 0.9],
        }
    )
    auc = evaluate_predictions(table, resamples=100)["metrics"]["auc"]
    assert (auc["value"], auc["low"], auc["high"]) == (0.75, None, None)
    assert "too many resamples lack a class" in auc["reason"]


def test_what_needs_a_class_of_one_patient_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    table = make_classes(["a", "b"] + ["b", "c"] * 20)
    table.loc[:1, "patient_id"] = ["alone", "alone"]  # with a slice of another class
    binary = table.drop(columns="prob_c").replace({"label": {"c": "b"}})
    binary["prob_a"] = rng.uniform(0.3, 0.7, len(table))
    binary["prob_b"] = 1 - binary["prob_a"]
    for found in (evaluate_predictions(own, resamples=100) for own in (table, binary)):
        auc = found["metrics"]["auc"]
        assert (auc["low"], auc["high"]) == (None, None)
        assert auc["reason"] == "no interval: too many resamples lack a class"
        assert found["metrics"]["accuracy"]["low"] is not None
    assert found["metrics"]["balanced_accuracy"]["low"] is None
    band = roc_band(read_outcomes(binary), 1, resamples=50)
    assert np.isnan(band.low).all()
    assert np.isnan(band.auc_low)


@pytest.mark.parametrize(
    ("patients", "labels", "pairs"),
    [
        ("abcdef", "110000", 2),  # two positive patients
        ("aabbcc", "101010", 1),  # all have both: three patients make one pair
        ("aabbccdd", "10101010", 2),
        ("aaaabb", "111100", 1),
        ("aa", "10", 0),
    ],
)
def test_a_patient_is_in_one_independent_pair_only(patients: str, labels: str, pairs: int) -> None:
    n = len(patients)
    table = pd.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(n)],
            "patient_id": list(patients),
            "label": list(labels),
            "prob_0": 0.5,
            "prob_1": 0.5,
        }
    )
    outcomes = read_outcomes(table)
    truth = outcomes.labels == 1
    assert count_trials(outcomes, [Term(truth, ~truth)]) == pairs


def test_terms_add_up_only_when_they_share_no_patient(make_table: MakeTable) -> None:
    outcomes = read_outcomes(make_table(patients=20))
    truth = outcomes.labels == 1
    assert count_trials(outcomes, [Term(truth), Term(~truth)]) == 20
    assert count_trials(outcomes, [Term(truth, ~truth), Term(~truth, truth)]) == 10


def test_n_is_the_number_of_cases_that_a_metric_is_a_share_of(make_table: MakeTable) -> None:
    table = make_table(patients=31)
    found = evaluate_predictions(table, thresholds=0.6, resamples=20)["metrics"]
    truth, called = table["label"] == "nodule", table["prob_nodule"] >= 0.6
    assert truth.sum() != (~truth).sum()
    expected = {
        "sensitivity": truth.sum(),
        "specificity": (~truth).sum(),
        "ppv": called.sum(),
        "npv": (~called).sum(),
    }
    for name, entry in found.items():
        assert entry["n"] == expected.get(name, len(table)), name


def test_the_curve_and_the_table_have_the_same_bound_and_no_band_of_no_width(
    make_table: MakeTable,
) -> None:
    table = perfect(make_table(patients=20))
    band = roc_band(read_outcomes(table), 1, resamples=50)
    auc = evaluate_predictions(table, resamples=50)["metrics"]["auc"]
    assert (band.auc_low, band.auc_high) == (auc["low"], auc["high"])
    assert np.isnan(band.low).all()
    assert np.isnan(band.high).all()


def test_near_1_the_interval_covers_the_true_auc_though_half_the_studies_are_perfect() -> None:
    # normal scores 3 apart with standard deviation 1: the true AUC is Phi(3 / sqrt(2))
    truth, size, rng = 0.9830526, 10, np.random.default_rng(0)
    labels = np.repeat([0, 1], size)
    hits = flat = 0
    for study in range(STUDIES):
        z = rng.normal(3 * labels, 1)
        p = 1 / (1 + np.exp(1.5 - z))
        names = [f"{i:02d}" for i in range(2 * size)]
        table = pd.DataFrame(
            {
                "case_id": names,
                "patient_id": names,
                "label": labels.astype(str),
                "prob_0": 1 - p,
                "prob_1": p,
            }
        )
        outcomes = read_outcomes(table)
        measure = make_measure(outcomes, 1, 0.5)
        draws = draw_patients(outcomes, 300, seed=study)
        value = measure(outcomes, np.ones((1, len(outcomes))))["auc"][0]
        trials = count_trials(outcomes, [Term(labels == 1, labels == 0)])
        found = make_interval(value, resample(outcomes, measure, draws)["auc"], trials, 0.95)
        hits += found.low <= truth <= found.high
        flat += value == 1
    assert flat > STUDIES / 4
    assert hits / STUDIES >= COVERAGE


def make_classes(labels: list[str]) -> pd.DataFrame:
    """Returns a table of the classes a, b and c, each patient with one case."""
    n = len(labels)
    chances = np.random.default_rng(0).dirichlet([1, 1, 1], n)
    names = [f"{i:03d}" for i in range(n)]
    table = pd.DataFrame({"case_id": names, "patient_id": names, "label": labels})
    table[["prob_a", "prob_b", "prob_c"]] = chances
    return table


def test_a_class_without_a_case_is_left_out_of_the_averages_and_named() -> None:
    found = evaluate_predictions(make_classes(["a", "b"] * 30), resamples=100)
    for name in ("auc", "average_precision"):
        each = [found["per_class"][k][name]["value"] for k in "ab"]
        entry = found["metrics"][name]
        assert entry["value"] == pytest.approx(np.mean(each))
        assert entry["low"] < entry["value"] < entry["high"]
        assert "mean over a, b only" in entry["method"]
    recalls = [found["per_class"][k]["sensitivity"]["value"] for k in "ab"]
    assert found["metrics"]["balanced_accuracy"]["value"] == pytest.approx(np.mean(recalls))
    assert found["per_class"]["c"]["auc"]["value"] is None
    assert any("No case of these classes: c." in note for note in found["notes"])
    assert "only" not in found["metrics"]["accuracy"]["method"]


def test_nothing_is_said_where_every_class_has_a_case() -> None:
    found = evaluate_predictions(make_classes(["a", "b", "c"] * 20), resamples=50)
    assert not any("No case" in note for note in found["notes"])
    assert "only" not in found["metrics"]["auc"]["method"]
    assert found["per_class"]["a"]["sensitivity"]["n"] == 20


def test_a_resample_without_a_class_of_the_study_does_not_average_over_the_others() -> None:
    # the single b belongs to a patient who has a c as well, so that some resamples lack it
    table = make_classes(["a", "c"] * 10 + ["b", "c"])
    table.loc[20:, "patient_id"] = "both"
    outcomes = read_outcomes(table)
    measure = make_measure(outcomes, 2, 0.5)
    draws = draw_patients(outcomes, 200, seed=0)
    lacking = draws.weights(outcomes.patients, slice(None))[:, 20] == 0
    found = resample(outcomes, measure, draws)["auc"]
    assert lacking.any()
    assert (np.isnan(found) == lacking).all()


def test_a_finding_that_is_never_present_is_left_out_of_the_averages_and_named() -> None:
    n, rng = 60, np.random.default_rng(0)
    names = [f"{i:03d}" for i in range(n)]
    table = pd.DataFrame(
        {
            "case_id": names,
            "patient_id": names,
            "label_a": np.arange(n) % 2,
            "label_b": np.arange(n) // 2 % 2,
            "label_none": 0,
            "prob_a": rng.random(n),
            "prob_b": rng.random(n),
            "prob_none": rng.random(n),
        }
    )
    found = evaluate_predictions(table, resamples=50)
    each = found["per_class"]
    auc = found["metrics"]["auc"]
    assert auc["value"] == pytest.approx(np.mean([each[k]["auc"]["value"] for k in "ab"]))
    assert "mean over a, b only" in auc["method"]
    accuracy = [each[k]["accuracy"]["value"] for k in ("a", "b", "none")]
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(accuracy))
    assert any("both present and absent among these cases: none." in n for n in found["notes"])
    holes = table.assign(label_a=table["label_a"].astype(float))
    holes.loc[:9, "label_a"] = np.nan
    counted = evaluate_predictions(holes, resamples=50)["per_class"]
    assert counted["a"]["auc"]["n"] == 50
    assert counted["a"]["sensitivity"]["n"] == 25
    assert counted["b"]["brier"]["n"] == 60


def test_notes_of_the_caller_stand_first(make_table: MakeTable) -> None:
    found = evaluate_predictions(make_table(), resamples=20, notes=["Chosen by hand."])
    assert found["notes"][0] == "Chosen by hand."
    assert len(found["notes"]) > 1


def test_a_doubled_case_is_not_evaluated(make_table: MakeTable) -> None:
    table = make_table()
    with pytest.raises(DataError, match="the case case0 of seed 0 stands in row 1 already"):
        evaluate_predictions(pd.concat([table, table.iloc[:1]]), resamples=10)
