import pytest
import torch

from medvid.contract import ConfigError
from medvid.models.slicewise import Slicewise

CLIPS = torch.randn(2, 1, 6, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pool", ["mean", "max", "lse", "attention"])
def test_the_order_of_slices_is_lost(pool: str) -> None:
    torch.manual_seed(0)
    model = Slicewise(width=8, pool=pool).eval()  # type: ignore[arg-type]
    torch.testing.assert_close(model(CLIPS.flip(2)), model(CLIPS))


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_the_answer_is_the_weighted_mean_of_the_slices_answers(pool: str) -> None:
    torch.manual_seed(0)
    model = Slicewise(width=8, pool=pool).eval()  # type: ignore[arg-type]
    weighted = torch.einsum("btc,bt->bc", model.frame_logits(CLIPS), model.frame_weights(CLIPS))
    torch.testing.assert_close(model(CLIPS), weighted)


def test_one_slice_is_its_own_answer() -> None:
    model = Slicewise(width=8, pool="max").eval()
    torch.testing.assert_close(model(CLIPS[:, :, 2:3]), model.frame_logits(CLIPS)[:, 2])


def test_weights_of_padding_are_zero() -> None:
    model = Slicewise(width=8, pool="attention").eval()
    mask = torch.tensor([[True] * 4 + [False] * 2, [False] + [True] * 5])
    weights = model.frame_weights(CLIPS, mask)
    assert (weights[~mask] == 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))


def test_batch_statistics_do_not_see_padding() -> None:
    torch.manual_seed(0)
    model = Slicewise(width=8)
    mask = torch.tensor([[True] * 3 + [False] * 3] * 2)
    model(CLIPS.masked_fill(~mask[:, None, :, None, None], 1e4), mask)
    torch.manual_seed(0)
    alone = Slicewise(width=8)
    alone(CLIPS[:, :, :3])
    for ours, wanted in zip(model.buffers(), alone.buffers(), strict=True):
        torch.testing.assert_close(ours, wanted)


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
def test_every_block_starts_as_its_shortcut(stem_stride: int) -> None:
    model = Slicewise(width=8, depths=(2, 2), stem_stride=stem_stride)  # type: ignore[arg-type]
    maps = torch.rand(2, 8, 10, 10)
    torch.testing.assert_close(model.stages[0][1](maps), maps)  # type: ignore[index]


def test_group_norm_wants_whole_groups() -> None:
    with pytest.raises(ConfigError, match="multiples of 8"):
        Slicewise(width=12, norm="group")


def test_a_finding_counts_the_same_however_large_the_slice_around_it() -> None:
    torch.manual_seed(0)
    model = Slicewise(width=8, depths=(1, 1)).eval()
    small, large = torch.zeros(1, 1, 1, 32, 32), torch.zeros(1, 1, 1, 96, 96)
    finding = torch.full((4, 4), 3.0)
    small[..., 14:18, 14:18] = finding
    large[..., 46:50, 46:50] = finding
    torch.testing.assert_close(model(large), model(small))
