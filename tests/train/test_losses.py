"""Losses against torch's own, the papers' formulas and numbers by hand."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from medvid.contract import ConfigError
from medvid.train.losses import LOSSES, build_loss, count_classes

CLOSE = 1e-6  # float32 sums of a few terms


def _read_weights(loss: nn.Module, name: str) -> list[float]:
    weights: list[float] = loss.get_buffer(name).tolist()
    return weights


def _logits(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_cross_entropy_is_torchs(weights: list[float] | None, smoothing: float) -> None:
    spec = {"name": "cross_entropy", "class_weights": weights, "label_smoothing": smoothing}
    loss = build_loss(spec, num_classes=3, multilabel=False)
    logits, target = _logits(6, 3), torch.tensor([0, 1, 2, -1, 1, 0])
    expected = functional.cross_entropy(
        logits,
        target,
        weight=None if weights is None else torch.tensor(weights),
        ignore_index=-1,
        label_smoothing=smoothing,
    )
    assert loss(logits, target).item() == pytest.approx(expected.item(), abs=CLOSE)


def test_balanced_weights_make_classes_count_alike() -> None:
    spec = {"name": "cross_entropy", "class_weights": "balanced"}
    loss = build_loss(spec, num_classes=2, multilabel=False, class_counts=[30, 10])
    assert _read_weights(loss, "weights") == pytest.approx([40 / 60, 40 / 20])


def test_balanced_findings_weigh_absent_over_present() -> None:
    spec = {"name": "bce", "pos_weight": "balanced"}
    loss = build_loss(spec, num_classes=2, multilabel=True, class_counts=[(30, 10), (5, 0)])
    assert _read_weights(loss, "pos_weight") == [3.0, 5.0]


def test_unknown_findings_do_not_count() -> None:
    loss = build_loss("bce", num_classes=2, multilabel=True)
    logits = torch.tensor([[0.0, 5.0], [2.0, -3.0]], requires_grad=True)
    target = torch.tensor([[1.0, math.nan], [0.0, math.nan]])
    value = loss(logits, target)
    assert value.item() == pytest.approx((math.log(2) + math.log1p(math.exp(2))) / 2, abs=CLOSE)
    value.backward()
    assert logits.grad is not None
    assert logits.grad[:, 1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_batch_without_a_known_target_costs_nothing(name: str) -> None:
    multilabel = bool(vars(LOSSES[name])["multilabel"])
    loss = build_loss(name, num_classes=2, multilabel=multilabel)
    logits = _logits(3, 2).requires_grad_()
    target = torch.full((3, 2), math.nan) if multilabel else torch.full((3,), -1)
    value = loss(logits, target)
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_frames_count_like_items(name: str) -> None:
    multilabel = bool(vars(LOSSES[name])["multilabel"])
    loss = build_loss(name, num_classes=2, multilabel=multilabel)
    logits = _logits(3, 4, 2)
    target = torch.ones(3, 4, 2) if multilabel else torch.ones(3, 4, dtype=torch.int64)
    flat = target.reshape(12, 2) if multilabel else target.reshape(12)
    torch.testing.assert_close(loss(logits, target), loss(logits.reshape(12, 2), flat))


@pytest.mark.parametrize(
    ("focal", "plain"), [("focal", "cross_entropy"), ("multilabel_focal", "bce")]
)
def test_focal_without_gamma_is_cross_entropy(focal: str, plain: str) -> None:
    multilabel = plain == "bce"
    target = torch.tensor([[1.0, 0.0], [0.0, math.nan]]) if multilabel else torch.tensor([1, -1])
    values = [
        build_loss(spec, num_classes=2, multilabel=multilabel)(_logits(2, 2), target)
        for spec in ({"name": focal, "gamma": 0}, plain)
    ]
    torch.testing.assert_close(*values)


def test_focal_is_the_papers_number() -> None:
    # p = 0.9 and gamma = 2 cost 100 times less than cross-entropy (section 3.2 of the paper).
    logits = torch.tensor([[0.0, math.log(9)]])
    for name, target, multilabel in (
        ("focal", torch.tensor([1]), False),
        ("multilabel_focal", torch.tensor([[math.nan, 1.0]]), True),
    ):
        value = build_loss(name, num_classes=2, multilabel=multilabel)(logits, target)
        assert value.item() == pytest.approx(-math.log(0.9) / 100, rel=1e-5)


def test_alpha_weighs_present_against_absent() -> None:
    spec = {"name": "multilabel_focal", "gamma": 0, "alpha": 0.25}
    loss = build_loss(spec, num_classes=1, multilabel=True)
    present, absent = (loss(torch.zeros(1, 1), torch.tensor([[v]])).item() for v in (1.0, 0.0))
    assert (present, absent) == pytest.approx((0.25 * math.log(2), 0.75 * math.log(2)))


def test_focal_has_a_finite_slope_for_a_certain_answer() -> None:
    logits = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    spec = {"name": "focal", "gamma": 0.5}
    build_loss(spec, num_classes=2, multilabel=False)(logits, torch.tensor([1])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("spec", "multilabel", "message"),
    [
        ("bce", False, "labels are one class an item.*cross_entropy, focal"),
        ("focal", True, "several findings an item.*bce, multilabel_focal"),
        ("cross_entrpy", False, "Did you mean `cross_entropy`"),
        ({"name": "focal", "gama": 2}, False, "Did you mean `gamma`"),
        ({"name": "cross_entropy", "class_weights": [1.0]}, False, "a list of 2 numbers"),
        ({"name": "cross_entropy", "class_weights": "balanced"}, False, "need the numbers"),
        ({"name": "cross_entropy", "label_smoothing": 2}, False, "less than or equal to 1"),
    ],
)
def test_a_loss_that_cannot_be_meant_is_refused(spec: Any, multilabel: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_loss(spec, num_classes=2, multilabel=multilabel)


def test_labels_are_counted() -> None:
    assert count_classes(["a", "b", None, "a"], ("a", "b"), multilabel=False) == [2, 1]
    findings = [{"x": 1, "y": 0}, {"x": 0}, None]
    assert count_classes(findings, ("x", "y"), multilabel=True) == [(1, 1), (1, 0)]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_an_element_of_weight_two_counts_like_two_elements(name: str) -> None:
    multilabel = bool(vars(LOSSES[name])["multilabel"])
    loss = build_loss(name, num_classes=2, multilabel=multilabel)
    logits = _logits(2, 3, 2)
    target = torch.tensor([[0, 1, 1], [1, -1, 0]])
    if multilabel:
        target = torch.stack([target, 1 - target], dim=-1).float()
        target = target.masked_fill((target < 0) | (target > 1), math.nan)
    weight = torch.tensor([[2.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    index = torch.tensor([0, 0, 1, 3, 4, 5])
    twice = loss(logits.flatten(0, 1)[index], target.flatten(0, 1)[index])
    assert loss(logits, target, weight).item() == pytest.approx(twice.item(), abs=CLOSE)
