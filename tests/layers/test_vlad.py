"""VLAD against the formula written out in float64, and the ways to get it nearly right."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from numpy.typing import NDArray

from medvid.contract import ConfigError
from medvid.layers.vlad import VLAD, describe_bag, fit_anchors, normalize_length, share_frames

Array = NDArray[np.float64]

EXACT = 1e-12
"""Of float64: products with alpha up to 1000 lose three of its 16 digits."""


def unit(vector: Array) -> Array:
    return vector / np.sqrt(max((vector**2).sum(), 1e-12))


def compute_directly(descriptors: Array, anchors: Array, alpha: float) -> Array:
    """Sums over frames and positions, as the paper's equation has them."""
    total = np.zeros_like(anchors)
    for descriptor in descriptors:
        x = unit(descriptor)
        powers = -alpha * ((x - anchors) ** 2).sum(axis=1)
        shares = np.exp(powers - powers.max())
        shares /= shares.sum()
        for k, anchor in enumerate(anchors):
            total[k] += shares[k] * (x - anchor)
    return unit(np.concatenate([unit(row) for row in total]))


def build(features: int, anchors: int, alpha: float, seed: int = 0) -> tuple[VLAD, Array]:
    """Returns a layer with anchors of length .2 to .6, as k-means centres of unit vectors have."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(anchors, features))
    # Different lengths, or the squared norm in the bias would be the same for all and cancel.
    lengths = rng.uniform(0.2, 0.6, (anchors, 1))
    centres *= lengths / np.linalg.norm(centres, axis=1, keepdims=True)
    layer = VLAD(features, anchors, alpha).double()
    layer.set_anchors(torch.from_numpy(centres))
    return layer, centres


def numpy(tensor: torch.Tensor) -> Array:
    return tensor.detach().numpy()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    bags=st.integers(1, 3),
    number=st.integers(1, 30),
    features=st.integers(1, 12),
    anchors=st.integers(1, 8),
    alpha=st.sampled_from([0.5, 10.0, 1000.0]),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_it_is_the_formula(
    seed: int, bags: int, number: int, features: int, anchors: int, alpha: float, scale: float
) -> None:
    layer, centres = build(features, anchors, alpha, seed)
    descriptors = scale * np.random.default_rng(seed).normal(size=(bags, number, features))
    found = numpy(layer(torch.from_numpy(descriptors)))
    for bag, vector in zip(descriptors, found, strict=True):
        # A residual that nearly cancels has lost its digits before it is brought to length 1.
        wanted = compute_directly(bag, centres, alpha)
        np.testing.assert_allclose(vector, wanted, atol=1e-8, rtol=0)


def test_at_the_paper_s_size_it_is_the_formula_to_twelve_digits() -> None:
    layer, centres = build(512, 64, 1000.0)
    descriptors = np.random.default_rng(1).normal(size=(1, 300, 512))
    wanted = compute_directly(descriptors[0], centres, 1000.0)
    found = numpy(layer(torch.from_numpy(descriptors)))[0]
    np.testing.assert_allclose(found, wanted, atol=EXACT, rtol=0)
    assert found.shape == (32_768,)


def test_the_bias_has_the_squared_norm_of_the_anchors() -> None:
    """A widespread port has the norm itself, and another vector comes out."""
    layer, centres = build(512, 64, 1000.0)
    rng = np.random.default_rng(2)
    # Between the anchors, where the bias decides: an offset of length 2 from one of length .4.
    near = centres[rng.integers(0, 64, 400)] + 0.1 * rng.normal(size=(400, 512))
    descriptors = torch.from_numpy(near)[None]
    wanted = compute_directly(near, centres, 1000.0)
    assert numpy(layer(descriptors))[0] @ wanted == pytest.approx(1, abs=EXACT)
    with torch.no_grad():
        layer.bias.copy_(-layer.alpha * layer.anchors.norm(dim=1))
    assert numpy(layer(descriptors))[0] @ wanted < 0.99


def test_three_tensors_begin_from_the_anchors_and_then_are_independent() -> None:
    layer, centres = build(6, 3, 100.0)
    np.testing.assert_allclose(numpy(layer.weight), 200 * centres)
    np.testing.assert_allclose(numpy(layer.bias), -100 * (centres**2).sum(axis=1))
    descriptors = torch.randn(2, 5, 6, dtype=torch.float64)
    before = layer(descriptors)
    with torch.no_grad():
        layer.anchors.add_(0.1)
    np.testing.assert_allclose(numpy(layer.weight), 200 * centres)
    assert not torch.allclose(layer(descriptors), before)
    assert sum(p.numel() for p in VLAD(512, 64, 1000.0).parameters()) == 65_600


def test_every_anchor_s_residuals_have_length_one_before_the_whole_has() -> None:
    layer, _ = build(5, 4, 1.0)
    parts = numpy(layer(torch.randn(2, 9, 5, dtype=torch.float64))).reshape(2, 4, 5)
    np.testing.assert_allclose(np.linalg.norm(parts, axis=2), 0.5, rtol=1e-9)  # 1 / sqrt(4)


def test_an_anchor_without_a_descriptor_stays_zero() -> None:
    layer, centres = build(5, 4, 1000.0)
    layer.float()
    only = torch.from_numpy(centres[:1]).float() + torch.tensor([0.01, 0, 0, 0, 0])
    parts = layer(only[None]).detach().reshape(4, 5)
    assert parts.isfinite().all()
    lengths = parts.norm(dim=1)
    belongs = int(layer.assign(normalize_length(only)[None]).argmax())
    assert float(lengths[belongs]) == pytest.approx(1)
    assert float(lengths.sum()) == pytest.approx(1, abs=1e-3)


def test_descriptors_of_padding_contribute_nothing() -> None:
    layer, _ = build(5, 4, 10.0)
    descriptors = torch.randn(2, 9, 5, dtype=torch.float64)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, 6:] = mask[1, :2] = False
    dirty = descriptors.masked_fill(~mask[..., None], torch.inf)
    found = layer(dirty, mask)
    torch.testing.assert_close(found[:1], layer(descriptors[:1, :6]))
    torch.testing.assert_close(found[1:], layer(descriptors[1:, 2:]))


@pytest.mark.parametrize("copies", [2, 7])
def test_bags_add_up_are_orderless_and_do_not_count_copies(copies: int) -> None:
    layer, _ = build(5, 4, 10.0)
    bag = torch.randn(1, 12, 5, dtype=torch.float64)
    parts = layer.aggregate(bag[:, :5]) + layer.aggregate(bag[:, 5:])
    torch.testing.assert_close(describe_bag(parts), layer(bag))
    torch.testing.assert_close(layer(bag.flip(1)), layer(bag))
    torch.testing.assert_close(layer(bag.repeat(1, copies, 1)), layer(bag))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_does_not_reach_the_exponents(dtype: torch.dtype) -> None:
    layer, _ = build(16, 8, 1000.0)
    layer.float()
    descriptors = torch.randn(2, 30, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=dtype):
        mixed = layer(descriptors)
    torch.testing.assert_close(mixed, layer(descriptors), atol=0, rtol=0)


def test_k_means_finds_the_directions_that_there_are() -> None:
    rng = np.random.default_rng(0)
    truth = np.eye(6)[:4]
    scattered = np.repeat(truth, 50, axis=0) * rng.uniform(0.1, 10, (200, 1))
    noisy = torch.from_numpy(scattered * (1 + 0.01 * rng.normal(size=(200, 6)))).float()
    anchors = fit_anchors(noisy, 4, seed=3)
    assert anchors.dtype == torch.float32
    order = anchors.argmax(dim=1).argsort()
    np.testing.assert_allclose(anchors[order].numpy(), truth, atol=1e-3)
    assert torch.equal(fit_anchors(noisy, 4, seed=3), anchors)


def test_anchors_are_fitted_once_and_the_state_says_so() -> None:
    layer = VLAD(4, 2, 10.0)
    assert not layer.fitted
    layer.set_anchors(torch.eye(4)[:2])
    other = VLAD(4, 2, 10.0)
    other.load_state_dict(layer.state_dict())
    assert other.fitted


def test_fewer_descriptors_than_anchors_are_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="5 anchors cannot be found among 4 descriptors"):
        fit_anchors(torch.randn(4, 3), 5, seed=0)


def test_doubled_descriptors_are_no_failure() -> None:
    assert fit_anchors(torch.ones(9, 3), 4, seed=0).isfinite().all()


def test_shares_of_frames_are_those_of_the_residuals() -> None:
    sums = torch.zeros(1, 3, 2, 2)
    sums[0, 0, 0] = torch.tensor([3.0, 4.0])  # 5 of 15 for the first anchor
    sums[0, 1, 0] = torch.tensor([0.0, 10.0])
    shares: Any = share_frames(sums)  # the second anchor has no residuals and is left out
    torch.testing.assert_close(shares, torch.tensor([[1 / 3, 2 / 3, 0.0]]))
