"""A share of the patients is trained for as many steps as all of them."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvid.context.budget import keep_steps
from medvid.train.optim import SCHEDULES

TRAIN: dict[str, Any] = {
    "epochs": 10,
    "max_steps": None,
    "schedule": "cosine",
    "early_stopping_patience": None,
    "accumulate": 1,
}


@given(st.integers(1, 30), st.integers(1, 50), st.integers(0, 50), st.none() | st.integers(1, 99))
def test_fewer_cases_end_at_the_step_at_which_all_end(
    epochs: int, steps: int, more: int, most: int | None
) -> None:
    whole = steps + more
    kept = keep_steps({**TRAIN, "epochs": epochs, "max_steps": most}, steps, whole)
    assert kept["max_steps"] == min(epochs * whole, most or math.inf)
    assert (kept["epochs"] - 1) * steps < kept["max_steps"] <= kept["epochs"] * steps


def test_a_share_that_fills_as_many_batches_is_trained_as_it_was() -> None:
    kept = keep_steps(TRAIN, 3, 3)
    assert (kept["epochs"], kept["max_steps"], kept["schedule"]["name"]) == (10, 30, "cosine")


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "constant", "warmup_epochs": 2.0},
        {"name": "cosine", "warmup_epochs": 1.5},
        {"name": "step", "every": 4, "warmup_epochs": 1.0},
        {"name": "step", "milestones": [2, 7]},
        "one_cycle",
    ],
)
def test_the_learning_rate_of_every_step_is_that_of_all_patients(schedule: Any) -> None:
    steps, whole = 4, 8
    kept = keep_steps({**TRAIN, "schedule": schedule}, steps, whole)
    rates = []
    for spec, per_epoch in ((schedule, whole), (kept["schedule"], steps)):
        options = {"name": spec} if isinstance(spec, str) else dict(spec)
        build = SCHEDULES[options.pop("name")]
        factor = build(**options, steps_per_epoch=per_epoch, total_steps=80)
        rates.append([factor(step) for step in range(80)])
    assert rates[0] == pytest.approx(rates[1])


def test_patience_is_as_many_steps_as_before() -> None:
    train = {**TRAIN, "schedule": "plateau", "early_stopping_patience": 3}
    kept = keep_steps(train, 4, 8)
    assert kept["early_stopping_patience"] == 6
    assert kept["schedule"]["patience"] == 20  # 10 is the default
