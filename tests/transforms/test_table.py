"""What every transform of the table promises."""

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from medvid.contract import ConfigError
from medvid.transforms import TRANSFORMS, Pipeline, build_pipeline, list_transforms
from medvid.transforms.protocol import Randomizable

# Options of the transforms that need some, or that would otherwise leave a clip alone at times.
OPTIONS: dict[str, dict[str, Any]] = {
    "affine": {"prob": 1},
    "center_crop": {"size": [12, 14]},
    "contrast": {"prob": 1},
    "corner_crop": {"size": [12, 14]},
    "crop_or_pad": {"size": [30, 10]},
    "five_crop": {"size": [12, 14]},
    "grid_crop": {"size": [12, 14]},
    "flip": {"axes": ["T", "H", "W"]},
    "gaussian_noise": {"prob": 1},
    "gaussian_smooth": {"prob": 1},
    "normalise": {"mean": 0.4, "std": 0.2},
    "pad": {"size": [30, 30]},
    "random_crop": {"size": [12, 14]},
    "resize": {"size": [12, 14]},
    "rotate90": {"prob": 1},
    "scale_intensity": {"prob": 1},
    "scaled_crop": {"size": [12, 14]},
    "shift_intensity": {"prob": 1},
    "spacing": {"mm": 1.5},
    "ten_crop": {"size": [12, 14]},
    "three_crop": {"size": [12, 14]},
    "window": {"windows": "brain"},
    "zoom": {"prob": 1},
}
RANDOM = [row.name for row in list_transforms() if row.kind == "random"]
# Powers are rounded differently where a vector unit ends: a few float32 steps at 1.
ROUNDING = 1e-6
FRAMES, HEIGHT, WIDTH = 5, 20, 20


