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
