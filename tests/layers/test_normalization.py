import pytest
import torch
from torch import nn

from medvid.layers.normalization import NORMS, pool_mask

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
