"""Where in a clip an answer comes from: slice by slice, and as a heat map.

Both show what moved this network's answer, not what the finding is.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
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
        own, shown, places = _take_own(model, clip, mask)
        seen = shown.nonzero()[:, 0].tolist()
        clips = torch.stack([own, *(_cover(own, seen, rank) for rank in range(len(seen)))])
        logits = model(clips, mask=shown.expand(len(clips), -1))[:, column]
    falls = logits.new_zeros(len(mask))
    falls[places[shown]] = logits[0] - logits[1:]
    return "fall of the logit when covered", _leave_padding(falls, mask)


def _take_own(model: nn.Module, clip: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a clip without its padding, the mask of what is left, and where that stood.

    A network that honours the mask answers the same without padding, and may lay it behind the
    other slices, so that its maps no longer stand over theirs. One that takes no such short clip,
    or does not honour the mask, keeps it.
    """
    surface = cast("Any", model)
    short = (
        getattr(model, "honours_mask", False)
        and getattr(model, "exact_frames", None) is None
        and int(mask.sum()) >= surface.smallest[0]
    )
    kept = mask if short else torch.ones_like(mask)
    return clip[:, kept], mask[kept], kept.nonzero()[:, 0]


def _cover(clip: Tensor, seen: Sequence[int], rank: int) -> Tensor:
    """Returns the clip with one slice covered by the mean of its neighbours.

    Args:
        clip: (C, T, H, W).
        seen: slices that are no padding.
        rank: of the covered one among them.
    """
    k = seen[rank]
    beside = [seen[n] for n in (rank - 1, rank + 1) if 0 <= n < len(seen)]
    covered = clip.clone()
    covered[:, k] = clip[:, beside].mean(dim=1) if beside else clip[:, k].mean()
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
    mean gradient of the class's logit, and what is positive is laid over the slices that the maps
    are made of. Maps of slices that are seen alone are weighted slice by slice. Padding has no
    heat, nor has a slice that the network does not look at.

    Args:
        model: see `score_slices`.
        clip: see `score_slices`.
        mask: see `score_slices`.
        column: of the class.

    References:
        Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """
    own, shown, places = _take_own(model, clip, mask)
    logits, maps = _run(model, own, shown)
    heat = None if maps is None else _weigh(maps, logits[column])
    slices = None if maps is None else _find_slices(model, own, shown, maps)
    if heat is None or slices is None:
        return None
    heat = rearrange(heat, "n t h w -> 1 1 (n t) h w")
    heat = functional.interpolate(heat, size=(len(slices), *clip.shape[2:]), mode="trilinear")
    whole = clip.new_zeros(clip.shape[1:])
    whole[places[slices]] = heat[0, 0]
    whole[~mask] = 0
    top = whole.max()
    return whole / top if top > 0 else whole


def _run(
    model: nn.Module, clip: Tensor, mask: Tensor
) -> tuple[Float[Tensor, " classes"], Tensor | None]:
    """Returns the logits of a clip, and the last maps on the way to them."""
    maps: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if output.shape[-1] * output.shape[-2] > 1 and output.requires_grad:
            maps.append(output)

    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    hooks = [convolution.register_forward_hook(keep) for convolution in convolutions]
    try:
        with torch.enable_grad(), evaluating(model):
            logits = model(clip[None].requires_grad_(), mask=mask[None])[0]
    finally:
        for hook in hooks:
            hook.remove()
    return logits, maps[-1] if maps else None


def _weigh(maps: Tensor, logit: Tensor) -> Float[Tensor, "n t h w"] | None:
    """Returns what is positive of the weighted maps; T is 1 where they have no such axis."""
    (gradient,) = torch.autograd.grad(logit, maps, allow_unused=True)
    if gradient is None:
        return None
    places = tuple(range(2, maps.ndim))
    heat = functional.relu((maps * gradient.mean(dim=places, keepdim=True)).sum(dim=1)).detach()
    return heat[:, None] if maps.ndim == FOUR else heat


def _find_slices(
    model: nn.Module, clip: Tensor, shown: Tensor, maps: Tensor
) -> Int[Tensor, " slices"] | None:
    """Returns the slices over which the maps lie, None where several clips are folded together."""
    seen = _find_seen(model, clip)
    if maps.ndim == FIVE and len(maps) == 1:
        return seen
    # Slices that are seen alone: all, without padding, or those few that the network looks at.
    choices = (torch.arange(len(shown)), shown.nonzero()[:, 0], seen)
    fitting = [slices for slices in choices if len(slices) == len(maps)]
    return fitting[0] if fitting and maps.shape[2:-2].numel() == 1 else None


def _find_seen(model: nn.Module, clip: Tensor) -> Int[Tensor, " slices"]:
    """Returns the slices that the last maps are made of.

    Noise takes the place of the clip: of equal values, such as air, a maximum passes its gradient
    to one alone, and the others would seem to be left out.
    """
    noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(0)).to(clip)
    _, maps = _run(model, noise.requires_grad_(), torch.ones_like(clip[0, :, 0, 0]).bool())
    if maps is None:
        return torch.arange(clip.shape[1])
    weights = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1)).to(maps)
    (gradient,) = torch.autograd.grad((weights * maps).sum(), noise)
    return gradient.abs().amax(dim=(0, 2, 3)).nonzero()[:, 0]
