import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvid.evaluate.holm import adjust_holm

P_VALUES = st.lists(st.floats(0, 1), max_size=12)


def test_holm_of_a_small_family_is_what_one_gets_by_hand() -> None:
    # rising: .01 * 4, .02 * 3, .03 * 2, .04 * 1, none below one before it
    assert adjust_holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


@given(P_VALUES)
def test_adjusted_values_keep_the_order_and_lie_between_raw_and_bonferroni(p: list[float]) -> None:
    adjusted = [a for a in adjust_holm(p) if a is not None]
    assert len(adjusted) == len(p)
    for raw, own in zip(p, adjusted, strict=True):
        assert raw <= own <= min(1.0, raw * len(p)) or own == pytest.approx(raw * len(p))
    ranked = [own for _, own in sorted(zip(p, adjusted, strict=True))]
    assert ranked == sorted(ranked)


@given(P_VALUES, st.integers(0, 12))
def test_a_comparison_that_cannot_be_made_does_not_count(p: list[float], place: int) -> None:
    with_gap: list[float | None] = [*p[:place], None, *p[place:]]
    adjusted = adjust_holm(with_gap)
    place = min(place, len(p))
    assert adjusted.pop(place) is None
    assert adjusted == adjust_holm(p)
