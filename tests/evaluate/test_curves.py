"""Curves of several seeds are the means of the seeds' curves, as the numbers beside them are."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from medvid.evaluate import average_seeds, bin_reliability, read_outcomes, roc_band
from medvid.evaluate.decision import measure_net_benefit, trace_precision
from medvid.evaluate.predictions import Outcomes, split_seeds

MakeTable = Callable[..., pd.DataFrame]


@pytest.fixture
def shifted(make_table: MakeTable) -> Outcomes:
    """Two seeds, the second of which scores all cases much higher."""
    tables = []
    for seed, shift in enumerate((-2.0, 2.0)):
        table = make_table(seed=0, separation=3.0).assign(seed=seed)
        odds = np.log(table["prob_nodule"] / table["prob_vessel"])
        odds = odds + shift + np.random.default_rng(seed).normal(0, 0.5, len(table))
        table["prob_nodule"] = 1 / (1 + np.exp(-odds))
        tables.append(table.assign(prob_vessel=1 - table["prob_nodule"]))
    return read_outcomes(pd.concat(tables, ignore_index=True))


def list_scores(outcomes: Outcomes) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(own.labels == 1, own.probabilities[:, 1]) for own in split_seeds(outcomes)]


def test_the_area_under_a_roc_curve_is_the_mean_of_the_seeds(shifted: Outcomes) -> None:
    band = roc_band(shifted, 1, resamples=50)
    mean = np.mean([roc_auc_score(truth, score) for truth, score in list_scores(shifted)])
    assert band.auc == pytest.approx(mean)
    assert np.trapezoid(band.tpr, band.fpr) == pytest.approx(mean, abs=0.01)
    assert band.auc_low < band.auc < band.auc_high
    pooled = roc_auc_score(shifted.labels == 1, shifted.probabilities[:, 1])
    assert pooled < mean - 0.1  # what was drawn would be another curve


def test_a_mean_curve_of_equal_seeds_is_the_curve_of_one(shifted: Outcomes) -> None:
    one = split_seeds(shifted)[0]
    twice = read_twice(one)
    np.testing.assert_allclose(
        roc_band(twice, 1, resamples=20).tpr, roc_band(one, 1, resamples=20).tpr
    )
    assert trace_precision(twice, 1).average() == pytest.approx(trace_precision(one, 1).average())
    for ours, theirs in zip(bin_reliability(twice, 1), bin_reliability(one, 1), strict=True):
        np.testing.assert_allclose(ours, theirs)


def read_twice(one: Outcomes) -> Outcomes:
    rows = np.tile(np.arange(len(one)), 2)
    twice = one.select(rows)
    twice.seeds[len(one) :] += 1
    return twice


def test_the_average_precision_of_a_curve_is_the_mean_of_the_seeds(shifted: Outcomes) -> None:
    curve = trace_precision(shifted, 1)
    each = [average_precision_score(truth, score) for truth, score in list_scores(shifted)]
    assert curve.average() == pytest.approx(np.mean(each))
    assert (np.diff(curve.recall) > 0).all()
    assert curve.recall[-1] == 1


def test_bins_of_several_seeds_are_means_and_count_every_case_once(shifted: Outcomes) -> None:
    predicted, observed, counts = bin_reliability(shifted, 1)
    each = [bin_reliability(own, 1) for own in split_seeds(shifted)]
    np.testing.assert_allclose(predicted, np.mean([one[0] for one in each], axis=0))
    np.testing.assert_allclose(observed, np.mean([one[1] for one in each], axis=0))
    assert counts.sum() == len(shifted) / 2


def test_net_benefit_of_several_seeds_is_their_mean(shifted: Outcomes) -> None:
    whole = measure_net_benefit(shifted, 1, resamples=20)
    each = [measure_net_benefit(own, 1, resamples=20) for own in split_seeds(shifted)]
    np.testing.assert_allclose(whole.value, np.mean([one.value for one in each], axis=0))


def test_averaged_seeds_have_a_row_a_case(shifted: Outcomes) -> None:
    mean = average_seeds(shifted)
    assert len(mean) == len(shifted) / 2
    first = shifted.probabilities[shifted.keys == mean.keys[0]]
    np.testing.assert_allclose(mean.probabilities[0], first.mean(axis=0), atol=5e-6)
