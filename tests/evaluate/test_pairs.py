import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvid.evaluate import pairs
from medvid.evaluate.metrics import weighted_auc
from medvid.evaluate.pairs import order_patients


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_the_auc_by_patients_is_the_weighted_auc_of_the_rows(seed: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    place = rng.integers(0, 8, 60)
    scores = np.round(rng.random(60), 1)  # with ties
    truth = rng.random(60) < 0.4 if not whole else np.array([1, 0, 1, 0, 1, 1, 0, 0])[place] == 1
    counts = rng.multinomial(8, np.full(8, 1 / 8), size=20)
    found = order_patients(truth, scores, place).auc(counts)
    expected = weighted_auc(truth.astype(np.int64), scores, counts[:, place].astype(np.float64))
    assert found == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_pairs_counted_in_pieces_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    place, scores = rng.integers(0, 5, 200), rng.random(200)
    truth = rng.random(200) < 0.5
    whole = order_patients(truth, scores, place).ordered
    monkeypatch.setattr(pairs, "CHUNK_PAIRS", 300)
    assert np.array_equal(order_patients(truth, scores, place).ordered, whole)


def test_an_absent_class_has_no_auc() -> None:
    order = order_patients(np.ones(3, dtype=bool), np.arange(3.0), np.arange(3))
    assert np.isnan(order.auc(np.ones((2, 3)))).all()
