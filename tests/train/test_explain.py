from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medvid.models import MODELS, build_model
from medvid.train.explain import make_heat_map, score_slices
from tests.models.test_conformance import SIZE, SMALL, build, exact_frames, surface

T, H, W = 7, 12, 10
SHOWN = torch.ones(T, dtype=torch.bool)


class OneSlice(nn.Module):
    """Answers with the mean of one slice."""

    modalities = ("clip",)
    smallest = (1, 1, 1)

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        mean = clip[:, :, self.k].mean(dim=(1, 2, 3))
        return torch.stack([-mean, mean], dim=1)


class Brightest(nn.Module):
    """Answers with the mean of what a convolution that copies leaves after a ReLU in place."""

    modalities = ("clip",)
    smallest = (1, 1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.copy = nn.Conv3d(1, 1, 1, bias=False)
        nn.init.ones_(self.copy.weight)
        self.act = nn.ReLU(inplace=True)

    def forward(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        mean = self.act(self.copy(clip)).mean(dim=(1, 2, 3, 4))
        return torch.stack([-mean, mean], dim=1)


def test_only_the_slice_that_decides_moves_the_logit_when_covered() -> None:
    clip = torch.zeros(1, T, H, W)
    clip[:, 4] = 1.0
    title, scores = score_slices(OneSlice(4), clip, SHOWN, 1)
    assert "covered" in title
    assert scores[4] == pytest.approx(1.0)
    assert [k for k, value in enumerate(scores) if value] == [4]
    _, against = score_slices(OneSlice(4), clip, SHOWN, 0)
    assert against[4] == pytest.approx(-1.0)


def test_padding_has_no_score() -> None:
    mask = SHOWN.clone()
    mask[5:] = False
    _, scores = score_slices(OneSlice(0), torch.rand(1, T, H, W), mask, 1)
    assert [value is None for value in scores] == [False] * 5 + [True] * 2


def test_a_clip_of_one_slice_is_covered_by_its_own_mean() -> None:
    _, scores = score_slices(OneSlice(0), torch.ones(1, 1, H, W), SHOWN[:1], 1)
    assert scores == [0.0]


def test_the_first_slice_is_covered_by_the_second_and_not_by_padding_before_it() -> None:
    clip = torch.arange(float(T)).reshape(1, T, 1, 1).expand(1, T, H, W)
    mask = torch.arange(T) >= 2
    _, scores = score_slices(OneSlice(2), clip, mask, 1)
    assert scores == [None, None, 2.0 - 3.0, 0.0, 0.0, 0.0, 0.0]


def test_attention_is_shown_where_a_model_has_it() -> None:
    network = build_model(
        {"name": "slicewise", "pool": "attention", "width": 4, "depths": [1]},
        in_channels=1,
        num_classes=2,
        clip_size=(T, 32, 32),
    )
    title, scores = score_slices(network, torch.rand(1, T, 32, 32), SHOWN, 1)
    assert title == "share in the answer"
    assert sum(value for value in scores if value is not None) == pytest.approx(1.0, abs=1e-5)


def test_slices_with_answers_of_their_own_show_their_probability() -> None:
    network: Any = build_model(
        {"name": "slicewise", "width": 4, "depths": [1]},
        in_channels=1,
        num_classes=2,
        clip_size=(T, 32, 32),
    )
    clip = torch.rand(1, T, 32, 32)
    _, scores = score_slices(network, clip, SHOWN, 1, dense=True)
    network.eval()
    with torch.no_grad():
        wanted = network.frame_logits(clip[None], mask=SHOWN[None])[0].softmax(-1)[:, 1]
    assert scores == pytest.approx(wanted.tolist())


def test_heat_lies_where_the_answer_comes_from() -> None:
    clip = torch.full((1, T, H, W), -1.0)
    clip[0, 3, 2, 7] = 1.0
    heat = make_heat_map(Brightest(), clip, SHOWN, 1)
    assert heat is not None
    assert heat.shape == (T, H, W)
    assert heat[3, 2, 7] == 1.0
    assert heat.sum() == 1.0
    against = make_heat_map(Brightest(), clip, SHOWN, 0)
    assert against is not None
    assert against.sum() == 0.0


@pytest.mark.parametrize("name", ["slicewise", "c3d_study", "lstm"])
def test_heat_covers_the_clip_and_leaves_the_network_as_it_was(name: str) -> None:
    options = {"width": 4} if name != "lstm" else {}
    network = build_model(
        {"name": name, **options}, in_channels=1, num_classes=2, clip_size=(T, 64, 64)
    )
    before = {key: value.clone() for key, value in network.state_dict().items()}
    heat = make_heat_map(network, torch.rand(1, T, 64, 64), SHOWN, 1)
    assert heat is not None
    assert heat.shape == (T, 64, 64)
    assert 0 <= float(heat.min()) <= float(heat.max()) <= 1
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training


WITHOUT_MAPS = {"fstcn"}
"""Models whose last convolution is not over a picture."""

FRONT = 3
"""Frames of padding before the clip that the next test looks at."""


def plant_lesion(t: int) -> Tensor:
    clip = 0.1 * torch.randn(1, t, *SIZE[1:], generator=torch.Generator().manual_seed(5))
    clip[:, 1:3, 10:22, 10:22] += 5.0
    return clip


def wake(network: nn.Module) -> nn.Module:
    """Moves every weight: branches that start at zero have no gradient and so no heat."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("name", sorted(MODELS))
def test_padding_before_a_clip_moves_neither_heat_nor_scores(name: str) -> None:
    network = wake(build(name, SMALL[name][0]))
    own = plant_lesion(SIZE[0] - FRONT)
    clip = torch.cat([own[:, :1].expand(-1, FRONT, -1, -1), own], dim=1)
    mask = torch.arange(SIZE[0]) >= FRONT
    _, scores = score_slices(network, clip, mask, 1)
    assert scores[:FRONT] == [None] * FRONT
    if exact_frames(network) is None and surface(network).smallest[0] <= own.shape[1]:
        alone = own
    else:  # it needs all of its frames, and looks at none of those in front
        alone = clip.clone()
        alone[:, :FRONT] = 100.0
    shown = mask[-alone.shape[1] :]
    _, wanted = score_slices(network, alone, shown, 1)
    assert scores[FRONT:] == pytest.approx(wanted[-own.shape[1] :], abs=1e-4)
    for column in (0, 1):
        heat = make_heat_map(network, clip, mask, column)
        unpadded = make_heat_map(network, alone, shown, column)
        assert (heat is None) == (unpadded is None) == (name in WITHOUT_MAPS)
        if heat is not None and unpadded is not None:
            assert heat[:FRONT].sum() == 0
            torch.testing.assert_close(
                heat[FRONT:], unpadded[-own.shape[1] :], atol=1e-4, rtol=1e-4
            )


@pytest.mark.parametrize(
    ("name", "options", "hot"),
    [
        ("slicewise", {"width": 8}, [4, 5]),
        ("c3d", {"width": 4, "init": "he", "planar": True}, [4, 5]),
        ("single_frame", SMALL["single_frame"][0], [5]),
        ("late_fusion", SMALL["late_fusion"][0], [3, 7]),
    ],
)
def test_heat_lies_on_the_lesion_and_on_no_slice_that_is_not_looked_at(
    name: str, options: dict[str, Any], hot: list[int]
) -> None:
    network = wake(build(name, options))
    clip = torch.cat([torch.zeros(1, FRONT, *SIZE[1:]), plant_lesion(SIZE[0] - FRONT)], dim=1)
    heats = [make_heat_map(network, clip, torch.arange(SIZE[0]) >= FRONT, k) for k in (0, 1)]
    peaks = sum(heat.amax(dim=(1, 2)) for heat in heats if heat is not None)
    assert isinstance(peaks, Tensor)
    assert sorted(peaks.topk(len(hot)).indices.tolist()) == hot
    if name.endswith(("_frame", "_fusion")):
        assert peaks.nonzero()[:, 0].tolist() == hot


def test_a_network_without_maps_has_no_heat() -> None:
    network = OneSlice(0)
    network.scale = nn.Parameter(torch.ones(1))
    assert make_heat_map(network, torch.rand(1, T, H, W), SHOWN, 1) is None
