"""The temporal transition layer against a plain evaluation of its formula."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medvid.layers.ttl import TemporalTransition

CHANNELS, BRANCH, SIZE = 4, 3, (7, 5, 4)


def build(depths: tuple[int, int, int], reading: Any = "A") -> TemporalTransition:
    torch.manual_seed(0)
    layer = TemporalTransition(CHANNELS, BRANCH, depths, "batch", reading).double().eval()
    for norm in layer.norms:
        assert isinstance(norm, torch.nn.BatchNorm3d)
        norm.running_mean = torch.randn(CHANNELS).double()
        norm.running_var = torch.rand(CHANNELS).double() + 0.5
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    return layer


def evaluate(layer: TemporalTransition, maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over every tap of every kernel, in float64, with the zeros of TensorFlow's SAME."""
    branches = []
    for norm, conv in zip(layer.norms, layer.convs, strict=True):
        state = {name: value.numpy() for name, value in norm.state_dict().items()}
        scale = state["weight"] / np.sqrt(state["running_var"] + 1e-5)
        shown = (maps - state["running_mean"][:, None, None, None]) * scale[:, None, None, None]
        shown = np.maximum(shown + state["bias"][:, None, None, None], 0)
        kernel = conv.state_dict()["weight"].numpy()
        depth, side = kernel.shape[2], kernel.shape[3]
        before = (depth - 1) // 2
        margins = ((before, depth - 1 - before), (side // 2, side // 2), (side // 2, side // 2))
        padded = np.pad(shown, ((0, 0), (0, 0), *margins))
        t, h, w = maps.shape[2:]
        out = np.zeros((len(maps), len(kernel), t, h, w))
        for dt in range(depth):
            for dh in range(side):
                for dw in range(side):
                    seen = padded[:, :, dt : dt + t, dh : dh + h, dw : dw + w]
                    out += np.einsum("bcthw,oc->bothw", seen, kernel[:, :, dt, dh, dw])
        branches.append(out)
    return np.concatenate(branches, axis=1)


@pytest.mark.parametrize("depths", [(1, 3, 6), (1, 3, 4), (2, 1, 9)])
def test_it_is_the_formula(depths: tuple[int, int, int]) -> None:
    layer = build(depths)
    maps = torch.randn(2, CHANNELS, *SIZE, generator=torch.Generator().manual_seed(1)).double()
    found = layer(maps).detach().numpy()
    assert found.shape == (2, 3 * BRANCH, *SIZE)
    np.testing.assert_allclose(found, evaluate(layer, maps.numpy()), atol=1e-12)


@pytest.mark.parametrize(("depth", "reach"), [(1, (0, 0)), (3, (1, 1)), (4, (1, 2)), (6, (2, 3))])
def test_an_even_kernel_looks_further_ahead_than_back(depth: int, reach: tuple[int, int]) -> None:
    layer = build((1, 1, depth))
    maps = torch.randn(1, CHANNELS, 9, 3, 3).double()
    middle = 4
    seen = []
    for frame in range(9):
        moved = maps.clone()
        moved[:, :, frame] += 3.0
        change = (layer(moved) - layer(maps))[:, -BRANCH:, middle]
        if change.abs().max() > 0:
            seen.append(frame - middle)
    assert (-min(seen), max(seen)) == reach


def test_the_readings_differ_in_width() -> None:
    widths = {reading: build((1, 3, 4), reading).out_channels for reading in "ABCD"}
    assert widths == {"A": 9, "B": 9, "C": 4, "D": 3}
    maps = torch.randn(2, CHANNELS, *SIZE).double()
    for reading, width in widths.items():
        assert build((1, 3, 4), reading)(maps).shape == (2, width, *SIZE)


def test_frames_of_padding_are_zeros_to_their_neighbours() -> None:
    layer = build((1, 3, 6))
    maps = torch.randn(1, CHANNELS, 6, 4, 4).double()
    mask = torch.arange(6)[None] < 4
    loud = maps.masked_fill(~mask[:, None, :, None, None], 1e3)
    torch.testing.assert_close(layer(loud, mask)[:, :, :4], layer(maps[:, :, :4]))
