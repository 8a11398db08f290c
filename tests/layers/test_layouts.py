"""Names of torchvision and timm onto ours; made-up weights, the libraries are not needed."""

from collections.abc import Mapping
from typing import Any, cast

import pytest
import torch
from einops import rearrange
from monai.networks.nets import DenseNet, resnet18
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import DataError
from medvid.layers.inflate import inflate_state
from medvid.layers.layouts import LAYOUTS, find_layout, translate_state
from medvid.models import MODELS


def conv(name: str, *shape: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(len(name))
    return {f"{name}.weight": torch.randn(*shape, generator=generator)}


def norm(name: str, channels: int) -> dict[str, Tensor]:
    filled = {p: torch.rand(channels) for p in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.{part}": tensor for part, tensor in filled.items()} | {
        f"{name}.num_batches_tracked": torch.tensor(3)
    }


def make_resnet(*blocks: int) -> dict[str, Tensor]:
    """torchvision's resnet18 (2, 2, 2, 2) or resnet34 (3, 4, 6, 3), 8 channels wide."""
    state = conv("conv1", 8, 3, 7, 7) | norm("bn1", 8)
    before = 8
    for stage in range(1, 5):
        after = 8 * 2 ** (stage - 1)
        for block in range(blocks[stage - 1]):
            name = f"layer{stage}.{block}"
            state |= conv(f"{name}.conv1", after, before, 3, 3) | norm(f"{name}.bn1", after)
            state |= conv(f"{name}.conv2", after, after, 3, 3) | norm(f"{name}.bn2", after)
            if before != after:
                state |= conv(f"{name}.downsample.0", after, before, 1, 1)
                state |= norm(f"{name}.downsample.1", after)
            before = after
    return state | conv("fc", 1000, before) | {"fc.bias": torch.zeros(1000)}


INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def make_googlenet() -> dict[str, Tensor]:
    """torchvision's googlenet, an eighth as wide, with one of its side classifiers."""

    def unit(name: str, after: int, before: int, side: int) -> dict[str, Tensor]:
        return conv(f"{name}.conv", after, before, side, side) | norm(f"{name}.bn", after)

    state = unit("conv1", 8, 3, 7) | unit("conv2", 8, 8, 1) | unit("conv3", 24, 8, 3)
    before = 24
    for block, channels in INCEPTION.items():
        b0, b1a, b1b, b2a, b2b, b3 = (n // 8 for n in channels)
        name = f"inception{block}"
        state |= unit(f"{name}.branch1", b0, before, 1)
        state |= unit(f"{name}.branch2.0", b1a, before, 1) | unit(f"{name}.branch2.1", b1b, b1a, 3)
        state |= unit(f"{name}.branch3.0", b2a, before, 1) | unit(f"{name}.branch3.1", b2b, b2a, 3)
        state |= unit(f"{name}.branch4.1", b3, before, 1)
        before = b0 + b1b + b2b + b3
    return state | unit("aux1.conv", 16, 64, 1) | conv("fc", 1000, before)


def make_densenet(dot: str = "") -> dict[str, Tensor]:
    """torchvision's densenet with two layers a block; `dot` as in checkpoints of before 2018."""
    state = conv("features.conv0", 16, 3, 7, 7) | norm("features.norm0", 16)
    channels = 16
    for block in range(1, 5):
        for number in range(1, 3):
            name = f"features.denseblock{block}.denselayer{number}"
            state |= norm(f"{name}.norm{dot}1", channels)
            state |= conv(f"{name}.conv{dot}1", 16, channels, 1, 1)
            state |= norm(f"{name}.norm{dot}2", 16) | conv(f"{name}.conv{dot}2", 4, 16, 3, 3)
            channels += 4
        if block < 4:
            name = f"features.transition{block}"
            state |= norm(f"{name}.norm", channels)
            state |= conv(f"{name}.conv", channels // 2, channels, 1, 1)
            channels //= 2
    return state | norm("features.norm5", channels) | conv("classifier", 1000, channels)


def make_vgg16() -> dict[str, Tensor]:
    """torchvision's vgg16, 4 channels wide."""
    state: dict[str, Tensor] = {}
    before = 3
    stages = {4: (0, 2), 8: (5, 7), 16: (10, 12, 14), 32: (17, 19, 21, 24, 26, 28)}
    for after, numbers in stages.items():
        for number in numbers:
            state |= conv(f"features.{number}", after, before, 3, 3)
            state[f"features.{number}.bias"] = torch.zeros(after)
            before = after
    return state | conv("classifier.0", 64, before * 49) | conv("classifier.6", 1000, 64)


FILES: dict[str, tuple[dict[str, Tensor], str, dict[str, Any]]] = {
    "resnet": (make_resnet(2, 2, 2, 2), "res3d", {"width": 8, "project_res2a": False}),
    "googlenet": (make_googlenet(), "i3d", {"width": 8}),
    "densenet": (
        make_densenet(),
        "densenet3d",
        {"width": 16, "growth": 4, "blocks": (2, 2, 2, 2)},
    ),
    "vgg16": (make_vgg16(), "actionvlad", {"width": 4, "anchors": 3}),
}
each = pytest.mark.parametrize("layout", sorted(FILES))


def test_every_layout_is_tried() -> None:
    assert set(FILES) == set(LAYOUTS)


@each
def test_only_the_classifier_is_left(layout: str) -> None:
    source, name, options = FILES[layout]
    target = MODELS[name](**options).state_dict()
    made = inflate_state(translate_state(source, target), target)
    own = {"classifier", "Conv3d_0c_1x1", "vlad"}  # anchors are found in the data
    assert {key.rpartition(".")[0] for key in made.report.left} <= own
    unused = {key.partition(".")[0] for key in made.report.unused}
    assert unused <= {"fc", "classifier", "aux1"}
    assert len(made.report.summed) == 1  # the stem


@each
def test_a_layout_is_told_by_its_names(layout: str) -> None:
    assert find_layout(FILES[layout][0]) == layout


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "_orig_mod."])
@each
def test_what_wrappers_put_before_all_names_is_taken_off(layout: str, prefix: str) -> None:
    source, name, options = FILES[layout]
    target = MODELS[name](**options).state_dict()
    wrapped = {prefix + key: tensor for key, tensor in source.items()}
    wrapped["criterion.weight"] = torch.ones(2)  # Lightning keeps the loss beside the model
    assert_same(translate_state(wrapped, target), translate_state(source, target))


def assert_same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_old_densenets_with_dots_in_their_names_are_the_same() -> None:
    _, name, options = FILES["densenet"]
    target = MODELS[name](**options).state_dict()
    new, old = translate_state(make_densenet(), target), translate_state(make_densenet("."), target)
    assert set(new) == set(old)


def test_our_own_names_stay_and_strangers_too() -> None:
    target = MODELS["i3d"](width=8).state_dict()
    assert_same(translate_state(target, target), target)
    strange = {"encoder.block.weight": torch.ones(2, 2), "decoder.weight": torch.ones(2)}
    assert set(translate_state(strange, target)) == set(strange)
    assert find_layout(strange) is None


def test_the_right_kernel_lands_in_the_right_place() -> None:
    source = make_googlenet()
    target = MODELS["i3d"](width=8).state_dict()
    named = translate_state(source, target)
    pairs = {
        "inception3a.branch1.conv.weight": "Mixed_3b.b0.conv.weight",
        "inception4e.branch2.1.bn.bias": "Mixed_4f.b1.1.norm.bias",
        "inception5b.branch3.0.conv.weight": "Mixed_5c.b2.0.conv.weight",
        "inception5a.branch4.1.bn.running_mean": "Mixed_5b.b3.norm.running_mean",
    }
    assert all(torch.equal(source[theirs], named[ours]) for theirs, ours in pairs.items())


@pytest.mark.parametrize(
    ("source", "name", "options"),
    [
        (make_resnet(3, 4, 6, 3), "res3d", {"width": 8, "project_res2a": False}),
        (make_resnet(2, 2, 2, 2), "c3d", {"width": 8}),
        (make_densenet(), "densenet3d", {"width": 16, "growth": 4, "blocks": (2, 2, 1, 1)}),
        (make_vgg16(), "actionvlad", {"width": 4, "anchors": 3, "depths": (2, 2, 2)}),
    ],
)
def test_a_network_of_which_kernels_would_be_skipped_is_refused(
    source: dict[str, Tensor], name: str, options: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match="kernels have no place in yours") as caught:
        translate_state(source, MODELS[name](**options).state_dict())
    assert caught.value.code == "other_depth"
    assert "fc.weight" not in caught.value.message
    assert "classifier" not in caught.value.message


def test_resnet_34_is_told_by_the_blocks_that_it_has_more() -> None:
    target = MODELS["res3d"](width=8, project_res2a=False).state_dict()
    with pytest.raises(DataError, match=r"`resnet` in which 16 kernels.*layer1\.2\.conv1\.weight"):
        translate_state(make_resnet(3, 4, 6, 3), target)


def test_an_identity_that_meets_a_random_convolution_is_refused() -> None:
    with pytest.raises(DataError, match=r"blocks\.res2a.*model\.project_res2a=false") as caught:
        translate_state(make_resnet(2, 2, 2, 2), MODELS["res3d"](width=8).state_dict())
    assert caught.value.code == "other_shortcut"


STILL = 4
"""Equal frames that a 2D network and the 3D one that began with it are shown."""


def start(name: str, source: Mapping[str, Tensor], **options: Any) -> Any:
    """Returns a network begun from a file; `centre` has no border along T."""
    model = cast("Any", MODELS[name](in_channels=3, **options))
    target = model.state_dict()
    model.load_state_dict(
        inflate_state(translate_state(source, target), target, how="centre").state
    )
    return model.eval()


def settle(network: nn.Module, side: int) -> nn.Module:
    """Moves the statistics of norms off their start, as training would."""
    torch.manual_seed(1)
    for _ in range(3):
        network(torch.randn(4, 3, side, side))
    return network.eval()


def show(side: int) -> tuple[Tensor, Tensor]:
    """Returns two pictures, and clips that hold still."""
    pictures = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    return pictures, pictures[:, :, None].repeat(1, 1, STILL, 1, 1)


@pytest.mark.parametrize("planar", [False, True])
def test_resnet_18_answers_a_still_clip_as_before(planar: bool) -> None:
    """MONAI's 2D network has torchvision's names. The maximum behind the stem, res3d has not."""
    flat = settle(
        resnet18(
            spatial_dims=2, n_input_channels=3, num_classes=5, conv1_t_stride=2, no_max_pool=True,
            shortcut_type="B", bias_downsample=False,
        ),
        48,
    )  # fmt: skip
    wanted = list[Tensor]()
    flat.get_submodule("fc").register_forward_pre_hook(lambda _, given: wanted.append(given[0]))
    pictures, clips = show(48)
    flat(pictures)
    deep = start("res3d", flat.state_dict(), project_res2a=False, planar=planar)
    torch.testing.assert_close(deep.features(clips), wanted[0], atol=1e-4, rtol=1e-4)


def test_densenet_answers_a_still_clip_as_before() -> None:
    """MONAI's 2D network has torchvision's names but for a `layers.` in every dense layer."""
    blocks = (2, 2, 1, 1)
    flat = settle(DenseNet(2, 3, 5, init_features=16, growth_rate=4, block_config=blocks), 64)
    pictures, clips = show(64)
    wanted = functional.relu(flat.get_submodule("features")(pictures)).mean(dim=(2, 3))
    state = {name.replace(".layers.", "."): w for name, w in flat.state_dict().items()}
    state = {name.replace("class_layers.out", "classifier"): w for name, w in state.items()}
    deep = start("densenet3d", state, width=16, growth=4, blocks=blocks)
    torch.testing.assert_close(deep.features(clips), wanted, atol=1e-4, rtol=1e-4)


def run_googlenet(state: Mapping[str, Tensor], pictures: Tensor) -> Tensor:
    """Returns what torchvision's googlenet averages before its classifier, from its weights."""

    def unit(maps: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = state[f"{name}.conv.weight"]
        maps = functional.conv2d(maps, kernel, None, stride, kernel.shape[-1] // 2)
        mean, var, weight, bias = (
            state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.relu(functional.batch_norm(maps, mean, var, weight, bias, eps=1e-3))

    def shrink(maps: Tensor, kernel: int) -> Tensor:
        return functional.max_pool2d(maps, kernel, 2, ceil_mode=True)

    maps = shrink(unit(pictures, "conv1", stride=2), 3)
    maps = shrink(unit(unit(maps, "conv2"), "conv3"), 3)
    for block in INCEPTION:
        if block in ("4a", "5a"):
            maps = shrink(maps, 3 if block == "4a" else 2)
        name = f"inception{block}"
        outs = [unit(maps, f"{name}.branch1")]
        outs += [
            unit(unit(maps, f"{name}.{branch}.0"), f"{name}.{branch}.1")
            for branch in ("branch2", "branch3")
        ]
        pooled = functional.max_pool2d(maps, 3, 1, padding=1)
        maps = torch.cat([*outs, unit(pooled, f"{name}.branch4.1")], dim=1)
    return maps.mean(dim=(2, 3))


@pytest.mark.parametrize("planar", [False, True])
def test_googlenet_answers_a_still_clip_as_before(planar: bool) -> None:
    """Of 63 rows, where TensorFlow's padding and torchvision's are one."""
    state = {
        name: w / w[0].numel() ** 0.5 if w.ndim == 4 else w for name, w in make_googlenet().items()
    }
    pictures, clips = show(63)
    wanted = run_googlenet(state, pictures)
    assert wanted.std() > 1e-3
    deep = start("i3d", state, width=8, stem_stride=(1, 2, 2), planar=planar)
    torch.testing.assert_close(deep.features(clips), wanted, atol=1e-4, rtol=1e-4)


def test_vgg_16_describes_the_positions_of_a_frame_as_before() -> None:
    """Up to conv5_3 before its ReLU, as ActionVLAD takes it."""
    torch.manual_seed(0)
    layers, before = list[nn.Module](), 3
    for stage, depth in enumerate((2, 2, 3, 3, 3)):
        after = 4 * min(2**stage, 8)
        layers += [nn.MaxPool2d(2)] if stage else []
        for _ in range(depth):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            before = after
    flat = nn.Sequential(*layers[:-1])
    pictures, clips = show(48)
    wanted = rearrange(flat(pictures), "b c h w -> b (h w) c")[:, None].expand(-1, STILL, -1, -1)
    state = {f"features.{name}": w for name, w in flat.state_dict().items()}
    deep = start("actionvlad", state, width=4, anchors=3)
    described = deep.local_descriptors(clips)
    lengths = functional.normalize(wanted.flatten(0, 1), dim=2)
    torch.testing.assert_close(
        functional.normalize(described, dim=2), lengths, atol=1e-4, rtol=1e-4
    )
