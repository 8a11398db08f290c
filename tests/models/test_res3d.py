from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from medvid.contract import ConfigError
from medvid.models import build_model, describe_model
from medvid.models.res3d import FactorisedConv, Res3D, count_middle


def list_sizes(model: Res3D, size: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """Returns channels, T, H, W behind the stem and behind every second block."""
    sizes: list[tuple[int, ...]] = []

    def note(_: nn.Module, __: Any, out: Any) -> None:
        sizes.append(tuple((out[0] if isinstance(out, tuple) else out).shape[1:]))

    for part in (model.stem, *(b for n, b in model.blocks.items() if n.endswith("b"))):
        part.register_forward_hook(note)
    model(torch.empty(1, model.in_channels, *size, device="meta"))
    return sizes


@pytest.mark.parametrize("factorised", [False, True])
def test_maps_have_the_paper_s_sizes(factorised: bool) -> None:
    with torch.device("meta"):
        model = Res3D(in_channels=3, num_classes=101, factorised=factorised)
    assert list_sizes(model, (8, 112, 112)) == [
        (64, 8, 56, 56), (64, 8, 56, 56), (128, 4, 28, 28), (256, 2, 14, 14), (512, 1, 7, 7),
    ]  # fmt: skip


def test_the_net_of_the_search_keeps_t_in_res5() -> None:
    with torch.device("meta"):
        model = Res3D(in_channels=3, num_classes=101, strides="search")
    assert [size[1] for size in list_sizes(model, (4, 112, 112))] == [4, 4, 2, 1, 1]
    less = describe_model(model, (4, 112, 112), 3)["flops"]
    with torch.device("meta"):
        full = Res3D(in_channels=3, num_classes=101)
    more = describe_model(full, (8, 112, 112), 3)["flops"]
    # A second-hand source has 19.3 and 10.3 GFLOP; by our count both are 5 % dearer.
    assert more / less == pytest.approx(19.3 / 10.3, rel=0.01)
    assert less / 2 == pytest.approx(10.3e9, rel=0.06)


@pytest.mark.parametrize(
    ("size", "stride", "axes"),
    [
        ((28, 28, 28), (1, 2, 2), [(28, 14), (28, 14), (14, 7), (7, 4), (4, 2)]),
        ((32, 64, 64), (1, 2, 2), [(32, 32), (32, 32), (16, 16), (8, 8), (4, 4)]),
        ((28, 28, 28), (1, 1, 1), [(28, 28), (28, 28), (14, 14), (7, 7), (4, 4)]),
    ],
)
def test_scans_shrink_as_the_page_says(
    size: tuple[int, int, int], stride: tuple[int, int, int], axes: list[tuple[int, int]]
) -> None:
    with torch.device("meta"):
        model = Res3D(width=4, clip_size=size, stem_stride=stride)
    assert [(t, h) for _, t, h, _ in list_sizes(model, size)] == axes


@pytest.mark.parametrize(
    ("before", "after", "middle"),
    [(64, 64, 144), (64, 128, 230), (128, 128, 288), (128, 256, 460), (256, 256, 576),
     (256, 512, 921), (512, 512, 1152)],
)  # fmt: skip
def test_the_middle_of_a_factorised_convolution(before: int, after: int, middle: int) -> None:
    assert count_middle((3, 3, 3), before, after) == middle


def test_both_convolutions_of_a_halving_block_have_their_own_middle() -> None:
    """Not the first one's for both, as in torchvision, which has two million parameters less."""
    with torch.device("meta"):
        model = Res3D(in_channels=3, num_classes=400, factorised=True)
    block = cast("Any", model.blocks["res5a"])
    assert (block.conv1.spatial.out_channels, block.conv2.spatial.out_channels) == (921, 1152)
    assert cast("FactorisedConv", model.stem).spatial.out_channels == 45


def test_a_factorised_convolution_halves_where_the_full_one_does() -> None:
    with torch.device("meta"):
        model = Res3D(factorised=True)
    conv = cast("Any", model.blocks["res3a"]).conv1
    assert (conv.spatial.stride, conv.temporal.stride) == ((1, 2, 2), (2, 1, 1))
    assert (conv.spatial.kernel_size, conv.temporal.kernel_size) == ((1, 3, 3), (3, 1, 1))


def test_the_stem_is_normalised_and_no_maximum_follows() -> None:
    model = Res3D(width=2)
    assert model.stem.stride == (1, 2, 2)
    assert cast("nn.Conv3d", model.stem).bias is None
    kinds = {type(module).__name__ for module in model.modules()}
    assert not {kind for kind in kinds if "MaxPool" in kind}


def test_the_summands_of_a_block_are_not_rectified() -> None:
    """Both take negative values; only their sum is rectified."""
    torch.manual_seed(0)
    block = cast("Any", Res3D(width=4).blocks["res3a"])
    maps = torch.randn(2, 4, 4, 6, 6)
    seen: list[torch.Tensor] = []
    for norm in (block.norm2, block.shortcut_norm):
        norm.register_forward_hook(lambda _, __, out: seen.append(out.clone()))
    out, _ = block(maps, None)
    assert all((part < 0).any() for part in seen)
    torch.testing.assert_close(out, (seen[0] + seen[1]).clamp(min=0))


def test_only_the_papers_net_projects_in_res2a() -> None:
    with torch.device("meta"):
        projects = [
            cast("Any", Res3D(**cast("Any", options)).blocks["res2a"]).project
            for options in (
                {}, {"factorised": True}, {"project_res2a": False},
                {"factorised": True, "project_res2a": True},
            )
        ]  # fmt: skip
    assert projects == [True, False, False, True]


@pytest.mark.parametrize("factorised", [False, True])
def test_the_planar_twin_has_the_same_names_and_looks_at_frames_alone(factorised: bool) -> None:
    options: dict[str, Any] = {"width": 4, "factorised": factorised}
    torch.manual_seed(0)
    full, twin = Res3D(**options), Res3D(**options, planar=True).eval()
    shapes = {name: p.shape for name, p in full.state_dict().items()}
    for name, parameter in twin.state_dict().items():
        wanted = shapes.pop(name)
        if parameter.ndim == 5:
            assert parameter.shape == (*wanted[:2], 1, *wanted[3:]), name
        else:
            assert parameter.shape == wanted, name
    assert not shapes
    clips = torch.randn(2, 1, 6, 20, 20)
    shuffled = clips[:, :, [3, 0, 5, 1, 4, 2]]
    torch.testing.assert_close(twin(clips), twin(shuffled), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(full.eval()(clips), full(shuffled), atol=1e-5, rtol=1e-4)
    frames = torch.stack([twin(clips[:, :, [t]]) for t in range(6)]).mean(dim=0)
    torch.testing.assert_close(twin(clips), frames, atol=1e-5, rtol=1e-4)


def test_thick_slices_wait_for_the_pixels() -> None:
    model = cast(
        "Res3D",
        build_model(
            {"name": "res3d", "width": 4, "strides": "spacing"},
            in_channels=1,
            num_classes=2,
            clip_size=(24, 128, 128),
            spacing=(5.0, 0.5, 0.5),
        ),
    )
    blocks = [cast("Any", model.blocks[f"res{n}a"]) for n in (2, 3, 4, 5)]
    # Pixels are 1 mm behind the stem, 2 mm behind res3, 4 mm behind res4: there slices wait no more
    assert [block.conv1.kernel_size[0] for block in blocks] == [1, 1, 1, 3]
    assert [block.conv1.stride[0] for block in blocks] == [1, 1, 1, 2]


def test_the_initialisation_is_he_s_with_fan_out() -> None:
    torch.manual_seed(0)
    model = Res3D(in_channels=3, num_classes=101, width=16)
    conv = cast("Any", model.blocks["res4a"]).conv1
    assert conv.weight.std().item() == pytest.approx(np.sqrt(2 / (27 * 64)), rel=0.02)
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_a_stem_without_a_middle_is_refused() -> None:
    with pytest.raises(ConfigError, match="each side must be odd"):
        Res3D(width=2, stem_kernel=(4, 7, 7))
