from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medvid.contract import ConfigError
from medvid.layers.foveal import Trunk, cut_stream, fuse_mask, measure_overhang
from medvid.models import MODELS, describe_model
from medvid.models.karpathy import EarlyFusion, LateFusion, SingleFrame, SlowFusion

SMALL: dict[str, Any] = {"width": 3, "stem": "small", "norm": "none", "init": "he"}


def see_layers(trunk: nn.Module, clips: torch.Tensor) -> list[tuple[int, ...]]:
    """Returns (T, H, W) behind every convolution, before its maximum."""
    sizes: list[tuple[int, ...]] = []
    hooks = [
        conv.register_forward_hook(lambda _, __, maps: sizes.append(tuple(maps.shape[2:])))
        for conv in trunk.get_submodule("convs").children()
    ]
    trunk(clips, None)
    for hook in hooks:
        hook.remove()
    return sizes


@pytest.mark.parametrize(("side", "rows"), [(170, (57, 28, 14)), (178, (60, 30, 15))])
def test_maps_have_the_paper_s_sizes(side: int, rows: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        trunk = SingleFrame(3, 101).streams.trunks["whole"]
        sizes = see_layers(trunk, torch.empty(1, 3, 1, side, side))
        maps, _ = trunk(torch.empty(1, 3, 1, side, side), None)
    assert [size[1] for size in sizes] == [*rows, rows[2], rows[2]]
    assert maps.shape == (1, 256, 1, 7, 7)


def test_both_streams_end_on_7_x_7() -> None:
    with torch.device("meta"):
        model = SingleFrame(3, 101, clip_size=(1, 178, 178), streams="multiresolution")
        for name, trunk in model.streams.trunks.items():
            clips = cut_stream(torch.empty(1, 3, 1, 178, 178), name)
            assert clips.shape[3:] == (89, 89)
            assert [size[1] for size in see_layers(trunk, clips)] == [30, 15, 7, 7, 7]
    assert list(model.streams.trunks) == ["context", "fovea"]
    assert model.head.fc6.in_features == 2 * 12_544


def test_slow_fusion_leaves_4_2_and_1_of_ten_frames() -> None:
    with torch.device("meta"):
        trunk = SlowFusion(3, 101).streams.trunks["whole"]
        sizes = see_layers(trunk, torch.empty(1, 3, 10, 170, 170))
    assert sizes == [(4, 57, 57), (2, 28, 28), (1, 14, 14), (1, 14, 14), (1, 14, 14)]


def test_early_fusion_has_one_kernel_over_all_frames_and_nothing_stacked_as_channels() -> None:
    with torch.device("meta"):
        early, single = EarlyFusion(3, 101), SingleFrame(3, 101)
    ours, twin = early.state_dict(), single.state_dict()
    conv1 = "streams.trunks.whole.convs.conv1.weight"
    assert ours[conv1].shape == (96, 3, 10, 11, 11)
    assert twin[conv1].shape == (96, 3, 1, 11, 11)
    assert {k: v.shape for k, v in ours.items() if k != conv1} == {
        k: v.shape for k, v in twin.items() if k != conv1
    }


@pytest.mark.parametrize("kind", [SingleFrame, LateFusion, EarlyFusion, SlowFusion])
def test_two_streams_halve_the_pixels_and_nearly_the_cost(kind: Any) -> None:
    with torch.device("meta"):
        whole, halves = kind(3, 487), kind(3, 487, streams="multiresolution")
    one = describe_model(whole, kind.paper_clip, 3)["flops"]
    two = describe_model(halves, (kind.paper_clip[0], 178, 178), 3)["flops"]
    assert 0.5 < two / one < 0.7


def test_response_normalisation_is_the_formula_of_the_text() -> None:
    maps = np.random.default_rng(0).normal(scale=40, size=(8, 2, 3))
    wanted = np.empty_like(maps)
    for i in range(8):
        window = maps[max(0, i - 2) : i + 3]
        wanted[i] = maps[i] / (2 + 1e-4 * (window**2).sum(axis=0)) ** 0.5
    trunk = Trunk(1, 3, "lrn", "small", (1,) * 5, (1,) * 5, pool5=True)
    assert trunk.response is not None
    ours = trunk.response(torch.from_numpy(maps)[None])[0]
    np.testing.assert_allclose(ours.numpy(), wanted, rtol=1e-12)


def test_the_fovea_is_the_middle_and_the_context_the_whole() -> None:
    clips = torch.arange(36.0).view(1, 1, 1, 6, 6)
    assert cut_stream(clips, "fovea")[0, 0, 0, 0].tolist() == [7.0, 8.0, 9.0]
    assert cut_stream(clips, "fovea")[0, 0, 0, :, 0].tolist() == [7.0, 13.0, 19.0]
    # Pixels 0, 1, 6, 7 are the first mean; two columns on, four more.
    assert cut_stream(clips, "context")[0, 0, 0, 0].tolist() == [3.5, 5.5, 7.5]
    assert torch.equal(cut_stream(clips, "whole"), clips)


@pytest.mark.parametrize(("streams", "blind"), [("fovea", "edge"), ("multiresolution", "nothing")])
def test_the_fovea_alone_is_blind_to_the_edge(streams: Any, blind: str) -> None:
    torch.manual_seed(0)
    model = SingleFrame(**SMALL, clip_size=(1, 32, 32), streams=streams).eval()
    clips = torch.randn(1, 1, 1, 32, 32)
    edge = clips.clone()
    edge[..., :4, :] = 3.0
    assert torch.allclose(model(edge), model(clips)) == (blind == "edge")


@pytest.mark.parametrize(("frames", "centre"), [(1, 0), (5, 2), (6, 3)])
def test_single_frame_sees_the_centre_alone(frames: int, centre: int) -> None:
    torch.manual_seed(0)
    model = SingleFrame(**SMALL, clip_size=(frames, 16, 16)).eval()
    clips = torch.randn(2, 1, frames, 16, 16)
    others = torch.randn(2, 1, frames, 16, 16)
    others[:, :, centre] = clips[:, :, centre]
    torch.testing.assert_close(model(others), model(clips))
    torch.testing.assert_close(model(clips), model.frame_logits(clips)[:, centre])


def test_the_centre_is_that_of_the_frames_that_are_not_padding() -> None:
    torch.manual_seed(0)
    model = SingleFrame(**SMALL, clip_size=(6, 16, 16)).eval()
    clips = torch.randn(2, 1, 6, 16, 16)
    mask = torch.tensor([[False, True, True, True, False, False], [True] * 5 + [False]])
    torch.testing.assert_close(model(clips, mask), model(clips[:, :, 2:3]))


def test_late_fusion_joins_the_first_and_the_last_frame_and_sees_none_between() -> None:
    torch.manual_seed(0)
    model = LateFusion(**SMALL, clip_size=(6, 16, 16)).eval()
    clips = torch.randn(2, 1, 6, 16, 16)
    torch.testing.assert_close(model(clips[:, :, [0, 5]]), model(clips))
    torch.testing.assert_close(model(clips[:, :, [0, 2, 2, 5]]), model(clips))
    assert not torch.allclose(model(clips[:, :, [5, 0]]), model(clips))
    mask = torch.tensor([[False, True, True, True, True, False]] * 2)
    torch.testing.assert_close(model(clips, mask), model(clips[:, :, [1, 4]]))
    alone = clips[:, :, :1]
    torch.testing.assert_close(model(alone), model(alone.repeat(1, 1, 2, 1, 1)))


@pytest.mark.parametrize("frames", range(1, 25))
@pytest.mark.parametrize(("depth", "step"), [(4, 2), (2, 2), (4, 1), (7, 1)])
def test_every_frame_lies_in_a_window_and_masks_count_windows_as_a_clip_alone(
    frames: int, depth: int, step: int
) -> None:
    windows = (frames + measure_overhang(frames, depth, step) - depth) // step + 1
    assert (windows - 1) * step + depth >= frames  # the last frame is seen
    assert windows == 1 or (windows - 2) * step + depth < frames  # and no window is idle
    mask = torch.arange(30)[None] < frames
    fused = fuse_mask(mask, depth, step)
    assert fused is not None
    assert fused.sum() == windows
    assert fused[0, :windows].all()
    assert fused.shape[1] == (30 + measure_overhang(30, depth, step) - depth) // step + 1


def test_ten_frames_reach_no_zeros() -> None:
    assert [measure_overhang(t, d, 2) for t, d in [(10, 4), (4, 2), (2, 2)]] == [0, 0, 0]


def test_thick_slices_are_not_skipped() -> None:
    def see(spacing: tuple[float, float, float]) -> list[int]:
        with torch.device("meta"):
            model = SlowFusion(width=3, strides="spacing", spacing=spacing)
            trunk = model.streams.trunks["whole"]
            return [size[0] for size in see_layers(trunk, torch.empty(1, 1, 16, 170, 170))]

    assert see((1.0, 1.0, 1.0)) == [7, 4, 2, 2, 2]
    # 5 mm slices against pixels of .5 mm, 3 mm behind conv1 and pool1, 6 mm behind pool2
    assert see((5.0, 0.5, 0.5)) == [13, 7, 4, 4, 4]


def test_the_planar_twin_has_the_names_of_slow_fusion_and_no_order() -> None:
    torch.manual_seed(0)
    planar, solid = SlowFusion(**SMALL, planar=True).eval(), SlowFusion(**SMALL)
    assert list(planar.state_dict()) == list(solid.state_dict())
    for name, weight in solid.state_dict().items():
        twin = planar.state_dict()[name]
        assert twin.shape == (*weight.shape[:2], 1, *weight.shape[3:]) or twin.shape == weight.shape
    clips = torch.randn(1, 1, 5, 16, 16)
    torch.testing.assert_close(planar(clips.flip(2)), planar(clips))


def test_a_still_clip_looks_to_inflated_fusion_as_to_the_single_frame() -> None:
    """Kernels repeated over T and divided by it answer a repeated frame as the 2D twin does."""
    torch.manual_seed(0)
    single = SingleFrame(**SMALL, clip_size=(10, 16, 16)).eval()
    clips = torch.randn(2, 1, 1, 16, 16).repeat(1, 1, 10, 1, 1)
    for kind in (EarlyFusion, SlowFusion):
        fusion = kind(**SMALL, clip_size=(10, 16, 16)).eval()
        shapes = {name: tensor.shape for name, tensor in fusion.state_dict().items()}
        inflated = {
            name: weight.expand(shapes[name]) / (shapes[name][2] if weight.ndim == 5 else 1)
            for name, weight in single.state_dict().items()
        }
        fusion.load_state_dict(inflated)
        torch.testing.assert_close(fusion(clips), single(clips))


def test_initialisation_is_alexnet_s() -> None:
    torch.manual_seed(0)
    model = SingleFrame(in_channels=3, width=24, clip_size=(1, 64, 64))
    for parameter in (p for p in model.parameters() if p.ndim > 1 and p.numel() > 5_000):
        assert parameter.std().item() == pytest.approx(0.01, rel=0.05)
    ones = {
        name.rpartition(".")[0].rpartition(".")[2]
        for name, p in model.named_parameters()
        if p.ndim == 1 and p.eq(1).all()
    }
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    zeros = {n for n, p in model.named_parameters() if p.ndim == 1 and p.eq(0).all()}
    assert len(zeros) == 3


def test_a_width_that_is_no_multiple_of_3_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiples of 3"):
        MODELS["slow_fusion"](width=32)
