import pytest
import torch
from torch import nn

from medvid.contract import DataError
from medvid.layers.normalization import NORMS, FrameBatchNorm, ImageBatchNorm, pool_mask

SHAPE = (3, 16, 4, 5, 5)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    norm = NORMS[name](SHAPE[1])
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", sorted(NORMS))
def test_padding_does_not_enter_the_statistics(name: str, training: bool) -> None:
    norm = build(name).train(training)
    maps = torch.randn(SHAPE)
    mask = torch.tensor([[True, True, True, False]] * 3)
    loud = maps.masked_fill(~mask[:, None, :, None, None], 1e4)
    masked = norm(loud, mask)
    alone = build(name).train(training)(maps[:, :, :3], None)
    torch.testing.assert_close(masked[:, :, :3], alone, atol=1e-5, rtol=1e-5)
    assert (masked[:, :, 3] == 0).all()


def test_running_statistics_do_not_see_padding() -> None:
    maps = torch.randn(SHAPE)
    mask = torch.tensor([[True, True, True, False]] * 3)
    masked, alone = build("batch"), build("batch")
    masked(maps.masked_fill(~mask[:, None, :, None, None], 1e4), mask)
    alone(maps[:, :, :3], None)
    for ours, wanted in zip(masked.buffers(), alone.buffers(), strict=True):
        torch.testing.assert_close(ours, wanted)


def test_a_full_mask_is_no_mask() -> None:
    maps = torch.randn(SHAPE)
    full = torch.ones(3, 4, dtype=torch.bool)
    for name in NORMS:
        norm = build(name)
        torch.testing.assert_close(norm(maps, full), norm(maps, None), atol=1e-5, rtol=1e-5)


def test_a_pooled_window_with_one_frame_is_a_frame() -> None:
    mask = torch.tensor([[True, True, True, False, False], [False, False, False, False, True]])
    pooled = pool_mask(mask, 2)
    assert pooled is not None
    assert pooled.tolist() == [[True, True, False], [False, False, True]]
    assert pool_mask(None, 2) is None


@pytest.mark.parametrize("kind", [FrameBatchNorm, ImageBatchNorm])
def test_a_single_voxel_is_measured_by_the_batches_before_it(
    kind: type[FrameBatchNorm] | type[ImageBatchNorm],
) -> None:
    axes = 3 if kind is FrameBatchNorm else 2
    norm = kind(4)
    norm(torch.randn(6, 4, *[3] * axes) * 2 + 1)
    before = [buffer.clone() for buffer in norm.buffers()]
    voxel = torch.randn(1, 4, *[1] * axes, requires_grad=True)
    trained = norm(voxel)
    torch.testing.assert_close(trained, norm.eval()(voxel))
    for buffer, old in zip(norm.buffers(), before, strict=True):
        assert torch.equal(buffer, old)
    assert torch.autograd.grad(trained.sum(), voxel)[0].all()


def test_a_single_frame_of_one_voxel_that_is_no_padding_is_no_error() -> None:
    norm = FrameBatchNorm(4)
    mask = torch.tensor([[True, False]])
    maps = torch.randn(1, 4, 2, 1, 1)
    torch.testing.assert_close(norm(maps, mask)[:, :, :1], norm(maps[:, :, :1], None))


@pytest.mark.parametrize("clips", [1, 2])
def test_instance_norm_of_one_voxel_is_refused_in_a_sentence(clips: int) -> None:
    with pytest.raises(
        DataError, match=r"a single voxel.*`norm: batch` or `norm: group`"
    ) as caught:
        NORMS["instance"](4)(torch.randn(clips, 4, 1, 1, 1), None)
    assert caught.value.code == "norm_of_one_voxel"
