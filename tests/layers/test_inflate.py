"""Inflation: fitted by name and shape, the fixed point of boring clips, and what is refused."""

from typing import Any, Literal, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import DataError
from medvid.layers.inflate import fit_tensor, inflate_state
from medvid.models import MODELS

ATOL, RTOL = 1e-10, 1e-9
"""In float64, where the sum of t equal parts is not quite the whole."""

LONG = 160
"""Frames, of which the borders reach 50 in I3D and 59 in Res3D, so not to the middle."""


def make_kernel(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("how", ["repeat", "centre"])
@given(
    slices=st.integers(1, 8),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    stride=st.integers(1, 3),
    channels=st.integers(1, 3),
)
@settings(deadline=None, max_examples=60)
def test_a_boring_clip_gives_the_2d_maps_away_from_the_ends(
    how: Literal["repeat", "centre"],
    slices: int,
    rows: int,
    columns: int,
    stride: int,
    channels: int,
) -> None:
    kernel = make_kernel(2, channels, rows, columns)
    solid = fit_tensor(kernel, torch.zeros(2, channels, slices, rows, columns).double(), how)
    assert solid is not None
    picture = make_kernel(1, channels, 7, 6)
    flat = functional.conv2d(picture, kernel, padding=(rows // 2, columns // 2))
    clip = picture[:, :, None].repeat(1, 1, 24, 1, 1)
    reach = slices // 2
    padding = (reach, rows // 2, columns // 2)
    deep = functional.conv3d(clip, solid, stride=(stride, 1, 1), padding=padding)
    edge = -(-reach // stride)
    inner = deep[:, :, edge : deep.shape[2] - edge]
    assert inner.shape[2] > 0
    torch.testing.assert_close(inner, flat[:, :, None].expand_as(inner), atol=ATOL, rtol=RTOL)


def test_zero_padded_ends_break_the_fixed_point_and_the_centre_tap_does_not() -> None:
    """The 7 x 7 x 7 stem with stride 2 on 16 equal frames: frames 2 to 6 of 0 to 7 are right."""
    kernel = make_kernel(1, 1, 7, 7)
    picture = make_kernel(1, 1, 12, 12)
    flat = functional.conv2d(picture, kernel, stride=2)
    clip = functional.pad(picture[:, :, None].repeat(1, 1, 16, 1, 1), (0, 0, 0, 0, 3, 3))
    errors = {}
    for how in ("repeat", "centre"):
        solid = fit_tensor(kernel, torch.zeros(1, 1, 7, 7, 7).double(), how)
        assert solid is not None
        deep = functional.conv3d(clip, solid, stride=2)
        errors[how] = (deep - flat[:, :, None]).abs().amax(dim=(0, 1, 3, 4))
    wrong = errors["repeat"] > 1e-9
    assert wrong.tolist() == [True, True, False, False, False, False, False, True]
    # The centre tap of output 7 stands on frame 14, inside the clip.
    assert bool((errors["centre"] < 1e-9).all())


@pytest.mark.parametrize("how", ["repeat", "centre"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("i3d", {"width": 8, "stem_stride": (2, 1, 1), "pool_2a": False}),
        ("i3d", {"width": 8, "norm": "batch", "gamma": False, "stem_kernel": (3, 7, 7)}),
        ("res3d", {"width": 4}),
        ("res3d", {"width": 4, "factorised": True}),
        ("densenet3d", {"width": 8, "growth": 4, "blocks": (2, 2), "stem": "half"}),
        ("t3d", {"width": 8, "growth": 4, "blocks": (2, 2), "stem": "half"}),
        ("t3d", {"width": 8, "growth": 4, "blocks": (2, 1), "stem": "half", "reading": "D"}),
        ("c3d", {"width": 4, "norm": "batch", "head": "pool", "init": "he"}),
        ("ltc", {"width": 4, "norm": "batch", "head": "pool", "init": "he", "pool5": False}),
    ],
)
def test_whole_networks_answer_boring_clips_as_their_planar_twin(
    name: str, options: dict[str, object], how: Literal["repeat", "centre"]
) -> None:
    """Long clips, whose middle no border reaches, and the maps there."""
    torch.manual_seed(0)
    twin = cast("Any", MODELS[name](**options, planar=True).double())
    twin(torch.randn(4, 1, 2, 20, 20).double())  # moves the statistics of norms off their start
    twin.eval()
    solid = cast("Any", MODELS[name](**options).double())
    inflated = inflate_state(twin.state_dict(), solid.state_dict(), how=how)
    assert inflated.report.left == {}
    assert inflated.report.unused == ()
    assert inflated.report.inflated
    solid.load_state_dict(inflated.state)
    solid.eval()
    picture = make_kernel(1, 1, 1, 20, 20)
    flat, _ = twin.trunk(picture, None)
    deep, _ = solid.trunk(picture.expand(1, 1, LONG, 20, 20), None)
    middle = deep[:, :, [deep.shape[2] // 2]]
    torch.testing.assert_close(middle, flat, atol=ATOL, rtol=RTOL)
    assert how == "centre" or not torch.allclose(deep[:, :, [0]], flat, atol=ATOL, rtol=RTOL)


class Small(nn.Module):
    def __init__(self, channels: int, width: int, classes: int, solid: bool) -> None:
        super().__init__()
        conv = nn.Conv3d if solid else nn.Conv2d
        norm = nn.BatchNorm3d if solid else nn.BatchNorm2d
        self.stem = conv(channels, width, 3)
        self.norm = norm(width)
        self.point = conv(width, width, 1)
        self.head = nn.Conv3d(width, classes, 1) if solid else nn.Linear(width, classes)


def test_rgb_stems_are_summed_for_one_channel() -> None:
    flat, solid = Small(3, 4, 2, solid=False), Small(1, 4, 2, solid=True)
    made = inflate_state(flat.state_dict(), solid.state_dict())
    assert made.report.summed == ("stem.weight",)
    grey = torch.randn(1, 1, 5, 5)
    wanted = functional.conv2d(grey.expand(1, 3, 5, 5), flat.stem.weight)
    assert torch.allclose(
        functional.conv2d(grey, made.state["stem.weight"].sum(2)), wanted, atol=1e-5
    )


def test_the_mean_of_rgb_stands_for_each_of_several_channels() -> None:
    flat, solid = Small(3, 4, 2, solid=False), Small(2, 4, 2, solid=True)
    made = inflate_state(flat.state_dict(), solid.state_dict())
    assert made.report.averaged == ("stem.weight",)
    assert "mean of RGB in stem.weight" in made.report.summarize()
    mean = flat.stem.weight.mean(dim=1)
    for channel in range(2):
        torch.testing.assert_close(made.state["stem.weight"].sum(2)[:, channel], mean)


def test_a_kernel_that_does_not_fit_is_no_start_for_the_others() -> None:
    """Two channels say nothing of three: the trained layers would stand on a random stem."""
    flat, solid = Small(2, 4, 2, solid=False), Small(3, 4, 2, solid=True)
    with pytest.raises(DataError, match=r"stem.weight \(4 x 2 x 3 x 3 in the 2D network") as caught:
        inflate_state(flat.state_dict(), solid.state_dict())
    assert caught.value.code == "kernels_differ"
    deeper = solid.state_dict() | {"stem.weight": torch.zeros(4, 3, 5, 3, 3)}
    with pytest.raises(DataError, match="over random ones"):
        inflate_state(deeper, solid.state_dict())


def test_what_marks_a_module_as_fitted_stays_with_what_was_not_taken() -> None:
    state = {"conv.weight": torch.ones(2, 1, 3, 3), "vlad.anchors": torch.ones(4, 2)}
    source = state | {"vlad.fitted": torch.tensor(True), "conv.steps": torch.tensor(7)}
    target = {
        "conv.weight": torch.zeros(2, 1, 3, 3, 3),
        "conv.steps": torch.tensor(0),
        "vlad.anchors": torch.zeros(8, 2),
        "vlad.fitted": torch.tensor(False),
    }
    made = inflate_state(source, target)
    assert not made.state["vlad.fitted"]
    assert set(made.report.left) == {"vlad.anchors", "vlad.fitted"}
    assert made.state["conv.steps"] == 7
    same = target | {"vlad.anchors": torch.zeros(4, 2)}
    assert inflate_state(source, same).state["vlad.fitted"]


@pytest.mark.parametrize("frames", [4, 5, 8, 10])
def test_early_fusion_begins_on_the_frame_that_its_twin_looks_at(frames: int) -> None:
    options: dict[str, Any] = {"width": 6, "clip_size": (frames, 20, 20), **SCAN}
    twin, early = MODELS["single_frame"](**options).eval(), MODELS["early_fusion"](**options).eval()
    begin_at_centre(twin, early)
    clips = torch.randn(2, 1, frames, 20, 20)
    torch.testing.assert_close(early(clips), twin(clips))


def test_slow_fusion_begins_in_the_middle_of_its_clip() -> None:
    options: dict[str, Any] = {"width": 6, "clip_size": (10, 20, 20), **SCAN}
    twin = MODELS["slow_fusion"](planar=True, **options).eval()
    slow = MODELS["slow_fusion"](**options).eval()
    begin_at_centre(twin, slow)
    picture = torch.randn(1, 1, 1, 20, 20)
    clips = picture.repeat(1, 1, 10, 1, 1).requires_grad_()
    torch.testing.assert_close(slow(clips), twin(picture))
    slow(clips)[0, 1].backward()
    assert clips.grad is not None
    shares = clips.grad.abs().sum(dim=(0, 1, 3, 4))
    assert bool((shares[1:9] > 0).all())
    assert shares[0] == shares[9] == 0


SCAN = {"norm": "batch", "stem": "small", "head": "pool", "init": "he"}


def begin_at_centre(twin: Any, deep: Any) -> None:
    state = inflate_state(
        twin.state_dict(), deep.state_dict(), how="centre", taps=deep.centre_taps
    ).state
    deep.load_state_dict(state)


def test_a_linear_classifier_fits_one_of_single_voxels_and_other_classes_are_left() -> None:
    flat, solid = Small(1, 4, 2, solid=False), Small(1, 4, 2, solid=True)
    made = inflate_state(flat.state_dict(), solid.state_dict())
    assert torch.equal(made.state["head.weight"].flatten(1), flat.head.weight)
    other = Small(1, 4, 5, solid=True)
    made = inflate_state(flat.state_dict(), other.state_dict())
    assert set(made.report.left) == {"head.weight", "head.bias"}
    assert "left at their own start: head.weight, head.bias" in made.report.summarize()
    kept = inflate_state(flat.state_dict(), solid.state_dict(), leave={"head.weight", "head.bias"})
    assert torch.equal(kept.state["head.weight"], solid.head.weight)
    assert "classifier" in kept.report.left["head.bias"]
    names = {"head.weight", "head.bias"}
    kept = inflate_state(other.state_dict(), solid.state_dict(), leave=names)
    assert set(kept.report.left) == names


def test_norms_come_with_their_statistics() -> None:
    flat, solid = Small(1, 4, 2, solid=False), Small(1, 4, 2, solid=True)
    flat.norm(torch.randn(8, 4, 3, 3) + 5)
    made = inflate_state(flat.state_dict(), solid.state_dict())
    assert torch.equal(made.state["norm.running_mean"], flat.get_buffer("norm.running_mean"))
    assert bool(made.state["norm.running_mean"].all())
    assert int(made.state["norm.num_batches_tracked"]) == 1


def test_nothing_is_changed_in_place() -> None:
    flat, solid = Small(1, 4, 2, solid=False), Small(1, 4, 2, solid=True)
    before = {name: tensor.clone() for name, tensor in solid.state_dict().items()}
    made = inflate_state(flat.state_dict(), solid.state_dict())
    made.state["stem.weight"].zero_()
    made.state["norm.running_mean"].add_(1)
    assert all(torch.equal(before[name], now) for name, now in solid.state_dict().items())
    assert bool(flat.stem.weight.any())
    assert not flat.get_buffer("norm.running_mean").any()


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"something.else": torch.zeros(3, 3)},
        Small(1, 8, 2, solid=False).state_dict(),  # another width: norms and kernels misfit
        {"norm.weight": torch.ones(4), "norm.bias": torch.ones(4)},  # norms alone are no network
    ],
)
def test_too_little_in_common_is_a_sentence(source: dict[str, Tensor]) -> None:
    solid = Small(1, 4, 2, solid=True)
    with pytest.raises(DataError, match=r"fit 0 of the network's 3 kernels.*planar=true") as caught:
        inflate_state(source, solid.state_dict())
    assert caught.value.code == "nothing_to_inflate"


def test_a_deeper_kernel_is_summed_over_its_slices_where_slices_are_thick() -> None:
    """Equal slices give the same map."""
    deep = make_kernel(2, 3, 3, 2, 2)
    flat = fit_tensor(deep, torch.zeros(2, 3, 1, 2, 2, dtype=torch.float64), "repeat")
    assert flat is not None
    picture = make_kernel(1, 3, 1, 5, 5)
    wanted = functional.conv3d(picture.repeat(1, 1, 3, 1, 1), deep)
    torch.testing.assert_close(functional.conv3d(picture, flat), wanted)
    assert fit_tensor(torch.ones(1, 1, 3, 2, 2), torch.ones(1, 1, 5, 2, 2), "repeat") is None
