from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medvid.contract import ConfigError
from medvid.layers.inflate import inflate_state
from medvid.models import build_model
from medvid.models.densenet3d import DenseNet3D, HalvingTransition, shrink_maps

SMALL: dict[str, Any] = {"width": 8, "growth": 4, "bottleneck": 2, "blocks": (1, 2, 1)}


def list_sizes(model: nn.Module, size: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """Returns channels, T, H, W behind the first convolution, and of every block and transition."""
    sizes: list[tuple[int, ...]] = []

    def note(_: nn.Module, __: Any, out: Tensor) -> None:
        sizes.append(tuple(out.shape[1:]))

    trunk = model.get_submodule("trunk")
    for name, part in trunk.named_children():
        if name == "conv0" or name.startswith(("denseblock", "transition")):
            part.register_forward_hook(note)
    model(torch.empty(1, 3, *size, device="meta"))
    return sizes


def test_maps_have_the_sizes_of_the_table() -> None:
    with torch.device("meta"):
        model = DenseNet3D(in_channels=3, num_classes=400)
    assert list_sizes(model, (32, 224, 224)) == [
        (64, 16, 112, 112),
        (256, 16, 56, 56), (128, 16, 56, 56),
        (512, 8, 28, 28), (256, 8, 28, 28),
        (1024, 4, 14, 14), (512, 4, 14, 14),
        (1024, 2, 7, 7),
    ]  # fmt: skip
    assert model.trunk.conv0.kernel_size == (3, 7, 7)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, (12_273_896, 11_658_896, 11_352_421)),
        ({"blocks": (6, 12, 32, 32)}, (20_213_992, 19_214_992, 18_717_157)),
        ({"blocks": (6, 12, 48, 32)}, (27_258_088, 26_105_488, 25_531_109)),
        (
            {"width": 96, "growth": 48, "blocks": (6, 12, 36, 24)},
            (41_648_488, 40_323_088, 39_662_597),
        ),
    ],
    ids=["121", "169", "201", "161"],
)
def test_all_depths_have_the_parameters_of_the_authors_code(
    options: dict[str, Any], sizes: tuple[int, int, int]
) -> None:
    for classes, parameters in zip((1000, 400, 101), sizes, strict=True):
        with torch.device("meta"):
            model = DenseNet3D(in_channels=3, num_classes=classes, **options)
        assert sum(p.numel() for p in model.parameters()) == parameters


def test_sixteen_frames_work_and_more_frames_keep_the_classifier() -> None:
    """The released code halves T in the maximum too, and stops at 16; its head depends on T."""
    with torch.device("meta"):
        model = DenseNet3D(in_channels=3, num_classes=400)
        for frames in (16, 64, 100):
            assert model(torch.empty(1, 3, frames, 224, 224)).shape == (1, 400)


def test_a_layer_keeps_what_came_before_it() -> None:
    """Dense growth: the maps that enter a block leave it unchanged, in front."""
    torch.manual_seed(0)
    block = DenseNet3D(**SMALL).trunk.get_submodule("denseblock2")
    maps = torch.randn(1, 6, 3, 4, 4)
    out = block(maps, None)
    assert out.shape[1] == 6 + 2 * SMALL["growth"]
    torch.testing.assert_close(out[:, :6], maps)
    second = block.get_submodule("denselayer2")
    torch.testing.assert_close(out[:, 10:], second(out[:, :10], None))


def test_a_transition_halves_the_channels_and_keeps_the_grid() -> None:
    out = HalvingTransition(10, "batch")(torch.randn(2, 10, 3, 4, 4))
    assert out.shape == (2, 5, 3, 4, 4)


def test_the_mean_takes_an_odd_last_row_and_no_padding() -> None:
    maps = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(1, 1, 5, 3, 3)
    whole, _ = shrink_maps(maps, None, (2, 2, 2))
    assert whole.shape == (1, 1, 3, 2, 2)
    assert whole[0, 0, :, 0, 0].tolist() == [0.5, 2.5, 4.0]
    mask = torch.tensor([[False, True, True, False, False]])
    shown, pooled = shrink_maps(maps, mask, (2, 2, 2))
    assert shown[0, 0, :, 1, 1].tolist() == [1.0, 2.0, 0.0]
    assert pooled is not None
    assert pooled.tolist() == [[True, True, False]]


def test_one_clip_keeps_its_batch_axis() -> None:
    assert DenseNet3D(**SMALL).eval()(torch.randn(1, 1, 1, 32, 32)).shape == (1, 2)


@pytest.mark.parametrize("size", [(5, 32, 32), (16, 28, 28), (17, 28, 28), (24, 64, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_stem_for_scans_suits_small_patches(size: tuple[int, int, int], channels: int) -> None:
    spec = {"name": "densenet3d", **SMALL, "stem": "half", "strides": "spacing"}
    model = build_model(
        spec, in_channels=channels, num_classes=2, clip_size=size, spacing=(2.5, 0.7, 0.7)
    )
    assert model(torch.randn(2, channels, *size)).shape == (2, 2)


def test_thick_slices_wait_for_the_pixels() -> None:
    model = DenseNet3D(**SMALL, strides="spacing", spacing=(5.0, 0.5, 0.5))
    depths = [
        model.get_parameter(f"trunk.{name}.weight").shape[2]
        for name in (
            "conv0", "denseblock1.denselayer1.conv2", "denseblock2.denselayer1.conv2",
            "denseblock3.denselayer1.conv2",
        )
    ]  # fmt: skip
    assert depths == [1, 1, 3, 3]  # 2 mm pixels behind the stem, 4 mm behind the first mean


def test_the_twin_is_2d_and_inflates_to_the_same_answer_inside() -> None:
    torch.manual_seed(0)
    flat = DenseNet3D(**SMALL, planar=True).eval()
    deep = DenseNet3D(**SMALL).eval()
    assert set(flat.state_dict()) == set(deep.state_dict())
    assert all(p.shape[2] == 1 for p in flat.parameters() if p.ndim == 5)
    clips = torch.randn(2, 1, 4, 32, 32)
    shuffled = clips[:, :, [2, 0, 3, 1]]
    torch.testing.assert_close(flat(clips), flat(shuffled), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(deep(clips), deep(shuffled))
    grown = inflate_state(flat.state_dict(), deep.state_dict(), how="centre")
    assert not grown.report.left
    deep.load_state_dict(grown.state)
    still = clips[:, :, :1].expand(-1, -1, 8, -1, -1)
    torch.testing.assert_close(deep(still), flat(still), atol=1e-5, rtol=1e-4)


def test_too_small_a_patch_is_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match="at least 1 x 17 x 17"):
        DenseNet3D(clip_size=(16, 16, 16))
    assert DenseNet3D(**SMALL, stem="full").smallest == (1, 3, 3)
