import pytest
import torch

from medvid.layers.pooling import FRAME_POOLS, LogSumExpPool

FEATURES = 6


@pytest.fixture(params=sorted(FRAME_POOLS))
def pool(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    return FRAME_POOLS[request.param](FEATURES)


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randn(2, 5, FEATURES, generator=torch.Generator().manual_seed(1))


def test_padding_changes_nothing(pool: torch.nn.Module, frames: torch.Tensor) -> None:
    mask = torch.tensor([[True, True, True, False, False], [False, True, True, True, False]])
    loud = frames.masked_fill(~mask[..., None], 1e4)
    pooled = pool(loud, mask)
    torch.testing.assert_close(pooled[:1], pool(frames[:1, :3], None))
    torch.testing.assert_close(pooled[1:], pool(frames[1:, 1:4], None))


def test_weights_are_shares_of_the_frames_that_are_seen(
    pool: torch.nn.Module, frames: torch.Tensor
) -> None:
    mask = torch.tensor([[True] * 5, [True, True, False, True, False]])
    weights = pool.weights(frames, mask)  # type: ignore[operator]
    assert (weights >= 0).all()
    assert (weights[~mask] == 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))


def test_equal_frames_pool_to_themselves(pool: torch.nn.Module) -> None:
    frame = torch.randn(2, 1, FEATURES, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(pool(frame.expand(-1, 4, -1), None), frame[:, 0])


def test_the_order_of_frames_does_not_matter(pool: torch.nn.Module, frames: torch.Tensor) -> None:
    torch.testing.assert_close(pool(frames.flip(1), None), pool(frames, None))


def test_max_takes_the_strongest_frame_of_every_feature() -> None:
    frames = torch.tensor([[[1.0, 9.0], [5.0, 2.0], [3.0, 9.0]]])
    pool = FRAME_POOLS["max"](2)
    assert pool(frames, None).tolist() == [[5.0, 9.0]]
    # Feature 0 is frame 1's; feature 1 is shared by frames 0 and 2.
    assert pool.weights(frames, None).tolist() == [[0.25, 0.5, 0.25]]  # type: ignore[operator]


@pytest.mark.parametrize(("sharpness", "near"), [(1e-3, "mean"), (1e3, "max")])
def test_log_sum_exp_lies_between_mean_and_maximum(
    sharpness: float, near: str, frames: torch.Tensor
) -> None:
    wanted = FRAME_POOLS[near](FEATURES)(frames, None)
    pooled = LogSumExpPool(sharpness)(frames, None)
    torch.testing.assert_close(pooled, wanted, atol=5e-3, rtol=0)
