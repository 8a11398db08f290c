"""One real clip of UCF101, cut as each paper cuts it, forward and backward through its network."""

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medvid.config import list_configs, read_config
from medvid.data.loader import collate
from medvid.data.sampling import build_sampler
from medvid.jobs.clip_shape import read_clip_shape
from medvid.jobs.network import build_network
from medvid.jobs.task import open_data
from medvid.models import MODELS, build_model
from medvid.train.forward import compute_losses
from medvid.train.losses import build_loss
from medvid.train.optim import build_optimizer
from medvid.transforms import build_pipeline

UCF101 = Path(__file__).parents[2] / "shared" / "data" / "video_ucf101_mini"
PRESETS = [name for name in list_configs() if name.startswith("run/ucf101_")]

VIDEOS = 8_583
"""Of the 9,537 training videos of split 1, without the tenth that validates."""

STEPS = {
    "run/ucf101_c3d": 60_000,
    "run/ucf101_c3d_study": 60_000,
    "run/ucf101_i3d": 5_000,
    "run/ucf101_lrcn": 30_000,
    "run/ucf101_ltc": 17 * 9_000,
    "run/ucf101_res3d": 40_000,
}
"""Optimizer steps of a training: the papers' and the released solvers'."""

FIRST_DROP = {
    "run/ucf101_c3d": 20_000,
    "run/ucf101_c3d_study": 20_000,
    "run/ucf101_lrcn": 10_000,
    "run/ucf101_ltc": 8 * 9_000,
    "run/ucf101_res3d": 20_000,
}
"""Steps before the rate is lowered for the first time."""

SIDE_BY_SIDE = {
    "run/ucf101_c3d": 16,
    "run/ucf101_c3d_study": 16,
    "run/ucf101_res3d": 16,
    "run/ucf101_densenet3d": 64,
    "run/ucf101_t3d": 64,
}
"""Frames of the video that a clip takes in testing: its own times its stride."""


def count_steps(config: dict[str, Any]) -> int:
    """Returns the optimizer steps of one epoch over the videos of split 1."""
    batches = math.ceil(VIDEOS / config["data"]["batch_size"])
    return math.ceil(batches / config["train"].get("accumulate", 1))


def build_preset(name: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    config = read_config(name)
    size = cast("Any", MODELS[config["model"]["name"]]).paper_clip
    with torch.device("meta"):
        network = build_model(config["model"], in_channels=3, num_classes=101, clip_size=size)
    return network, build_optimizer(config["train"]["optimizer"], network)


def test_every_preset_is_looked_at() -> None:
    assert "run/ucf101_c3d" in PRESETS
    assert len(PRESETS) > 20


@pytest.mark.parametrize("name", PRESETS)
def test_the_rates_of_every_preset_fit_its_network(name: str) -> None:
    network, optimizer = build_preset(name)
    grouped = sum(len(group["params"]) for group in optimizer.param_groups)
    assert grouped == len(list(network.parameters()))


@pytest.mark.parametrize("name", STEPS)
def test_a_training_has_the_paper_s_steps_and_not_its_epochs(name: str) -> None:
    config = read_config(name)
    assert count_steps(config) * config["train"]["epochs"] == pytest.approx(STEPS[name], rel=0.02)


@pytest.mark.parametrize("name", FIRST_DROP)
def test_the_rate_falls_after_the_paper_s_steps(name: str) -> None:
    config = read_config(name)
    schedule = config["train"]["schedule"]
    epochs = schedule["every"] if "every" in schedule else schedule["milestones"][0]
    assert count_steps(config) * epochs == pytest.approx(FIRST_DROP[name], rel=0.02)


@settings(deadline=None)
@given(st.integers(16, 1_776))
def test_testing_cuts_a_video_side_by_side_into_whole_clips(num_frames: int) -> None:
    # So counted, the 3,783 test videos of split 1 have 41,822 clips in C3D's released list.
    for name, block in SIDE_BY_SIDE.items():
        sampler = build_sampler(read_config(name)["data"]["test_sampler"])
        windows = sampler.windows(num_frames, 1.0, rng=None)
        assert len(windows.frames) == max(1, num_frames // block), name


@pytest.mark.parametrize("kind", ["single_frame", "early_fusion", "late_fusion", "slow_fusion"])
def test_karpathy_s_networks_see_fifty_clips_of_a_video(kind: str) -> None:
    sampler = build_sampler(read_config(f"run/ucf101_{kind}")["data"]["sampler"])
    starts = sampler.windows(500, 1.0, rng=None).frames[:, 0]
    assert len(set(starts)) == 50


@pytest.mark.parametrize("name", ["run/ucf101_lrcn", "run/ucf101_ltc"])
def test_the_last_window_of_the_others_ends_with_the_video(name: str) -> None:
    sampler = build_sampler(read_config(name)["data"]["test_sampler"])
    assert sampler.windows(187, 1.0, rng=None).frames[-1, -1] == 186


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("run/ucf101_c3d_study", 17_444_965), ("run/ucf101_c3d", 78_409_573)],
)
def test_the_net_and_the_net_of_the_study_have_a_preset_each(name: str, parameters: int) -> None:
    network, _ = build_preset(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("name", ["run/ucf101_c3d", "run/ucf101_c3d_study"])
def test_c3d_sees_pixels_of_0_to_255_less_a_mean(name: str) -> None:
    # Biases of 1 and weights of .01 drown pixels that were divided by their deviation.
    pipeline = build_pipeline(read_config(name)["transforms"], training=False)
    shown = pipeline({"clip": torch.tensor([0.0, 255.0]).reshape(1, 1, 1, 2)})["clip"]
    assert shown.flatten().tolist() == pytest.approx([-114.75, 140.25])


def test_the_last_layer_of_lrcn_learns_at_ten_times_the_rate_of_the_others() -> None:
    network, optimizer = build_preset("run/ucf101_lrcn")
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    weight, bias = network.get_parameter("fc8.weight"), network.get_parameter("fc8.bias")
    others = {rates[id(p)] for name, p in network.named_parameters() if "bias" not in name}
    assert (rates[id(weight)], rates[id(bias)]) == pytest.approx((1e-2, 2e-2))
    assert sorted(others) == pytest.approx([1e-3, 1e-2])


@pytest.mark.slow
@pytest.mark.skipif(not UCF101.exists(), reason="the UCF101 clips are not beside the checkout")
@pytest.mark.parametrize("name", PRESETS)
def test_a_real_clip_goes_forward_and_backward_at_the_paper_s_size(
    name: str, tmp_path: Path
) -> None:
    config = read_config(name, [f"data.manifest={UCF101}", f"data.store={tmp_path}"])
    data = open_data(config)
    case = data.records[0].case_id
    batch = collate([data.dataset([case], training=True, seed=0)[0]])
    shape = read_clip_shape(data)
    network = build_network(config["model"], data.space, shape, seed=0).train()
    criterion = build_loss(
        None, num_classes=len(data.space.classes), multilabel=False, class_counts=None
    )
    losses = compute_losses(network, batch, criterion, multilabel=False)
    loss = torch.stack(list(losses.values())).sum()
    torch.autograd.backward(loss)
    assert loss.isfinite()
    gradients = [p.grad for p in network.parameters() if p.requires_grad and p.grad is not None]
    assert any(bool(gradient.any()) for gradient in gradients)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
