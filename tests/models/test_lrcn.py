"""LRCN: the paper's layers and numbers, the mean of the frames' answers, padding."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medvid.contract import ConfigError
from medvid.models.lrcn import LRCN, HybridTrunk
from medvid.train.forward import compute_losses
from medvid.train.losses import build_loss

CLIPS = torch.randn(2, 1, 6, 16, 16, generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[True] * 4 + [False] * 2, [False] + [True] * 5])
SMALL: dict[str, Any] = {
    "width": 8, "fc6": 16, "trunk": "small", "trunk_width": 4, "clip_size": (6, 16, 16),
    "init": "he", "dropout": 0.0, "lstm_dropout": 0.0,
}  # fmt: skip


def build(**options: Any) -> Any:
    torch.manual_seed(0)
    return LRCN(**{**SMALL, **options}).eval()


def test_maps_have_the_sizes_of_the_prototxt() -> None:
    """pool2 takes 26 rows to 13 in ceil mode; a floor would leave 12."""
    with torch.device("meta"):
        trunk = HybridTrunk(3)
        sizes: list[int] = []
        for conv in trunk.children():
            conv.register_forward_hook(lambda _m, _i, out: sizes.append(out.shape[-1]))
        assert trunk(torch.empty(1, 3, 227, 227)).shape == (1, 384, 6, 6)
    assert sizes == [111, 26, 13, 13, 13]
    assert trunk.shrink(227) == 6


@pytest.mark.parametrize("pixels", [49, 50, 64, 80, 95, 112])
def test_the_trunk_says_how_many_rows_it_leaves(pixels: int) -> None:
    trunk = HybridTrunk(1)
    assert trunk(torch.zeros(1, 1, pixels, 49)).shape[2] == trunk.shrink(pixels)


def test_every_part_has_its_published_size() -> None:
    with torch.device("meta"):
        model = LRCN(in_channels=3, num_classes=101)
    parts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    assert parts == {
        "encoder": 4_310_656, "fc6": 56_627_200, "mix": 4_457_472, "fc8": 25_957,
        "dropout": 0, "lstm_dropout": 0,
    }  # fmt: skip


def test_dropout_is_strong_on_fc6_and_half_behind_the_lstm() -> None:
    with torch.device("meta"):
        model = LRCN()
    assert (model.dropout.p, model.lstm_dropout.p) == (0.9, 0.5)


def test_the_paper_s_initialisation() -> None:
    torch.manual_seed(0)
    model = LRCN(in_channels=3, fc6=64, clip_size=(16, 64, 64))
    layers = dict(model.named_modules())
    for name in ("encoder.trunk.conv3", "fc6"):
        assert layers[name].weight.std().item() == pytest.approx(0.01, rel=0.03)
        assert (layers[name].bias == 0.1).all()
    assert not model.fc8.bias.any()
    lstm = dict(model.mix.named_parameters())
    assert set(lstm) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0"}
    assert lstm["weight_ih_l0"].abs().max().item() == pytest.approx(0.01, rel=0.01)
    assert not lstm["bias_ih_l0"].any()


def step_through(lstm: nn.LSTM, frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The LSTM in float64, a frame at a time, its state 0 before the first one."""
    w_in, w_state, bias = (
        lstm.get_parameter(name).detach().double().numpy()
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0")
    )
    state, cell = np.zeros(lstm.hidden_size), np.zeros(lstm.hidden_size)
    outputs = []
    for frame in frames:
        i, f, g, o = np.split(w_in @ frame + w_state @ state + bias, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        cell = f * cell + i * np.tanh(g)
        state = o * np.tanh(cell)
        outputs.append(state)
    return np.array(outputs)


def test_the_answer_is_the_mean_of_the_frames_probabilities() -> None:
    model = build()
    weight, bias = (p.detach().double().numpy() for p in (model.fc8.weight, model.fc8.bias))
    for clip, got in zip(model.encode_frames(CLIPS), model(CLIPS).softmax(dim=1), strict=True):
        scores = step_through(model.mix, clip.detach().double().numpy()) @ weight.T + bias
        exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
        wanted = (exponents / exponents.sum(axis=1, keepdims=True)).mean(axis=0)
        np.testing.assert_allclose(got.detach().numpy(), wanted, atol=1e-5)


def test_the_state_does_not_go_over_to_the_next_clip() -> None:
    model = build()
    first = model(CLIPS[:1])
    model(CLIPS[1:])
    assert torch.equal(model(CLIPS[:1]), first)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_padding_on_both_sides_is_not_read(bidirectional: bool, average: str) -> None:
    model = build(bidirectional=bidirectional, average=average)
    mask = torch.tensor([[False, True, True, True, False, False]] * 2)
    torch.testing.assert_close(model(CLIPS, mask), model(CLIPS[:, :, 1:4]), atol=1e-5, rtol=1e-4)


def test_one_clip_alone_works_in_training() -> None:
    assert build(norm="group").train()(CLIPS[:1]).shape == (1, 2)


def test_the_single_frame_network_loses_the_order() -> None:
    model = build(lstm=False)
    torch.testing.assert_close(model(CLIPS.flip(2)), model(CLIPS))
    ordered = build()
    assert not torch.allclose(ordered(CLIPS.flip(2)), ordered(CLIPS), atol=1e-6)


def test_the_single_frame_network_gives_its_trunk_and_fc6_to_the_other() -> None:
    single, whole = build(lstm=False), build()
    begun = {k: v for k, v in single.state_dict().items() if not k.startswith(("mix", "fc8"))}
    missing, unexpected = whole.load_state_dict(begun, strict=False)
    assert unexpected == []
    assert {name.split(".")[0] for name in missing} == {"mix", "fc8"}


def test_the_loss_is_the_mean_over_a_clip_s_frames_that_are_not_padding() -> None:
    model = build().train()
    target = torch.tensor([1, 0])
    criterion = build_loss("cross_entropy", num_classes=2, multilabel=False)
    batch = {"clip": CLIPS, "mask": MASK, "label": target}
    parts = compute_losses(model, batch, criterion, multilabel=False)
    each = nn.functional.cross_entropy(
        model.frame_logits(CLIPS, MASK).flatten(0, 1),
        target.repeat_interleave(6),
        reduction="none",
    )
    clips = [own[shown].mean() for own, shown in zip(each.reshape(2, 6), MASK, strict=True)]
    torch.testing.assert_close(parts["loss"], torch.stack(clips).mean())


def test_several_findings_want_logits_averaged() -> None:
    criterion = build_loss("bce", num_classes=2, multilabel=True)
    batch = {"clip": CLIPS, "mask": MASK, "label": torch.tensor([[1.0, 0.0], [1.0, 1.0]])}
    with pytest.raises(ConfigError, match=r"Set `model.average: logits`"):
        compute_losses(build(), batch, criterion, multilabel=True)
    assert compute_losses(build(average="logits"), batch, criterion, multilabel=True)["loss"] > 0
