import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from medvid.layers.same_padding import find_same_padding, pad_same, pool_same

lengths = st.integers(1, 40)
kernels = st.integers(1, 8)
strides = st.integers(1, 4)


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "padding"),
    [
        (224, 7, 2, (2, 3)),  # I3D's stem on an even axis
        (225, 7, 2, (3, 3)),
        (112, 3, 2, (0, 1)),
        (57, 3, 2, (1, 1)),
        (16, 2, 2, (0, 0)),
        (7, 2, 2, (0, 1)),
        (30, 3, 1, (1, 1)),
        (30, 4, 1, (1, 2)),
        (8, 1, 2, (0, 0)),
    ],
)
def test_the_smaller_half_stands_before(
    length: int, kernel: int, stride: int, padding: tuple[int, int]
) -> None:
    assert find_same_padding(length, kernel, stride) == padding


@given(lengths, kernels, strides)
def test_as_many_positions_are_left_as_the_stride_says(
    length: int, kernel: int, stride: int
) -> None:
    before, behind = find_same_padding(length, kernel, stride)
    assert 0 <= behind - before <= 1
    assert (length + before + behind - kernel) // stride + 1 == -(-length // stride)


@given(st.integers(1, 12), st.integers(1, 12), kernels, strides)
@settings(deadline=None)
def test_a_clip_that_ends_early_is_padded_as_if_it_were_alone(
    length: int, more: int, kernel: int, stride: int
) -> None:
    generator = torch.Generator().manual_seed(length)
    clips = torch.randn(2, 1, length + more, 3, 3, generator=generator)
    mask = torch.ones(2, length + more, dtype=torch.bool)
    mask[0, length:] = False
    clips = clips.masked_fill(~mask[:, None, :, None, None], 0)
    weight = torch.randn(1, 1, kernel, 1, 1, generator=generator)

    def convolve(maps: Tensor, shown: Tensor | None) -> Tensor:
        padded, rest = pad_same(maps, shown, (kernel, 1, 1), (stride, 1, 1))
        return functional.conv3d(padded, weight, None, (stride, 1, 1), rest)

    together = convolve(clips, mask)
    windows = -(-length // stride)
    assert together.shape[2] == -(-(length + more) // stride)
    torch.testing.assert_close(together[:1, :, :windows], convolve(clips[:1, :, :length], None))
    torch.testing.assert_close(together[1:], convolve(clips[1:], None))


def test_a_maximum_takes_windows_from_the_first_frame_on_even_axes() -> None:
    frames = torch.arange(1.0, 9.0)[None, None, :, None, None]
    pooled, mask = pool_same(frames, None, (3, 1, 1), (2, 1, 1))
    assert mask is None
    assert pooled.flatten().tolist() == [3, 5, 7, 8]
    odd, _ = pool_same(frames[:, :, :7], None, (3, 1, 1), (2, 1, 1))
    assert odd.flatten().tolist() == [2, 4, 6, 7]


def test_the_mask_is_pooled_too() -> None:
    mask = torch.tensor([[True] * 3 + [False] * 5])
    _, pooled = pool_same(torch.ones(1, 1, 8, 2, 2), mask, (3, 1, 1), (2, 1, 1))
    assert pooled is not None
    assert pooled.tolist() == [[True, True, False, False]]
