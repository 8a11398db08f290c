import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvid.contract import ConfigError
from medvid.evaluate.holm import adjust_holm, check_resamples

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


@given(st.integers(1, 40), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_so_many_resamples_that_a_family_can_have_a_finding_pass_and_one_less_do_not(
    comparisons: int, level: float
) -> None:
    fewest = round(2 * comparisons / (1 - level))
    check_resamples(fewest, level, comparisons)
    adjusted = adjust_holm([2 / (fewest + 1)] * comparisons)
    assert all(p is not None and p < 1 - level for p in adjusted)
    with pytest.raises(ConfigError, match=f"Give at least {fewest}"):
        check_resamples(fewest - 1, level, comparisons)
