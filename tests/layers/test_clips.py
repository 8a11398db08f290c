import pytest
import torch

from medvid.contract import ConfigError, DataError
from medvid.layers.clips import check_clips, refuse_small_size


def check(shape: tuple[int, ...], mask: torch.Tensor | None = None) -> torch.Tensor | None:
    return check_clips(torch.zeros(shape), mask, in_channels=1, smallest=(2, 8, 8), model="tiny")


@pytest.mark.parametrize(
    ("shape", "code", "words"),
    [
        ((1, 4, 8, 8), "clip_axes", "4 axes"),
        ((1, 3, 4, 8, 8), "clip_channels", "given clips with 3"),
        ((1, 1, 1, 8, 8), "clip_too_small", "at least 2 x 8 x 8"),
    ],
)
def test_clips_that_cannot_work_are_refused_in_a_sentence(
    shape: tuple[int, ...], code: str, words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        check(shape)
    assert caught.value.code == code


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"must be \(1, 4\)"):
        check((1, 1, 4, 8, 8), torch.ones(1, 5, dtype=torch.bool))


def test_a_clip_of_nothing_but_padding_is_refused() -> None:
    with pytest.raises(DataError, match="nothing but padding"):
        check((1, 1, 4, 8, 8), torch.zeros(1, 4, dtype=torch.bool))


def test_a_full_mask_becomes_none() -> None:
    assert check((1, 1, 4, 8, 8), torch.ones(1, 4, dtype=torch.bool)) is None


def test_a_config_s_size_is_refused_before_any_data_is_read() -> None:
    refuse_small_size(None, (2, 8, 8), "tiny")
    refuse_small_size((2, 8, 8), (2, 8, 8), "tiny")
    with pytest.raises(ConfigError, match="was given 2 x 7 x 8"):
        refuse_small_size((2, 7, 8), (2, 8, 8), "tiny")
