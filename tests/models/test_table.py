from pathlib import Path
from typing import Any, cast

import pytest
import torch

from medvid.build import find
from medvid.config import list_configs, read_config
from medvid.contract import ConfigError
from medvid.models import MODELS, build_model, describe_model, list_models
from medvid.models.slicewise import Slicewise

CONFIGS = [name for name in list_configs() if name.startswith("model/")]


def test_every_model_has_a_config_of_its_name() -> None:
    assert {Path(name).name for name in CONFIGS} >= set(MODELS)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_builds_its_model_and_says_nothing_else(name: str) -> None:
    config = read_config(name)
    assert set(config) == {"model"}
    kind = find(MODELS, config["model"]["name"], "model")
    # A config of the model's own name is the paper's network, for the paper's clips.
    paper = Path(name).name in MODELS
    size = cast("Any", kind).paper_clip if paper else (5, 32, 32)
    with torch.device("meta"):
        model = build_model(
            config["model"], in_channels=1, num_classes=2, clip_size=size, spacing=(2.5, 0.7, 0.7)
        )
        assert type(model) is kind
        assert model.eval()(torch.empty(1, 1, *size)).shape == (1, 2)


def test_a_misspelt_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean `slicewise`"):
        build_model("slicewize", in_channels=1, num_classes=2, clip_size=(5, 32, 32))


def test_a_misspelt_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean `width`"):
        build_model(
            {"name": "c3d", "wdith": 8}, in_channels=1, num_classes=2, clip_size=(5, 32, 32)
        )


def test_what_the_data_says_is_not_open_to_the_config() -> None:
    with pytest.raises(ConfigError, match="takes `num_classes` from the data"):
        build_model(
            {"name": "c3d", "num_classes": 9}, in_channels=1, num_classes=2, clip_size=(5, 32, 32)
        )


def test_a_config_may_give_its_own_spacing() -> None:
    spec = {"name": "c3d", "width": 2, "strides": "spacing", "spacing": [5, 1, 1]}
    model = build_model(
        spec, in_channels=1, num_classes=2, clip_size=(9, 64, 64), spacing=(1.0, 1.0, 1.0)
    )
    assert model.get_submodule("trunk.convs.conv1a").kernel_size == (1, 3, 3)


def test_rows_tell_every_model_apart() -> None:
    rows = list_models()
    assert [row["name"] for row in rows] == sorted(MODELS)
    for row in rows:
        assert row["summary"].endswith(".")
        assert min(row["parameters"], row["flops"], row["activation_bytes"]) > 0


def test_a_description_leaves_the_model_as_it_is() -> None:
    torch.manual_seed(0)
    model = Slicewise(width=8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    describe_model(model, (5, 32, 32), 1)
    assert model.training
    assert all(p.grad is None and p.device.type == "cpu" for p in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_memory_and_operations_grow_with_the_frames() -> None:
    model = Slicewise(width=8, pool="mean")
    few, many = (describe_model(model, (t, 32, 32), 1) for t in (4, 8))
    classifier = 2 * 64 * 2  # once a clip: 2 operations, 64 features, 2 classes
    assert many["flops"] - few["flops"] == few["flops"] - classifier
    assert many["activation_bytes"] == pytest.approx(2 * few["activation_bytes"], rel=0.02)


def test_the_memory_of_one_linear_layer_is_its_input() -> None:
    class Flat(torch.nn.Module):
        smallest, modalities, honours_mask = (1, 1, 1), ("clip",), False
        paper = through_plane = "None."

        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4 * 8 * 8, 3)

        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            return self.linear(clips.sin().flatten(1))

    description = describe_model(Flat(), (4, 8, 8), 1)
    # sin keeps nothing, as no parameter stands before it; the linear layer keeps sin(clip).
    assert description["activation_bytes"] == 4 * 4 * 8 * 8
    assert description["flops"] == 2 * 3 * 4 * 8 * 8


BAD: list[tuple[str, dict[str, Any]]] = [
    ("lstm", {"layers": 0}),
    ("lstm", {"trunk": "small", "trunk_width": 0}),
    ("lrcn", {"fc6": 0}),
    ("lrcn", {"lstm_dropout": 1.5}),
    ("lrcn", {"lstm_dropout": -1}),
    ("time_conv", {"kernels": 0}),
    ("densenet3d", {"growth": 0}),
    ("densenet3d", {"bottleneck": 0}),
    ("t3d", {"growth": 0}),
    ("t3d", {"bottleneck": 0}),
    ("ji3dcnn", {"kernels": [[0, 7], [7, 6]]}),
    ("ji3dcnn", {"pools": [0, 3]}),
    ("ji3dcnn", {"sets": [0, 3]}),
    ("fstcn", {"frames": 0}),
    ("fstcn", {"step": 0}),
    ("fstcn", {"distance": 0, "head": "pool"}),
    ("fstcn", {"conv_strides": [0, 1]}),
    ("i3d", {"stem_stride": [0, 1, 1]}),
    ("i3d", {"stem_kernel": [0, 7, 7]}),
    ("res3d", {"stem_stride": [1, 0, 2]}),
    ("c3d", {"spacing": [-5, 1, 1]}),
    ("c3d", {"spacing": [5, 1, -1]}),
    ("c3d", {"strides": "spacing", "spacing": [0, 1, 1]}),
    ("c3d", {"strides": "spacing", "spacing": [float("nan"), 1, 1]}),
]


@pytest.mark.parametrize(("name", "options"), BAD, ids=lambda value: str(value))
def test_numbers_of_which_no_network_can_be_made_are_a_sentence(
    name: str, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=f"model `{name}` was given .*and cannot use it"):
        build_model(
            {"name": name, **options}, in_channels=1, num_classes=2, clip_size=(30, 224, 224)
        )


@pytest.mark.parametrize("spacing", [(-5.0, 1.0, 1.0), (5.0, 0.0, 1.0), (float("nan"), 1.0, 1.0)])
def test_a_spacing_of_the_data_that_is_none_is_a_sentence(
    spacing: tuple[float, float, float],
) -> None:
    with pytest.raises(ConfigError, match=r"spacing.*cannot use it"):
        build_model("c3d", in_channels=1, num_classes=2, clip_size=(16, 28, 28), spacing=spacing)


@pytest.mark.parametrize("name", ["c3d", "densenet3d", "i3d", "ltc", "res3d", "slow_fusion", "t3d"])
def test_a_planar_twin_does_not_say_that_it_mixes_slices(name: str) -> None:
    section = {**read_config(f"model/{name}_scan")["model"], "planar": True}
    model = build_model(section, in_channels=1, num_classes=2, clip_size=(16, 32, 32))
    assert cast("Any", model).through_plane.startswith("Looks at every slice alone")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("lrcn", {"lstm": False}, "Looks at every slice alone"),
        ("fstcn", {"distance": 1, "head": "pool"}, "Compares neighbouring slices and"),
        ("fstcn", {"distance": 3, "head": "pool"}, "Compares slices 3 apart and"),
        ("ji3dcnn", {}, "mixes 5 slices in two layers"),
        ("t3d", {"strides": "spacing", "depths": [1, 3, 5]}, "and 1 to 6 side by side"),
    ],
)
def test_the_sentence_on_slices_follows_the_options(
    name: str, options: dict[str, Any], said: str
) -> None:
    with torch.device("meta"):
        model = build_model(
            {"name": name, **options}, in_channels=1, num_classes=2, clip_size=(16, 224, 224)
        )
    assert said in cast("Any", model).through_plane
