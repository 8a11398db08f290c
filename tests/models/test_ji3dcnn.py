from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medvid.contract import ConfigError
from medvid.models import describe_model
from medvid.models.ji3dcnn import (
    CHANNELS,
    PAPER_CLIP,
    Ji3DCNN,
    Subsampling,
    hardwire,
    measure_flow,
    plan_depths,
)

KTH: dict[str, Any] = {"kernels": ((9, 7), (7, 7)), "pools": (3, 3), "clip_size": (9, 80, 60)}
SCAN: dict[str, Any] = {"kernels": ((5, 5), (5, 5)), "pools": (2, 2), "width": 8, "init": "xavier"}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def see_layers(model: Ji3DCNN, clip: Tensor) -> dict[str, tuple[int, int, int]]:
    """Returns maps of all lanes together, rows and columns behind every layer."""
    sizes: dict[str, tuple[int, int, int]] = {}

    def remember(name: str, maps: Tensor) -> None:
        _, sets, frames, high, wide = maps.shape
        sizes[name] = (sizes.get(name, (0, 0, 0))[0] + sets * frames, high, wide)

    for lane in model.lanes.values():
        for name in ("c2", "s3", "c4", "s5"):
            lane.get_submodule(name).register_forward_hook(
                lambda _, __, maps, name=name: remember(name, maps)
            )
    model(clip)
    return sizes


def test_maps_have_the_paper_s_sizes() -> None:
    with torch.device("meta"):
        model = Ji3DCNN(num_classes=3)
        sizes = see_layers(model, torch.empty(1, 1, *PAPER_CLIP))
    assert sizes == {
        "c2": (46, 54, 34),
        "s3": (46, 27, 17),
        "c4": (78, 21, 12),
        "s5": (78, 7, 4),
    }
    assert model.c6.conv.weight.shape == (128, 78, 7, 4)


def test_every_layer_has_the_paper_s_parameters() -> None:
    with torch.device("meta"):
        model = Ji3DCNN(num_classes=3, paper_bias=True)
    lanes = list(model.lanes.values())
    counts = {
        name: sum(count(lane.get_submodule(name)) for lane in lanes)
        for name in ("c2", "s3", "c4", "s5")
    }
    assert counts == {"c2": 1_480, "s3": 92, "c4": 3_810, "s5": 156}
    assert count(model.c6) == 289_536
    assert count(model.out) == 384


def test_kth_s_network_is_the_paper_s() -> None:
    with torch.device("meta"):
        model = Ji3DCNN(num_classes=6, paper_bias=True, **KTH)
        sizes = see_layers(model, torch.empty(1, 1, 9, 80, 60))
    assert sizes == {
        "c2": (66, 72, 54),
        "s3": (66, 24, 18),
        "c4": (54 + 84, 18, 12),
        "s5": (138, 6, 4),
    }
    assert describe_model(model, (9, 80, 60), 1)["parameters"] == 449_116


def test_no_channel_shares_its_kernels_and_no_lane_sees_another() -> None:
    model = Ji3DCNN()
    kernels = [lane.get_submodule("c2").get_parameter("weight") for lane in model.lanes.values()]
    assert len({kernel.data_ptr() for kernel in kernels}) == 5
    lane = model.lanes["gray_0"]
    conv = lane.get_submodule("c4")
    assert isinstance(conv, nn.Conv3d)
    assert (conv.in_channels, conv.out_channels, conv.groups) == (2, 6, 2)


@pytest.mark.parametrize("motion", ["flow", "difference"])
def test_the_hardwired_layer_has_5f_minus_2_maps_in_the_paper_s_order(motion: Any) -> None:
    hard = hardwire(torch.randn(2, 3, 7, 20, 16), None, motion)
    assert tuple(hard) == CHANNELS
    assert [maps.shape[2] for maps in hard.values()] == [7, 7, 7, 6, 6]
    assert all(maps.shape[:2] == (2, 3) for maps in hard.values())


