from typing import Any, cast

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import nn
from torch.nn import functional

from medvid.contract import ConfigError
from medvid.models import build_model
from medvid.models.fstcn import FSTCN, TemporalLayer

PATCH: dict[str, Any] = {"width": 12, "conv_strides": (1, 1), "padded": True}


def list_sizes(model: FSTCN, size: tuple[int, int, int]) -> list[int]:
    """Returns the rows behind every shared convolution and behind the last maximum."""
    sizes: list[int] = []

    def note(_: nn.Module, __: Any, out: Any) -> None:
        sizes.append(out.shape[-2])

    for conv in model.shared.convs:
        conv.register_forward_hook(note)
    grid = cast("Any", model.temporal.grid)
    grid.register_forward_hook(note)
    model.eval()(torch.empty(1, model.in_channels, *size, device="meta"))
    return sizes


def test_layers_have_the_paper_s_sizes() -> None:
    with torch.device("meta"):
        model = FSTCN(in_channels=3, num_classes=101)
    # 204 -> 99 (49 behind the maximum) -> 23 (11) -> 11 -> 11, and 4 behind SCL5's maximum, twice.
    assert list_sizes(model, (30, 204, 204)) == [99, 23, 11, 11, 4]
    assert model.convolution.short.in_channels == 16
    assert cast("nn.Linear", model.temporal_layers[0]).in_features == 40_960
    assert model.joined.in_features == 4_096


def test_padding_gives_the_other_sizes_of_the_page() -> None:
    with torch.device("meta"):
        model = FSTCN(in_channels=3, padded=True)
    assert list_sizes(model, (30, 204, 204))[:3] == [102, 26, 13]


def test_parts_have_as_many_parameters_as_the_page_says() -> None:
    with torch.device("meta"):
        model = FSTCN(in_channels=3, num_classes=101)

    def count(*parts: str) -> int:
        return sum(p.numel() for part in parts for p in model.get_submodule(part).parameters())

    assert count("shared") == 4_168_832
    assert count("temporal", "convolution") == 623_808
    assert count("temporal_layers") == 176_166_912
    assert count("spatial", "spatial_layers") == 17_373_312
    assert count("joined", "classifier") == 8_597_605


def test_small_patches_keep_nine_positions() -> None:
    with torch.device("meta"):
        model = FSTCN(**PATCH, clip_size=(30, 28, 28))
    assert list_sizes(model, (30, 28, 28)) == [28, 14, 7, 7, 3]
    assert model.convolution.short.in_channels == 9


def test_differences_are_taken_at_the_paper_s_instants() -> None:
    """Five instants 5 apart, each against the frame 9 later: the offset is not d times s."""
    clips = torch.arange(30.0).square().view(1, 1, 30, 1, 1)
    t = torch.arange(0, 25, 5.0)
    signed = FSTCN(**PATCH, clip_size=(30, 28, 28), difference="signed")
    absolute = FSTCN(**PATCH, clip_size=(30, 28, 28))
    expected = t.square() - (t + 9).square()
    assert torch.equal(signed.subtract_frames(clips).flatten(), expected)
    assert torch.equal(absolute.subtract_frames(clips).flatten(), -expected)


@pytest.mark.parametrize(("frames", "step", "distance"), [(5, 1, 1), (4, 2, 3), (2, 5, 9)])
def test_it_looks_at_as_many_frames_as_its_options_need(
    frames: int, step: int, distance: int
) -> None:
    model = FSTCN(**PATCH, clip_size=None, frames=frames, step=step, distance=distance)
    needed = (frames - 1) * step + distance + 1
    assert model.exact_frames == needed
    clips = torch.zeros(1, 1, needed, 28, 28)
    assert model.subtract_frames(clips).shape[1] == frames


def test_another_number_of_frames_is_refused_with_the_ways_out() -> None:
    with pytest.raises(ConfigError, match=r"exactly 30 frames, and they have 17.*`head: pool`"):
        FSTCN(**PATCH, clip_size=(17, 28, 28))


def test_the_spatial_path_sees_a_random_frame_in_training_and_the_centre_in_testing() -> None:
    torch.manual_seed(0)
    model = FSTCN(**PATCH, clip_size=(30, 28, 28))
    clips = torch.arange(30.0).view(1, 1, 30, 1, 1).expand(64, -1, -1, -1, -1)
    mask = (torch.arange(30) < 12).expand(64, -1)
    drawn = model.choose_frame(clips, None).flatten()
    assert set(drawn.tolist()) == {0.0, 5.0, 10.0, 15.0, 20.0}
    assert set(model.choose_frame(clips, mask).flatten().tolist()) == {0.0, 5.0, 10.0}
    model.eval()
    assert set(model.choose_frame(clips, None).flatten().tolist()) == {10.0}
    assert set(model.choose_frame(clips, mask).flatten().tolist()) == {5.0}


