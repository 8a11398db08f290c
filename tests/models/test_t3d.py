from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medvid.layers.inflate import inflate_state
from medvid.layers.ttl import TemporalTransition
from medvid.models import build_model
from medvid.models.t3d import T3D

SMALL: dict[str, Any] = {"width": 4, "growth": 4, "bottleneck": 2, "blocks": (1, 2, 1)}


def list_transitions(model: T3D) -> list[TemporalTransition]:
    return [part for part in model.trunk.children() if isinstance(part, TemporalTransition)]


def find_kernel(conv: nn.Module) -> tuple[int, ...]:
    assert isinstance(conv, nn.Conv3d)
    return conv.kernel_size


def test_transitions_have_the_kernels_and_sizes_of_the_table() -> None:
    with torch.device("meta"):
        model = T3D(in_channels=3, num_classes=400)
    transitions = list_transitions(model)
    kernels = [[find_kernel(conv) for conv in part.convs] for part in transitions]
    later = [(1, 1, 1), (3, 3, 3), (4, 3, 3)]
    assert kernels == [[(1, 1, 1), (3, 3, 3), (6, 3, 3)], later, later]
    sizes: list[tuple[int, ...]] = []

    def note(_: nn.Module, __: Any, out: Tensor) -> None:
        sizes.append(tuple(out.shape[1:]))

    for part in transitions:
        part.register_forward_hook(note)
    clips = torch.empty(1, 3, 32, 224, 224, device="meta")
    maps, _ = model.trunk(clips, None)
    assert sizes == [(384, 16, 56, 56), (384, 8, 28, 28), (384, 4, 14, 14)]
    assert maps.shape == (1, 896, 2, 7, 7)


@pytest.mark.parametrize(
    ("reading", "sizes"),
    [
        ("A", (29_876_880, 29_608_677, 38_519_184, 38_097_893)),
        ("B", (30_321_552, 30_053_349, 38_963_856, 38_542_565)),
        ("C", (25_577_232, 25_366_437, 33_620_496, 33_256_613)),
        ("D", (25_753_018, 25_447_141, 39_319_676, 38_822_140)),
    ],
)
def test_every_reading_has_its_parameters(reading: Any, sizes: tuple[int, ...]) -> None:
    """T3D-121 and T3D-169, each with 400 and with 101 classes."""
    depths: list[dict[str, Any]] = [{}, {"blocks": (6, 12, 32, 32)}]
    wanted = iter(sizes)
    for options in depths:
        for classes in (400, 101):
            with torch.device("meta"):
                model = T3D(in_channels=3, num_classes=classes, reading=reading, **options)
            assert sum(p.numel() for p in model.parameters()) == next(wanted)


@pytest.mark.parametrize(("reading", "parameters"), [("A", 29_876_880), ("B", 30_321_552)])
def test_without_depth_six_it_has_the_parameters_of_the_code(reading: Any, parameters: int) -> None:
    with torch.device("meta"):
        model = T3D(in_channels=3, num_classes=400, reading=reading, first_depths=(1, 3, 4))
    assert sum(p.numel() for p in model.parameters()) == parameters - 589_824


@pytest.mark.parametrize(("reading", "features"), [("A", 896), ("B", 896), ("C", 704), ("D", 1022)])
def test_readings_end_in_features_of_their_own_width(reading: Any, features: int) -> None:
    with torch.device("meta"):
        model = T3D(in_channels=3, reading=reading)
        assert model.features(torch.empty(1, 3, 32, 224, 224)).shape == (1, features)


def test_depths_stay_while_other_kernels_wait_for_the_pixels() -> None:
    model = build_model(
        {"name": "t3d", **SMALL, "stem": "half", "strides": "spacing"},
        in_channels=1, num_classes=2, clip_size=(17, 28, 28), spacing=(5.0, 0.7, 0.7),
    )  # fmt: skip
    assert isinstance(model, T3D)
    depths = [[find_kernel(conv)[0] for conv in part.convs] for part in list_transitions(model)]
    assert depths == [[1, 3, 6], [1, 3, 4]]
    assert find_kernel(model.get_submodule("trunk.denseblock1.denselayer1.conv2"))[0] == 1


def test_the_twin_is_2d_and_inflates() -> None:
    torch.manual_seed(0)
    flat, deep = T3D(**SMALL, planar=True).eval(), T3D(**SMALL).eval()
    assert set(flat.state_dict()) == set(deep.state_dict())
    clips = torch.randn(2, 1, 4, 32, 32)
    shuffled = clips[:, :, [2, 0, 3, 1]]
    torch.testing.assert_close(flat(clips), flat(shuffled), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(deep(clips), deep(shuffled))
    grown = inflate_state(flat.state_dict(), deep.state_dict(), how="centre")
    assert not grown.report.left
    deep.load_state_dict(grown.state)
    still = clips[:, :, :1].expand(-1, -1, 8, -1, -1)
    torch.testing.assert_close(deep(still), flat(still), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(5, 32, 32), (16, 28, 28), (17, 28, 28), (24, 64, 64)])
def test_the_stem_for_scans_suits_small_patches(size: tuple[int, int, int]) -> None:
    model = T3D(in_channels=3, clip_size=size, stem="half", strides="spacing", **SMALL)
    assert model(torch.randn(2, 3, *size)).shape == (2, 2)
    assert model.eval()(torch.randn(1, 3, *size)).shape == (1, 2)


def test_a_network_of_one_block_does_not_speak_of_transitions() -> None:
    assert T3D(blocks=(2,)).through_plane == "Mixes three slices in every dense layer."
    assert "1 to 6 side by side" in T3D(blocks=(2, 2)).through_plane