def test_x_runs_along_columns_and_y_along_rows() -> None:
    ramp = torch.arange(12.0).expand(1, 1, 2, 10, 12)  # rises by 1 from column to column
    hard = hardwire(ramp, None, "flow")
    assert (hard["gradient_x"] == 1).all()
    assert (hard["gradient_y"] == 0).all()
    turned = hardwire(ramp.transpose(3, 4), None, "flow")
    assert (turned["gradient_y"] == 1).all()
    assert (turned["gradient_x"] == 0).all()


def draw_waves(right: float, down: float) -> Tensor:
    """Returns two frames of a smooth pattern that moves by so many pixels, (1, 2, 60, 60)."""
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij")

    def wave(x: Tensor, y: Tensor) -> Tensor:
        return (x / 4).sin() + (y / 5).cos() + ((x + y) / 6).sin()

    return torch.stack([wave(columns, rows), wave(columns - right, rows - down)])[None]


@pytest.mark.parametrize(("right", "down"), [(0.5, -0.25), (-0.8, 0.0), (0.0, 0.6)])
def test_flow_is_the_displacement(right: float, down: float) -> None:
    x, y = measure_flow(draw_waves(right, down))
    inside = (..., slice(5, -5), slice(5, -5))
    # A central difference of a wave of 4 pixels a radian is 1 % short, softness takes 2 % more.
    assert x[inside].median().item() == pytest.approx(right, abs=0.05)
    assert y[inside].median().item() == pytest.approx(down, abs=0.05)


def test_flow_solves_the_least_squares_of_its_window() -> None:
    frames = np.random.default_rng(0).normal(size=(2, 15, 15))
    middle, change = frames.mean(axis=0), frames[1] - frames[0]
    down, right = np.gradient(middle)
    soft = 0.01 * (_mean_of_windows(right**2) + _mean_of_windows(down**2)).mean()
    window = (slice(4, 11), slice(4, 11))  # 7 x 7 around pixel 7, 7
    slopes = np.stack([right[window].ravel(), down[window].ravel()], axis=1)
    normal = slopes.T @ slopes / 49 + soft * np.eye(2)
    wanted = np.linalg.solve(normal, -slopes.T @ change[window].ravel() / 49)
    x, y = measure_flow(torch.from_numpy(frames)[None])
    np.testing.assert_allclose([x[0, 0, 7, 7].item(), y[0, 0, 7, 7].item()], wanted, rtol=1e-9)


