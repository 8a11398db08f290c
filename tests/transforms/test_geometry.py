"""Flips, rotations, crops and resampling."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvid.contract import DataError
from medvid.transforms import TRANSFORMS, build_pipeline
from medvid.transforms.affine import Affine, rotation, warp
from medvid.transforms.corner_crop import CornerCrop
from medvid.transforms.crops import CenterCrop, CropOrPad, Pad, RandomCrop
from medvid.transforms.difference import Difference
from medvid.transforms.flips import Flip, Rotate90, mirror
from medvid.transforms.resample import Resize, Spacing
from medvid.transforms.scaled_crop import ScaledCrop
from medvid.transforms.views import FiveCrop, GridCrop, TenCrop, ThreeCrop

Axis = Literal["T", "H", "W"]
AXES = st.lists(st.sampled_from(["T", "H", "W"]), unique=True)
SIZES = st.tuples(*[st.integers(1, 6)] * 3)


def make_sample(size: tuple[int, int, int] = (4, 6, 8), seed: int = 0) -> dict[str, Any]:
    frames = size[0]
    generator = torch.Generator().manual_seed(seed)
    return {
        "clip": torch.rand(1, *size, generator=generator),
        "mask": torch.arange(frames) < max(1, frames - 1),
        "positions": torch.cumsum(torch.rand(frames, generator=generator) + 1, 0),
        "spacing": torch.tensor([5.0, 0.5, 0.5]),
        "window": torch.arange(frames),
        "modality": "CT",
    }


@settings(max_examples=40, deadline=None)
@given(axes=AXES, size=SIZES)
def test_mirroring_twice_changes_nothing(axes: list[Axis], size: tuple[int, int, int]) -> None:
    sample = Difference()(make_sample(size))
    twice = mirror(mirror(sample, axes), axes)
    for key in ("clip", "difference", "mask", "window"):
        assert torch.equal(twice[key], sample[key]), key
    torch.testing.assert_close(twice["positions"], sample["positions"])


@settings(max_examples=40, deadline=None)
@given(axes=AXES, size=SIZES)
def test_differences_mirror_with_their_clip(axes: list[Axis], size: tuple[int, int, int]) -> None:
    sample = make_sample(size)
    first = Difference()(mirror(sample, axes))["difference"]
    assert torch.equal(mirror(Difference()(sample), axes)["difference"], first)


def test_mirroring_in_time_takes_everything_along() -> None:
    sample = make_sample()
    turned = mirror(sample, ["T"])
    assert torch.equal(turned["clip"], sample["clip"].flip(1))
    assert turned["window"].tolist() == [3, 2, 1, 0]
    assert turned["mask"].tolist() == [False, True, True, True]
    assert bool((turned["positions"].diff() > 0).all())
    torch.testing.assert_close(turned["positions"].diff(), sample["positions"].diff().flip(0))


def test_axes_flip_independently_and_half_of_the_time() -> None:
    pipeline = build_pipeline({"train": [{"name": "flip", "axes": ["H", "W"]}]}, training=True)
    sample = make_sample()
    images = {axes: mirror(sample, list(axes))["clip"] for axes in ((), ("H",), ("W",), ("H", "W"))}
    counts = dict.fromkeys(images, 0)
    for seed in range(200):
        clip = pipeline(sample, np.random.default_rng(seed))["clip"]
        counts[next(axes for axes, image in images.items() if torch.equal(image, clip))] += 1
    assert min(counts.values()) > 25  # 50 expected; 4 standard deviations are 25


def test_flow_is_mirrored_as_vectors() -> None:
    flow = torch.ones(4, 2, 3, 5)
    flow[0::2] = 2  # along W
    turned = mirror({"clip": torch.zeros(1, 2, 3, 5), "flow": flow}, ["W"])["flow"]
    assert turned[:, 0, 0, 0].tolist() == [-2, 1, -2, 1]
    turned = mirror({"clip": torch.zeros(1, 2, 3, 5), "flow": flow}, ["H"])["flow"]
    assert turned[:, 0, 0, 0].tolist() == [2, -1, 2, -1]


def test_flow_is_not_turned_wrongly() -> None:
    sample = {**make_sample((4, 6, 6)), "flow": torch.zeros(2, 4, 6, 6)}
    for transform in (Flip(["T"], prob=1.0), Rotate90(prob=1.0), Affine(prob=1.0)):
        with pytest.raises(DataError) as refused:
            transform(sample)
        assert refused.value.code == "flow_turned"


def test_frames_that_are_not_square_turn_by_half() -> None:
    sample = make_sample()
    turned = Rotate90(prob=1.0)(sample)["clip"]
    assert torch.equal(turned, sample["clip"].flip(2, 3))


@pytest.mark.parametrize("fill", ["edge", "min"])
@pytest.mark.parametrize("tilted", [False, True])
def test_warping_by_nothing_changes_nothing(fill: Any, tilted: bool) -> None:
    sample = make_sample()
    result = warp(sample, rotation(0.0, 0.0, 0.0), (0.0, 0.0, 0.0), fill, tilted=tilted)
    torch.testing.assert_close(result["clip"], sample["clip"])


@pytest.mark.parametrize("tilted", [False, True])
def test_a_quarter_turn_is_exact(tilted: bool) -> None:
    sample = make_sample((3, 7, 7))
    result = warp(sample, rotation(90.0, 0.0, 0.0), (0.0, 0.0, 0.0), "edge", tilted=tilted)["clip"]
    torch.testing.assert_close(result, torch.rot90(sample["clip"], -1, (2, 3)))


@pytest.mark.parametrize(("tilts", "axes"), [((90.0, 0.0), (1, 3)), ((0.0, 90.0), (1, 2))])
def test_a_tilt_by_a_quarter_is_exact(tilts: tuple[float, float], axes: tuple[int, int]) -> None:
    sample = {**make_sample((7, 7, 7)), "spacing": torch.ones(3)}
    result = warp(sample, rotation(0.0, *tilts), (0.0, 0.0, 0.0), "edge", tilted=True)["clip"]
    torch.testing.assert_close(result, torch.rot90(sample["clip"], -1, axes))


def test_tilts_are_angles_in_mm() -> None:
    # With slices of 5 mm and pixels of 0.5 mm, 10 pixels off the centre and 45 degrees is a slice.
    sample = make_sample((3, 41, 41))
    result = warp(sample, rotation(0.0, 45.0, 0.0), (0.0, 0.0, 0.0), "edge", tilted=True)["clip"]
    scale = 2**0.5 / 2
    before = sample["clip"][0, :, 20]
    t, w = 1 - scale * 10 * 0.5 / 5, 20 + scale * 10
    low_t, low_w = int(t), int(w)
    share_t, share_w = t - low_t, w - low_w
    expected = (
        before[low_t, low_w] * (1 - share_t) * (1 - share_w)
        + before[low_t + 1, low_w] * share_t * (1 - share_w)
        + before[low_t, low_w + 1] * (1 - share_t) * share_w
        + before[low_t + 1, low_w + 1] * share_t * share_w
    )
    torch.testing.assert_close(result[0, 1, 20, 30], expected, atol=1e-4, rtol=1e-4)


def test_what_lies_beyond_is_edge_or_air() -> None:
    sample = {"clip": torch.full((1, 2, 8, 8), -1000.0)}
    sample["clip"][..., 2:6, 2:6] = 50.0
    sample["clip"][..., 0] = 7.0
    far = (0.0, 0.0, -2.0)  # a whole width to the left
    edge = warp(sample, rotation(0.0, 0.0, 0.0), far, "edge", tilted=False)["clip"]
    air = warp(sample, rotation(0.0, 0.0, 0.0), far, "min", tilted=False)["clip"]
    assert set(edge[..., 1:].flatten().tolist()) == {7.0}
    assert set(air[..., 1:-1].flatten().tolist()) == {-1000.0}


def test_a_video_is_not_tilted() -> None:
    with pytest.raises(DataError, match="time is no length"):
        Affine(through_plane_degrees=5.0, prob=1.0)({**make_sample(), "modality": "video"})


def test_zoom_enlarges_the_middle() -> None:
    sample = {"clip": torch.zeros(1, 1, 16, 16), "spacing": torch.ones(3)}
    sample["clip"][..., 6:10, 6:10] = 1
    larger = TRANSFORMS["zoom"](low=2.0, high=2.0, prob=1.0)(sample)["clip"]
    assert float(larger.sum()) == pytest.approx(64, rel=0.02)  # 4 x 4 pixels became 8 x 8
    assert float(larger[..., 5:11, 5:11].min()) == 1


def test_center_crop_takes_the_middle() -> None:
    sample = make_sample()
    assert torch.equal(CenterCrop((2, 5))(sample)["clip"], sample["clip"][..., 2:4, 1:6])


def test_random_crops_reach_every_corner() -> None:
    sample = {"clip": torch.arange(16.0).reshape(1, 1, 4, 4)}
    transform = RandomCrop((3, 3))
    firsts = set()
    for seed in range(60):
        transform.set_random_state(seed=seed)
        firsts.add(int(transform(sample)["clip"][0, 0, 0, 0]))
    assert firsts == {0, 1, 4, 5}


@pytest.mark.parametrize("kind", [CenterCrop, RandomCrop, FiveCrop, TenCrop, ThreeCrop])
def test_crops_larger_than_the_frame_are_refused(kind: Any) -> None:
    with pytest.raises(DataError, match=r"7x8 pixels, and the frames have 6x8.*crop_or_pad"):
        kind((7, 8))(make_sample())


def test_padding_is_air_unless_said_otherwise() -> None:
    sample = {"clip": torch.full((1, 2, 2, 2), 50.0)}
    sample["clip"][0, 0, 0, 0] = -1024
    padded = Pad((4, 3))(sample)["clip"]
    assert padded.shape == (1, 2, 4, 3)
    assert torch.equal(padded[..., 1:3, 0:2], sample["clip"])
    assert set(padded[:, 1, 0].flatten().tolist()) == {-1024.0}
    assert Pad((4, 3), value=3.0)(sample)["clip"][0, 1, 0, 0] == 3
    assert torch.equal(Pad((1, 1))(sample)["clip"], sample["clip"])


@settings(max_examples=40, deadline=None)
@given(have=st.tuples(*[st.integers(1, 9)] * 2), want=st.tuples(*[st.integers(1, 9)] * 2))
def test_crop_or_pad_gives_the_asked_size_and_undoes_its_padding(
    have: tuple[int, int], want: tuple[int, int]
) -> None:
    sample = make_sample((2, *have))
    result = CropOrPad(want)(sample)
    assert result["clip"].shape[-2:] == want
    if have[0] <= want[0] and have[1] <= want[1]:
        assert float(result["clip"].sum()) == pytest.approx(
            float(
                sample["clip"].sum() + sample["clip"].min() * 2 * (np.prod(want) - np.prod(have))
            ),
            rel=1e-4,
        )


def test_resizing_updates_the_spacing() -> None:
    result = Resize((3, 16))(make_sample())
    assert result["clip"].shape == (1, 4, 3, 16)
    assert result["spacing"].tolist() == [5.0, 1.0, 0.25]


def test_the_shorter_side_is_resized_in_proportion() -> None:
    transform = Resize(short_side=12)
    assert transform.output_size == "varies"
    assert transform(make_sample())["clip"].shape == (1, 4, 12, 16)


@pytest.mark.parametrize("mode", ["bilinear", "area", "nearest"])
def test_constant_clips_stay_constant_when_resized(mode: Any) -> None:
    result = Resize((2, 11, 5), mode=mode)({"clip": torch.full((2, 4, 6, 8), 7.0)})["clip"]
    torch.testing.assert_close(result, torch.full((2, 2, 11, 5), 7.0))


def test_resizing_in_time_keeps_frames_where_they_are() -> None:
    sample = make_sample((4, 2, 2))
    sample["positions"] = torch.tensor([0.0, 5.0, 10.0, 15.0])
    sample["clip"] = sample["positions"].reshape(1, 4, 1, 1).expand(1, 4, 2, 2)
    result = Resize((2, 2, 2))(sample)
    assert result["positions"].tolist() == [2.5, 12.5]
    assert result["clip"][0, :, 0, 0].tolist() == [2.5, 12.5]
    assert result["spacing"][0] == 10
    assert result["mask"].shape == result["window"].shape == (2,)


def test_spacing_gives_pixels_of_the_asked_size() -> None:
    result = Spacing((1.0, 0.25))(make_sample())
    assert result["clip"].shape == (1, 4, 3, 16)
    assert result["spacing"].tolist() == [5.0, 1.0, 0.25]
    same = make_sample()
    assert Spacing(0.5)(same)["clip"] is same["clip"]
    with pytest.raises(DataError, match="Use `resize`"):
        Spacing(1.0)({**make_sample(), "modality": "video"})


def test_five_crop_is_four_corners_and_the_centre() -> None:
    sample = make_sample()
    clip = sample["clip"]
    views = FiveCrop((4, 4))(sample)["clip"]
    for view, (top, left) in zip(views, [(0, 0), (0, 4), (2, 0), (2, 4), (1, 2)], strict=True):
        assert torch.equal(view, clip[..., top : top + 4, left : left + 4])


def test_ten_crop_is_five_crop_and_its_mirror_images() -> None:
    sample = Difference()(make_sample())
    ten, five = TenCrop((4, 5))(sample), FiveCrop((4, 5))(sample)
    for key in ("clip", "difference"):
        assert torch.equal(ten[key], torch.cat([five[key], five[key].flip(-1)]))
    assert ten["mask"].shape == (4,)


def test_three_crop_runs_along_the_longer_side() -> None:
    wide = make_sample()
    views = ThreeCrop((4, 4))(wide)["clip"]
    for view, left in zip(views, (0, 2, 4), strict=True):
        assert torch.equal(view, wide["clip"][..., 1:5, left : left + 4])
    high = make_sample((2, 9, 5))
    views = ThreeCrop((3, 3))(high)["clip"]
    for view, top in zip(views, (0, 3, 6), strict=True):
        assert torch.equal(view, high["clip"][..., top : top + 3, 1:4])


def test_corner_crops_without_jitter_are_five_crops() -> None:
    sample = make_sample((2, 8, 12))
    transform = CornerCrop((8, 8), scales=(1.0,))
    expected = [sample["clip"][..., left : left + 8] for left in (0, 2, 4)]
    seen = set()
    for seed in range(40):
        transform.set_random_state(seed=seed)
        clip = transform(sample)["clip"]
        seen.add(next(n for n, want in enumerate(expected) if torch.equal(clip, want)))
    assert seen == {0, 1, 2}


def test_corner_crops_have_the_sizes_of_the_paper() -> None:
    # 340 x 256 frames, result 224: 256, 224, 192 and 168, neighbours in the list only.
    sizes = CornerCrop((224, 224))._list_sizes(256)
    lengths = [256, 224, 192, 168]
    expected = [
        (a, b) for i, a in enumerate(lengths) for j, b in enumerate(lengths) if abs(i - j) < 2
    ]
    assert sizes == expected
    assert len(CornerCrop((224, 224), max_distortion=0)._list_sizes(256)) == 4


def test_corner_crops_use_thirteen_positions_when_asked() -> None:
    column = torch.arange(16.0)
    sample = {"clip": (column[:, None] * 16 + column).reshape(1, 1, 16, 16)}
    seen = set()
    transform = CornerCrop((8, 8), scales=(0.5,), more_positions=True)
    for seed in range(300):
        transform.set_random_state(seed=seed)
        seen.add(int(transform(sample)["clip"][0, 0, 0, 0]))
    places = [(0, 0), (0, 8), (8, 0), (8, 8), (4, 4), (0, 4), (4, 0), (4, 8), (8, 4)]
    places += [(2, 2), (2, 6), (6, 2), (6, 6)]
    assert seen == {16 * top + left for top, left in places}


def test_grid_crop_covers_the_frame_and_mirrors_every_place() -> None:
    sample = Difference()(make_sample((4, 8, 12)))
    views = GridCrop((4, 6))(sample)
    clip = sample["clip"]
    places = [(top, left) for top in (0, 2, 4) for left in (0, 3, 6)]
    assert views["clip"].shape[0] == 18
    for view, (top, left) in zip(views["clip"][:9], places, strict=True):
        assert torch.equal(view, clip[..., top : top + 4, left : left + 6])
    for key in ("clip", "difference"):
        assert torch.equal(views[key][9:], views[key][:9].flip(-1))
    plain = GridCrop((4, 6), grid=(1, 2), mirrored=False)(sample)["clip"]
    assert torch.equal(plain, torch.stack([clip[..., 2:6, :6], clip[..., 2:6, 6:]]))


def test_scaled_crops_lie_anywhere_and_their_sides_are_drawn_apart() -> None:
    rows = torch.arange(16.0)[:, None].expand(16, 20)
    columns = torch.arange(20.0).expand(16, 20)
    sample = make_sample((2, 16, 20))
    sample["clip"] = torch.stack([rows, columns])[:, None].expand(2, 2, 16, 20)
    places = ScaledCrop((8, 8), scales=(0.5,))  # of 16 pixels: not resampled
    corners = set()
    for seed in range(300):
        places.set_random_state(seed=seed)
        clip = places(sample)["clip"]
        top, left = (int(clip[axis, 0].min()) for axis in (0, 1))
        assert torch.equal(clip, sample["clip"][..., top : top + 8, left : left + 8])
        corners.add((top, left))
    assert {top for top, _ in corners} == set(range(9))
    assert {left for _, left in corners} == set(range(13))
    sides = ScaledCrop((16, 16), scales=(1.0, 0.5))
    spans = set()
    for seed in range(40):
        sides.set_random_state(seed=seed)
        clip = sides(sample)["clip"][:, 0]
        spans.add(tuple(bool(clip[axis].max() - clip[axis].min() > 8) for axis in (0, 1)))
    assert len(spans) == 4


def test_a_scaled_crop_without_pixels_is_refused() -> None:
    with pytest.raises(DataError, match="`scaled_crop` finds nothing to crop in frames of 8x12"):
        ScaledCrop((4, 4), scales=(0.1,))(make_sample((2, 8, 12)))
