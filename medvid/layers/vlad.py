"""A bag of local descriptors -> one vector: how far they lie from the anchors of a vocabulary.

VLAD (vector of locally aggregated descriptors) with soft assignment, which makes it a layer that
learns: NetVLAD (Arandjelovic et al., 2016), over space and time as in ActionVLAD. For a scan the
anchors are words for how tissue looks (lung, vessel wall, rim of a lesion), and the vector says
how the words of this scan differ from the usual ones. It is orderless and takes any number of
descriptors.
"""

import warnings

import torch
from jaxtyping import Bool, Float
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from medvid.contract import ConfigError

EPSILON = 1e-12
"""Squared norms below it count as it, as in TensorFlow's l2_normalize: the residuals of an anchor
that no descriptor belongs to stay 0 instead of becoming noise of length 1."""

Descriptors = Float[Tensor, "batch n features"]
Shown = Bool[Tensor, "batch n"]
Residuals = Float[Tensor, "batch anchors features"]


class VLAD(nn.Module):
    """Sums how descriptors differ from the anchors that they are nearest to.

    With every descriptor x at unit length, the share of anchor k is a_k(x) = softmax_k(-alpha
    |x - c_k|^2). The squared length of x is the same for all k and cancels, so it is softmax_k(w_k
    x + b_k) with w_k = 2 alpha c_k and b_k = -alpha |c_k|^2. So begin `weight`, `bias` and
    `anchors`; then each learns by itself. The sums over x of a_k(x) (x - c_k) are brought to unit
    length one by one (each anchor counts alike, however many descriptors it has), and then the
    whole.

    The anchors should come from data (`set_anchors`, `fit_anchors`); until then they are random
    directions, and `fitted`, which is part of the state, is False.

    It computes in float32 under mixed precision: at alpha 1000 the exponents are in the thousands,
    where bfloat16 has steps of 8 and half precision of 1 to 2.

    Args:
        features: D of a descriptor.
        anchors: K.
        alpha: how sharp the assignment starts. At 1000 nearly every descriptor belongs to one
            anchor, and hardly any gradient reaches `weight` and `bias`.

    Shape:
        descriptors (B, N, D), mask (B, N); False is left out -> (B, K D).

    References:
        Arandjelovic et al., NetVLAD, CVPR 2016, section 3.1. Girdhar et al., ActionVLAD, CVPR 2017,
        section 3. Arandjelovic and Zisserman, All about VLAD, CVPR 2013 (intra-normalisation).
    """

    fitted: Bool[Tensor, ""]

    def __init__(self, features: int, anchors: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.weight = nn.Parameter(torch.empty(anchors, features))
        self.bias = nn.Parameter(torch.empty(anchors))
        self.anchors = nn.Parameter(torch.empty(anchors, features))
        self.register_buffer("fitted", torch.tensor(False))
        self._fill(normalize_length(torch.randn(anchors, features)))

    def set_anchors(self, anchors: Float[Tensor, "anchors features"]) -> None:
        """Starts all three tensors from these anchors."""
        self._fill(anchors)
        self.fitted.fill_(True)

    @torch.no_grad()
    def _fill(self, anchors: Float[Tensor, "anchors features"]) -> None:
        self.anchors.copy_(anchors)
        self.weight.copy_(2 * self.alpha * anchors)
        self.bias.copy_(-self.alpha * anchors.square().sum(dim=1))

    def assign(self, units: Descriptors) -> Float[Tensor, "batch n anchors"]:
        """Returns the shares of the anchors in descriptors of unit length; 1 in sum."""
        return torch.softmax(units @ self.weight.T + self.bias, dim=-1)

    def aggregate(self, descriptors: Descriptors, mask: Shown | None = None) -> Residuals:
        """Returns the sums of residuals before any norm: those of two bags can be added."""
        # Autocast knows no "meta", on which operations are counted.
        kind = "cpu" if descriptors.device.type == "meta" else descriptors.device.type
        with torch.autocast(kind, enabled=False):
            units = normalize_length(descriptors.to(self.anchors.dtype))
            shares = self.assign(units)
            if mask is not None:
                shares = shares.masked_fill(~mask[..., None], 0)
                units = units.masked_fill(~mask[..., None], 0)  # 0 times infinity is no number
            total = torch.einsum("bnk,bnd->bkd", shares, units)
            return total - shares.sum(dim=1)[..., None] * self.anchors

    def forward(
        self, descriptors: Descriptors, mask: Shown | None = None
    ) -> Float[Tensor, "batch vector"]:
        """Returns the vector of every bag, of unit length."""
        return describe_bag(self.aggregate(descriptors, mask))


def describe_bag(residuals: Residuals) -> Float[Tensor, "batch vector"]:
    """Returns sums of residuals as one vector: unit length by anchor, then as a whole."""
    return normalize_length(normalize_length(residuals).flatten(1))


def normalize_length(vectors: Float[Tensor, "*lead d"]) -> Float[Tensor, "*lead d"]:
    """Returns vectors of unit length; those shorter than 1e-6 stay short."""
    squared = vectors.square().sum(dim=-1, keepdim=True)
    return vectors * squared.clamp(min=EPSILON).rsqrt()


def fit_anchors(
    descriptors: Float[Tensor, "n features"], number: int, seed: int
) -> Float[Tensor, "number features"]:
    """Returns the k-means centres of descriptors brought to unit length.

    The same descriptors and seed give the same centres: one thread, because several add up in any
    order.

    Args:
        descriptors: of training data only, or the test set has a say in the vocabulary.
        number: of centres.
        seed: of the first centres (k-means++).

    Raises:
        ConfigError: when there are fewer descriptors than centres.
    """
    if len(descriptors) < number:
        raise ConfigError(
            f"{number} anchors cannot be found among {len(descriptors)} descriptors. Take fewer "
            "`anchors`, more frames or larger crops.",
            code="few_descriptors",
        )
    units = normalize_length(descriptors.detach().cpu().double()).numpy()
    search = KMeans(n_clusters=number, n_init="auto", random_state=seed)
    with threadpool_limits(1), warnings.catch_warnings():
        # Empty background gives many equal descriptors. Doubled anchors share them, no harm done.
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(units)
    return torch.from_numpy(search.cluster_centers_).to(descriptors.dtype)


def share_frames(
    residuals: Float[Tensor, "batch t anchors features"],
) -> Float[Tensor, "batch t"]:
    """Returns the share of every frame in the lengths of a bag's residuals, mean over anchors.

    Every anchor counts alike, as in the vector. A frame whose sums are 0 (padding) has no share.
    """
    lengths = residuals.square().sum(dim=3).sqrt()
    total = lengths.sum(dim=1, keepdim=True)
    used = total > EPSILON**0.5
    shares = torch.where(used, lengths / total.clamp(min=EPSILON), 0)
    return shares.sum(dim=2) / used.sum(dim=2).clamp(min=1)