def _mean_of_windows(values: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    """Means over 7 x 7 pixels; at the edge over those that are there."""
    size = len(values)
    return np.array(
        [
            [values[max(0, i - 3) : i + 4, max(0, j - 3) : j + 4].mean() for j in range(size)]
            for i in range(size)
        ]
    )


def test_contrast_does_not_change_flow_and_flat_frames_have_none() -> None:
    frames = draw_waves(0.5, 0.3).double()
    torch.testing.assert_close(measure_flow(frames * 50 + 7)[0], measure_flow(frames)[0])
    for flow in measure_flow(torch.ones(1, 3, 9, 9)):
        assert (flow == 0).all()


def test_difference_tells_what_appears_from_what_vanishes() -> None:
    clips = torch.zeros(1, 1, 3, 8, 8)
    clips[:, :, 1, 4, 4] = 2.0
    hard = hardwire(clips, None, "difference")
    rise, fall = hard["motion_x"][0, 0], hard["motion_y"][0, 0]
    assert rise[:, 4, 4].tolist() == [2.0, 0.0]
    assert fall[:, 4, 4].tolist() == [0.0, 2.0]
    torch.testing.assert_close(rise - fall, clips[0, 0].diff(dim=0))


@pytest.mark.parametrize("motion", ["flow", "difference"])
def test_no_motion_leads_into_padding(motion: Any) -> None:
    clips = torch.randn(1, 1, 5, 12, 12)
    mask = torch.tensor([[True, True, True, False, False]])
    clips[:, :, 3:] = 0
    hard = hardwire(clips, mask, motion)
    moving = [maps[0, 0].abs().amax(dim=(1, 2)).bool().tolist() for maps in list(hard.values())[3:]]
    assert moving == [[True, True, False, False]] * 2


def test_sub_sampling_is_mean_gain_bias_and_tanh() -> None:
    layer = Subsampling(sets=1, frames=2, pool=2)
    with torch.no_grad():
        layer.gain.copy_(torch.tensor([2.0, -1.0]))
        layer.bias.copy_(torch.tensor([0.5, 0.0]))
    maps = torch.arange(12.0).view(1, 1, 2, 2, 3) / 10  # the third column is left over
    means = torch.tensor([(0.0 + 0.1 + 0.3 + 0.4) / 4, (0.6 + 0.7 + 0.9 + 1.0) / 4])
    wanted = (means * torch.tensor([2.0, -1.0]) + torch.tensor([0.5, 0.0])).tanh()
    torch.testing.assert_close(layer(maps).flatten(), wanted)


def test_logits_are_not_bent_and_have_no_bias() -> None:
    model = Ji3DCNN().eval()
    clips = torch.randn(2, 1, *PAPER_CLIP)
    assert model.out.bias is None
    torch.testing.assert_close(model(clips), model.features(clips) @ model.out.weight.T)


def test_all_paper_biases_of_a_map_add_up() -> None:
    torch.manual_seed(0)
    usual, paper = Ji3DCNN().eval(), Ji3DCNN(paper_bias=True).eval()
    state = usual.state_dict()
    each = torch.randn(128, 78, generator=torch.Generator().manual_seed(1)) / 100
    usual.load_state_dict({**state, "c6.bias": each.sum(dim=1)})
    paper.load_state_dict({**state, "c6.bias": each.flatten()})
    clips = torch.randn(2, 1, *PAPER_CLIP)
    torch.testing.assert_close(paper(clips), usual(clips))


@pytest.mark.parametrize(
    ("frames", "depths"),
    [(2, (1, 1)), (3, (2, 1)), (4, (3, 1)), (5, (3, 2)), (6, (3, 3)), (7, (3, 3)), (40, (3, 3))],
)
def test_kernels_shrink_to_what_the_maps_of_motion_hold(
    frames: int, depths: tuple[int, int]
) -> None:
    assert plan_depths(frames) == depths
    assert frames - 1 - (sum(depths) - 2) >= 1


@pytest.mark.parametrize(
    ("clip_size", "grid"),
    [
        ((28, 28, 28), (4, 4)),
        ((5, 32, 32), (5, 5)),
        ((16, 28, 28), (4, 4)),
        ((24, 64, 64), (13, 13)),
    ],
)
def test_scan_sizes_end_on_a_kernel_as_large_as_what_is_left(
    clip_size: tuple[int, int, int], grid: tuple[int, int]
) -> None:
    model = Ji3DCNN(clip_size=clip_size, motion="difference", norm="batch", **SCAN)
    assert model.c6.conv.kernel_size == grid
    assert model(torch.randn(2, 1, *clip_size)).isfinite().all()


def test_the_paper_s_kernels_on_32_slices_of_64_x_64() -> None:
    with torch.device("meta"):
        model = Ji3DCNN(clip_size=(32, 64, 64))
        sizes = see_layers(model, torch.empty(1, 1, 32, 64, 64))
    assert [sizes[layer][1:] for layer in ("c2", "s3", "c4", "s5")] == [
        (58, 58),
        (29, 29),
        (23, 24),
        (7, 8),
    ]


def test_a_single_frame_has_no_motion_and_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 x 24 x 22"):
        Ji3DCNN(clip_size=(1, 60, 40))


def test_statistics_of_batch_normalisation_do_not_see_padding() -> None:
    torch.manual_seed(0)
    model = Ji3DCNN(clip_size=(9, 28, 28), norm="batch", **SCAN)
    clips = torch.randn(4, 1, 9, 28, 28)
    mask = torch.arange(9).expand(4, -1) < 4
    model(clips.masked_fill(~mask[:, None, :, None, None], 1e4), mask)
    lane = model.lanes["gray_0"]
    maps = lane.get_submodule("c2")(clips.masked_fill(~mask[:, None, :, None, None], 0.0))
    # Of the 7 windows of 3 frames, those from frame 4 on hold padding only.
    seen = maps[:, :, :4].mean(dim=(0, 2, 3, 4))
    momentum = 0.1  # torch's; running means start at 0
    torch.testing.assert_close(lane.get_buffer("norm2.running_mean"), momentum * seen)
