from typing import Any, cast

import pytest
import torch
from torch import nn

from medvid.contract import ConfigError, DataError
from medvid.models import build_model, describe_model
from medvid.models.ltc import LTC


def build(size: tuple[int, int, int], channels: int = 2, **options: Any) -> LTC:
    with torch.device("meta"):
        return LTC(in_channels=channels, num_classes=101, clip_size=size, **options)


@pytest.mark.parametrize(
    ("size", "flat", "flow", "colour"),
    [
        ((16, 112, 112), 2_304, 13_773_221, 13_774_949),
        ((60, 58, 58), 768, 10_627_493, 10_629_221),
        ((60, 71, 71), 3_072, 15_346_085, 15_347_813),
        ((100, 58, 58), 1_536, 12_200_357, 12_202_085),
        ((100, 71, 71), 6_144, 21_637_541, 21_639_269),
    ],
)
def test_the_nets_of_the_paper_have_its_sizes(
    size: tuple[int, int, int], flat: int, flow: int, colour: int
) -> None:
    for channels, parameters in ((2, flow), (3, colour), (1, flow - 1_728)):
        model = build(size, channels)
        assert model.get_submodule("head.fc6").in_features == flat
        assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("size", "axes"),
    [
        ((16, 112, 112), (1, 3, 3)),
        ((60, 58, 58), (3, 1, 1)),
        ((60, 71, 71), (3, 2, 2)),
        ((100, 58, 58), (6, 1, 1)),
        ((100, 71, 71), (6, 2, 2)),
        ((20, 58, 58), (1, 1, 1)),
        ((40, 58, 58), (2, 1, 1)),
        ((80, 58, 58), (5, 1, 1)),
        ((32, 64, 64), (2, 2, 2)),
    ],
)
def test_maps_behind_pool5_drop_what_fills_no_window(
    size: tuple[int, int, int], axes: tuple[int, int, int]
) -> None:
    model = build(size)
    maps, _ = model.trunk(torch.empty(1, 2, *size, device="meta"), None)
    assert maps.shape == (1, 256, *axes)


def test_28_pixels_collapse_unless_pool5_is_dropped() -> None:
    with pytest.raises(ConfigError, match="at least 28 x 32 x 32"):
        LTC(width=2, clip_size=(28, 28, 28))
    assert build((28, 28, 28), 1, pool5=False).get_submodule("head.fc6").in_features == 768


def test_the_net_takes_the_frames_that_it_was_built_for() -> None:
    model = LTC(width=1, clip_size=(60, 58, 58)).eval()
    assert model(torch.zeros(1, 1, 60, 58, 58)).shape == (1, 2)
    with pytest.raises(DataError, match="exactly 60 frames, and was given 100"):
        model(torch.zeros(1, 1, 100, 58, 58))


@pytest.mark.parametrize("frames", [1, 5, 17, 40])
def test_the_mean_takes_any_number_of_frames(frames: int) -> None:
    model = LTC(width=2, head="pool", pool5=False, clip_size=(17, 28, 28)).eval()
    assert model.exact_frames is None
    assert model(torch.zeros(2, 1, frames, 28, 28)).shape == (2, 2)


def test_a_slice_left_over_is_dropped_by_the_paper_s_maxima_and_kept_by_the_mean() -> None:
    """17 slices are 8 windows of two; the last slice reaches the answer only with `head: pool`."""
    torch.manual_seed(0)
    clips = torch.zeros(1, 1, 17, 32, 32)
    for head, seen in (("paper", False), ("pool", True)):
        model = LTC(width=2, init="he", clip_size=(17, 32, 32), head=cast("Any", head)).eval()
        for conv in model.trunk.convs.values():  # look at one frame alone
            with torch.no_grad():
                cast("nn.Conv3d", conv).weight[:, :, [0, 2]] = 0
        loud = clips.clone()
        loud[:, :, 16] = 5.0
        assert torch.equal(model(loud), model(clips)) is not seen


