"""Where in a clip an answer comes from: slice by slice, and as a heat map.

Both show what moved this network's answer, not what the finding is.
"""

from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.train.predict import evaluating

FOUR, FIVE = 4, 5
"""Axes of a map of slices seen alone, (B * T, C, h, w), and of a volume, (B, C, t, h, w)."""


def score_slices(
    model: nn.Module,
    clip: Float[Tensor, "channels t h w"],
    mask: Bool[Tensor, " t"],
    column: int,
    *,
    dense: bool = False,
) -> tuple[str, list[float | None]]:
    """Returns how much every slice of a clip has to do with the answer, and what that number is.

    * Where every slice has an answer of its own (`dense`): that answer, the slice's probability.
    * A model with `frame_weights`: the share that every slice has in the answer, such as attention.
    * Any other: by how much the logit of the class falls when the slice is covered by the mean of
      its neighbours. Below 0 the slice spoke against the class.

    Args:
        model: a `VideoModel` that looks at the clip alone.
        clip: as the network is given it.
        mask: False marks padding.
        column: of the class.
        dense: the model was trained on labels of slices, and scores all of a clip in one pass.

    Returns:
        The title, and T numbers; None for padding.
    """
    with torch.no_grad(), evaluating(model):
        if dense:
            logits = cast("Any", model).frame_logits(clip[None], mask=mask[None])[0]
            return "probability of the slice", _leave_padding(logits.softmax(-1)[:, column], mask)
        if hasattr(model, "frame_weights"):
            weights = cast("Any", model).frame_weights(clip[None], mask=mask[None])[0]
            return "share in the answer", _leave_padding(weights, mask)
        covered = torch.stack([_cover(clip, k) for k in range(clip.shape[1])])
        masks = mask.expand(len(covered) + 1, -1)
        logits = model(torch.cat([clip[None], covered]), mask=masks)[:, column]
    return "fall of the logit when covered", _leave_padding(logits[0] - logits[1:], mask)


def _cover(clip: Tensor, k: int) -> Tensor:
    """Returns the clip with slice k covered by the mean of its neighbours."""
    beside = [n for n in (k - 1, k + 1) if 0 <= n < clip.shape[1]]
    covered = clip.clone()
    covered[:, k] = clip[:, beside].mean(dim=1) if beside else clip.mean()
    return covered


def _leave_padding(values: Tensor, mask: Tensor) -> list[float | None]:
    return [
        float(value) if shown else None
        for value, shown in zip(values.tolist(), mask.tolist(), strict=True)
    ]


def make_heat_map(
    model: nn.Module,
    clip: Float[Tensor, "channels t h w"],
    mask: Bool[Tensor, " t"],
    column: int,
) -> Float[Tensor, "t h w"] | None:
    """Returns Grad-CAM of a class, 0 to 1, or None for a network without maps.

    Of the last convolution whose maps have more than one place: its channels are weighted by the
    mean gradient of the class's logit, and what is positive is laid over the clip. Maps of slices
    that are seen alone are weighted slice by slice.

    Args:
        model: see `score_slices`.
        clip: see `score_slices`.
        mask: see `score_slices`.
        column: of the class.

    References:
        Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """
    maps: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if output.shape[-1] * output.shape[-2] > 1 and output.requires_grad:
            maps.append(output)

    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    hooks = [convolution.register_forward_hook(keep) for convolution in convolutions]
    try:
        with torch.enable_grad(), evaluating(model):
            logit = model(clip[None].requires_grad_(), mask=mask[None])[0, column]
    finally:
        for hook in hooks:
            hook.remove()
    if not maps:
        return None
    (gradient,) = torch.autograd.grad(logit, maps[-1], allow_unused=True)
    if gradient is None:
        return None
    return _lay_over(maps[-1].detach(), gradient, clip)


def _lay_over(maps: Tensor, gradient: Tensor, clip: Tensor) -> Tensor | None:
    t, h, w = clip.shape[1:]
    places = tuple(range(2, maps.ndim))
    heat = functional.relu((maps * gradient.mean(dim=places, keepdim=True)).sum(dim=1))
    if maps.ndim == FOUR and len(maps) == t:
        heat = rearrange(heat, "t h w -> 1 1 t h w")
    elif maps.ndim == FIVE and len(maps) == 1:
        heat = rearrange(heat, "1 t h w -> 1 1 t h w")
    else:
        return None  # slices of padding were left out, or several clips are folded together
    heat = functional.interpolate(heat, size=(t, h, w), mode="trilinear")[0, 0]
    top = heat.max()
    return heat / top if top > 0 else heat
