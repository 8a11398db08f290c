"""The stacked LSTM of Ng et al. 2015: gains, answers, both directions, padding."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medvid.contract import ConfigError
from medvid.models.ng_lstm import StackedLSTM, weigh_frames
from medvid.train.forward import compute_losses
from medvid.train.losses import build_loss

CLIPS = torch.randn(2, 1, 6, 16, 16, generator=torch.Generator().manual_seed(0))
SMALL: dict[str, Any] = {
    "width": 8, "trunk": "small", "trunk_width": 4, "clip_size": (6, 16, 16), "layers": 2,
}  # fmt: skip
MASK = torch.tensor([[True] * 4 + [False] * 2, [False] + [True] * 5])


def build(**options: Any) -> Any:
    torch.manual_seed(0)
    model = StackedLSTM(**{**SMALL, **options})
    nn.init.normal_(model.classifier.weight)  # answers that differ from frame to frame
    return model.eval()


@pytest.mark.parametrize(
    ("gain", "count", "wanted"),
    [
        ("linear", 5, [0, 0.25, 0.5, 0.75, 1]),
        ("linear", 2, [0, 1]),
        ("linear", 1, [1]),
        ("uniform", 3, [1, 1, 1]),
        ("triangular", 5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
        ("triangular", 4, [0.5, 1, 1, 0.5]),
        ("triangular", 1, [1]),
    ],
)
def test_gains(gain: Any, count: int, wanted: list[float]) -> None:
    weights = weigh_frames(gain, torch.zeros(1, count, 3), None)
    torch.testing.assert_close(weights, torch.tensor([wanted], dtype=torch.float32))


def test_gains_count_the_frames_that_are_not_padding() -> None:
    mask = torch.tensor([[False, True, True, False, True], [False, False, False, True, False]])
    weights = weigh_frames("linear", torch.zeros(2, 5, 3), mask)
    assert weights.tolist() == [[0, 0, 0.5, 0, 1], [0, 0, 0, 1, 0]]


def test_the_paper_s_layers() -> None:
    with torch.device("meta"):
        model = StackedLSTM(in_channels=3, num_classes=101)
        alexnet = StackedLSTM(trunk="alexnet")
    assert (model.lstm.input_size, model.lstm.hidden_size, model.lstm.num_layers) == (1024, 512, 5)
    assert sum(p.numel() for p in model.lstm.parameters()) == 11_544_576
    assert alexnet.lstm.input_size == 4096


def test_one_bias_a_gate_is_torchs_lstm_with_a_second_bias_of_zero() -> None:
    model = build(bidirectional=True)
    plain = nn.LSTM(model.lstm.input_size, 8, 2, batch_first=True, bidirectional=True)
    missing, unexpected = plain.load_state_dict(model.lstm.state_dict(), strict=False)
    assert unexpected == []
    assert all(name.startswith("bias_hh") for name in missing)
    for name in missing:
        nn.init.zeros_(plain.get_parameter(name))
    frames = model.encode_frames(CLIPS)
    torch.testing.assert_close(model.lstm(frames)[0], plain(frames)[0])


def test_a_copy_and_another_precision_keep_the_single_bias() -> None:
    model = build()
    twin = copy.deepcopy(model).double()
    torch.testing.assert_close(twin(CLIPS.double()), model(CLIPS).double(), atol=1e-5, rtol=1e-4)


def reference_answer(
    scores: np.ndarray[Any, Any], gain: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """The paper's prediction in float64: softmax of every frame, summed with the gain."""
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    summed: np.ndarray[Any, Any] = (gain[:, None] * probabilities).sum(axis=0) / gain.sum()
    return summed


def test_the_answer_is_the_sum_of_probabilities_with_linear_weights() -> None:
    model = build()
    scores = model.frame_logits(CLIPS).detach().double().numpy()
    wanted = [reference_answer(clip, np.arange(6) / 5) for clip in scores]
    got = model(CLIPS).softmax(dim=1).detach().numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_the_other_answers_of_the_paper() -> None:
    probabilities = build().frame_logits(CLIPS).softmax(dim=2)
    strongest = probabilities.amax(dim=1)
    wanted = {
        "last": probabilities[:, -1],
        "sum": probabilities.mean(dim=1),
        "max": strongest / strongest.sum(dim=1, keepdim=True),
    }
    for predict, answer in wanted.items():
        torch.testing.assert_close(build(predict=predict)(CLIPS).softmax(dim=1), answer)


def test_the_last_frame_is_the_last_that_is_not_padding() -> None:
    model = build(predict="last", average="logits")
    answer = model(CLIPS, MASK)
    scores = model.frame_logits(CLIPS, MASK)
    torch.testing.assert_close(answer, torch.stack([scores[0, 3], scores[1, 5]]))


def test_the_loss_weighs_frames_with_the_gain() -> None:
    model = build().train()
    target = torch.tensor([1, 0])
    criterion = build_loss("cross_entropy", num_classes=2, multilabel=False)
    scores = model.frame_logits(CLIPS)
    gain = torch.arange(6) / 5
    each = nn.functional.cross_entropy(
        scores.flatten(0, 1), target.repeat_interleave(6), reduction="none"
    )
    wanted = (each.reshape(2, 6) * gain).sum() / (2 * gain.sum())
    batch = {"clip": CLIPS, "mask": torch.ones(2, 6, dtype=torch.bool), "label": target}
    parts = compute_losses(model, batch, criterion, multilabel=False)
    torch.testing.assert_close(parts["loss"], wanted)


def test_training_sees_no_padding() -> None:
    """The whole way through the training's own function, mask included."""
    criterion = build_loss("cross_entropy", num_classes=2, multilabel=False)
    values = []
    for loud in (0.0, 50.0):
        model = build().train()
        clips = CLIPS.masked_fill(~MASK[:, None, :, None, None], loud)
        batch = {"clip": clips, "mask": MASK, "label": torch.tensor([1, 0])}
        values.append(compute_losses(model, batch, criterion, multilabel=False)["loss"])
    torch.testing.assert_close(values[0], values[1])


def test_several_findings_want_logits_averaged() -> None:
    criterion = build_loss("bce", num_classes=2, multilabel=True)
    batch = {"clip": CLIPS, "mask": MASK, "label": torch.tensor([[1.0, 0.0], [1.0, 1.0]])}
    with pytest.raises(ConfigError, match=r"Set `model.average: logits`"):
        compute_losses(build(), batch, criterion, multilabel=True)
    parts = compute_losses(build(average="logits"), batch, criterion, multilabel=True)
    assert parts["loss"].isfinite()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_on_both_sides_is_not_read(bidirectional: bool) -> None:
    model = build(bidirectional=bidirectional, gain="uniform")
    mask = torch.tensor([[False, True, True, True, False, False]] * 2)
    torch.testing.assert_close(model(CLIPS, mask), model(CLIPS[:, :, 1:4]), atol=1e-5, rtol=1e-4)


def test_one_direction_does_not_know_what_comes() -> None:
    ahead, both = build(), build(bidirectional=True)
    changed = CLIPS.clone()
    changed[:, :, -1] += 1
    torch.testing.assert_close(
        ahead.frame_logits(changed)[:, :-1], ahead.frame_logits(CLIPS)[:, :-1]
    )
    assert not torch.allclose(both.frame_logits(changed)[:, 0], both.frame_logits(CLIPS)[:, 0])


def test_the_order_of_slices_counts() -> None:
    model = build()
    assert not torch.allclose(model(CLIPS.flip(2)), model(CLIPS), atol=1e-5)
