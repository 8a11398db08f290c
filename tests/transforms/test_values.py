"""Windows and normalisation, against numbers worked out by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medvid.contract import ConfigError, DataError
from medvid.transforms import WINDOWS, build_pipeline
from medvid.transforms.difference import Difference
from medvid.transforms.noise import Contrast, GaussianNoise, GaussianSmooth
from medvid.transforms.normalise import (
    Grey,
    Normalise,
    Percentiles,
    RepeatChannels,
    Scale,
    ZScore,
    find_otsu_threshold,
)
from medvid.transforms.window import Window


def row(*values: float) -> dict[str, Any]:
    return {"clip": torch.tensor([[[list(values)]]], dtype=torch.float32)}


def test_the_brain_window_is_level_40_width_80() -> None:
    assert WINDOWS["brain"] == (40, 80)
    result = Window("brain")(row(-1024, 0, 20, 40, 60, 80, 3000))["clip"]
    assert result.flatten().tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 1]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("subdural", -20, 180), ("bone", -800, 2000), ("lung", -1350, 150), ("pe", -100, 900)],
)
def test_windows_end_where_radiologists_expect(name: str, low: float, high: float) -> None:
    result = Window(name)(row(low, (low + high) / 2, high))["clip"]
    assert result.flatten().tolist() == [0, 0.5, 1]


def test_several_windows_become_channels_in_order() -> None:
    spec = {"name": "window", "windows": ["brain", [80, 200], [600, 2800]]}
    result = build_pipeline({"both": [spec]}, training=False)(row(40))["clip"]
    assert result.shape == (3, 1, 1, 1)
    np.testing.assert_allclose(result.flatten(), [0.5, 60 / 200, 840 / 2800], rtol=1e-6)


def test_a_pair_is_one_window_level_first() -> None:
    spec = {"name": "window", "windows": [40, 400], "mean": 0.5, "std": 0.25}
    result = build_pipeline({"both": [spec]}, training=False)(row(-160, 40, 240))["clip"]
    assert result.flatten().tolist() == [-2, 0, 2]


def test_each_window_has_its_own_mean() -> None:
    result = Window(["brain", "bone"], mean=[0.5, 0.0], std=[0.5, 1.0])(row(80))["clip"]
    np.testing.assert_allclose(result.flatten(), [1.0, 880 / 2800], rtol=1e-6)


def test_window_mistakes_are_sentences() -> None:
    with pytest.raises(ConfigError, match="Did you mean `brain`"):
        Window("brian")
    with pytest.raises(ConfigError, match="no positive width"):
        Window((80.0, 0.0))
    with pytest.raises(ConfigError, match="at least one"):
        Window([])
    with pytest.raises(DataError, match="makes 2 channels out of one"):
        Window(["brain", "bone"])({"clip": torch.zeros(3, 1, 1, 1)})
    with pytest.raises(DataError, match="has 3 values, and the clip has 1 channels"):
        Window("brain", mean=[0.0, 0.0, 0.0])(row(1))


def make_body() -> tuple[Tensor, Tensor]:
    """Air around 0 and a body around 500, and where the body is."""
    generator = torch.Generator().manual_seed(0)
    inside = torch.zeros(1, 4, 24, 24, dtype=torch.bool)
    inside[..., 6:18, 6:18] = True
    noise = torch.randn(inside.shape, generator=generator)
    return torch.where(inside, 500 + 40 * noise, 10 * noise), inside


def test_otsu_finds_the_gap_between_air_and_body() -> None:
    clip, _ = make_body()
    assert 30 < find_otsu_threshold(clip.flatten()) < 380
    two = torch.tensor([0.0] * 10 + [100.0] * 10)
    assert find_otsu_threshold(two) == pytest.approx(50, abs=1)


@pytest.mark.parametrize("body", ["otsu", "mean"])
def test_zscore_normalises_inside_the_body(body: Any) -> None:
    clip, inside = make_body()
    result = ZScore(body)({"clip": clip})["clip"]
    assert float(result[inside].mean()) == pytest.approx(0, abs=1e-4)
    assert float(result[inside].std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert float(result[~inside].max()) < -5  # air stays apart


def test_zscore_of_everything_is_the_plain_one() -> None:
    result = ZScore("all")(row(1, 2, 3))["clip"].flatten()
    np.testing.assert_allclose(result, [-1.2247449, 0, 1.2247449], rtol=1e-6)


@pytest.mark.parametrize("transform", [ZScore("otsu"), ZScore("all"), Percentiles()])
def test_padding_does_not_count(transform: Any) -> None:
    clip, _ = make_body()
    padded = torch.cat([clip, clip[:, -1:].repeat(1, 9, 1, 1) * 3], dim=1)
    mask = torch.tensor([True] * 4 + [False] * 9)
    expected = transform({"clip": clip})["clip"]
    assert torch.equal(transform({"clip": padded, "mask": mask})["clip"][:, :4], expected)


@pytest.mark.parametrize(
    "transform", [ZScore("otsu"), ZScore("mean"), ZScore("all"), Percentiles()]
)
def test_constant_clips_become_zero(transform: Any) -> None:
    assert transform({"clip": torch.full((1, 2, 3, 3), 7.0)})["clip"].abs().max() == 0


def test_percentiles_become_zero_and_one() -> None:
    result = Percentiles(10.0, 90.0)(row(*range(11)))["clip"].flatten()  # 10 % is 1, 90 % is 9
    np.testing.assert_allclose(result, np.clip((np.arange(11) - 1) / 8, 0, 1), atol=1e-6)


def test_video_is_scaled_per_channel() -> None:
    clip = torch.full((3, 1, 1, 1), 255.0)
    result = Scale(mean=[0.0, 0.5, 1.0], std=[1.0, 0.5, 2.0])({"clip": clip})["clip"]
    assert result.flatten().tolist() == [1, 1, 0]
    assert Normalise(200.0, 5.0)(row(210))["clip"].item() == 2


def test_grey_weighs_the_colours() -> None:
    clip = torch.tensor([100.0, 200.0, 50.0]).reshape(3, 1, 1, 1)
    assert Grey()({"clip": clip})["clip"].item() == pytest.approx(29.9 + 117.4 + 5.7)
    assert Grey()(row(5))["clip"].item() == 5
    with pytest.raises(DataError, match="3 channels, not 2"):
        Grey()({"clip": torch.zeros(2, 1, 1, 1)})


def test_channels_are_repeated() -> None:
    assert RepeatChannels(3)(row(4))["clip"].flatten().tolist() == [4, 4, 4]
    with pytest.raises(DataError, match="this clip has 3"):
        RepeatChannels(3)({"clip": torch.zeros(3, 1, 1, 1)})


def test_the_difference_of_frames_keeps_their_number() -> None:
    clip = torch.tensor([1.0, 4.0, 2.0, 2.0]).reshape(1, 4, 1, 1)
    sample = {"clip": clip, "positions": torch.tensor([0.0, 5.0, 7.0, 7.0])}
    plain = Difference()(sample)
    assert plain["difference"].flatten().tolist() == [0, 3, -2, 0]
    assert torch.equal(plain["clip"], clip)
    assert Difference(per_unit=True)(sample)["difference"].flatten().tolist() == pytest.approx(
        [0, 0.6, -1, 0]
    )


def test_noise_has_the_deviation_that_was_drawn() -> None:
    transform = GaussianNoise(std=2.0, prob=1.0)
    clip = torch.zeros(1, 8, 32, 32)
    stds = []
    for seed in range(20):
        transform.set_random_state(seed=seed)
        stds.append(float(transform({"clip": clip})["clip"].std()))
    assert max(stds) <= 2.1
    assert min(stds) < 0.7 < 1.3 < max(stds)


def test_contrast_keeps_the_range_and_the_order() -> None:
    transform = Contrast(low=2.0, high=2.0, prob=1.0)
    result = transform(row(-1, 0, 1))["clip"].flatten()
    np.testing.assert_allclose(result, [-1, -0.5, 1], atol=1e-5)  # the middle: .5 squared


def test_smoothing_stays_in_the_plane() -> None:
    clip = torch.zeros(1, 3, 9, 9)
    clip[0, 1, 4, 4] = 1
    result = GaussianSmooth(low=1.0, high=1.0, prob=1.0)({"clip": clip})["clip"]
    assert float(result[0, [0, 2]].abs().max()) == 0
    assert float(result[0, 1].sum()) == pytest.approx(1, abs=1e-3)
    assert float(result[0, 1, 4, 4]) == pytest.approx(1 / (2 * np.pi), rel=0.1)
