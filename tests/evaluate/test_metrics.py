import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from medvid.evaluate.metrics import (
    ECE_BINS,
    binary_metrics,
    class_metrics,
    multiclass_metrics,
    weighted_auc,
    weighted_average_precision,
    weighted_ece,
)

EXACT = 1e-9  # sums of a few hundred float64 products differ by less


def draw(seed: int, n: int = 80) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    labels[:2] = 0, 1
    # two digits, so that there are ties
    return labels, np.round(rng.random(n), 2).clip(0.01, 0.99)


def draw_weights(seed: int, n: int, rows: int = 5) -> NDArray[np.float64]:
    weights = np.random.default_rng(seed).integers(0, 4, (rows, n)).astype(np.float64)
    weights[:, :2] = 1  # both classes are always there
    return weights


seeds = st.integers(0, 2**32 - 1)
laws = settings(max_examples=30, deadline=None)


@laws
@given(seed=seeds)
def test_binary_metrics_are_those_of_scikit_learn_for_every_row_of_weights(seed: int) -> None:
    labels, scores = draw(seed)
    weights = draw_weights(seed, len(labels))
    called = scores >= 0.4
    found = binary_metrics(labels, scores, called, weights)
    for row, w in enumerate(weights):
        given_ = {"sample_weight": w}
        expected = {
            "auc": sk.roc_auc_score(labels, scores, **given_),
            "average_precision": sk.average_precision_score(labels, scores, **given_),
            "accuracy": sk.accuracy_score(labels, called, **given_),
            "balanced_accuracy": sk.balanced_accuracy_score(labels, called, **given_),
            "sensitivity": sk.recall_score(labels, called, **given_),
            "specificity": sk.recall_score(labels, called, pos_label=0, **given_),
            "ppv": sk.precision_score(labels, called, zero_division=np.nan, **given_),
            "npv": sk.precision_score(labels, called, pos_label=0, zero_division=np.nan, **given_),
            "f1": sk.f1_score(labels, called, **given_),
            "log_loss": sk.log_loss(labels, scores, **given_),
            "brier": sk.brier_score_loss(labels, scores, **given_),
        }
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=EXACT, nan_ok=True), name


@laws
@given(seed=seeds)
def test_multiclass_metrics_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, 2, rng.integers(0, 3, 60)]
    probabilities = rng.dirichlet([1, 1, 1], len(labels))
    weights = np.ones((1, len(labels)))
    found = multiclass_metrics(labels, probabilities, weights)
    auc = sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert found["auc"][0] == pytest.approx(auc, abs=EXACT)
    one_hot = np.eye(3)[labels]
    precision = sk.average_precision_score(one_hot, probabilities, average="macro")
    assert found["average_precision"][0] == pytest.approx(precision, abs=EXACT)
    chosen = probabilities.argmax(axis=1)
    assert found["accuracy"][0] == pytest.approx(sk.accuracy_score(labels, chosen))
    balanced = sk.balanced_accuracy_score(labels, chosen)
    assert found["balanced_accuracy"][0] == pytest.approx(balanced)
    assert found["log_loss"][0] == pytest.approx(sk.log_loss(labels, probabilities), abs=1e-6)
    recall = sk.recall_score(labels, chosen, average=None)
    each = class_metrics(labels, probabilities, weights)
    assert [each[k]["sensitivity"][0] for k in range(3)] == pytest.approx(list(recall))


@laws
@given(seed=seeds)
def test_auc_does_not_change_when_scores_are_stretched(seed: int) -> None:
    labels, scores = draw(seed)
    weights = draw_weights(seed, len(labels))
    before = weighted_auc(labels, scores, weights)
    assert np.array_equal(before, weighted_auc(labels, np.log(scores) * 3 + 1, weights))


@laws
@given(seed=seeds)
def test_auc_of_flipped_labels_is_the_rest_to_one(seed: int) -> None:
    labels, scores = draw(seed)
    weights = draw_weights(seed, len(labels))
    total = weighted_auc(labels, scores, weights) + weighted_auc(1 - labels, scores, weights)
    assert total == pytest.approx(np.ones(len(weights)), abs=EXACT)


@laws
@given(seed=seeds)
def test_a_weight_counts_like_a_repetition(seed: int) -> None:
    labels, scores = draw(seed)
    weights = draw_weights(seed, len(labels), rows=1)
    times = weights[0].astype(int)
    again, scored = np.repeat(labels, times), np.repeat(scores, times)
    one = np.ones((1, len(again)))
    weighted = binary_metrics(labels, scores, scores >= 0.5, weights)
    repeated = binary_metrics(again, scored, scored >= 0.5, one)
    for name, value in weighted.items():
        assert value == pytest.approx(repeated[name], abs=EXACT, nan_ok=True), name


@laws
@given(seed=seeds)
def test_calibration_error_lies_between_0_and_1_and_is_the_sum_over_bins(seed: int) -> None:
    labels, scores = draw(seed)
    weights = draw_weights(seed, len(labels))
    found = weighted_ece(labels.astype(np.float64), scores, weights)
    assert ((found >= 0) & (found <= 1)).all()
    bins = np.floor(scores * ECE_BINS)
    for value, w in zip(found, weights, strict=True):
        by_hand = sum(
            abs((w[bins == b] * (labels - scores)[bins == b]).sum()) for b in np.unique(bins)
        )
        assert value == pytest.approx(by_hand / w.sum(), abs=EXACT)


def test_a_perfectly_calibrated_table_has_no_calibration_error() -> None:
    labels = np.r_[np.zeros(3), 1.0, np.ones(3), 0.0]
    scores = np.r_[np.full(4, 0.25), np.full(4, 0.75)]
    assert weighted_ece(labels, scores, np.ones((1, 8)))[0] == pytest.approx(0, abs=EXACT)


def test_scores_that_are_all_alike_have_an_auc_of_one_half() -> None:
    labels = np.array([0, 1, 1, 0, 1])
    one = np.ones((1, 5))
    assert weighted_auc(labels, np.full(5, 0.3), one)[0] == 0.5
    assert weighted_average_precision(labels, np.full(5, 0.3), one)[0] == pytest.approx(3 / 5)


@pytest.mark.parametrize("only", [0, 1])
def test_a_single_class_leaves_the_auc_undefined(only: int) -> None:
    labels = np.full(6, only)
    scores = np.linspace(0.1, 0.9, 6)
    found = binary_metrics(labels, scores, scores > 0.5, np.ones((2, 6)))
    assert np.isnan(found["auc"]).all()
    assert np.isnan(found["balanced_accuracy"]).all()
    assert np.isfinite(found["brier"]).all()
    assert np.isfinite(found["accuracy"]).all()
