from typing import Any

import pytest
import torch
from torch.nn import functional

from medvid.contract import ConfigError
from medvid.models import MODELS, build_model, describe_model
from medvid.models.c3d import C3D, C3DStudy


def test_pool5_takes_the_windows_of_caffe() -> None:
    """Rows and columns 0-6 of a 7 x 7 map fall into [0,1], [2,3], [4,5], [6], without padding."""
    model = C3D(width=2, norm="none")
    rows, columns = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    maps = (10 * rows + columns).expand(1, 1, 2, 7, 7)
    pool = model.trunk.pools[-1]
    pooled = functional.max_pool3d(maps, pool, pool, ceil_mode=True)
    last = torch.tensor([1.0, 3.0, 5.0, 6.0])
    assert torch.equal(pooled[0, 0, 0], 10 * last[:, None] + last)
    padded = functional.max_pool3d(maps, 2, 2, padding=(0, 1, 1))
    assert padded.shape == pooled.shape
    assert not torch.equal(padded, pooled)


def test_the_trunk_pools_as_pool5_should() -> None:
    """Identity convolutions show the windows of all five maxima in the network itself."""
    model = C3D(width=1, init="he").eval()
    for conv in model.trunk.convs.values():
        assert isinstance(conv, torch.nn.Conv3d)
        torch.nn.init.zeros_(conv.weight)
        with torch.no_grad():
            conv.weight[:, 0, 1, 1, 1] = 1.0
    columns = torch.arange(112.0).expand(1, 1, 16, 112, 112)
    maps, _ = model.trunk(columns, None)
    assert maps.shape == (1, 8, 1, 4, 4)
    # pool1 to pool4 leave 7 columns of 16 pixels each; pool5 joins them as [0,1] [2,3] [4,5] [6].
    assert maps[0, 0, 0, 0].tolist() == [31.0, 63.0, 95.0, 111.0]


def test_maps_have_the_paper_s_sizes() -> None:
    with torch.device("meta"):
        model = C3D(in_channels=3, num_classes=101)
        maps, _ = model.trunk(torch.empty(1, 3, 16, 112, 112), None)
        assert maps.shape == (1, 512, 1, 4, 4)
        assert model.features(torch.empty(1, 3, 16, 112, 112)).shape == (1, 4096)


@pytest.mark.parametrize(
    ("clip_size", "flat"),
    [((28, 28, 28), 1024), ((32, 64, 64), 4096), ((24, 112, 112), 16384)],
)
def test_fc6_is_as_long_as_the_clip_leaves(clip_size: tuple[int, int, int], flat: int) -> None:
    with torch.device("meta"):
        model = build_model("c3d", in_channels=1, num_classes=2, clip_size=clip_size)
    assert model.get_submodule("head.fc6").in_features == flat


def test_a_forward_costs_the_published_38_5_billion_multiplications() -> None:
    with torch.device("meta"):
        model = C3D(in_channels=3, num_classes=487)
    macs = describe_model(model, (16, 112, 112), 3)["flops"] / 2
    assert macs == pytest.approx(38.5e9, rel=0.005)


def test_conv1a_costs_what_a_hand_computes() -> None:
    with torch.device("meta"):
        one, three = C3D(in_channels=1), C3D(in_channels=3)
    more = describe_model(three, (16, 112, 112), 3)["flops"]
    less = describe_model(one, (16, 112, 112), 1)["flops"]
    two_more_channels = 2 * 27 * 2 * 64 * 16 * 112 * 112  # 2 operations, 27 voxels, 64 kernels
    assert more - less == two_more_channels


def test_the_paper_s_initialisation() -> None:
    torch.manual_seed(0)
    model = C3D(in_channels=3, num_classes=101, width=32, clip_size=(16, 112, 112))
    layers = dict(model.named_modules())
    stds = {"trunk.convs.conv3b": 0.01, "head.fc6": 0.005, "head.fc7": 0.005, "head.fc8": 0.01}
    for name, std in stds.items():
        assert layers[name].weight.std().item() == pytest.approx(std, rel=0.02)
    biases = {
        name.removesuffix(".bias"): set(bias.tolist())
        for name, bias in model.named_parameters()
        if name.endswith(".bias")
    }
    zero = {"trunk.convs.conv1a", "head.fc8"}
    assert biases == {name: {0.0} if name in zero else {1.0} for name in biases}


def test_thick_slices_wait_for_the_pixels() -> None:
    model = build_model(
        {"name": "c3d", "width": 4, "strides": "spacing", "head": "pool", "norm": "batch"},
        in_channels=1,
        num_classes=2,
        clip_size=(32, 128, 128),
        spacing=(5.0, 0.5, 0.5),
    )
    depths = [model.get_parameter(f"trunk.convs.conv{name}.weight").shape[2] for name in LAYERS]
    assert depths == [1, 1, 1, 1, 3, 3, 3, 3]


LAYERS = ("1a", "2a", "3a", "3b", "4a", "4b", "5a", "5b")


def test_without_the_option_the_spacing_of_the_data_changes_nothing() -> None:
    with torch.device("meta"):
        model = C3D(width=4, spacing=(5.0, 0.5, 0.5))
    assert [conv.kernel_size for conv in model.trunk.convs.values()] == [(3, 3, 3)] * len(LAYERS)


def test_a_kernel_without_a_middle_slice_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be odd"):
        C3DStudy(width=2, kernel_depths=(3, 3, 4, 3, 3))


def test_c3d_sees_the_order_of_slices_and_kernels_of_one_slice_do_not() -> None:
    torch.manual_seed(0)
    clips = torch.randn(1, 1, 8, 32, 32)
    shuffled = clips[:, :, [7, 2, 5, 0, 3, 6, 1, 4]]
    c3d = MODELS["c3d"](width=4, init="he", clip_size=(8, 32, 32)).eval()
    assert not torch.allclose(c3d(clips), c3d(shuffled))
    flat = C3DStudy(width=4, init="he", clip_size=(8, 32, 32), kernel_depths=(1,) * 5).eval()
    # pool2 to pool4 join 8 slices to one: with kernels of one slice, swapping pairs is invisible.
    pairs = clips[:, :, [1, 0, 3, 2, 5, 4, 7, 6]]
    torch.testing.assert_close(flat(clips), flat(pairs))
    assert not torch.allclose(c3d(clips), c3d(pairs))


def test_the_planar_twin_has_the_same_names_and_looks_at_slices_alone() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"width": 4, "norm": "batch", "head": "pool", "init": "he"}
    full, twin = C3D(**options).eval(), C3D(**options, planar=True).eval()
    assert list(twin.state_dict()) == list(full.state_dict())
    clips = torch.randn(2, 1, 6, 20, 20)
    alone = torch.stack([twin(clips[:, :, [t]]) for t in range(6)]).mean(dim=0)
    torch.testing.assert_close(twin(clips), alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(twin(clips.flip(2)), twin(clips), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(full(clips.flip(2)), full(clips), atol=1e-5, rtol=1e-4)


def test_the_twin_of_the_paper_fits_but_for_the_depth_of_its_kernels() -> None:
    with torch.device("meta"):
        full, twin = C3D(width=8), C3D(width=8, planar=True)
    for (name, own), (twins, other) in zip(
        full.state_dict().items(), twin.state_dict().items(), strict=True
    ):
        assert name == twins
        flat = own.shape if own.ndim < 5 else (*own.shape[:2], 1, *own.shape[3:])
        assert other.shape == flat, name
