"""Pooling of frame features over T that does not see padding.

All four have the same two methods: `forward(frames, mask) -> (B, features)` and `weights(frames,
mask) -> (B, T)`, the share of the answer that each frame has: not negative, 0 for padding, and 1 in
sum. A mask of None means that no frame is padding.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Frames = Float[Tensor, "batch t features"]
Mask = Bool[Tensor, "batch t"]
Pooled = Float[Tensor, "batch features"]
Weights = Float[Tensor, "batch t"]


class FramePool(Protocol):
    """What all four can do."""

    def __call__(self, frames: Frames, mask: Mask | None = None) -> Pooled:
        """Returns one vector a clip."""
        ...

    def weights(self, frames: Frames, mask: Mask | None = None) -> Weights:
        """Returns the share of the answer that each frame has."""
        ...


class MeanPool(nn.Module):
    """Every frame counts alike: for what is spread over the whole clip."""

    def forward(self, frames: Frames, mask: Mask | None = None) -> Pooled:
        """Returns the mean over the frames that are not padding."""
        return torch.einsum("btf,bt->bf", frames, self.weights(frames, mask))

    def weights(self, frames: Frames, mask: Mask | None = None) -> Weights:
        """Returns one over the number of frames, (B, T)."""
        shown = _fill_mask(frames, mask).to(frames.dtype)
        return shown / shown.sum(dim=1, keepdim=True)


class MaxPool(nn.Module):
    """The strongest frame of every feature: for what shows in a single slice (MRNet, Ng 2015)."""

    def forward(self, frames: Frames, mask: Mask | None = None) -> Pooled:
        """Returns the maximum over the frames that are not padding."""
        return _hide_padding(frames, mask).amax(dim=1)

    def weights(self, frames: Frames, mask: Mask | None = None) -> Weights:
        """Returns the share of features in which a frame is the strongest; ties are split."""
        hidden = _hide_padding(frames, mask)
        wins = (hidden == hidden.amax(dim=1, keepdim=True)).to(frames.dtype)
        return (wins / wins.sum(dim=1, keepdim=True)).mean(dim=2)


class LogSumExpPool(nn.Module):
    """A learned step between mean and maximum: (1/r) log mean exp(r x).

    r near 0 is the mean, a large r the maximum. r starts at 5, Pinheiro and Collobert's (2015)
    fixed choice, and is learned as its logarithm, so that it stays positive.
    """

    def __init__(self, sharpness: float = 5.0) -> None:
        super().__init__()
        self.log_r = nn.Parameter(torch.tensor(math.log(sharpness)))

    def forward(self, frames: Frames, mask: Mask | None = None) -> Pooled:
        """Returns the smooth maximum over the frames that are not padding."""
        r = self.log_r.exp().to(frames.dtype)
        count = _fill_mask(frames, mask).sum(dim=1, keepdim=True).to(frames.dtype)
        return (torch.logsumexp(_hide_padding(r * frames, mask), dim=1) - count.log()) / r

    def weights(self, frames: Frames, mask: Mask | None = None) -> Weights:
        """Returns the derivative of the output by a frame's features, mean over features."""
        r = self.log_r.exp().to(frames.dtype)
        return _hide_padding(r * frames, mask).softmax(dim=1).mean(dim=2)


class GatedAttentionPool(nn.Module):
    """Learns which frames to look at: gated attention MIL (Ilse, Tomczak, Welling, ICML 2018).

    Args:
        features: of a frame.
        hidden: units of the attention net; the paper has 128 for 500 features, so the default is a
            quarter of the features and at least 8.
    """

    def __init__(self, features: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or max(features // 4, 8)
        self.tanh = nn.Linear(features, hidden)
        self.gate = nn.Linear(features, hidden)
        # Softmax over T cancels a bias: it would be a parameter without a gradient.
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, frames: Frames, mask: Mask | None = None) -> Pooled:
        """Returns the mean weighted by attention."""
        return torch.einsum("btf,bt->bf", frames, self.weights(frames, mask))

    def weights(self, frames: Frames, mask: Mask | None = None) -> Weights:
        """Returns the attention, (B, T)."""
        hidden = self.tanh(frames).tanh() * self.gate(frames).sigmoid()
        return _hide_padding(self.score(hidden), mask).softmax(dim=1).squeeze(2)


FRAME_POOLS: dict[str, Callable[[int], nn.Module]] = {
    "mean": lambda features: MeanPool(),
    "max": lambda features: MaxPool(),
    "lse": lambda features: LogSumExpPool(),
    "attention": GatedAttentionPool,
}
"""Name -> number of features -> pooling."""


def _fill_mask(frames: Frames, mask: Mask | None) -> Mask:
    return frames.new_ones(frames.shape[:2], dtype=torch.bool) if mask is None else mask


def _hide_padding(frames: Frames, mask: Mask | None) -> Frames:
    """Puts padding where no maximum and no softmax finds it."""
    return frames if mask is None else frames.masked_fill(~mask[..., None], -math.inf)
