import pytest
import torch
from torch import nn
from torch.nn import functional

from medvid.contract import ConfigError
from medvid.models import build_model, describe_model
from medvid.models.i3d import EPS, I3D, MIXED, weigh_frames

END_POINTS = {
    "Conv3d_1a_7x7": (64, 32, 112, 112),
    "Conv3d_2b_1x1": (64, 32, 56, 56),
    "Conv3d_2c_3x3": (192, 32, 56, 56),
    "Mixed_3b": (256, 32, 28, 28),
    "Mixed_3c": (480, 32, 28, 28),
    "Mixed_4b": (512, 16, 14, 14),
    "Mixed_4c": (512, 16, 14, 14),
    "Mixed_4d": (512, 16, 14, 14),
    "Mixed_4e": (528, 16, 14, 14),
    "Mixed_4f": (832, 16, 14, 14),
    "Mixed_5b": (832, 8, 7, 7),
    "Mixed_5c": (1024, 8, 7, 7),
}
"""Of the paper's clip, 3 x 64 x 224 x 224."""


def record_sizes(model: I3D, clips: torch.Tensor) -> dict[str, tuple[int, ...]]:
    sizes = {}
    for name, module in model.named_children():
        if name in END_POINTS:
            module.register_forward_hook(
                lambda m, i, out, name=name: sizes.update({name: tuple(out[0].shape[1:])})
            )
    model(clips)
    return sizes


def test_end_points_have_the_paper_s_sizes() -> None:
    with torch.device("meta"):
        model = I3D(in_channels=3, num_classes=400)
        assert record_sizes(model, torch.empty(1, 3, 64, 224, 224)) == END_POINTS


def test_there_are_58_layers_with_weights_and_only_the_last_has_a_bias() -> None:
    with torch.device("meta"):
        model = I3D()
    layers = [m for m in model.modules() if isinstance(m, nn.Conv3d | nn.Linear)]
    assert len(layers) == 58
    assert [layer.bias is not None for layer in layers] == [False] * 57 + [True]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm3d)]
    assert sum(norm.num_features for norm in norms) == 7280
    assert {norm.eps for norm in norms} == {EPS}


def test_the_third_branch_has_kernels_of_three() -> None:
    with torch.device("meta"):
        model = I3D()
    kernels = {model.get_parameter(f"Mixed_{name}.b2.1.conv.weight").shape[2:] for name in MIXED}
    assert kernels == {(3, 3, 3)}


def test_small_patches_and_thick_slices_leave_the_sizes_of_the_scan_presets() -> None:
    with torch.device("meta"):
        small = I3D(width=8, stem_stride=(1, 1, 1), pool_2a=False)
        sizes = record_sizes(small, torch.empty(1, 1, 28, 28, 28))
        assert [sizes[n][2] for n in ("Conv3d_1a_7x7", "Mixed_3b", "Mixed_4b", "Mixed_5b")] == [
            28,
            14,
            7,
            4,
        ]
        thick = I3D(width=8, stem_kernel=(3, 7, 7), stem_stride=(1, 2, 2))
        sizes = record_sizes(thick, torch.empty(1, 1, 32, 64, 64))
        assert [sizes[n][1] for n in ("Conv3d_1a_7x7", "Mixed_4b", "Mixed_5b")] == [32, 16, 8]


def test_thick_slices_wait_for_the_pixels() -> None:
    model = build_model(
        {"name": "i3d", "width": 8, "strides": "spacing"},
        in_channels=1,
        num_classes=2,
        clip_size=(32, 128, 128),
        spacing=(5.0, 0.7, 0.7),
    )
    layers = ("Conv3d_1a_7x7", "Conv3d_2c_3x3", "Mixed_3b.b1.1", "Mixed_4b.b1.1", "Mixed_5b.b1.1")
    depths = [model.get_parameter(f"{name}.conv.weight").shape[2] for name in layers]
    # 5 mm beside .7, 1.4 -> 2.8 (2a), 2.8 -> 5.6 (3a): from then on slices are no further apart.
    assert depths == [1, 3, 3, 3, 3]


def test_one_clip_alone_keeps_its_axes() -> None:
    """Squeezing without naming axes loses the batch of one, or a last map of one pixel."""
    model = I3D(width=8, num_classes=5).eval()
    assert model(torch.randn(1, 1, 8, 32, 32)).shape == (1, 5)
    assert model.features(torch.randn(1, 1, 1, 17, 17)).shape == (1, 128)


def test_clips_of_odd_and_even_length_in_one_batch_answer_as_alone() -> None:
    torch.manual_seed(0)
    model = I3D(width=8).eval()
    clips = torch.randn(3, 1, 9, 40, 33)
    lengths = (9, 5, 6)
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    together = model(clips, mask)
    alone = [model(clip[None, :, :n]) for clip, n in zip(clips, lengths, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_frames_weigh_as_windows_of_two_do() -> None:
    frames = torch.randn(2, 5, 4, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    shares = weigh_frames(frames, mask, window=2)
    for row, length in enumerate((5, 3)):
        windows = functional.avg_pool1d(frames[row, :length].T, 2, 1)
        pooled = torch.einsum("tc,t->c", frames[row], shares[row])
        torch.testing.assert_close(pooled, windows.mean(dim=1))
    single = weigh_frames(frames, torch.arange(5).expand(2, -1) == 0, window=2)
    assert single.tolist() == [[1.0, 0, 0, 0, 0]] * 2


def test_without_gamma_the_scale_is_one_and_stays() -> None:
    with torch.device("meta"):
        names = {name for name, _ in I3D(gamma=False).named_parameters()}
    assert not any(name.endswith("norm.weight") for name in names)
    model = I3D(width=8, gamma=False)
    assert set(model.state_dict()) == set(I3D(width=8).state_dict())
    assert bool((model.get_buffer("Mixed_3b.b0.norm.weight") == 1).all())


def test_the_planar_twin_has_the_same_names_and_looks_at_slices_alone() -> None:
    torch.manual_seed(0)
    twin, solid = I3D(width=8, planar=True).eval(), I3D(width=8).eval()
    assert list(twin.state_dict()) == list(solid.state_dict())
    kernels = [m.weight.shape[2] for m in twin.modules() if isinstance(m, nn.Conv3d)]
    assert set(kernels) == {1}
    clips = torch.randn(2, 1, 6, 40, 40)
    shuffled = clips[:, :, [3, 1, 5, 0, 2, 4]]
    torch.testing.assert_close(twin(clips), twin(shuffled), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(solid(clips), solid(shuffled))
    slices = torch.stack([twin(clips[:, :, [k]]) for k in range(6)])
    torch.testing.assert_close(twin(clips), slices.mean(dim=0), atol=1e-5, rtol=1e-4)


def test_a_width_that_breaks_proportions_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiples of 8"):
        I3D(width=12)


def test_the_stem_costs_what_a_hand_computes() -> None:
    with torch.device("meta"):
        one, two = I3D(in_channels=1), I3D(in_channels=2)
    more, less = (
        describe_model(model, (16, 64, 64), channels)["flops"]
        for model, channels in ((two, 2), (one, 1))
    )
    assert more - less == 2 * 7**3 * 64 * 8 * 32 * 32  # 2 operations, 343 voxels, 64 kernels
