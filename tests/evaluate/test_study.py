import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvid.contract import ConfigError, DataError
from medvid.evaluate import compare_arms, evaluate_arms, evaluate_predictions

DRAWS = 300


def make_arm(
    separation: float,
    *,
    arm: int = 0,
    patients: int = 40,
    rows: int = 1,
    seeds: int = 2,
    own: float = 0.5,
) -> pd.DataFrame:
    """Returns predictions of patients that all arms share, with noise of the arm and the seed."""
    n = patients * rows
    place = np.repeat(np.arange(patients), rows)
    shared = np.random.default_rng(7).normal(size=n)
    tables = []
    for seed in range(seeds):
        noise = own * np.random.default_rng([arm, seed]).normal(size=n)
        p = 1 / (1 + np.exp(-separation * (place % 2 - 0.5) - shared - noise))
        tables.append(
            pd.DataFrame(
                {
                    "case_id": [f"c{i:03d}" for i in range(n)],
                    "patient_id": [f"p{i:03d}" for i in place],
                    "fold": place % 4 // 2,
                    "seed": seed,
                    "label": np.where(place % 2, "nodule", "vessel"),
                    "prob_vessel": 1 - p,
                    "prob_nodule": p,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def test_an_arm_is_the_mean_of_its_seeds() -> None:
    table = make_arm(1.5, rows=2)
    found = evaluate_arms({"w1": table}, resamples=DRAWS)["w1"]
    pooled = evaluate_predictions(table, resamples=1)
    for name in ("auc", "log_loss", "brier"):
        entry = found["metrics"][name]
        assert entry["value"] == pytest.approx(pooled["metrics"][name]["value"])
        assert entry["low"] < entry["value"] < entry["high"]
    assert found["auc_within_folds"] == pytest.approx(pooled["within_folds"]["mean"])
    by_seed = [row["auc"] for row in found["auc_by_seed"]]
    assert np.mean(by_seed) == pytest.approx(found["metrics"]["auc"]["value"])
    json.dumps(found, allow_nan=False)


def test_a_seed_that_did_not_learn_leaves_limits_where_a_loss_can_be() -> None:
    learnt = make_arm(12.0, seeds=3)
    failed = learnt["seed"] == 1
    learnt.loc[failed, ["prob_vessel", "prob_nodule"]] = [0.1, 0.9]
    found = evaluate_arms({"w5": learnt}, resamples=DRAWS)["w5"]["metrics"]
    for name in ("log_loss", "brier"):
        assert 0 < found[name]["low"] < found[name]["value"] < found[name]["high"]


def test_several_classes_and_several_findings_are_measured_as_in_a_run() -> None:
    rng = np.random.default_rng(0)
    base = make_arm(1.0)[["case_id", "patient_id", "fold", "seed"]]
    place = base["case_id"].str[1:].astype(int).to_numpy()
    classes = base.assign(label=np.array(["a", "b", "c"])[place % 3])
    classes[["prob_a", "prob_b", "prob_c"]] = rng.dirichlet([1, 1, 1], len(base))
    findings = base.assign(
        label_x=place % 2,
        label_y=np.where(place % 5, place % 3 == 0, np.nan),
        prob_x=rng.random(len(base)),
        prob_y=rng.random(len(base)),
    )
    for table in (classes, findings):
        found = evaluate_arms({"w1": table}, resamples=DRAWS)["w1"]["metrics"]
        pooled = evaluate_predictions(table, resamples=1)["metrics"]
        for name in ("auc", "log_loss", "brier"):
            assert found[name]["value"] == pytest.approx(pooled[name]["value"])
            assert found[name]["low"] < found[name]["high"]
        (row,) = compare_arms({"a": table, "b": table}, [("a", "b")], margin=0.02, resamples=DRAWS)
        assert row["verdict"] == "equivalent"
        assert row["delong"] is None


def test_the_same_arm_twice_is_equivalent_and_differs_by_nothing() -> None:
    table = make_arm(1.0)
    (row,) = compare_arms({"a": table, "b": table}, [("a", "b")], margin=0.02, resamples=DRAWS)
    assert (row["difference"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)
    assert row["verdict"] == "equivalent"


@settings(max_examples=10, deadline=None)
@given(st.floats(0, 3), st.floats(0, 3), st.integers(1, 3), st.integers(1, 3))
def test_swapping_the_arms_turns_signs_and_words(
    first: float, second: float, seeds_a: int, seeds_b: int
) -> None:
    tables = {
        "a": make_arm(first, arm=1, seeds=seeds_a),
        "b": make_arm(second, arm=2, seeds=seeds_b),
    }
    ab, ba = (
        compare_arms(tables, [pair], margin=0.02, resamples=DRAWS)[0]
        for pair in (("a", "b"), ("b", "a"))
    )
    assert ab["difference"] == pytest.approx(-ba["difference"])
    assert (ab["low"], ab["high"]) == pytest.approx((-ba["high"], -ba["low"]))
    assert ab["p"] == pytest.approx(ba["p"])
    turned = {"helps": "hurts", "hurts": "helps"}
    assert ab["verdict"] == turned.get(ba["verdict"], ba["verdict"])


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_names_of_patients_and_the_order_of_rows_change_nothing(random: object) -> None:
    rng = np.random.default_rng(random.randint(0, 10**6))  # type: ignore[attr-defined]
    tables = {"a": make_arm(1.0, arm=1, rows=2), "b": make_arm(1.5, arm=2, rows=2)}
    names = sorted(tables["a"]["patient_id"].unique())
    renamed = dict(zip(names, rng.permutation([f"x{i}" for i in range(len(names))]), strict=True))
    others = {
        name: table.assign(patient_id=table["patient_id"].map(renamed)).iloc[
            rng.permutation(len(table))
        ]
        for name, table in tables.items()
    }
    first, second = (
        compare_arms(some, [("a", "b")], margin=0.02, resamples=DRAWS)[0]
        for some in (tables, others)
    )
    for key in ("difference", "low", "high", "p"):
        assert first[key] == pytest.approx(second[key])


def test_clear_and_unclear_differences_get_their_words() -> None:
    tables = {
        "w1": make_arm(0.5, arm=1, patients=120),
        "w3": make_arm(2.5, arm=2, patients=120, own=0.1),
        "w5": make_arm(2.5, arm=3, patients=120, own=0.1),
    }
    up, down, alike = compare_arms(
        tables,
        [("w3", "w1"), ("w1", "w3"), ("w5", "w3")],
        margin=0.05,
        resamples=DRAWS,
        titles={"w1": "1 slice"},
    )
    assert (up["verdict"], down["verdict"], alike["verdict"]) == ("helps", "hurts", "equivalent")
    assert up["sentence"].startswith("w3 is better than 1 slice: AUC")
    assert down["sentence"].startswith("1 slice is worse than w3")
    (few,) = compare_arms(
        {"a": make_arm(1.0, arm=1), "b": make_arm(1.1, arm=2)}, [("a", "b")], margin=0.001
    )
    assert few["verdict"] == "inconclusive"
    assert "inconclusive at n = 40 patients" in few["sentence"]
    assert "better" not in few["sentence"]


def test_a_lower_log_loss_helps() -> None:
    tables = {"a": make_arm(5.0, arm=1, patients=120), "b": make_arm(0.2, arm=2, patients=120)}
    (row,) = compare_arms(tables, [("a", "b")], margin=0.01, metric="log_loss", resamples=DRAWS)
    assert row["difference"] < 0
    assert row["verdict"] == "helps"
    assert row["delong"] is None


def test_delong_stands_beside_with_all_rows_of_a_patient_together() -> None:
    pair = [("a", "b")]
    one = {"a": make_arm(1.0, arm=1), "b": make_arm(2.0, arm=2)}
    doubled = {
        name: pd.concat([table, table.assign(case_id=table["case_id"] + "again")])
        for name, table in one.items()
    }
    (single,), (several,) = (
        compare_arms(tables, pair, margin=0.02, resamples=DRAWS) for tables in (one, doubled)
    )
    assert "seeds' mean" in single["delong"]["method"]
    assert "Obuchowski" in several["delong"]["method"]
    assert several["delong"]["p"] == pytest.approx(single["delong"]["p"])


def test_with_one_seed_the_paired_interval_is_near_delongs() -> None:
    tables = {
        "a": make_arm(1.0, arm=1, patients=300, seeds=1),
        "b": make_arm(1.5, arm=2, patients=300, seeds=1),
    }
    (row,) = compare_arms(tables, [("a", "b")], margin=0.02, resamples=2000)
    assert row["delong"]["difference"] == pytest.approx(row["difference"])
    width = 2 * 1.96 * row["delong"]["standard_error"]
    # 2000 resamples know a standard error to 2 %, t of 149 is 1 % wider, and tails vary as much
    assert row["high"] - row["low"] == pytest.approx(width, rel=0.1)
    assert "other trainings are not in it" in row["method"]


def test_perfect_arms_have_exact_bounds() -> None:
    tables = {"a": make_arm(40.0, arm=1), "b": make_arm(40.0, arm=2)}
    auc = evaluate_arms(tables, resamples=DRAWS)["a"]["metrics"]["auc"]
    low = 0.025 ** (1 / 20)  # twenty pairs of patients
    assert (auc["value"], auc["low"], auc["high"]) == (1, pytest.approx(low), 1)
    (row,) = compare_arms(tables, [("a", "b")], margin=0.02, resamples=DRAWS)
    assert (row["low"], row["high"]) == (pytest.approx(low - 1), pytest.approx(1 - low))
    assert row["verdict"] == "inconclusive"


def test_an_arm_that_orders_all_cases_wrong_or_none_has_no_made_up_certainty() -> None:
    wrong = make_arm(-40.0)
    equal = make_arm(1.0).assign(prob_vessel=0.5, prob_nodule=0.5)
    found = evaluate_arms({"wrong": wrong, "equal": equal}, resamples=DRAWS)
    auc = found["wrong"]["metrics"]["auc"]
    assert (auc["value"], auc["low"]) == (0, 0)
    assert auc["high"] == pytest.approx(1 - 0.025 ** (1 / 20))
    auc = found["equal"]["metrics"]["auc"]
    assert (auc["value"], auc["low"], auc["high"]) == (0.5, None, None)
    assert auc["reason"] == "no interval: all resamples are the same"


def test_arms_of_other_cases_are_refused_by_arm_seed_and_case() -> None:
    a, b = make_arm(1.0, arm=1), make_arm(1.0, arm=2)
    with pytest.raises(DataError, match=r"arm b, seed 1, lacks c003.*finish the cells") as caught:
        evaluate_arms({"a": a, "b": b[(b["case_id"] != "c003") | (b["seed"] == 0)]})
    assert caught.value.code == "different_cases"
    with pytest.raises(DataError, match="No prediction of arm a has a known label"):
        evaluate_arms({"a": a.assign(label="")})
    with pytest.raises(ConfigError, match="There is no arm `c`; there are a, b"):
        compare_arms({"a": a, "b": b}, [("a", "c")], margin=0.02)
    with pytest.raises(ConfigError, match="is no margin"):
        compare_arms({"a": a, "b": b}, [("a", "b")], margin=-1.0)
    with pytest.raises(ConfigError, match="No arm was given"):
        evaluate_arms({})
