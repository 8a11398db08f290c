"""Pooling over frames and windows of frames, Ng et al. 2015."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medvid.contract import ConfigError, DataError
from medvid.layers.frame_trunks import AlexNetTrunk, GoogLeNetTrunk, SmallTrunk
from medvid.models import build_model
from medvid.models.ng import ConvPooling, LatePooling
from medvid.models.ng_windows import LocalPooling, SlowPooling, TimeConv, count_windows

CLIPS = torch.randn(2, 1, 9, 16, 16, generator=torch.Generator().manual_seed(0))
SMALL: dict[str, Any] = {
    "width": 16, "trunk": "small", "trunk_width": 4, "clip_size": (9, 16, 16),
}  # fmt: skip


def wake(model: nn.Module) -> nn.Module:
    """Moves every parameter off its start, where residual branches and biases are zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize(
    ("trunk", "pixels", "rows"),
    [
        (AlexNetTrunk(3), 220, 6),
        (GoogLeNetTrunk(3), 220, 6),
        (GoogLeNetTrunk(3), 224, 7),
        (SmallTrunk(3, 4, "batch", 1), 28, 4),
        (SmallTrunk(3, 4, "group", 4), 256, 8),
    ],
)
def test_maps_have_the_papers_sizes(trunk: Any, pixels: int, rows: int) -> None:
    with torch.device("meta"):
        maps = trunk.to("meta")(torch.empty(1, 3, pixels, pixels))
    assert maps.shape == (1, trunk.channels, rows, rows)
    assert trunk.shrink(pixels) == rows


@pytest.mark.parametrize(
    "trunk", [AlexNetTrunk(1), GoogLeNetTrunk(1), SmallTrunk(1, 4, "batch", 2)]
)
def test_trunks_say_how_many_rows_they_leave(trunk: Any) -> None:
    trunk = trunk.eval()
    for pixels in range(trunk.smallest, trunk.smallest + 70, 7):
        assert trunk(torch.zeros(1, 1, pixels, trunk.smallest)).shape[2] == trunk.shrink(pixels)


def test_googlenet_without_classifiers_has_its_published_size() -> None:
    assert sum(p.numel() for p in GoogLeNetTrunk(3).parameters()) == 5_973_552


def test_no_trunk_ends_below_zero() -> None:
    """On that rests that padding, which is zero, wins no maximum over frames."""
    images = torch.randn(2, 1, 40, 40, generator=torch.Generator().manual_seed(1))
    for trunk in (AlexNetTrunk(1), GoogLeNetTrunk(1), SmallTrunk(1, 4, "group", 1)):
        assert trunk.eval()(images).min() >= 0


@pytest.mark.parametrize(
    ("frames", "window", "stride", "count"),
    [(120, 10, 5, 23), (30, 10, 5, 5), (10, 10, 5, 1), (4, 10, 5, 1), (17, 7, 3, 5), (16, 7, 3, 4)],
)
def test_windows_of_the_paper_and_of_scans(
    frames: int, window: int, stride: int, count: int
) -> None:
    assert count_windows(frames, window, stride) == count
    last_seen = window + (count - 1) * stride
    assert last_seen >= frames  # no slice is left out


def test_conv_pooling_is_the_maximum_of_every_place() -> None:
    model = wake(ConvPooling(**SMALL))
    maps = model.encode_frames(CLIPS).detach().numpy()  # type: ignore[operator]
    assert maps.shape == (2, 9, 32, 2, 2)
    pooled = torch.from_numpy(np.maximum.reduce(maps, axis=1)).flatten(1)
    logits = model.classifier(model.hidden(pooled))  # type: ignore[operator]
    torch.testing.assert_close(model(CLIPS), logits)


def test_pooling_over_all_frames_loses_their_order() -> None:
    for kind in (ConvPooling, LatePooling):
        model = wake(kind(**SMALL))
        torch.testing.assert_close(model(CLIPS.flip(2)), model(CLIPS))


def test_windows_keep_some_of_the_order() -> None:
    shuffled = CLIPS[:, :, [8, 0, 5, 2, 7, 4, 1, 6, 3]]
    for kind in (SlowPooling, LocalPooling, TimeConv):
        model = wake(kind(**SMALL, window=3, stride=2))
        assert not torch.allclose(model(shuffled), model(CLIPS), atol=1e-4)


def test_time_conv_alone_sees_a_window_backwards() -> None:
    window = CLIPS[:, :, :3]
    for kind, same in ((SlowPooling, True), (TimeConv, False)):
        model = wake(kind(**SMALL, window=3, stride=3))
        assert torch.allclose(model(window.flip(2)), model(window), atol=1e-5) is same


def test_one_frame_is_its_own_answer() -> None:
    """A net trained on single frames runs on many: pooling has no parameters."""
    for kind in (ConvPooling, LatePooling):
        model: Any = wake(kind(**SMALL))
        torch.testing.assert_close(model(CLIPS[:, :, 4:5]), model.frame_logits(CLIPS)[:, 4])


