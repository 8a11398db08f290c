"""Schedules are functions of the step; norms and biases do not decay."""

import math
from typing import Any

import pytest
from torch import nn

from medvid.build import build
from medvid.contract import ConfigError
from medvid.train.optim import (
    OPTIMIZERS,
    SCHEDULES,
    build_optimizer,
    build_schedule,
    check_optimizer,
)


def _follow(spec: Any, steps: int = 10, per_epoch: int = 2) -> list[float]:
    factor = build(SCHEDULES, spec, "schedule", steps_per_epoch=per_epoch, total_steps=steps)
    return [factor(step) for step in range(steps)]


def test_constant_stays() -> None:
    assert _follow("constant") == [1.0] * 10


def test_warmup_rises_in_a_straight_line() -> None:
    rates = _follow({"name": "constant", "warmup_epochs": 2})
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1])


def test_cosine_falls_from_one_towards_its_final_share() -> None:
    rates = _follow({"name": "cosine", "final": 0.1}, steps=100)
    assert rates[0] == 1
    assert rates[50] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert rates == sorted(rates, reverse=True)


def test_a_warmup_longer_than_the_training_only_rises() -> None:
    rates = _follow({"name": "cosine", "warmup_epochs": 50})
    assert rates == sorted(rates)


def test_step_falls_at_the_end_of_epochs() -> None:
    for spec in ({"every": 2}, {"milestones": [2, 4]}):
        rates = _follow({"name": "step", **spec})
        assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("options", [{}, {"every": 2, "milestones": [1]}])
def test_step_needs_one_way_of_saying_when(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="either `every: 4` or `milestones"):
        _follow({"name": "step", **options})


def test_one_cycle_rises_for_three_tenths_and_falls_far_below_the_start() -> None:
    rates = _follow("one_cycle", steps=100)
    assert rates[0] == pytest.approx(0.04)
    assert rates[15] == pytest.approx(0.52)  # half of the rise from 0.04
    assert rates[30] == 1
    assert rates[65] == pytest.approx(0.5, abs=1e-4)  # half of the fall
    assert rates[99] < 0.001


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_norms_and_biases_do_not_decay(name: str) -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))
    optimizer = build_optimizer({"name": name, "weight_decay": 0.3}, model)
    decays = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert [decays[id(p)] for p in model.parameters()] == [0.3, 0, 0, 0]
    plain = build_optimizer({"name": name, "weight_decay": 0.3, "decay_norm_and_bias": True}, model)
    assert [group["weight_decay"] for group in plain.param_groups] == [0.3]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_frozen_parameters_stay_out(name: str) -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    optimizer = build_optimizer(name, model)
    assert [p for group in optimizer.param_groups for p in group["params"]] == [model.weight]


def test_a_learning_rate_below_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lr: -1.*greater than 0"):
        build_optimizer({"name": "sgd", "lr": -1}, nn.Linear(1, 1))


def test_the_steps_of_the_training_are_not_open_to_the_config() -> None:
    optimizer = build_optimizer("sgd", nn.Linear(1, 1))
    spec = {"name": "cosine", "total_steps": 3}
    with pytest.raises(ConfigError, match="takes `total_steps` from the data"):
        build_schedule(spec, optimizer, steps_per_epoch=1, total_steps=1)


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv3d(1, 2, 3)
        self.vlad = nn.Linear(2, 2, bias=False)
        self.fc8 = nn.Linear(2, 2)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_rates_and_decays_follow_the_first_pattern_that_fits(name: str) -> None:
    model = Parts()
    spec = {
        "name": name,
        "lr": 0.1,
        "weight_decay": 0.5,
        "rates": {"fc8.bias": 20, "fc8.*": 10, "*.bias": 2},
        "decays": {"vlad.*": 0, "trunk.bias": 0.1},
    }
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in build_optimizer(spec, model).param_groups
        for p in group["params"]
    }
    wanted = {
        "trunk.weight": (0.1, 0.5),
        "trunk.bias": (0.2, 0.05),
        "vlad.weight": (0.1, 0.0),
        "fc8.weight": (1.0, 0.5),
        "fc8.bias": (2.0, 0.0),
    }
    for parameter, values in wanted.items():
        assert found[id(model.get_parameter(parameter))] == pytest.approx(values), parameter


def test_a_schedule_moves_all_rates_alike() -> None:
    optimizer = build_optimizer({"name": "sgd", "lr": 0.1, "rates": {"fc8.*": 10}}, Parts())
    schedule = build_schedule(
        {"name": "step", "every": 1}, optimizer, steps_per_epoch=1, total_steps=3
    )
    optimizer.step()
    schedule.step()
    rates = sorted({round(group["lr"], 6) for group in optimizer.param_groups})
    assert rates == pytest.approx([0.01, 0.1])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)  # what history.csv tells


@pytest.mark.parametrize("option", ["rates", "decays"])
def test_a_pattern_that_fits_no_parameter_is_refused(option: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"`train.optimizer.{option}` names `fc9.\*`.*trunk.\*, vlad.\*, fc8"
    ) as caught:
        build_optimizer({"name": "sgd", option: {"fc9.*": 10}}, Parts())
    assert caught.value.code == "optimizer_unknown"


def test_patterns_are_checked_before_there_is_a_model_but_for_their_names() -> None:
    check_optimizer({"name": "sgd", "rates": {"fc8.*": 10}})
    with pytest.raises(ConfigError, match=r"rates"):
        check_optimizer({"name": "sgd", "rates": {"fc8.*": -1}})


def test_a_plateau_lets_the_rate_fall_whenever_nothing_better_came() -> None:
    values = [0.5, 0.6, 0.6, 0.55, 0.7, math.nan, 0.7, 0.69, 0.1]  # stalls after epochs 4, 7 and 9
    spec = {"name": "plateau", "patience": 2}
    given = {"steps_per_epoch": 1, "total_steps": 9, "watch": lambda step: values[:step]}
    factor = build(SCHEDULES, spec, "schedule", **given)
    assert [factor(step) for step in range(10)] == pytest.approx(
        [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001]
    )


def test_a_plateau_needs_validation() -> None:
    optimizer = build_optimizer("sgd", nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="there is no validation set") as caught:
        build_schedule("plateau", optimizer, steps_per_epoch=1, total_steps=1)
    assert caught.value.code == "no_validation"
