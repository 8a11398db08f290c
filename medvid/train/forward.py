"""A batch through a model: which inputs it takes, and what becomes of the clips axis.

Training, validation and prediction all go through here, so that they cannot differ.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from medvid.contract import ConfigError, DataError, VideoModel
from medvid.train.sliding import score_shared, shares_frames

Batch = Mapping[str, Any]

ELEMENTS_AT_ONCE = 2**25
"""Voxels of the clips that are scored in one pass: 128 MB, some fifty times that in a network."""

PER_ITEM = ("spacing",)
"""Keys of the batch without a clips axis."""


def count_clips(batch: Batch) -> int | None:
    """Returns the size N of the clips axis of a batch, None when it has none."""
    clip = batch["clip"]
    return int(clip.shape[1]) if clip.ndim == 6 else None


def gather_inputs(model: nn.Module, batch: Batch) -> tuple[list[Tensor], Tensor | None, int]:
    """Returns a model's inputs, its mask, and how many clips of an item lie behind one another.

    For a model with `takes_segments` the clips axis stays, or is added with one clip; for all
    others it is folded into the batch.

    Raises:
        DataError: when the batch lacks a modality that the model names.
    """
    clips = count_clips(batch)
    segments = bool(getattr(model, "takes_segments", False))
    names = cast("VideoModel", model).modalities
    missing = [name for name in names if name not in batch]
    if missing:
        raise DataError(
            f"The model {type(model).__name__} looks at `{missing[0]}`, and the clips come "
            f"without it; they have {', '.join(sorted(batch))}. Add the transform that makes it.",
            code="missing_modality",
        )

    def arrange(name: str) -> Tensor:
        value: Tensor = batch[name]
        if segments:
            return value if clips is not None or name in PER_ITEM else value.unsqueeze(1)
        if clips is None:
            return value
        if name in PER_ITEM:
            return repeat(value, "b ... -> (b n) ...", n=clips)
        return rearrange(value, "b n ... -> (b n) ...")

    mask = arrange("mask") if "mask" in batch else None
    return [arrange(name) for name in names], mask, 1 if segments else clips or 1


def score_clips(model: nn.Module, batch: Batch, *, dense: bool) -> Tensor:
    """Returns the logits of every clip of a batch.

    Args:
        model: a `VideoModel`.
        batch: as the loader gives it, on the model's device.
        dense: score every frame, with the model's `frame_logits`.

    Shape:
        (B, N, classes), or (B, N, T, classes) when dense. N is 1 for models that take segments.

    Raises:
        ConfigError: when frames are to be scored by a model without `frame_logits`.
    """
    if not dense and not model.training and (count_clips(batch) or 1) > 1 and shares_frames(model):
        shared = _score_shared(model, batch)
        if shared is not None:
            return shared
    inputs, mask, clips = gather_inputs(model, batch)
    score = _find_frame_scorer(model) if dense else model
    at_once = len(inputs[0]) if model.training else _fit_clips(inputs)
    logits = torch.cat(
        [
            score(*parts[:-1], mask=parts[-1])
            for parts in zip(
                *(torch.split(given, at_once) for given in inputs),
                [None] * len(inputs[0]) if mask is None else torch.split(mask, at_once),
                strict=False,
            )
        ]
    )
    return rearrange(logits, "(b n) ... -> b n ...", n=clips)


def _fit_clips(inputs: Sequence[Tensor]) -> int:
    """Returns how many clips are scored in one pass; bounds memory, not the result."""
    return max(1, ELEMENTS_AT_ONCE // max(1, sum(given[0].numel() for given in inputs)))


def _score_shared(model: nn.Module, batch: Batch) -> Tensor | None:
    only_clips = tuple(cast("VideoModel", model).modalities) == ("clip",)
    if not only_clips or "window" not in batch:
        return None
    return score_shared(model, batch["clip"], batch["window"], batch.get("mask"))


def is_dense(label: Tensor, *, multilabel: bool) -> bool:
    """Tells whether the labels of a batch are per frame."""
    return label.ndim - int(multilabel) > 1


def compute_losses(
    model: nn.Module, batch: Batch, criterion: nn.Module, *, multilabel: bool
) -> dict[str, Tensor]:
    """Returns the losses of a batch by name; their sum is what training minimises.

    All clips of an item count alike. Padding frames carry no target. A model with `losses` gives
    its own dictionary, the main loss included.

    Raises:
        ConfigError: when labels are per frame and the model scores no frames.
    """
    inputs, mask, clips = gather_inputs(model, batch)
    label: Tensor = batch["label"]
    if is_dense(label, multilabel=multilabel):
        target = _mask_padding(_fold_dense(label, clips, multilabel), mask)
        return {"loss": criterion(_find_frame_scorer(model)(*inputs, mask=mask), target)}
    target = repeat(label, "b ... -> (b n) ...", n=clips)
    own_losses = getattr(model, "losses", None)
    if own_losses is not None:
        return dict(own_losses(*inputs, target=target, criterion=criterion, mask=mask))
    return {"loss": criterion(model(*inputs, mask=mask), target)}


def _find_frame_scorer(model: nn.Module) -> Callable[..., Tensor]:
    scorer = getattr(model, "frame_logits", None)
    if scorer is None:
        raise ConfigError(
            f"Labels of single frames need a model that scores every frame, and "
            f"{type(model).__name__} scores whole clips. Choose a model with frame logits, or the "
            "sampler `centered`, which makes a clip for every frame.",
            code="no_frame_logits",
        )
    return cast("Callable[..., Tensor]", scorer)


def _fold_dense(label: Tensor, clips: int, multilabel: bool) -> Tensor:
    has_clips = label.ndim - int(multilabel) == 3
    if has_clips:
        return rearrange(label, "b n ... -> (b n) ...")
    return repeat(label, "b ... -> (b n) ...", n=clips)


def _mask_padding(target: Tensor, mask: Tensor | None) -> Tensor:
    """Marks the targets of padding frames as unknown: NaN for findings, -1 for a class."""
    if mask is None:
        return target
    shown = mask if target.ndim == mask.ndim else mask[..., None]
    unknown = torch.nan if target.is_floating_point() else -1
    return target.masked_fill(~shown, unknown)
