"""Arms differ by what they see, and by nothing else."""

from typing import Any

import pytest

from medvid.build import validate_options
from medvid.context.arms import Arm, list_arms
from medvid.context.cells import list_cells, list_seeds
from medvid.context.length import fit_length
from medvid.context.options import CONTROLS, check_context, context_options
from medvid.contract import ConfigError
from medvid.data.sampling import build_sampler

MODEL = {"name": "c3d", "width": 8}


def make_options(**given: Any) -> dict[str, Any]:
    options = context_options(**validate_options(context_options, given, "section `context`"))
    check_context(options)
    return options


def make_arms(**given: Any) -> dict[str, Arm]:
    options = make_options(**{"windows": [5, 1, 3], **given})
    networks = {"t3d": {"name": "t3d", "width": 8}, "c3d": MODEL}
    return {arm.name: arm for arm in list_arms(options, options["length"] or 5, networks, MODEL)}


def test_windows_rise_and_come_first() -> None:
    assert list(make_arms())[:3] == ["w1", "w3", "w5"]


def test_every_arm_is_a_sampler_of_the_same_length() -> None:
    arms = make_arms(learning_curve=[0.5], length=7)
    samplers = [build_sampler(arm.changes["data"]["sampler"]) for arm in arms.values()]
    assert {getattr(sampler, "length", None) for sampler in samplers} == {7}


def test_controls_see_what_they_say() -> None:
    arms = make_arms(controls=list(CONTROLS))
    data = {name: arms[name].changes["data"] for name in CONTROLS}
    assert data["repeat"]["sampler"]["window"] == 1
    assert data["shuffle"]["sampler"]["order"] == "shuffled"
    assert data["reverse"]["sampler"]["order"] == "reversed"
    assert data["far"]["sampler"]["neighbours"] == "far"
    assert data["position"]["pixels"] is False
    assert data["permuted_labels"]["permute_labels"] is True
    for name in ("shuffle", "reverse", "far", "position", "permuted_labels"):
        assert data[name]["sampler"]["window"] == 5


def test_repeat_is_the_window_of_one_slice_and_is_not_trained_twice() -> None:
    arms = make_arms()
    assert arms["repeat"].same_as == "w1"
    cells = list_cells(arms.values(), seeds=[0, 1], folds=2)
    assert "repeat" not in {cell.arm for cell in cells}
    assert make_arms(windows=[3, 5])["repeat"].same_as is None


def test_windows_in_mm_make_arms_too() -> None:
    arms = make_arms(windows=None, windows_mm=[0, 10, 2.5])
    assert list(arms)[:3] == ["mm0", "mm2.5", "mm10"]
    assert arms["repeat"].same_as == "mm0"
    assert arms["mm10"].title == "10 mm"


MM: dict[str, Any] = {"windows": None, "windows_mm": [0, 10, 20]}


def test_the_clip_holds_the_widest_window_where_slices_lie_closest() -> None:
    options = make_options(**MM)
    assert fit_length(options, [(40, 5.0)]) == 5
    assert fit_length(options, [(40, 5.0), (40, 1.25), (40, 5.0)]) == 17
    # A stack of 4 slices has no more than 3 neighbours on a side, however close they lie.
    assert fit_length(options, [(40, 5.0), (4, 1.0)]) == 7
    assert fit_length(make_options(windows=[1, 9]), []) == 9


def test_a_clip_that_would_cut_a_window_in_mm_is_refused() -> None:
    options = make_options(**MM, length=5)
    with pytest.raises(ConfigError, match=r"holds 17 slices where they lie 1\.25 mm apart") as cut:
        fit_length(options, [(40, 5.0), (40, 1.25)])
    assert cut.value.code == "short_length"
    assert fit_length(make_options(**MM, length=21), [(40, 1.25)]) == 21


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        ([0, 8, 20], "8 mm shows the same slices as one of 0 mm in every stack.*Leave it out"),
        ([8, 20], "8 mm shows the same slices as one of 0 mm in every stack.*Write 0"),
        ([0, 20, 25], "25 mm shows the same slices as one of 20 mm"),
    ],
)
def test_two_windows_in_mm_that_show_the_same_are_refused(windows: list[int], said: str) -> None:
    options = make_options(windows=None, windows_mm=windows)
    with pytest.raises(ConfigError, match=said):
        fit_length(options, [(40, 5.0)])
    fit_length(options, [(40, 5.0), (40, 2.0)])  # there they differ


def test_windows_in_mm_that_both_reach_the_ends_from_the_middle_are_refused() -> None:
    options = make_options(windows=None, windows_mm=[0, 40, 60])
    with pytest.raises(ConfigError, match="60 mm shows the same slices as one of 40 mm"):
        fit_length(options, [(9, 5.0)], middle_only=True)
    assert fit_length(options, [(9, 5.0)]) == 13


@pytest.mark.parametrize(
    ("windows", "middle_only", "said"),
    [
        ([1, 17, 19], True, "a window of 17 shows no more than one of 9 .* instead of 17, 19"),
        ([1, 11], True, "has 9 slices .* around the middle one"),
        ([1, 101], False, "a window of 101 shows no more than one of 17 .* at one end"),
    ],
)
def test_windows_in_frames_wider_than_every_stack_are_refused(
    windows: list[int], middle_only: bool, said: str
) -> None:
    options = make_options(windows=windows)
    with pytest.raises(ConfigError, match=said) as refused:
        fit_length(options, [(9, 5.0), (7, 1.0)], middle_only=middle_only)
    assert refused.value.code == "wide_window"
    longer = [(9, 5.0), (101, 1.0)]
    assert fit_length(options, longer, middle_only=middle_only) == max(windows)


def test_the_widest_windows_that_show_something_else_are_taken() -> None:
    assert fit_length(make_options(windows=[1, 7, 9]), [(9, 5.0)], middle_only=True) == 9
    assert fit_length(make_options(windows=[1, 15, 17]), [(9, 5.0)]) == 17


def test_natural_networks_and_shares_are_arms_of_the_widest_window() -> None:
    arms = make_arms(learning_curve=[0.5, 0.25])
    assert arms["net_t3d"].changes["model"] == {"name": "t3d", "width": 8}
    assert arms["net_t3d"].changes["data"] == arms["w5"].changes["data"]
    assert arms["w5_share25"].changes["data"]["splits"] == {"train_share": 0.25}
    assert arms["w5_share50"].kind == "learning"


def test_the_matched_network_is_not_trained_a_second_time_as_a_natural_one() -> None:
    arms = make_arms()
    assert (arms["net_c3d"].same_as, arms["net_t3d"].same_as) == ("w5", None)


def test_the_first_seed_is_done_before_the_second_begins() -> None:
    cells = list_cells(make_arms().values(), list_seeds(7, 2), folds=3)
    assert list_seeds(7, 2) == [7, 8]
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert len(set(cells)) == len(cells)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "one of them only"),
        ({"windows": [1, 3], "windows_mm": [0, 5]}, "one of them only"),
        ({"windows": [3]}, "two different windows"),
        ({"windows": [3, 3]}, "two different windows"),
        ({"windows": [1, 4]}, "4 is not"),
        ({"windows": [1, 9], "length": 5}, "does not fit"),
        ({"windows": [1, 3], "controls": ["repeet"]}, "repeet"),
        ({"windows": [1, 3], "margin": 0.7}, "margin"),
    ],
)
def test_questions_that_cannot_be_meant_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_options(**given)
