"""What controls must show, and that a study notices when they do not."""

import numpy as np
import pandas as pd
import pytest

from medvid.context.arms import Arm
from medvid.context.learning import note_learning
from medvid.context.verdict import judge_controls, judge_repeat
from medvid.evaluate import Chance

SETTINGS = {"positive": None, "resamples": 200, "level": 0.95}


def make_table(strength: float, *, arm: int) -> pd.DataFrame:
    rng = np.random.default_rng(arm)
    tables = []
    for seed in range(2):
        truth = np.arange(60) % 2
        p = 1 / (1 + np.exp(-strength * (truth - 0.5) - rng.normal(size=60)))
        names = {
            "case_id": [f"c{i}" for i in range(60)],
            "patient_id": [f"p{i}" for i in range(60)],
        }
        labels = np.where(truth, "nodule", "vessel")
        own = {"fold": 0, "seed": seed, "label": labels, "prob_vessel": 1 - p, "prob_nodule": p}
        tables.append(pd.DataFrame({**names, **own}))
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize(("strength", "met"), [(0.0, True), (5.0, False)])
def test_copies_of_the_target_may_not_beat_the_narrowest_window(strength: float, met: bool) -> None:
    tables = {"w1": make_table(0.0, arm=1), "repeat": make_table(strength, arm=2)}
    assert judge_repeat(tables, "w1", SETTINGS) is met


def note(share: float, whole: float, *, margin: float = 0.02) -> str:
    arms = [
        Arm("w3", "window", "3 slices", "", {}, window=3),
        Arm("w3_share50", "learning", "3 slices, 50%", "", {}, share=0.5),
    ]
    tables = {"w3": make_table(whole, arm=1), "w3_share50": make_table(share, arm=2)}
    said = note_learning(tables, arms, "w3", margin=margin, settings=SETTINGS)
    assert said is not None
    return said


def test_a_curve_rises_only_where_the_interval_of_the_difference_says_so() -> None:
    assert "The curve is still rising" in note(0.0, 5.0)
    assert note(0.0, 5.0).startswith("From 50% of the training patients to all, the AUC changed by")
    assert "95% interval +0." in note(0.0, 5.0)
    unsure = note(1.0, 1.0)
    assert " by +0.1" in unsure  # as chance has it
    assert "n = 60 patients does not allow to say whether the curve still rises" in unsure
    assert "still rising" not in unsure
    assert "levelled off: the change lies within the margin of 0.49" in note(1.0, 1.0, margin=0.49)
    assert "made it worse" in note(5.0, 0.0)


def test_without_a_learning_curve_nothing_is_said_of_it() -> None:
    arm = Arm("w3", "window", "3 slices", "", {}, window=3)
    table = {"w3": make_table(1.0, arm=1)}
    assert note_learning(table, [arm], "w3", margin=0.02, settings=SETTINGS) is None


def test_without_copies_nothing_is_said_of_them() -> None:
    assert judge_repeat({"w1": make_table(0.0, arm=1)}, "w1", SETTINGS) is None


def test_an_answer_that_dealt_labels_give_is_not_as_expected() -> None:
    compared = [{"family": "controls", "a": "permuted_labels", "sentence": ""}]
    (row,) = judge_controls(
        compared, ["permuted_labels"], repeat_met=None, chance=Chance(0.71, 0.62, 0.79, 6)
    )
    assert row["met"] is False
    assert "6 trainings" in row["sentence"]
    assert "wrong in training, prediction or scoring: find it first" in row["sentence"]
    assert "split" not in row["sentence"]  # a leak does not show here


@pytest.mark.parametrize(
    ("chance", "met"),
    [
        (Chance(0.93, 0.41, 1.0, 2), None),  # true labels that were scored would look like this
        (Chance(0.52, 0.41, 0.63, 6), True),
        (Chance(0.80, 0.55, 1.0, 3), False),
    ],
)
def test_trainings_too_few_to_tell_an_error_are_not_as_expected(
    chance: Chance, met: bool | None
) -> None:
    compared = [{"family": "controls", "a": "permuted_labels", "sentence": ""}]
    (row,) = judge_controls(compared, ["permuted_labels"], repeat_met=None, chance=chance)
    assert row["met"] is met
    assert ("too few to tell" in row["sentence"]) == (met is None)


def test_copies_that_are_one_arm_with_the_narrowest_window_have_met_nothing() -> None:
    compared = [{"family": "controls", "a": "repeat", "sentence": "They are equal."}]
    (row,) = judge_controls(compared, ["repeat"], repeat_met=None, repeat_is="1 slice", chance=None)
    assert row["met"] is None
    assert "the window of 1 slice by construction. They are equal." in row["sentence"]
