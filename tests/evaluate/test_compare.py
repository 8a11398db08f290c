import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medvid.contract import DataError
from medvid.evaluate import compare_predictions
from medvid.evaluate.delong import delong_test
from tests.evaluate.conftest import MakeTable

STUDIES = 300
ERRORS = (0.015, 0.095)
"""What a test at 5 % may reject of 300 true null hypotheses: 0.05 -+ 3 standard errors."""


def noisy(table: pd.DataFrame, seed: int, size: float) -> pd.DataFrame:
    """Returns the table of a model that sees the same cases with noise of its own."""
    logit = np.log(table["prob_nodule"] / table["prob_vessel"])
    p = 1 / (1 + np.exp(-logit - np.random.default_rng(seed).normal(0, size, len(table))))
    return table.assign(prob_nodule=p, prob_vessel=1 - p)


def brute_force(
    labels: NDArray[np.int64], a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[float, float]:
    """DeLong 1988 by its definition: every positive against every negative."""
    parts = []
    for scores in (a, b):
        x, y = scores[labels == 1], scores[labels == 0]
        parts.append((x[:, None] > y) + 0.5 * (x[:, None] == y))
    aucs = [p.mean() for p in parts]
    s10 = np.cov([p.mean(axis=1) for p in parts])
    s01 = np.cov([p.mean(axis=0) for p in parts])
    s = s10 / (labels == 1).sum() + s01 / (labels == 0).sum()
    return float(aucs[0] - aucs[1]), float(np.sqrt(max(s[0, 0] + s[1, 1] - 2 * s[0, 1], 0)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_delong_by_ranks_is_delong_by_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 0, 1, 1, rng.integers(0, 2, 30)]
    a, b = np.round(rng.random(34), 1), np.round(rng.random(34), 1)
    found = delong_test(labels, a, b)
    difference, error = brute_force(labels, a, b)
    assert found.difference == pytest.approx(difference, abs=1e-12)
    assert found.standard_error == pytest.approx(error, abs=1e-7)
    assert 0 <= found.p <= 1


def test_delong_of_a_small_example_is_what_one_gets_by_hand() -> None:
    labels = np.array([1, 1, 0, 0])
    a, b = np.array([4.0, 2.0, 3.0, 1.0]), np.array([4.0, 3.0, 2.0, 1.0])
    # a: placements of the positives 1, 1/2, of the negatives 1/2, 1; b orders all pairs right.
    # Each has sample variance 1/8, so the variance of the difference is 1/8/2 + 1/8/2 = 1/8.
    found = delong_test(labels, a, b)
    assert (found.auc_a, found.auc_b) == (0.75, 1.0)
    assert found.standard_error == pytest.approx(np.sqrt(1 / 8))
    assert found.p == pytest.approx(0.4795, abs=1e-4)  # two-sided, z = 0.7071


ALBUMIN = (
    "3.0 3.2 3.9 2.8 3.2 0.9 2.5 1.6 3.8 3.7 3.2 3.8 4.1 3.6 4.3 3.6 2.3 4.2 4.0 3.5 3.8 3.0 "
    "4.5 3.7 3.1 4.1 4.3 4.3 3.2 2.6 3.3 1.7 3.7 3.3 4.2 3.5 2.9 2.1 2.8 4.0 3.3 3.7 3.6"
)
PROTEIN = (
    "5.8 6.3 6.8 4.8 5.8 4.0 5.7 5.6 5.7 6.7 5.4 6.6 6.6 5.7 7.0 6.7 4.4 7.6 6.6 5.8 6.8 4.7 "
    "7.4 7.4 6.6 8.2 7.0 6.5 5.1 4.7 6.8 4.0 6.1 6.3 7.7 6.2 5.7 4.8 6.2 7.0 5.7 6.9 6.6"
)
KREBS_GOPLERUD = (
    "10 5 3 6 3 5 8 5 5 6 4 6 5 5 4 4 6 4 6 6 7 8 5 5 6 6 5 4 5 6 6 7 5 7 6 5 9 7 8 7 6 5 5"
)
BENEFIT = "0 1 1 0 1 0 0 1 1 1 1 1 1 1 1 0 1 0 0 1 1 0 1 1 1 1 1 1 1 1 0 0 1 1 1 1 0 1 0 1 1 1 1"


@pytest.mark.parametrize(
    ("test", "auc", "difference", "error", "p"),
    [(ALBUMIN, 0.7366, 0.0108, 0.0953, 0.9102), (PROTEIN, 0.6478, -0.0780, 0.1046, 0.4561)],
    ids=["albumin", "total protein"],
)
def test_delong_of_the_papers_ovarian_cancer_patients_is_as_printed(
    test: str, auc: float, difference: float, error: float, p: float
) -> None:
    # DeLong 1988's 43 complete cases against the Krebs-Goplerud score (high is bad); the numbers as
    # SAS/STAT's guide prints them, "Comparing Receiver Operating Characteristic Curves"
    labels = np.array(BENEFIT.split(), dtype=np.int64)
    scores, score = np.array(test.split(), float), -np.array(KREBS_GOPLERUD.split(), float)
    found = delong_test(labels, scores, score)
    assert found.auc_a == pytest.approx(auc, abs=5e-5)
    assert found.auc_b == pytest.approx(0.7258, abs=5e-5)
    assert found.difference == pytest.approx(difference, abs=5e-5)
    assert found.standard_error == pytest.approx(error, abs=5e-5)
    assert found.p == pytest.approx(p, abs=5e-5)


def test_the_auc_of_the_papers_109_ct_ratings_is_as_printed() -> None:
    # Hanley and McNeil, Radiology 143(1), 1982, table I: AUC 0.893
    labels = np.repeat([0, 1], [58, 51])
    ratings = np.repeat([1.0, 2, 3, 4, 5, 1, 2, 3, 4, 5], [33, 6, 6, 11, 2, 3, 2, 2, 11, 33])
    assert delong_test(labels, ratings, 0 * ratings).auc_a == pytest.approx(0.893, abs=5e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_cases_that_stand_there_twice_are_no_more_patients(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 0, 1, 1, rng.integers(0, 2, 20)]
    a, b = rng.random((2, 24))
    once = delong_test(labels, a, b, np.arange(24))
    twice = delong_test(*(np.tile(x, 2) for x in (labels, a, b, np.arange(24))))
    assert once == delong_test(labels, a, b)
    assert twice.standard_error == pytest.approx(once.standard_error)


def test_two_patients_of_a_class_are_needed() -> None:
    labels, scores = np.array([1, 1, 0, 0]), np.arange(4.0)
    with pytest.raises(ValueError, match="two patients with cases of each class; got 1 and 2"):
        delong_test(labels, scores, scores, np.array([0, 0, 1, 2]))


def test_a_run_against_itself_differs_by_nothing(make_table: MakeTable) -> None:
    table = make_table()
    found = compare_predictions(table, table, resamples=200)
    for entry in found["metrics"].values():
        assert (entry["difference"], entry["low"], entry["high"]) == (0, 0, 0)
        assert entry["p"] == 1
    assert found["delong"]["p"] == 1
    assert found["verdict"] == "equivalent"
    assert "better" not in found["sentence"]


def test_swapping_the_runs_turns_every_sign(make_table: MakeTable) -> None:
    a, b = make_table(), noisy(make_table(), 1, 2.0)
    ab = compare_predictions(a, b, resamples=300)["metrics"]
    ba = compare_predictions(b, a, resamples=300)["metrics"]
    for name, entry in ab.items():
        assert entry["difference"] == pytest.approx(-ba[name]["difference"])
        assert entry["low"] == pytest.approx(-ba[name]["high"])


def test_the_order_of_the_rows_does_not_matter(make_table: MakeTable) -> None:
    a, b = make_table(), noisy(make_table(), 1, 2.0)
    shuffled = b.sample(frac=1, random_state=0)
    first, second = (compare_predictions(a, t, resamples=200)["metrics"] for t in (b, shuffled))
    for name, entry in first.items():
        assert entry["difference"] == pytest.approx(second[name]["difference"])
        assert entry["low"] == pytest.approx(second[name]["low"])


def test_a_clear_difference_is_said_and_an_unclear_one_is_not(make_table: MakeTable) -> None:
    good = make_table(separation=5.0, shared=0.1)
    bad = noisy(good, 1, 8.0)
    up, down = compare_predictions(good, bad), compare_predictions(bad, good)
    assert (up["verdict"], down["verdict"]) == ("helps", "hurts")
    assert up["sentence"].startswith("Run A is better than Run B: AUC")
    assert down["sentence"].startswith("Run A is worse than Run B: AUC")
    pair = noisy(good, 1, 1.0), noisy(good, 2, 1.0)
    alike = compare_predictions(*pair, margin=0.001)
    assert alike["metrics"]["auc"]["low"] < 0 < alike["metrics"]["auc"]["high"]
    assert alike["verdict"] == "inconclusive"
    assert "Run A against Run B is inconclusive at n = 60 patients" in alike["sentence"]
    assert "better" not in alike["sentence"]
    assert compare_predictions(*pair, margin=0.2)["verdict"] == "equivalent"


def test_the_paired_interval_is_narrower_than_that_of_two_unrelated_runs(
    make_table: MakeTable,
) -> None:
    a = make_table()
    paired = compare_predictions(a, noisy(a, 1, 0.3))["metrics"]["auc"]
    apart = compare_predictions(a, make_table(seed=9))["metrics"]["auc"]
    assert paired["high"] - paired["low"] < 0.7 * (apart["high"] - apart["low"])


def test_other_cases_are_refused_by_name_and_left_out_on_request(make_table: MakeTable) -> None:
    a = make_table()
    b = a[a["case_id"] != "case7"]
    with pytest.raises(DataError, match=r"179 in common.*case7") as caught:
        compare_predictions(a, b)
    assert caught.value.code == "different_cases"
    found = compare_predictions(a, b, common_only=True, resamples=50)
    assert (found["n_cases"], found["n_left_out"]) == (179, 1)


def test_other_labels_and_other_classes_are_refused(make_table: MakeTable) -> None:
    a = make_table()
    b = a.copy()
    b.loc[3, "label"] = "nodule" if b.loc[3, "label"] == "vessel" else "vessel"
    with pytest.raises(DataError, match=r"case3 has another label"):
        compare_predictions(a, b)
    renamed = a.rename(columns={"prob_nodule": "prob_mass"}).replace("nodule", "mass")
    with pytest.raises(DataError, match="different classes"):
        compare_predictions(a, renamed)


def test_two_perfect_runs_are_not_known_to_be_equal(make_table: MakeTable) -> None:
    table = make_table(patients=20)
    p = np.where(table["label"] == "nodule", 0.9, 0.1)
    first = table.assign(prob_nodule=p, prob_vessel=1 - p)
    found = compare_predictions(first, noisy(first, 1, 0.1), resamples=50)
    auc = found["metrics"]["auc"]
    left = 1 - 0.025 ** (1 / 10)  # ten pairs of patients
    assert (auc["difference"], auc["p"]) == (0, 1)
    assert (auc["low"], auc["high"]) == (pytest.approx(-left), pytest.approx(left))
    assert "Clopper-Pearson" in auc["method"]
    assert found["verdict"] == "inconclusive"


def test_runs_that_order_all_cases_alike_are_not_known_to_be_equal(make_table: MakeTable) -> None:
    table = make_table(patients=20)
    p = table["prob_nodule"] / 2  # others, in the same order
    found = compare_predictions(table, table.assign(prob_nodule=p, prob_vessel=1 - p), resamples=50)
    auc, left = found["metrics"]["auc"], 1 - 0.025 ** (1 / 10)
    assert (auc["difference"], auc["p"]) == (0, 1)
    assert (auc["low"], auc["high"]) == (pytest.approx(-left), pytest.approx(left))
    assert auc["reason"] == "all resamples are the same; exact bound from 10 independent trials"
    assert found["verdict"] == "inconclusive"


@pytest.mark.parametrize(("patients", "verdict"), [(6, "inconclusive"), (40, "helps")])
def test_a_difference_that_is_alike_in_all_resamples_has_an_exact_bound(
    make_table: MakeTable, patients: int, verdict: str
) -> None:
    table = make_table(patients=patients)
    p = np.where(table["label"] == "nodule", 0.9, 0.1)
    perfect = table.assign(prob_nodule=p, prob_vessel=1 - p)
    constant = table.assign(prob_nodule=0.5, prob_vessel=0.5)
    found = compare_predictions(perfect, constant, resamples=50)
    auc, pairs = found["metrics"]["auc"], patients // 2
    left = 1 - 0.025 ** (1 / pairs)
    # In a share `left` of all pairs the difference may be anything from -1 to 1.
    limits = pytest.approx(0.5 * (1 - left) - left), pytest.approx(0.5 * (1 - left) + left)
    assert (auc["difference"], auc["low"], auc["high"]) == (0.5, *limits)
    assert (auc["p"] < 0.05) == (auc["low"] > 0)
    assert found["verdict"] == verdict


def test_a_mean_that_hides_its_parts_has_no_bound(make_table: MakeTable) -> None:
    table = make_table(patients=20)
    runs = [table.assign(prob_nodule=p, prob_vessel=1 - p) for p in (0.9, 0.1)]
    found = compare_predictions(*runs, resamples=50)["metrics"]["balanced_accuracy"]
    # all called positive against all called negative: +1 and -1
    assert (found["difference"], found["low"], found["p"]) == (0, None, None)
    assert found["reason"] == "all resamples are the same"


def test_a_class_of_one_patient_leaves_nothing_to_compare(make_table: MakeTable) -> None:
    table = make_table(patients=20, cases=1)
    keep = (table["label"] == "vessel") | (table["patient_id"] == "001")
    a, b = (noisy(table[keep], seed, 1.0) for seed in (1, 2))
    found = compare_predictions(a, b, resamples=50)
    for name in ("auc", "balanced_accuracy"):
        entry = found["metrics"][name]
        assert (entry["low"], entry["high"], entry["p"]) == (None, None, None), name
    assert found["verdict"] == "inconclusive"
    assert "cannot be compared: a class is absent, or in too many resamples." in found["sentence"]


def test_runs_of_several_seeds_are_paired_by_seed(make_table: MakeTable) -> None:
    # each seed is lucky or not in both runs alike, so that the difference is steady
    a, b = (
        pd.concat([make_table(separation=s + seed / 2).assign(seed=seed) for seed in range(3)])
        for s in (1.0, 2.0)
    )
    paired = compare_predictions(a, b, resamples=300)["metrics"]["auc"]
    apart = compare_predictions(a, b.assign(seed=b["seed"] + 3), resamples=300)["metrics"]["auc"]
    assert paired["difference"] == pytest.approx(apart["difference"])
    assert paired["high"] - paired["low"] < 0.8 * (apart["high"] - apart["low"])
    assert "3 seeds" in paired["method"]


def test_a_seed_that_lacks_cases_is_refused(make_table: MakeTable) -> None:
    a = make_table()
    b = pd.concat([a, a[a["case_id"] != "case7"].assign(seed=1)])
    with pytest.raises(DataError, match=r"Run B, seed 1, lacks case7\. .*--common-only"):
        compare_predictions(a, b)


def test_n_of_a_difference_is_the_number_of_cases_behind_it(make_table: MakeTable) -> None:
    a, b = make_table(patients=31), noisy(make_table(patients=31), 1, 2.0)
    found = compare_predictions(a, b, resamples=50)["metrics"]
    positive = int((a["label"] == "nodule").sum())
    assert found["sensitivity"]["n"] == positive
    assert found["specificity"]["n"] == len(a) - positive
    # the two runs call other cases positive
    assert found["ppv"]["n"] == found["auc"]["n"] == len(a)


@pytest.mark.slow
def test_the_paired_test_rejects_about_five_per_cent_of_equal_runs(make_table: MakeTable) -> None:
    rejected = 0
    for study in range(STUDIES):
        table = make_table(seed=5000 + study)
        pair = noisy(table, 2 * study, 1.0), noisy(table, 2 * study + 1, 1.0)
        found = compare_predictions(*pair, resamples=400, seed=study)
        rejected += found["metrics"]["auc"]["p"] < 0.05
    assert ERRORS[0] <= rejected / STUDIES <= ERRORS[1]
