"""What is minimised. A loss takes logits (..., classes) and the targets of known elements only.

Unknown targets never count: -1 where an element has one class, NaN where it has several findings.
Padding frames and frames without a label are marked that way before they come here.

The third argument, weight (...), says how much each element counts in the mean; None is all alike.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from medvid.build import Spec, build
from medvid.contract import ConfigError, Label

NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weights = Literal["balanced"] | list[float] | None
Counts = Sequence[int] | Sequence[tuple[int, int]]
"""Training cases of each class; for several findings (absent, present) of each."""

UNKNOWN = -1
"""The target of an element whose class is not known."""


class CrossEntropy(nn.Module):
    """Softmax cross-entropy, the mean over all elements of known class.

    Args:
        num_classes: given by the data.
        class_counts: training cases of each class, given by the data; for `balanced`.
        class_weights: one weight a class, or `balanced`: rare classes weigh more, in inverse
            proportion to their number, and the mean weight of a case is 1.
        label_smoothing: share of the target that is spread evenly over all classes.

    Shape:
        logits (..., classes), target (...) -> ().

    References:
        Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7 (smoothing).
    """

    multilabel = False

    def __init__(
        self,
        *,
        num_classes: int,
        class_counts: Counts | None = None,
        class_weights: Weights = None,
        label_smoothing: Share = 0.0,
    ) -> None:
        super().__init__()
        weights = _weigh_classes(class_weights, class_counts, num_classes)
        self.label_smoothing = label_smoothing
        self.register_buffer("weights", weights, persistent=False)
        self.weights: Tensor

    def forward(
        self,
        logits: Float[Tensor, "... classes"],
        target: Int[Tensor, "..."],
        weight: Float[Tensor, "..."] | None = None,
    ) -> Tensor:
        """Returns the mean loss of the known targets."""
        flat = target.reshape(-1)
        weights = self.weights.to(logits.dtype)
        losses = functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]),
            flat,
            weight=weights,
            ignore_index=UNKNOWN,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        share = _spread(weight, flat)
        known = weights[flat.clamp_min(0)] * (flat != UNKNOWN) * share
        return _divide((losses * share).sum(), known.sum())


class BinaryCrossEntropy(nn.Module):
    """Sigmoid cross-entropy of every finding by itself, the mean over all known findings.

    Args:
        num_classes: given by the data.
        class_counts: (absent, present) of each finding, given by the data; for `balanced`.
        pos_weight: how much a present finding weighs against an absent one, one number a finding,
            or `balanced`: absent / present in the training cases.

    Shape:
        logits (..., classes), target (..., classes) of 0, 1 and NaN -> ().
    """

    multilabel = True

    def __init__(
        self,
        *,
        num_classes: int,
        class_counts: Counts | None = None,
        pos_weight: Weights = None,
    ) -> None:
        super().__init__()
        weights = _weigh_findings(pos_weight, class_counts, num_classes)
        self.register_buffer("pos_weight", weights, persistent=False)
        self.pos_weight: Tensor

    def forward(
        self,
        logits: Float[Tensor, "... classes"],
        target: Float[Tensor, "... classes"],
        weight: Float[Tensor, "..."] | None = None,
    ) -> Tensor:
        """Returns the mean loss of the known targets."""
        known = _know_findings(target, weight)
        losses = functional.binary_cross_entropy_with_logits(
            logits,
            target.nan_to_num().to(logits.dtype),
            pos_weight=self.pos_weight.to(logits.dtype),
            reduction="none",
        )
        return _divide((losses * known).sum(), known.sum())


class Focal(nn.Module):
    """Cross-entropy that fades for elements that are already right: -a (1 - p)^gamma log p.

    For slices of which few show anything: the many easy ones would otherwise drown the rest.

    Args:
        num_classes: given by the data.
        class_counts: training cases of each class, given by the data; for `balanced`.
        gamma: how fast it fades; 0 is plain cross-entropy, 2 is the paper's choice (table 1b).
        class_weights: the paper's alpha, one number a class, or `balanced`.

    Differs from the paper: the sum is divided by the number of elements, not of positive anchors,
    because there are no anchors here.

    Shape:
        logits (..., classes), target (...) -> ().

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5.
    """

    multilabel = False

    def __init__(
        self,
        *,
        num_classes: int,
        class_counts: Counts | None = None,
        gamma: NotNegative = 2.0,
        class_weights: Weights = None,
    ) -> None:
        super().__init__()
        weights = _weigh_classes(class_weights, class_counts, num_classes)
        self.gamma = gamma
        self.register_buffer("weights", weights, persistent=False)
        self.weights: Tensor

    def forward(
        self,
        logits: Float[Tensor, "... classes"],
        target: Int[Tensor, "..."],
        weight: Float[Tensor, "..."] | None = None,
    ) -> Tensor:
        """Returns the mean loss of the known targets."""
        flat = target.reshape(-1)
        known = (flat != UNKNOWN) * _spread(weight, flat)
        chosen = flat.clamp_min(0)
        log_p = logits.reshape(-1, logits.shape[-1]).log_softmax(dim=-1)
        log_p = log_p.gather(1, chosen[:, None])[:, 0]
        fade = _fade(-torch.expm1(log_p), self.gamma)
        losses = -self.weights.to(log_p.dtype)[chosen] * fade * log_p
        return _divide((losses * known).sum(), known.sum())


class MultilabelFocal(nn.Module):
    """The focal loss of every finding by itself, the mean over all known findings.

    Args:
        gamma: how fast it fades for findings that are already right; 2 is the paper's choice.
        alpha: weight of present findings; absent ones weigh 1 - alpha. None weighs both 1. The
            paper takes 0.25 together with gamma 2 (table 1b).

    Shape:
        logits (..., classes), target (..., classes) of 0, 1 and NaN -> ().

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5.
    """

    multilabel = True

    def __init__(self, *, gamma: NotNegative = 2.0, alpha: Share | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha

    def forward(
        self,
        logits: Float[Tensor, "... classes"],
        target: Float[Tensor, "... classes"],
        weight: Float[Tensor, "..."] | None = None,
    ) -> Tensor:
        """Returns the mean loss of the known targets."""
        known = _know_findings(target, weight)
        present = target.nan_to_num().to(logits.dtype)
        signed = logits * (2 * present - 1)
        fade = _fade(torch.sigmoid(-signed), self.gamma)
        losses = -fade * functional.logsigmoid(signed)
        if self.alpha is not None:
            losses = losses * (self.alpha * present + (1 - self.alpha) * (1 - present))
        return _divide((losses * known).sum(), known.sum())


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": CrossEntropy,
    "bce": BinaryCrossEntropy,
    "focal": Focal,
    "multilabel_focal": MultilabelFocal,
}


def build_loss(
    spec: Spec | None, *, num_classes: int, multilabel: bool, class_counts: Counts | None = None
) -> nn.Module:
    """Builds the loss that a config names; None chooses plain `cross_entropy` or `bce`.

    Raises:
        ConfigError: for an unknown loss or option, or a loss for the other kind of label.
    """
    spec = spec or ("bce" if multilabel else "cross_entropy")
    name = spec if isinstance(spec, str) else str(spec.get("name", ""))
    wanted = [key for key, loss in LOSSES.items() if vars(loss)["multilabel"] is multilabel]
    if name in LOSSES and name not in wanted:
        kind = "several findings an item" if multilabel else "one class an item"
        raise ConfigError(
            f"The labels are {kind}, and the loss `{name}` is for the other kind. "
            f"Losses for these labels: {', '.join(wanted)}.",
            code="loss_of_other_labels",
        )
    return build(LOSSES, spec, "loss", num_classes=num_classes, class_counts=class_counts)


def count_classes(
    labels: Iterable[Label | None], classes: Sequence[str], *, multilabel: bool
) -> list[int] | list[tuple[int, int]]:
    """Counts the training labels, for balanced weights; unknown ones are left out.

    Returns:
        The number of each class; for several findings (absent, present) of each.
    """
    known = [label for label in labels if label is not None]
    if not multilabel:
        return [sum(label == name for label in known) for name in classes]
    findings = [label for label in known if not isinstance(label, str)]
    return [
        (
            sum(label.get(name) == 0 for label in findings),
            sum(label.get(name) == 1 for label in findings),
        )
        for name in classes
    ]


def _weigh_classes(weights: Weights, counts: Counts | None, num_classes: int) -> Tensor:
    if weights is None:
        return torch.ones(num_classes)
    if weights == "balanced":
        numbers = [count for count in _need_counts(counts) if isinstance(count, int)]
        # A class without a training case never meets its weight; 1 avoids dividing by zero.
        return torch.tensor([sum(numbers) / (num_classes * max(n, 1)) for n in numbers])
    return _check_weights("class_weights", weights, num_classes)


def _weigh_findings(weights: Weights, counts: Counts | None, num_classes: int) -> Tensor:
    if weights is None:
        return torch.ones(num_classes)
    if weights == "balanced":
        pairs = [pair for pair in _need_counts(counts) if isinstance(pair, tuple)]
        return torch.tensor([absent / max(present, 1) for absent, present in pairs])
    return _check_weights("pos_weight", weights, num_classes)


def _need_counts(counts: Counts | None) -> Counts:
    if counts is None:
        raise ConfigError(
            "Balanced weights need the numbers of the training classes, and none were given: pass "
            "class_counts, or write the weights out.",
            code="no_counts",
        )
    return counts


def _check_weights(option: str, weights: str | list[float], num_classes: int) -> Tensor:
    if isinstance(weights, str) or len(weights) != num_classes:
        raise ConfigError(
            f"`{option}: {weights}` must be `balanced` or a list of {num_classes} numbers, one a "
            "class in the order of the classes.",
            code="wrong_weights",
        )
    return torch.tensor([float(weight) for weight in weights])


def _spread(weight: Tensor | None, flat: Tensor) -> Tensor:
    """Returns a weight for every one of the flattened elements."""
    return torch.ones_like(flat, dtype=torch.float32) if weight is None else weight.reshape(-1)


def _know_findings(target: Tensor, weight: Tensor | None) -> Tensor:
    """Returns how much every finding counts: 0 where it is not known."""
    known = ~target.isnan()
    return known if weight is None else known * weight[..., None]


def _fade(wrong: Tensor, gamma: float) -> Tensor:
    # The slope of x^gamma at 0 is infinite for gamma < 1; the smallest normal number avoids NaN.
    return wrong.clamp_min(torch.finfo(wrong.dtype).tiny) ** gamma


def _divide(total: Tensor, count: Tensor) -> Tensor:
    """Returns the mean; 0, with a gradient of 0, when no target of the batch is known."""
    return total / torch.where(count > 0, count, torch.ones_like(count))