def make_sample(*, still: bool = False) -> dict[str, Any]:
    """A clip of noise; `still` repeats one frame."""
    clip = torch.rand(1, FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    if still:
        clip = clip[:, :1].repeat(1, FRAMES, 1, 1)
    return {
        "clip": clip,
        "mask": torch.tensor([True] * (FRAMES - 1) + [False]),
        "positions": torch.arange(FRAMES) * 5.0,
        "spacing": torch.tensor([5.0, 1.0, 1.0]),
        "window": torch.arange(FRAMES),
        "modality": "CT",
        "case_id": "a",
    }


def build_one(name: str) -> Pipeline:
    return build_pipeline({"train": [{"name": name, **OPTIONS.get(name, {})}]}, training=True)


def run(name: str, seed: int = 0, *, still: bool = False) -> dict[str, Any]:
    return build_one(name)(make_sample(still=still), np.random.default_rng(seed))


def test_the_table_is_not_empty() -> None:
    assert len(TRANSFORMS) > 20
    assert len(RANDOM) >= 10
    assert set(OPTIONS) <= set(TRANSFORMS)


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_every_transform_is_documented(name: str) -> None:
    text = inspect.getdoc(TRANSFORMS[name]) or ""
    assert "Args:" in text
    assert "Shape:" in text
    # An option that the signature has must be explained.
    for option in inspect.signature(TRANSFORMS[name]).parameters:
        assert f"{option}:" in text


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_clips_stay_contiguous_float32_tensors(name: str) -> None:
    clip = run(name)["clip"]
    assert type(clip) is torch.Tensor
    assert clip.dtype == torch.float32
    assert clip.is_contiguous()
    assert bool(clip.isfinite().all())


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_the_given_sample_stays_as_it_was(name: str) -> None:
    sample = make_sample()
    before = copy.deepcopy(sample)
    build_one(name)(sample, np.random.default_rng(0))
    assert sample.keys() == before.keys()
    for key, value in before.items():
        same = torch.equal(sample[key], value) if torch.is_tensor(value) else sample[key] == value
        assert same, key


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_the_size_of_the_result_is_as_announced(name: str) -> None:
    sizes = set()
    for height, width in ((HEIGHT, WIDTH), (32, 26)):
        sample = make_sample()
        sample["clip"] = torch.rand(1, FRAMES, height, width)
        pipeline = build_one(name)
        size = pipeline(sample, np.random.default_rng(0))["clip"].shape[-3:]
        sizes.add(size)
        if pipeline.output_size == "kept":
            assert size == (FRAMES, height, width)
    assert len(sizes) == (1 if pipeline.output_size == "fixed" else 2)


@pytest.mark.parametrize("name", RANDOM)
def test_one_generator_gives_one_result(name: str) -> None:
    pipeline = build_one(name)
    first = pipeline(make_sample(), np.random.default_rng(3))["clip"]
    pipeline(make_sample(), np.random.default_rng(4))  # what ran between must not matter
    assert torch.equal(pipeline(make_sample(), np.random.default_rng(3))["clip"], first)
    assert torch.equal(build_one(name)(make_sample(), np.random.default_rng(3))["clip"], first)


@pytest.mark.parametrize("name", RANDOM)
def test_other_generators_give_other_results(name: str) -> None:
    results = [run(name, seed)["clip"] for seed in range(8)]
    assert any(not torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("name", [name for name in sorted(TRANSFORMS) if name != "gaussian_noise"])
def test_all_frames_are_changed_alike(name: str) -> None:
    for seed in range(4):
        clip = run(name, seed, still=True)["clip"]
        same = clip[..., :1, :, :].expand_as(clip)
        torch.testing.assert_close(clip, same, atol=ROUNDING, rtol=0)


def test_noise_differs_from_frame_to_frame() -> None:
    clip = run("gaussian_noise", still=True)["clip"]
    assert not torch.equal(clip[:, 0], clip[:, 1])


@pytest.mark.parametrize(
    "name", sorted(set(RANDOM) & {n for n, o in OPTIONS.items() if "prob" in o})
)
def test_probability_zero_changes_nothing(name: str) -> None:
    section = {"train": [{"name": name, **OPTIONS[name], "prob": 0}]}
    pipeline = build_pipeline(section, training=True)
    for seed in range(3):
        result = pipeline(make_sample(), np.random.default_rng(seed))["clip"]
        assert torch.equal(result, make_sample()["clip"])


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_pipelines_survive_pickling(name: str) -> None:
    pipeline = build_one(name)
    again = pickle.loads(pickle.dumps(pipeline))
    first, second = (p(make_sample(), np.random.default_rng(1))["clip"] for p in (pipeline, again))
    assert torch.equal(first, second)


def test_random_transforms_work_inside_monai() -> None:
    from monai.transforms import Compose

    chain = Compose([TRANSFORMS["flip"](axes=["W"]), TRANSFORMS["affine"](prob=1.0)])
    chain.set_random_state(seed=1)
    first = chain(make_sample())["clip"]
    chain.set_random_state(seed=1)
    assert torch.equal(chain(make_sample())["clip"], first)


@pytest.mark.parametrize("part", ["both", "test"])
def test_nothing_random_runs_in_testing(part: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"`zoom` is random and stands under `transforms\.{part}"
    ):
        build_pipeline({part: ["zoom"]}, training=False)


def test_training_and_testing_run_their_own_lists() -> None:
    section: dict[str, list[dict[str, Any]]] = {
        "both": [{"name": "scale", "divide_by": 2}],
        "train": [{"name": "shift_intensity", "by": 0, "prob": 1}],
        "test": [{"name": "center_crop", "size": [4, 4]}],
    }
    trained = build_pipeline(section, training=True)(make_sample(), np.random.default_rng(0))
    tested = build_pipeline(section, training=False)(make_sample(), None)
    assert torch.equal(trained["clip"], make_sample()["clip"] / 2)
    assert torch.equal(tested["clip"], make_sample()["clip"][..., 8:12, 8:12] / 2)


def test_an_empty_section_changes_nothing() -> None:
    assert torch.equal(
        build_pipeline({}, training=True)(make_sample())["clip"], make_sample()["clip"]
    )


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"trian": []}, "Did you mean `train`"),
        ({"both": ["widow"]}, "Did you mean `window`"),
        ({"both": [{"name": "scale", "divide": 255}]}, "Did you mean `divide_by`"),
        ({"both": ["resize"]}, "either `size` or `short_side`"),
        ({"both": ["center_crop"]}, "needs the option `size`"),
        ({"both": [{"name": "center_crop", "size": [0, 4]}]}, "greater than 0"),
        ({"train": [{"name": "flip", "axes": ["X"]}]}, "'T', 'H' or 'W'"),
        ({"train": [{"name": "flip", "axes": ["W"], "prob": 2}]}, "less than or equal to 1"),
        ({"train": [{"name": "zoom", "low": 2, "high": 1}]}, "low <= high"),
        ({"both": {"name": "grey"}}, "is a list of transforms"),
        ({"both": [{"name": "ten_crop", "size": [4, 4]}, "grey"]}, "must be the last"),
        ({"both": [{"name": "percentiles", "low": 9, "high": 1}]}, "low < high"),
    ],
)
def test_config_mistakes_are_sentences(section: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_pipeline(section, training=True)


def test_random_transforms_ask_for_a_generator() -> None:
    with pytest.raises(ValueError, match="needs `rng`"):
        build_one("zoom")(make_sample(), None)


def test_other_shapes_and_types_are_refused() -> None:
    for clip in (torch.zeros(2, 1, 3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.int16)):
        with pytest.raises(ValueError, match="float32"):
            Pipeline([])({"clip": clip})


def test_the_listing_says_what_is_random() -> None:
    rows = list_transforms()
    assert [row.name for row in rows] == list(TRANSFORMS)
    assert all(row.description.endswith(".") for row in rows)
    for row in rows:
        kind = TRANSFORMS[row.name]
        assert (row.kind == "random") == (isinstance(kind, type) and issubclass(kind, Randomizable))