def test_both_paths_go_through_the_same_layers() -> None:
    model = FSTCN(**PATCH, clip_size=(30, 28, 28)).eval()
    seen: list[int] = []
    model.shared.convs[0].register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    model(torch.zeros(2, 1, 30, 28, 28))
    assert seen == [2 * (1 + 5)]


def test_the_temporal_layer_is_the_formula() -> None:
    """P, the 3 x 3 and the 5 x 5 kernel over (t, f'), against a direct evaluation in float64."""
    torch.manual_seed(0)
    layer = TemporalLayer(positions=4, features=6, filters=3, dropout=0.0).double()
    nn.init.normal_(layer.order)
    cells = torch.randn(2, 5, 6, 4, dtype=torch.float64)
    out = layer(cells).detach().numpy()
    x, p = cells.numpy(), layer.order.detach().numpy()
    plane = np.zeros((2, 4, 5, 6))
    for b, t, position, g in np.ndindex(2, 5, 4, 6):
        plane[b, position, t, g] = sum(x[b, t, f, position] * p[f, g] for f in range(6))
    for first, conv in ((0, layer.short), (3, layer.long)):
        weight, reach = conv.weight.detach().numpy(), conv.kernel_size[0] // 2
        bias = cast("torch.Tensor", conv.bias).detach().numpy()
        padded = np.pad(plane, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
        for b, m, t, g in np.ndindex(2, 3, 5, 6):
            window = padded[b, :, t : t + 2 * reach + 1, g : g + 2 * reach + 1]
            direct = max((window * weight[m]).sum() + bias[m], 0.0)
            assert out[b, first + m, t, g] == pytest.approx(direct, abs=1e-12)


def test_the_order_of_features_is_learned() -> None:
    """A permutation of features is undone by the same permutation of P's rows."""
    torch.manual_seed(0)
    layer = TemporalLayer(positions=4, features=6, filters=3, dropout=0.0)
    nn.init.orthogonal_(layer.order)
    cells, new = torch.randn(1, 5, 6, 4), torch.tensor([3, 0, 5, 1, 4, 2])
    before = layer(cells)
    assert not torch.allclose(layer(cells[:, :, new]), before)
    with torch.no_grad():
        layer.order.copy_(layer.order[new])
    torch.testing.assert_close(layer(cells[:, :, new]), before)


def test_lrn_has_caffe_s_constants() -> None:
    model = FSTCN(**PATCH, clip_size=(30, 28, 28))
    maps = torch.rand(1, 12, 2, 2) * 50
    squares = rearrange(functional.pad(maps.square(), (0, 0, 0, 0, 2, 2)), "1 c h w -> c h w")
    windows = squares.unfold(0, 5, 1).sum(dim=-1)
    torch.testing.assert_close(model.shared.lrn(maps)[0], maps[0] / (1 + 2e-5 * windows) ** 0.75)


@pytest.mark.parametrize("frames", [2, 5, 17, 24])
def test_the_mean_takes_any_number_of_frames(frames: int) -> None:
    model = build_model(
        {"name": "fstcn", "step": 1, "distance": 1, "head": "pool", **PATCH},
        in_channels=1,
        num_classes=2,
        clip_size=(17, 28, 28),
    ).eval()
    assert model(torch.zeros(2, 1, frames, 28, 28)).shape == (2, 2)


def test_a_single_slice_among_padding_still_has_an_answer() -> None:
    """There is no difference to look at; the spatial path answers alone."""
    model = FSTCN(**PATCH, clip_size=(5, 28, 28), step=1, distance=1, head="pool").eval()
    clips, mask = torch.randn(2, 1, 5, 28, 28), torch.zeros(2, 5, dtype=torch.bool)
    mask[:, 3] = True
    answer = model(clips, mask)
    assert answer.isfinite().all()
    clips[:, :, 4] = 7.0
    torch.testing.assert_close(model(clips, mask), answer)
    clips[:, :, 3] = 7.0
    assert not torch.allclose(model(clips, mask), answer)


def test_signed_differences_tell_the_order_of_slices() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {**PATCH, "step": 1, "distance": 1, "head": "pool", "norm": "batch"}
    clips = torch.randn(2, 1, 2, 28, 28)
    clips[:, :, 1] *= 0.1
    for difference, told in (("signed", True), ("absolute", False)):
        model = FSTCN(**options, difference=cast("Any", difference), clip_size=(2, 28, 28)).eval()
        with torch.no_grad():  # leave the spatial path out
            model.joined.weight[:, : model.joined.in_features // 2] = 0
        assert torch.allclose(model(clips), model(clips.flip(2)), atol=1e-7) is not told