def reference_slow(model: Any, frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One clip's slow pooling in float64, a window at a time."""

    def layer(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        linear = model.get_submodule(name)
        weight, bias = (p.detach().double().numpy() for p in (linear.weight, linear.bias))
        out: np.ndarray[Any, Any] = weight @ values + bias
        return out

    count = count_windows(len(frames), model.window, model.stride)
    said = [
        np.maximum(layer("hidden1.0", frames[start : start + model.window].max(axis=0)), 0)
        for start in np.arange(count) * model.stride
    ]
    hidden = np.maximum(layer("hidden2.0", np.max(said, axis=0)), 0)
    return layer("classifier", hidden)


@pytest.mark.parametrize("length", [2, 5, 8, 9])
def test_slow_pooling_is_what_a_loop_computes(length: int) -> None:
    model: Any = wake(SlowPooling(**SMALL, window=4, stride=2))
    frames = model.encode_frames(CLIPS[:, :, :length])
    wanted = [reference_slow(model, clip.flatten(1).detach().double().numpy()) for clip in frames]
    got = model(CLIPS[:, :, :length]).detach().double().numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [SlowPooling, TimeConv])
@pytest.mark.parametrize("shown", [(2, 7), (0, 4), (3, 9)])
def test_windows_begin_with_the_first_frame_that_is_not_padding(
    kind: Any, shown: tuple[int, int]
) -> None:
    model = wake(kind(**SMALL, window=3, stride=2))
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[:, shown[0] : shown[1]] = True
    alone = model(CLIPS[:, :, shown[0] : shown[1]])
    torch.testing.assert_close(model(CLIPS, mask), alone, atol=1e-5, rtol=1e-4)


def test_a_window_of_nothing_but_padding_gives_zeros() -> None:
    model: Any = wake(LocalPooling(**SMALL, window=3, stride=2))
    mask = torch.arange(9).expand(2, -1) < 5  # two of the four windows
    features = model.features(CLIPS, mask).unflatten(1, (4, 16))
    assert (features[:, 2:] == 0).all()
    assert (features[:, :2] != 0).any(dim=2).all()


def test_local_pooling_knows_where_something_is() -> None:
    model = wake(LocalPooling(**SMALL, window=3, stride=2))
    assert not torch.allclose(model(CLIPS.flip(2)), model(CLIPS), atol=1e-4)


def test_local_pooling_refuses_frames_of_another_number() -> None:
    with pytest.raises(DataError, match="exactly 9 frames"):
        LocalPooling(**SMALL).features(torch.zeros(1, 1, 10, 16, 16))


def test_time_conv_is_a_convolution_over_windows_that_lie_within() -> None:
    model: Any = wake(TimeConv(**SMALL, window=3, stride=2, kernels=8))
    frames = model.encode_frames(CLIPS)
    windows = torch.stack([frames[:, start : start + 3] for start in (0, 2, 4, 6)], dim=1)
    maps = torch.einsum(
        "bntcyxhw,kctyx->bnkhw",
        nn.functional.pad(windows, (1, 1, 1, 1)).unfold(4, 2, 1).unfold(5, 2, 1),
        model.conv.weight,
    ) + model.conv.bias.reshape(-1, 1, 1)
    pooled = maps.relu().amax(dim=1).flatten(1)
    torch.testing.assert_close(model.classifier(model.hidden(pooled)), model(CLIPS))


@pytest.mark.parametrize("name", ["slow_pooling", "local_pooling", "time_conv"])
def test_windows_with_gaps_between_them_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no frame lies between two windows"):
        build_model(
            {"name": name, "window": 3, "stride": 4},
            in_channels=1, num_classes=2, clip_size=(9, 32, 32),
        )  # fmt: skip


def test_googlenet_pools_the_average_unless_asked_otherwise() -> None:
    with torch.device("meta"):
        averaged = ConvPooling(in_channels=3)
        kept = ConvPooling(in_channels=3, space="keep", clip_size=(120, 224, 224))
    assert averaged.get_submodule("hidden.0").in_features == 1024
    assert kept.get_submodule("hidden.0").in_features == 7 * 7 * 1024


def test_frame_weights_are_shares() -> None:
    model: Any = wake(ConvPooling(**SMALL))
    mask = torch.arange(9).expand(2, -1) < 6
    weights = model.frame_weights(CLIPS, mask)
    assert (weights[~mask] == 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("kind", [ConvPooling, LatePooling, SlowPooling, LocalPooling, TimeConv])
def test_frames_encoded_before_anybody_knew_of_padding(kind: Any) -> None:
    """Windows that slide over a stack encode each frame once, padding or not."""
    windows = {} if kind in (ConvPooling, LatePooling) else {"window": 3, "stride": 2}
    model: Any = wake(kind(**SMALL, **windows))
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[:, 2:7] = True
    encoded = model.encode_frames(CLIPS)
    torch.testing.assert_close(model.classify_frames(encoded, mask), model(CLIPS, mask))


def test_local_pooling_refuses_maps_of_another_number_of_frames() -> None:
    model = LocalPooling(**SMALL)
    with pytest.raises(DataError, match="Slide windows of 9"):
        model.classify_frames(torch.zeros(1, 10, 32, 2, 2))
