import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medvid.evaluate import evaluate_predictions
from tests.evaluate.conftest import MakeTable


def shift_folds(table: pd.DataFrame, steps: float) -> pd.DataFrame:
    """Returns the table of networks that order cases alike but at another level in every fold."""
    z = np.log(table["prob_nodule"] / table["prob_vessel"]) + steps * table["fold"]
    p = 1 / (1 + np.exp(-z))
    return table.assign(prob_nodule=p, prob_vessel=1 - p)


def aucs(table: pd.DataFrame) -> list[float]:
    return [
        float(roc_auc_score(part["label"] == "nodule", part["prob_nodule"]))
        for _, part in table.groupby("fold")
    ]


def test_the_mean_of_the_folds_and_its_spread_stand_beside_the_pooled_auc(
    make_table: MakeTable,
) -> None:
    table = make_table()
    found = evaluate_predictions(table, resamples=200)
    each = aucs(table)
    entry = found["metrics"]["auc_within_folds"]
    assert entry["value"] == pytest.approx(np.mean(each))
    assert entry["sd"] == pytest.approx(np.std(each, ddof=1))
    assert entry["low"] < entry["value"] < entry["high"]
    assert [one["auc"] for one in found["within_folds"]["folds"]] == pytest.approx(each)
    pooled = found["metrics"]["auc"]["value"]
    said = (
        f"AUC within the folds: mean {np.mean(each):.3f}, SD {np.std(each, ddof=1):.3f} over 5 "
        f"folds; all folds pooled {pooled:.3f}."
    )
    assert said in found["notes"]
    json.dumps(found, allow_nan=False)


def test_levels_that_differ_between_folds_lower_the_pooled_auc_and_not_the_mean(
    make_table: MakeTable,
) -> None:
    table = make_table(separation=3.0, shared=0.2)
    before, after = (
        evaluate_predictions(t, resamples=20)["metrics"] for t in (table, shift_folds(table, 2.0))
    )
    assert after["auc_within_folds"]["value"] == pytest.approx(before["auc_within_folds"]["value"])
    assert after["auc"]["value"] < before["auc"]["value"] - 0.05


def test_a_single_fold_has_no_mean(make_table: MakeTable) -> None:
    found = evaluate_predictions(make_table().assign(fold=0), resamples=20)
    assert "auc_within_folds" not in found["metrics"]
    assert found["within_folds"] is None


def test_a_fold_without_a_class_is_left_out_and_counted(make_table: MakeTable) -> None:
    table = make_table()
    table = table[(table["fold"] != 2) | (table["label"] == "vessel")]
    found = evaluate_predictions(table, resamples=50)
    each = aucs(table[table["fold"] != 2])
    assert found["metrics"]["auc_within_folds"]["value"] == pytest.approx(np.mean(each))
    assert found["within_folds"]["n_folds"] == 4
    assert found["within_folds"]["folds"][2]["auc"] is None
    assert any("1 more lacks a class" in note for note in found["notes"])


def test_repeats_with_folds_of_their_own_are_averaged_over_all_folds(
    make_table: MakeTable,
) -> None:
    first, second = make_table(seed=1), make_table(seed=2).assign(seed=1)
    both = pd.concat([first, second.assign(fold=second["fold"] + 5)])
    found = evaluate_predictions(both, resamples=50)["metrics"]["auc_within_folds"]
    assert found["value"] == pytest.approx(np.mean(aucs(both)))
    assert found["sd"] == pytest.approx(np.std(aucs(both), ddof=1))


def test_perfect_folds_of_repeats_keep_a_bound(make_table: MakeTable) -> None:
    table = make_table(patients=20)
    p = np.where(table["label"] == "nodule", 0.9, 0.1)
    first = table.assign(prob_nodule=p, prob_vessel=1 - p)
    both = pd.concat([first, first.assign(seed=1, fold=first["fold"] + 5)])
    found = evaluate_predictions(both, resamples=50)["metrics"]["auc_within_folds"]
    # five folds of two pairs each, in either repeat; the repeats are of the same patients
    assert found["low"] == pytest.approx(0.025 ** (1 / 10))


def test_classes_are_averaged_within_the_fold() -> None:
    n, rng = 90, np.random.default_rng(0)
    names = [f"{i:03d}" for i in range(n)]
    table = pd.DataFrame(
        {
            "case_id": names,
            "patient_id": names,
            "fold": np.arange(n) % 3,
            "label": list("aabbc") * 18,
        }
    )
    columns = ["prob_a", "prob_b", "prob_c"]
    table[columns] = rng.dirichlet([1, 1, 1], n)
    expected = [
        roc_auc_score(part["label"], part[columns], multi_class="ovr", average="macro")
        for _, part in table.groupby("fold")
    ]
    found = evaluate_predictions(table, resamples=50)["within_folds"]
    assert [one["auc"] for one in found["folds"]] == pytest.approx(expected)