def test_thick_slices_wait_for_the_pixels() -> None:
    model = cast(
        "LTC",
        build_model(
            {"name": "ltc", "width": 2, "strides": "spacing", "head": "pool"},
            in_channels=1,
            num_classes=2,
            clip_size=(24, 128, 128),
            spacing=(5.0, 0.5, 0.5),
        ),
    )
    depths = [cast("nn.Conv3d", conv).kernel_size[0] for conv in model.trunk.convs.values()]
    assert depths == [1, 1, 1, 3, 3]
    assert [pool[0] for pool in model.trunk.pools] == [1, 1, 1, 2, 2]


def test_the_paper_s_initialisation_is_uniform_by_fan_in() -> None:
    torch.manual_seed(0)
    model = LTC(in_channels=2, width=16, clip_size=(16, 32, 32))
    conv = cast("nn.Conv3d", model.trunk.convs["conv3"])
    assert conv.bias is not None
    for values in (conv.weight, conv.bias):
        assert values.abs().max().item() <= (27 * 32) ** -0.5
    assert conv.weight.std().item() == pytest.approx((3 * 27 * 32) ** -0.5, rel=0.02)


def test_both_hidden_layers_are_rectified_and_dropped() -> None:
    model = LTC(width=2, clip_size=(16, 32, 32), dropout=1.0)
    head = cast("Any", model.head)
    logits = model(torch.randn(2, 1, 16, 32, 32))
    torch.testing.assert_close(logits, head.fc8.bias.expand(2, -1))
    features = model.features(torch.randn(2, 1, 16, 32, 32))
    torch.testing.assert_close(features, head.fc7.bias.clamp(min=0).expand(2, -1))


def test_longer_clips_of_fewer_pixels_cost_about_the_same() -> None:
    """The trade of the paper: 100 x 58 x 58 against 60 x 71 x 71, and 16 x 112 x 112."""
    flops = [
        describe_model(build(size), size, 2)["flops"]
        for size in ((100, 58, 58), (60, 71, 71), (16, 112, 112))
    ]
    # Voxels of the clips: 336, 302 and 201 thousand.
    assert flops[0] / flops[2] == pytest.approx(336_400 / 200_704, rel=0.1)
    assert flops[1] / flops[2] == pytest.approx(302_460 / 200_704, rel=0.1)


@pytest.mark.parametrize("head", ["paper", "pool"])
def test_the_planar_twin_has_the_same_names_and_no_kernel_over_slices(head: str) -> None:
    options: dict[str, Any] = {"width": 4, "head": head, "pool5": False, "clip_size": (16, 28, 28)}
    torch.manual_seed(0)
    full, twin = LTC(**options).eval(), LTC(**options, planar=True).eval()
    for (name, own), (twins, other) in zip(
        full.state_dict().items(), twin.state_dict().items(), strict=True
    ):
        assert name == twins
        flat = own.shape if own.ndim < 5 else (*own.shape[:2], 1, *own.shape[3:])
        assert other.shape == flat, name
    clips = torch.randn(2, 1, 16, 28, 28)
    maps, _ = twin.trunk(clips, None)
    alone = torch.cat([twin.trunk(clips[:, :, [t]], None)[0] for t in range(16)], dim=2)
    torch.testing.assert_close(maps, alone, atol=1e-5, rtol=1e-4)


def test_no_mean_of_the_twin_sees_padding() -> None:
    """fc6 of the twin sees two pieces of 16 frames; the second is half of padding."""
    torch.manual_seed(0)
    size = (16, 28, 28)
    twin = LTC(width=4, pool5=False, init="he", clip_size=size, planar=True).eval()
    picture = torch.randn(1, 1, 1, 28, 28)
    still = picture.expand(1, 1, *size)
    mask = torch.arange(16)[None] < 12
    torch.testing.assert_close(twin(still, mask=mask), twin(still), atol=1e-5, rtol=1e-4)
